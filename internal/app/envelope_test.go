package app

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/registry"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

// TestChangesOfADatabase: Debezium's events become rows of an append table, committed and hot; tombstones are neither rows
// nor dead letters and audit accounts for them, beside those that a filter keeps out; what is no change is a dead letter.
func TestChangesOfADatabase(t *testing.T) {
	pl := Pipeline{Name: "customers", Topic: "inventory.customers", Table: "crm.customers", Envelope: decode.Envelope{Type: decode.EnvelopeDebezium, Time: "_at"},
		contract:  []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"email":{"type":"string"},"born":{"type":"integer","format":"epoch-days"}}}`),
		Partition: []string{"day(_at)"}, CommitInterval: units.Duration(200 * time.Millisecond), Rest: "_rest",
		Transform: transform.Config{Filter: "_op <> 'r'", Mask: map[string]transform.Mask{"email": {Method: transform.MethodRedact}}, DeadLetters: transform.LettersKeep}}
	p, c := upPipeline(t, pl)
	defer down(t, p)
	prod, err := source.NewProducer(p.cfg.Kafka, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer prod.Close()
	var msgs []source.Message
	for _, v := range []string{
		`{"schema":{"type":"struct","fields":[]},"payload":{"before":null,"after":{"id":1,"email":"a@b","born":1,"vip":true},"source":{"lsn":24023128},"op":"c","ts_ms":1559033904863}}`,
		`{"before":null,"after":{"id":2},"source":{"lsn":2},"op":"r","ts_ms":1559033904863}`,
		`{"before":{"id":1},"after":null,"source":{"lsn":3},"op":"d","ts_ms":1559133904863}`,
		``, // its tombstone
		`{"id":4}`,
		`{"op":"t","ts_ms":1559233904863}`,
	} {
		m := source.Message{Value: []byte(v), TimestampMs: time.Now().UnixMilli()}
		if v == "" {
			m.Value = nil
		}
		msgs = append(msgs, m)
	}
	if err := prod.Produce(t.Context(), pl.Topic, msgs); err != nil {
		t.Fatal(err)
	}
	settled(t, c, 3, 1)
	table := catalog.Identifier{"crm", "customers"}
	want := `0 1 [redacted] 1970-01-02 c 2019-05-28T08:58:24.863Z {"lsn":24023128} {"vip":true}|2 1 (null) (null) d 2019-05-29T12:45:04.863Z {"lsn":3} (null)|5 (null) (null) (null) t 2019-05-30T16:31:44.863Z (null) (null)`
	for _, level := range []query.Level{query.LevelCommitted, query.LevelHot} {
		got := rowsAt(t, c, level, table, "_kafka_offset", "id", "email", "born", "_op", "_at", "_source", "_rest")
		if slices.Sort(got); strings.Join(got, "|") != want {
			t.Errorf("level %v:\n%s\nwant\n%s", level, strings.Join(got, "|"), want)
		}
	}
	if got := rowsOf(t, c, catalog.Identifier{"crm", "customers_dead"}, "_kafka_offset", "reason", "place"); strings.Join(got, "|") != "4 missing_field /op" {
		t.Errorf("dead letters %q", got)
	}
	if s, _ := onlyPipeline(t, c); s.Filtered != 2 {
		t.Errorf("%d records filtered, want the snapshot's and the tombstone", s.Filtered)
	}
	if r, err := c.Audit(t.Context(), "crm.customers", AuditOptions{Kafka: true}); err != nil || r.Verdict != audit.Clean || r.Partitions[0].Filtered != 2 {
		t.Errorf("%v, %v", r, err)
	}
}

// TestChangesOfADatabaseInAvro: the same from a registry, whose schema of the envelope gives the table its columns and brings
// it a new one while it runs.
func TestChangesOfADatabaseInAvro(t *testing.T) {
	envelope := func(more string) string {
		return `{"type":"record","name":"Envelope","fields":[{"name":"before","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"int"},{"name":"email","type":["null","string"]}` + more + `]}]},
			{"name":"after","type":["null","Value"]},{"name":"source","type":{"type":"record","name":"Source","fields":[{"name":"lsn","type":"long"}]}},{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"]}]}`
	}
	v1, v2 := envelope(""), envelope(`,{"name":"vip","type":["null","boolean"],"default":null}`)
	reg := &schemaServer{answers: map[string]string{
		"/schemas/ids/1": `{"schema":` + quoted(v1) + `}`, "/schemas/ids/2": `{"schema":` + quoted(v2) + `}`,
		"/subjects/inventory.customers-value/versions/latest": `{"id":1,"schema":` + quoted(v1) + `}`,
	}}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	p, c := upPipeline(t, Pipeline{Name: "customers", Topic: "inventory.customers", Table: "crm.customers", Format: "avro", Envelope: decode.Envelope{Type: decode.EnvelopeDebezium},
		Partition: []string{"day(_ts_ms)"}, CommitInterval: units.Duration(200 * time.Millisecond), Registry: registry.Config{URL: srv.URL}})
	defer down(t, p)
	eventually(t, "it runs", func() (bool, string) { s, why := onlyPipeline(t, c); return s.Verdict.State == StateOK, why })
	change := func(id uint32, schema, op string, before, after map[string]any) string {
		orNil := func(m map[string]any) any {
			if m == nil {
				return nil
			}
			return m
		}
		return framed(id, encodeOrder(t, schema, map[string]any{"before": orNil(before), "after": orNil(after), "source": map[string]any{"lsn": int64(7)}, "op": op, "ts_ms": int64(1559033904863)}))
	}
	produce(t, p, "inventory.customers", change(1, v1, "c", nil, map[string]any{"id": 1, "email": "a@b"}), change(1, v1, "u", nil, nil),
		change(2, v2, "u", map[string]any{"id": 1, "email": "a@b", "vip": nil}, map[string]any{"id": 1, "email": nil, "vip": true}), change(1, v1, "d", map[string]any{"id": 1, "email": nil}, nil))
	settled(t, c, 3, 1)
	want := `0 1 a@b (null) c 2019-05-28T08:58:24.863Z {"lsn":7}|2 1 (null) true u 2019-05-28T08:58:24.863Z {"lsn":7}|3 1 (null) (null) d 2019-05-28T08:58:24.863Z {"lsn":7}`
	got := rowsOf(t, c, catalog.Identifier{"crm", "customers"}, "_kafka_offset", "id", "email", "vip", "_op", "_ts_ms", "_source")
	if slices.Sort(got); strings.Join(got, "|") != want {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "|"), want)
	}
	if got := rowsOf(t, c, catalog.Identifier{"crm", "customers_dead"}, "_kafka_offset", "reason", "place", "schema_id"); strings.Join(got, "|") != "1 missing_field /after 1" {
		t.Errorf("dead letters %q", got)
	}
}

