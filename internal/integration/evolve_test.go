//go:build integration

package integration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// orderSchemas are the versions of an event: at first, with two columns more, one of them in a struct, and a wider integer;
// with wider floats and decimals, and without a column.
var orderSchemas = []string{
	orderSchema("int", "float", 9, `{"name":"gone","type":"string"},`, "", ""),
	orderSchema("long", "float", 9, `{"name":"gone","type":"string"},`, `,{"name":"extra","type":["null","string"],"default":null}`, optionalNote),
	orderSchema("long", "double", 18, "", `,{"name":"extra","type":["null","string"],"default":null}`, optionalNote),
}

const optionalNote = `,{"name":"note","type":["null","string"],"default":null}`

func orderSchema(n, f string, digits int, gone, inside, after string) string {
	return fmt.Sprintf(`{"type":"record","name":"order","fields":[{"name":"id","type":"long"},{"name":"n","type":%q},{"name":"f","type":%q},%s
		{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":%d,"scale":2}},
		{"name":"meta","type":{"type":"record","name":"meta","fields":[{"name":"a","type":"string"}%s]}}%s]}`, n, f, gone, digits, inside, after)
}

// orderColumns are those of a snapshot of a table that stands at a version, as each engine names them. The ids stay.
var orderColumns = map[string][]map[string]string{
	"pyiceberg": {
		{"id": "long", "n": "int", "f": "float", "d": "decimal(9, 2)", "gone": "string", "meta": "struct<7: a: optional string>"},
		{"id": "long", "n": "long", "f": "float", "d": "decimal(9, 2)", "gone": "string", "meta": "struct<7: a: optional string, 12: extra: optional string>", "note": "string"},
		{"id": "long", "n": "long", "f": "double", "d": "decimal(18, 2)", "gone": "string", "meta": "struct<7: a: optional string, 12: extra: optional string>", "note": "string"},
	},
	"duckdb": {
		{"id": "BIGINT", "n": "INTEGER", "f": "FLOAT", "d": "DECIMAL(9,2)", "gone": "VARCHAR", "meta": "STRUCT(a VARCHAR)"},
		{"id": "BIGINT", "n": "BIGINT", "f": "FLOAT", "d": "DECIMAL(9,2)", "gone": "VARCHAR", "meta": "STRUCT(a VARCHAR, extra VARCHAR)", "note": "VARCHAR"},
		{"id": "BIGINT", "n": "BIGINT", "f": "DOUBLE", "d": "DECIMAL(18,2)", "gone": "VARCHAR", "meta": "STRUCT(a VARCHAR, extra VARCHAR)", "note": "VARCHAR"},
	},
}

// order is the event of an offset in a version, as it is written; its numbers need the version's types.
func order(version int, o int64) map[string]any {
	e := map[string]any{"id": o, "n": int32(o), "f": float32(o) + 0.5, "d": big.NewRat(100*o+25, 100), "gone": fmt.Sprint("g", o), "meta": map[string]any{"a": fmt.Sprint("a", o)}}
	if version >= 1 {
		e["n"], e["note"] = o+1<<40, fmt.Sprint("n", o)
		e["meta"].(map[string]any)["extra"] = fmt.Sprint("e", o)
	}
	if version >= 2 {
		e["f"], e["d"] = float64(o)+0.1, big.NewRat(100*(o+1e12)+25, 100)
		delete(e, "gone")
	}
	return e
}

// orderRow is how the event of an offset reads in a table that stands at a version: what it had, and null in the rest.
func orderRow(at, version int, o int64) map[string]any {
	row := map[string]any{"_kafka_offset": strconv.FormatInt(o, 10), "gone": nil, "meta": map[string]any{"a": fmt.Sprint("a", o)}}
	if at >= 1 {
		row["note"] = nil
		row["meta"].(map[string]any)["extra"] = nil
	}
	for k, v := range order(version, o) {
		switch v := v.(type) {
		case *big.Rat:
			row[k] = v.FloatString(2)
		case map[string]any:
			for in, x := range v {
				row[k].(map[string]any)[in] = x
			}
		default:
			row[k] = fmt.Sprint(v)
		}
	}
	return row
}

// orderRegistry has the versions under the ids 1, 2 and 3, and names the first as the newest.
func orderRegistry(t *testing.T, topic string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]any{"id": 1, "version": 1, "schema": orderSchemas[0]}
		if id, ok := strings.CutPrefix(r.URL.Path, "/schemas/ids/"); ok {
			n, err := strconv.Atoi(id)
			if err != nil || n < 1 || n > len(orderSchemas) {
				http.NotFound(w, r)
				return
			}
			answer = map[string]any{"schema": orderSchemas[n-1]}
		} else if r.URL.Path != "/subjects/"+topic+"-value/versions/latest" {
			http.NotFound(w, r)
			return
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// orders writes events into one partition and knows the version of each.
type orders struct {
	t       *testing.T
	cl      *kgo.Client
	topic   string
	schemas []*avro.Schema
	written []int // version by offset
}

func newOrders(t *testing.T, addr, topic string) *orders {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	p := &orders{t: t, cl: cl, topic: topic}
	for _, s := range orderSchemas {
		p.schemas = append(p.schemas, avro.MustParse(s))
	}
	return p
}

func (p *orders) write(versions ...int) {
	p.t.Helper()
	var recs []*kgo.Record
	for _, v := range versions {
		body, err := p.schemas[v].Encode(order(v, int64(len(p.written))))
		if err != nil {
			p.t.Fatal(err)
		}
		recs = append(recs, &kgo.Record{Topic: p.topic, Value: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(v+1)), body...)})
		p.written = append(p.written, v)
	}
	if err := p.cl.ProduceSync(p.t.Context(), recs...).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

