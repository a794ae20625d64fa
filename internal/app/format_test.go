package app

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/avro"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/publish"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/registry"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

const (
	orderV1 = `{"type":"record","name":"order","fields":[{"name":"id","type":"string"},{"name":"count","type":"int"}]}`
	orderV2 = `{"type":"record","name":"order","fields":[{"name":"id","type":"string"},{"name":"count","type":"long"},
		{"name":"note","type":["null","string"],"default":null},{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}`
)

// schemaServer is a registry of schemas by id that can be away.
type schemaServer struct {
	down    atomic.Bool
	answers map[string]string
}

func (s *schemaServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := s.answers[r.URL.Path]
	switch {
	case s.down.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error_code":40403}`))
	default:
		_, _ = w.Write([]byte(body))
	}
}

// upPipeline starts the whole system with one pipeline on the embedded broker.
func upPipeline(t *testing.T, pl Pipeline) (*Process, *Client) {
	t.Helper()
	pl = pl.WithDefaults()
	pl.Registry = pl.Registry.WithDefaults()
	if err := pl.Validate(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := upWith(t, dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleIngest, RoleCompact, RoleQuery},
		func(c *Config) { c.Pipelines = []Pipeline{pl} })
	return p, clientOf(t, dir)
}

func produce(t *testing.T, p *Process, topic string, values ...string) {
	t.Helper()
	prod, err := source.NewProducer(p.cfg.Kafka, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer prod.Close()
	msgs := make([]source.Message, len(values))
	for i, v := range values {
		msgs[i] = source.Message{Partition: 0, Value: []byte(v), TimestampMs: time.Now().UnixMilli()}
	}
	if err := prod.Produce(t.Context(), topic, msgs); err != nil {
		t.Fatal(err)
	}
}

// letterTopicOf waits until a topic of dead letters has so many messages, and reads them.
func letterTopicOf(t *testing.T, p *Process, topic string, want int64) []engine.Record {
	t.Helper()
	eventually(t, "the topic of dead letters", func() (bool, string) {
		at, err := source.Bounds(t.Context(), p.cfg.Kafka, topic)
		return err == nil && at[0].LastStable >= want, fmt.Sprint(at, err)
	})
	var out []engine.Record
	err := source.ReadRange(t.Context(), p.cfg.Kafka, topic, 0, 0, want, func(f *engine.Fetch) error {
		for _, r := range f.Records {
			r.Key, r.Value, r.HeaderBytes = bytes.Clone(r.Key), bytes.Clone(r.Value), bytes.Clone(r.HeaderBytes)
			out = append(out, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// onlyPipeline is what the status says of the one pipeline.
func onlyPipeline(t *testing.T, c *Client) (PipelineStatus, string) {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		return PipelineStatus{}, err.Error()
	}
	return s.Pipelines[0], s.Pipelines[0].Verdict.Cause
}

// rowsOf reads columns of a table's committed rows as Arrow prints them.
func rowsOf(t *testing.T, c *Client, table catalog.Identifier, columns ...string) []string {
	t.Helper()
	return rowsAt(t, c, query.LevelCommitted, table, columns...)
}

// sqlRows are the committed rows that a statement gives, as Arrow prints them.
func sqlRows(t *testing.T, c *Client, sql string) []string {
	t.Helper()
	fc, err := c.Flight(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer fc.Close()
	res, err := fc.Query(t.Context(), sql, query.Options{Level: query.LevelCommitted})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	return printed(t, res)
}

func rowsAt(t *testing.T, c *Client, level query.Level, table catalog.Identifier, columns ...string) []string {
	t.Helper()
	fc, err := c.Flight(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer fc.Close()
	res, err := fc.Scan(t.Context(), query.ScanRequest{Table: table, Columns: columns}, query.Options{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	return printed(t, res)
}

func printed(t *testing.T, res query.Result) (out []string) {
	t.Helper()
	for res.Next(t.Context()) {
		b := res.RecordBatch()
		for i := range int(b.NumRows()) {
			var parts []string
			for _, col := range b.Columns() {
				parts = append(parts, col.ValueStr(i))
			}
			out = append(out, strings.Join(parts, " "))
		}
	}
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func encodeOrder(t *testing.T, schema string, order map[string]any) string {
	t.Helper()
	raw, err := avro.MustParse(schema).Encode(order)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func framed(id uint32, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, id)) + body
}

// An Avro pipeline from end to end: events of two versions and two framings into one table, while the registry is away
// at first. Nothing is lost by that, and only what is broken becomes a dead letter.
func TestAvroPipeline(t *testing.T) {
	reg := &schemaServer{answers: map[string]string{
		"/schemas/ids/1":                         `{"schema":` + quoted(orderV1) + `}`,
		"/schemas/ids/2":                         `{"schema":` + quoted(orderV2) + `}`,
		"/subjects/orders-value/versions/latest": `{"id":2,"version":2,"schema":` + quoted(orderV2) + `}`,
	}}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	v1 := filepath.Join(t.TempDir(), "order-1.avsc")
	if err := os.WriteFile(v1, []byte(orderV1), 0o600); err != nil {
		t.Fatal(err)
	}
	p, c := upPipeline(t, Pipeline{Name: "orders", Topic: "orders", Format: "avro", Table: "shop.orders", Writers: []string{v1}, DeadTopic: "orders.dead",
		CommitInterval: units.Duration(200 * time.Millisecond), Registry: registry.Config{URL: srv.URL, Wait: units.Duration(300 * time.Millisecond)}})
	defer down(t, p)
	eventually(t, "it runs", func() (bool, string) { s, why := onlyPipeline(t, c); return s.Verdict.State == StateOK, why })

	reg.down.Store(true)
	single := string(binary.LittleEndian.AppendUint64([]byte{0xc3, 1}, binary.BigEndian.Uint64(avro.MustParse(orderV1).Fingerprint(avro.NewRabin()))))
	produce(t, p, "orders",
		framed(1, encodeOrder(t, orderV1, map[string]any{"id": "a", "count": 1})),
		framed(2, encodeOrder(t, orderV2, map[string]any{"id": "b", "count": int64(1) << 40, "note": "n", "at": nil})),
		single+encodeOrder(t, orderV1, map[string]any{"id": "c", "count": 3}),
		`{"id":"d"}`,
		framed(2, "\x02"),
		framed(9, "\x02"))
	eventually(t, "trouble shows", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.Verdict.State == StateDegraded && strings.Contains(why, "schema registry"), string(s.Verdict.State) + " " + why
	})
	if s, _ := onlyPipeline(t, c); s.Rows != 0 || s.DeadLetters != 0 {
		t.Errorf("%d rows and %d dead letters while the registry is away", s.Rows, s.DeadLetters)
	}

	reg.down.Store(false)
	orders := catalog.Identifier{"shop", "orders"}
	eventually(t, "all is committed", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.Verdict.State == StateOK && s.LagRecords == 0 && s.PendingRows == 0 && s.Snapshots > 0, string(s.Verdict.State) + " " + why
	})
	want := []string{"a 1 (null)", "b 1099511627776 n", "c 3 (null)"}
	if got := rowsOf(t, c, orders, "id", "count", "note"); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("rows %q, want %q", got, want)
	}
	dead := rowsOf(t, c, catalog.Identifier{"shop", "orders_dead"}, "reason", "place", "schema_id")
	if got := strings.Join(dead, "|"); got != "wrong_magic  (null)|invalid_avro /id 2|unknown_schema  9" {
		t.Errorf("dead letters %q", got)
	}
	last := letterTopicOf(t, p, "orders.dead", 3)[2]
	headers, err := decode.ParseHeaders(last.HeaderBytes, last.HeaderCount)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, h := range headers {
		said[h.Key] = string(h.Value)
	}
	if string(last.Key) != "orders/0/5" || string(last.Value) != framed(9, "\x02") || said[publish.HeaderReason] != "unknown_schema" || said[publish.HeaderSchemaID] != "9" ||
		said[publish.HeaderTopic] != "orders" || said[publish.HeaderPartition] != "0" || said[publish.HeaderOffset] != "5" || said[publish.HeaderPipeline] != "orders" || said[publish.HeaderMessage] == "" {
		t.Errorf("%s with %q", last.Key, said)
	}
	r, err := c.Audit(t.Context(), "shop.orders", AuditOptions{Kafka: true})
	if err != nil || r.Verdict != audit.Clean || r.Rows != 3 {
		t.Errorf("%v, %v", r, err)
	}
}

// Rows cannot be sorted by a column that the registry's schema lacks: it is said before anything is read.
func TestSortByWithARegistry(t *testing.T) {
	reg := &schemaServer{answers: map[string]string{"/subjects/orders-value/versions/latest": `{"id":1,"schema":` + quoted(orderV1) + `}`}}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	p, c := upPipeline(t, Pipeline{Name: "orders", Topic: "orders", Format: "avro", Table: "shop.orders", SortBy: []string{"at"},
		Registry: registry.Config{URL: srv.URL}})
	defer down(t, p)
	eventually(t, "it says why it stands", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.Verdict.State == StateStopped && strings.Contains(why, `there is no column "at"`), string(s.Verdict.State) + " " + why
	})
}

// A Protobuf pipeline from the registry's schema to the table.
func TestProtobufPipeline(t *testing.T) {
	const order = `syntax = "proto3"; message Order { string id = 1; int32 count = 2; optional string note = 3; }`
	reg := &schemaServer{answers: map[string]string{
		"/schemas/ids/1":                         `{"schemaType":"PROTOBUF","schema":` + quoted(order) + `}`,
		"/subjects/orders-value/versions/latest": `{"id":1,"schemaType":"PROTOBUF","schema":` + quoted(order) + `}`,
	}}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	p, c := upPipeline(t, Pipeline{Name: "orders", Topic: "orders", Format: "protobuf", Table: "shop.orders",
		CommitInterval: units.Duration(200 * time.Millisecond), Registry: registry.Config{URL: srv.URL}})
	defer down(t, p)
	eventually(t, "it runs", func() (bool, string) { s, why := onlyPipeline(t, c); return s.Verdict.State == StateOK, why })
	produce(t, p, "orders", framed(1, "\x00\x0a\x01a\x10\x07"), framed(1, "\x00\x0a\x01b\x1a\x01n"), framed(1, "\x00\x0a\x09c"))
	eventually(t, "all is committed", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.Rows == 2 && s.LagRecords == 0 && s.PendingRows == 0 && s.Snapshots > 0, string(s.Verdict.State) + " " + why
	})
	if got := strings.Join(rowsOf(t, c, catalog.Identifier{"shop", "orders"}, "id", "count", "note"), "|"); got != "a 7 (null)|b 0 n" {
		t.Errorf("rows %q", got)
	}
	if got := strings.Join(rowsOf(t, c, catalog.Identifier{"shop", "orders_dead"}, "reason", "place"), "|"); got != "invalid_protobuf /id" {
		t.Errorf("dead letters %q", got)
	}
}

// A JSON pipeline from the registry's schema to the table: the subject's schema makes it, a newer one that an event names brings
// a column, and a registry that is away delays.
func TestJSONPipelineWithARegistry(t *testing.T) {
	schema := func(more string) string {
		return `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"at":{"$ref":"place.json"}` + more + `}}`
	}
	refs := `"schemaType":"JSON","references":[{"name":"place.json","subject":"place","version":1}],"schema":`
	reg := &schemaServer{answers: map[string]string{
		"/schemas/ids/1":                         `{` + refs + quoted(schema("")) + `}`,
		"/schemas/ids/2":                         `{` + refs + quoted(schema(`,"note":{"oneOf":[{"type":"null"},{"type":"string"}]}`)) + `}`,
		"/subjects/place/versions/1":             `{"id":7,"schemaType":"JSON","schema":` + quoted(`{"type":"object","properties":{"lat":{"type":"number"}}}`) + `}`,
		"/subjects/orders-value/versions/latest": `{"id":1,` + refs + quoted(schema("")) + `}`,
	}}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	p, c := upPipeline(t, Pipeline{Name: "orders", Topic: "orders", Format: "json", Table: "shop.orders",
		CommitInterval: units.Duration(200 * time.Millisecond), Registry: registry.Config{URL: srv.URL, Wait: units.Duration(300 * time.Millisecond)}})
	defer down(t, p)
	eventually(t, "it runs", func() (bool, string) { s, why := onlyPipeline(t, c); return s.Verdict.State == StateOK, why })
	reg.down.Store(true)
	produce(t, p, "orders", framed(1, `{"id":"a","at":{"lat":1.5}}`), framed(2, `{"id":"b","note":"n"}`), `{"id":"c"}`, framed(2, `{"id":1}`), framed(9, `{"id":"d"}`))
	eventually(t, "trouble shows", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.Verdict.State == StateDegraded && strings.Contains(why, "schema registry"), string(s.Verdict.State) + " " + why
	})
	reg.down.Store(false)
	settled(t, c, 2, 3)
	if got := strings.Join(rowsOf(t, c, catalog.Identifier{"shop", "orders"}, "id", "at", "note"), "|"); got != `a {"lat":1.5} (null)|b (null) n` {
		t.Errorf("rows %q", got)
	}
	if got := strings.Join(rowsOf(t, c, catalog.Identifier{"shop", "orders_dead"}, "reason", "place", "schema_id"), "|"); got != "wrong_magic  (null)|wrong_type /id 2|unknown_schema  9" {
		t.Errorf("dead letters %q", got)
	}
}

// A stop does not wait for a registry that is away.
func TestAStopDoesNotWaitForTheRegistry(t *testing.T) {
	reg := &schemaServer{answers: map[string]string{"/subjects/orders-value/versions/latest": `{"id":2,"schema":` + quoted(orderV2) + `}`}}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	p, c := upPipeline(t, Pipeline{Name: "orders", Topic: "orders", Format: "avro", Table: "shop.orders",
		Registry: registry.Config{URL: srv.URL, Wait: units.Duration(time.Hour)}})
	eventually(t, "it runs", func() (bool, string) { s, why := onlyPipeline(t, c); return s.Verdict.State == StateOK, why })
	reg.down.Store(true)
	produce(t, p, "orders", framed(1, "\x02a\x02"))
	eventually(t, "it waits", func() (bool, string) { s, why := onlyPipeline(t, c); return s.Verdict.State == StateDegraded, why })
	down(t, p)
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, "\n", " ", "\t", " ").Replace(s) + `"`
}

func TestFormatsAreChecked(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.avsc": orderV1, "bad.avsc": `{"type":"recrd"}`, "a.json": `{"type":"object","properties":{"v":{"type":"integer"}}}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a.proto"), []byte(`syntax = "proto3"; message A { int32 v = 1; }`), 0o600); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[string]string{
		"format: protobuf, schema: a.proto":                                               "",
		"format: protobuf, schema: a.proto, message: A, framing: none":                    "",
		"format: protobuf, schema: a.proto, message: B":                                   `no message "B"`,
		"format: protobuf, schema: a.proto, framing: grpc":                                "confluent",
		"format: protobuf, registry: {url: 'http://127.0.0.1:1'}, message: A":             "",
		"format: protobuf, schema: a.proto, framing: none, registry: {url: 'http://h:1'}": "nothing names a schema",
		"format: avro, schema: a.avsc, framing: none":                                     "for Protobuf",
		"format: avro, schema: a.avsc, on_incompatible_schema: new_column":                "",
		"format: avro, schema: a.avsc, on_incompatible_schema: newcolumn":                 "new_column",
		"format: json, schema: a.json, message: A":                                        "for Protobuf",
		"format: avro, schema: a.avsc":                                                    "",
		"schema: a.json":                                                                  "",
		"format: avro, registry: {url: 'http://127.0.0.1:1'}":                             "",
		"format: avro, schema: a.avsc, registry: {url: 'http://127.0.0.1:1', token: t}":   "",
		"format: avro, schema: a.avsc, writer_schemas: [a.avsc]":                          "",
		"format: avro": "registry.url",
		"format: json": "JSON Schema file",
		"format: json, schema: a.json, registry: {url: 'http://127.0.0.1:1'}":                    "",
		"format: json, registry: {url: 'http://127.0.0.1:1'}, subject: s":                        "",
		"format: json, schema: a.json, subject: s":                                               "set registry.url",
		"format: json, registry: {url: 'http://127.0.0.1:1'}, envelope: {type: debezium}":        "name the row's file in schema",
		"format: json_lines, schema: a.json, registry: {url: 'http://127.0.0.1:1'}":              "lines name no schema",
		"format: json, schema: a.json, writer_schemas: [a.avsc]":                                 "single-object",
		"format: avro, schema: a.avsc, subject: s":                                               "keep one of them",
		"format: avro, schema: bad.avsc":                                                         `did you mean "record"`,
		"format: avro, schema: nothing.avsc":                                                     "nothing.avsc",
		"format: avro, schema: a.avsc, writer_schemas: [nothing.avsc]":                           "writer_schemas[0]",
		"format: avro, schema: a.avsc, partition_by: [day(at)]":                                  "at",
		"format: avro, schema: a.avsc, registry: {url: 'http://127.0.0.1:1', ca_file: none.pem}": "none.pem",
		"format: avro, schema: a.avsc, registry: {url: 'ftp://127.0.0.1:1'}":                     "http://host:port",
		"format: avro, schema: a.avsc, registry: {user: x}":                                      "user",
	} {
		path := filepath.Join(dir, "firn.yaml")
		if err := os.WriteFile(path, []byte("warehouse: file://"+dir+"\npipelines:\n  - {name: p, topic: t, table: a.b, "+lines+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := ValidateConfig(path)
		if want == "" && (err != nil || n != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want) || ExitCode(err) != ExitConfig) {
			t.Errorf("%s: %v, want %q", lines, err, want)
		}
	}
}