// Errors name the key of the configuration, and what to write instead.
func TestWrongEnvelopesNamePlaceAndRemedy(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"event.json": `{"type":"object","properties":{"id":{"type":"integer"},"_op":{"type":"string"}}}`,
		"row.avsc":    `{"type":"record","name":"Value","fields":[{"name":"id","type":"int"}]}`,
		"closed.json": `{"type":"object","additionalProperties":false,"properties":{"id":{"type":"integer"}}}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for keys, want := range map[string]string{
		"schema: event.json\n    envelope: {type: maxwell}":                            "debezium",
		"schema: event.json\n    envelope: {op: _o}":                                   "say which envelope has these columns: debezium",
		"schema: event.json\n    envelope: {type: debezium, tsms: x}":                  "did you mean ts_ms",
		"schema: event.json\n    envelope: {type: debezium}":                           `pipeline a: contract cannot be used: envelope.op: `,
		"schema: closed.json\n    rest: more":                                          "additionalProperties is false",
		"schema: closed.json\n    envelope: {type: debezium}\n    dedup: {column: id}": "all but the first would be dropped",
		"schema: event.json\n    rest: ID":                                             `has a field "id" (#/properties/id): take another name`,
		"schema: event.json\n    format: json_lines\n    envelope: {type: debezium}":   "write format: json",
		"schema: row.avsc\n    format: avro\n    envelope: {type: debezium}":           "row.avsc is not the schema of a change event",
	} {
		path := filepath.Join(dir, "firn.yaml")
		if err := os.WriteFile(path, []byte("warehouse: file:///tmp/w\npipelines:\n  - name: a\n    topic: a\n    table: a.b\n    "+keys+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ValidateConfig(path); err == nil || !strings.Contains(err.Error(), want) || ExitCode(err) != ExitConfig {
			t.Errorf("%s: %v, want something about %q", keys, err, want)
		}
	}
}