const orderTable = "shop.orders"

// untilOrders waits until the table has n rows in its newest snapshot.
func (l *lake) untilOrders(n int) {
	l.t.Helper()
	until(l.t, fmt.Sprintf("%d committed orders", n), time.Minute, func() (bool, string) {
		got, err := l.committed(orderTable)
		return err == nil && got == int64(n), fmt.Sprint(got, " ", err)
	})
}

// TestOthersReadAcrossEvolution: the schema of the events changes twice while Firn ingests and compacts, and PyIceberg and
// DuckDB read the head and every snapshot there was: the values that were produced, under the columns that the table had then.
func TestOthersReadAcrossEvolution(t *testing.T) {
	kafka := sharedServer(t, "kafka")
	l := newLake(t, lakeOptions{warehouse: "file://" + t.TempDir() + "/warehouse", kafka: kafka.addr(), topic: "orders"})
	raw, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	servers, _, _ := strings.Cut(string(raw), "pipelines:")
	if err := os.WriteFile(l.config, fmt.Appendf(nil, `%scompaction: {interval: 200ms, min_input_files: 2}
pipelines:
  - {name: orders, topic: orders, format: avro, table: %s, commit_interval: 200ms, registry: {url: %q}}
`, servers, orderTable, orderRegistry(t, "orders")), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newOrders(t, kafka.addr(), "orders")
	p.write(0)
	l.role("up")
	// Each is a commit at least. Producers of older versions go on beside the newer. A power of two of rows becomes one file.
	for _, versions := range [][]int{{0, 0}, {0}, {1, 1, 0}, {1}, {0, 1}, {2, 1, 0}, {2}, {1, 2}, {2, 2, 1, 0, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2}} {
		l.untilOrders(len(p.written))
		p.write(versions...)
	}
	l.untilOrders(len(p.written))
	until(t, "the files of all schemas are one", 20*time.Second, func() (bool, string) {
		type listed struct {
			Table string
			Files int
		}
		var tables []listed
		r := l.client("tables", "-o", "json")
		err := json.Unmarshal([]byte(r.stdout), &tables)
		return err == nil && slices.ContainsFunc(tables, func(l listed) bool { return l.Table == orderTable && l.Files == 1 }), r.stdout + r.err
	})
	var read []snapshotRead
	if err := json.Unmarshal([]byte(pythonRun(t, "snapshots.py", l.catalogURI(), orderTable)), &read); err != nil {
		t.Fatal(err)
	}
	p.holds(read)
}

// snapshotRead is what the engines say of one snapshot.
type snapshotRead struct {
	ID, Schema, Total int64 // total: its rows, by its summary
	Operation         string
	Engines           map[string]struct {
		Columns map[string]string
		Rows    []map[string]any
	}
}

// holds compares what was read with what was written. There is one partition, so a snapshot of n rows has the first n events.
func (p *orders) holds(all []snapshotRead) {
	p.t.Helper()
	replaced := map[int]int{}
	for _, s := range all {
		at := int(s.Schema)
		if s.Operation == "replace" {
			replaced[at]++
		}
		if first := p.written[:s.Total]; slices.Max(first) != at {
			p.t.Errorf("%s snapshot %d has schema %d, its rows are of versions %v", s.Operation, s.ID, at, first)
		}
		for engine, columns := range orderColumns {
			what, read := fmt.Sprintf("%s, %s snapshot %d of schema %d", engine, s.Operation, s.ID, at), s.Engines[engine]
			if len(read.Rows) != int(s.Total) {
				p.t.Errorf("%s has %d rows, its summary says %d", what, len(read.Rows), s.Total)
			}
			if !reflect.DeepEqual(read.Columns, columns[at]) {
				p.t.Errorf("%s has the columns %v, want %v", what, read.Columns, columns[at])
			}
			for o, row := range read.Rows {
				if want := orderRow(at, p.written[o], int64(o)); !reflect.DeepEqual(row, want) {
					p.t.Errorf("%s reads\n%v, written was\n%v", what, row, want)
				}
			}
		}
	}
	if head := all[len(all)-1]; int(head.Total) != len(p.written) || replaced[2] == 0 {
		p.t.Errorf("the head has %d rows, %d were written; compactions by schema: %v", head.Total, len(p.written), replaced)
	}
	p.t.Logf("%d snapshots, compactions by schema %v", len(all)-1, replaced)
}
