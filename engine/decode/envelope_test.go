package decode

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/iceberg-go"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/engine"
)

// customers is the table of Debezium's tutorial, with a column of each encoding that a database's types have.
const customers = `{"type":"object","required":["id","email"],"properties":{"id":{"type":"integer","format":"int32"},"email":{"type":"string"},
	"balance":{"type":["string","null"],"format":"decimal","contentEncoding":"base64","x-precision":10,"x-scale":2},
	"born":{"type":["integer","null"],"format":"epoch-days"},"seen":{"type":["integer","null"],"format":"epoch-us"},
	"paid":{"type":["string","null"],"format":"date-time"}}}`

// The events are as Debezium's connectors for PostgreSQL and MySQL write them.
const (
	pgSource = `{"version":"3.3.1.Final","connector":"postgresql","name":"PostgreSQL_server","ts_ms":1559033904863,"ts_us":1559033904863123,"snapshot":true,"db":"postgres",` +
		`"sequence":"[\"24023119\",\"24023128\"]","schema":"public","table":"customers","txId":555,"lsn":24023128,"xmin":null}`
	myTimes  = `"ts_ms":1465581029523,"ts_us":1465581029523758,"ts_ns":1465581029523758914`
	anne     = `{"id":1,"email":"annek@noanswer.org","balance":"F4w=","born":16753,"seen":1780570883456789,"paid":"2026-06-04T13:01:23.456+02:00"}`
	anneRow  = `id=1 email="annek@noanswer.org" balance="60.28" born="2015-11-14" seen="2026-06-04T11:01:23.456789Z" paid="2026-06-04T11:01:23.456Z" `
	noAnne   = `email=null balance=null born=null seen=null paid=null `
	pgTimes  = `"ts_ms":1559033904863,"ts_us":1559033904863999,"ts_ns":1559033904863999999`
	pgAt     = `_ts_ms="2019-05-28T08:58:24.863Z" `
	noSource = `_source=null`
)

// connectSchemaOf is the schema that Connect's converter sends along, for a row of the given fields.
func connectSchemaOf(fields string) string {
	row := func(name string) string {
		return `{"type":"struct","fields":[` + fields + `],"optional":true,"name":"PostgreSQL_server.inventory.customers.Value","field":"` + name + `"}`
	}
	return `{"type":"struct","fields":[` + row("before") + `,` + row("after") + `,{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"}],"optional":false,` +
		`"name":"io.debezium.connector.postgresql.Source","field":"source"},{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"}],` +
		`"optional":false,"name":"PostgreSQL_server.inventory.customers.Envelope"}`
}

func connectType(field, typ, name, more string) string {
	return fmt.Sprintf(`{"type":"%s","optional":true,"name":"%s","version":1%s,"field":"%s"}`, typ, name, more, field)
}

var customersFields = strings.Join([]string{`{"type":"int32","optional":false,"default":0,"field":"id"}`, `{"type":"string","optional":false,"field":"email"}`,
	connectType("balance", "bytes", "org.apache.kafka.connect.data.Decimal", `,"parameters":{"scale":"2","connect.decimal.precision":"10"}`),
	connectType("born", "int32", "io.debezium.time.Date", ""), connectType("seen", "int64", "io.debezium.time.MicroTimestamp", ""),
	connectType("paid", "string", "io.debezium.time.ZonedTimestamp", "")}, ",")

func changesOf(tb testing.TB, raw string, o Options) *JSON {
	tb.Helper()
	c, err := contractOf(tb, raw).WithEnvelope(Envelope{Type: EnvelopeDebezium})
	if err != nil {
		tb.Fatal(err)
	}
	return decoderOf(tb, c, o)
}

func TestChangesAreRows(t *testing.T) {
	d := changesOf(t, customers, Options{Mem: checked(t)})
	wrap := func(payload string) string {
		return `{"schema":` + connectSchemaOf(customersFields) + `,"payload":` + payload + `}`
	}
	source := `_source=` + quotedJSON(t, pgSource)
	for _, c := range []struct{ name, event, want string }{
		{"create", wrap(`{"before":null,"after":` + anne + `,"source":` + pgSource + `,"op":"c",` + pgTimes + `}`), anneRow + `_op="c" ` + pgAt + source},
		{"create again, its schema known", wrap(`{"before":null,"after":` + anne + `,"source":` + pgSource + `,"op":"c",` + pgTimes + `}`), anneRow + `_op="c" ` + pgAt + source},
		{"without the wrapper", `{"before":null,"after":` + anne + `,"source":` + pgSource + `,"op":"c",` + pgTimes + `,"transaction":null}`, anneRow + `_op="c" ` + pgAt + source},
		{"snapshot", `{"before":null,"after":` + anne + `,"source":null,"op":"r","ts_ms":null}`, anneRow + `_op="r" _ts_ms=null ` + noSource},
		{"update", `{"before":{"id":1,"email":"old"},"after":` + anne + `,"op":"u",` + myTimes + `}`, anneRow + `_op="u" _ts_ms="2016-06-10T17:50:29.523Z" ` + noSource},
		{"delete of the whole row", wrap(`{"before":` + anne + `,"after":null,"source":` + pgSource + `,"op":"d",` + pgTimes + `}`), anneRow + `_op="d" ` + pgAt + source},
		{"delete of a key", `{"before":{"id":1},"after":null,"op":"d"}`, `id=1 ` + noAnne + `_op="d" _ts_ms=null ` + noSource},
		{"delete of a key and nulls", `{"op":"d","before":{"id":1,"email":null,"balance":null,"born":null,"seen":null,"paid":null}}`, `id=1 ` + noAnne + `_op="d" _ts_ms=null ` + noSource},
		{"truncate", wrap(`{"source":` + pgSource + `,"op":"t",` + pgTimes + `}`), `id=null ` + noAnne + `_op="t" ` + pgAt + source},
		{"any order and spaces", ` { "ts_ms" : 0 , "op" : "\u0075" , "x" : [ ] , "after" : ` + anne + ` , "before" : 1 } `, anneRow + `_op="u" _ts_ms="1970-01-01T00:00:00Z" ` + noSource},
		{"payload before schema", `{"payload":{"op":"c","after":` + anne + `},"schema":null}`, anneRow + `_op="c" _ts_ms=null ` + noSource},
		{"a schema that is none", `{"schema":{"type":7},"payload":{"op":"c","after":` + anne + `}}`, anneRow + `_op="c" _ts_ms=null ` + noSource},

		{"no envelope", anne, "missing_field /op"},
		{"an empty one", `{}`, "missing_field /op"},
		{"an empty payload", `{"schema":{},"payload":{}}`, "missing_field /payload/op"},
		{"payload null", `{"schema":{},"payload":null}`, "wrong_type /payload"},
		{"op null", `{"op":null,"after":` + anne + `}`, "wrong_type /op"},
		{"a message of PostgreSQL's log", `{"op":"m","ts_ms":1559033904863,"message":{"prefix":"p","content":"Ymfy"}}`, "not_in_enum /op"},
		{"op of two letters", wrap(`{"op":"cc","after":` + anne + `}`), "not_in_enum /payload/op"},
		{"op twice", wrap(`{"op":"c","op":"c","after":` + anne + `}`), "duplicate_key /payload/op"},
		{"after twice", `{"op":"c","after":` + anne + `,"after":` + anne + `}`, "duplicate_key /after"},
		{"schema twice", `{"schema":{},"schema":{},"payload":{"op":"t"}}`, "duplicate_key /schema"},
		{"create without a row", wrap(`{"op":"c","after":null}`), "missing_field /payload/after"},
		{"delete without a row", `{"op":"d","before":null,"after":` + anne + `}`, "missing_field /before"},
		{"a row that is none", `{"op":"u","after":"__debezium_unavailable_value"}`, "wrong_type /after"},
		{"a wrong time", `{"op":"c","ts_ms":"now","after":` + anne + `}`, "wrong_type /ts_ms"},
		{"a wrong source", wrap(`{"op":"c","source":[],"after":` + anne + `}`), "wrong_type /payload/source"},
		{"a create of a key", wrap(`{"op":"c","after":{"id":1}}`), "missing_field /payload/after/email"},
		{"a wrong field", `{"op":"u","after":{"id":1,"email":2}}`, "wrong_type /after/email"},
		{"a wrong field of a delete", wrap(`{"op":"d","before":{"id":"1"}}`), "wrong_type /payload/before/id"},
		{"a field twice", `{"op":"c","after":{"id":1,"id":1,"email":""}}`, "duplicate_key /after/id"},
		{"bad JSON in what is not read", `{"op":"c","before":{"a":tru},"after":` + anne + `}`, "invalid_json /before"},
		{"bad JSON in the schema", `{"schema":{"a":01},"payload":{"op":"c","after":` + anne + `}}`, "invalid_json /schema"},
		{"bad UTF-8 in the source", "{\"op\":\"c\",\"source\":{\"db\":\"\xff\"},\"after\":" + anne + `}`, "invalid_utf8 /source"},
		{"cut off", `{"op":"c","after":` + anne, "invalid_json "},
		{"more behind it", `{"op":"t"} {}`, "invalid_json "},
		{"too deep", `{"op":"c","after":` + anne + `,"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "too_deep /x"},
		{"no object", `[1]`, "wrong_type "},
		{"no bytes", ``, "empty_value "},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := mustDecode(t, d, c.event)
			if out.Rows != nil {
				defer out.Rows.Release()
				if err := validate(out.Rows); err != nil {
					t.Error(err)
				}
				if got := rowsJSON(t, out.Rows)[0]; got != c.want {
					t.Errorf("row\n%s\nwant\n%s", got, c.want)
				}
			} else if got := out.Dead[0].Reason + " " + out.Dead[0].Place; got != c.want || string(out.Dead[0].Value) != c.event {
				t.Errorf("dead letter %s (%s), want %s", got, out.Dead[0].Message, c.want)
			}
		})
	}
}

func quotedJSON(tb testing.TB, s string) string {
	tb.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

// A tombstone is no change: it is counted with what gave no row, and neither a row nor a dead letter.
func TestTombstonesAreLeftOut(t *testing.T) {
	for _, lines := range []bool{false, true} {
		c, err := contractOf(t, customers).WithEnvelope(Envelope{Type: EnvelopeDebezium})
		if err != nil {
			t.Fatal(err)
		}
		if lines {
			c = c.WithLines()
		}
		d := decoderOf(t, c, Options{Mem: checked(t)})
		f := fetchOf(`{"op":"d","before":{"id":1}}`, ``, ``, `{"op":"c","after":{"id":2,"email":""}}`, ``)
		f.Records[1].Value, f.Records[4].Value = nil, nil
		out, err := d.Decode(f)
		if err != nil {
			t.Fatal(err)
		}
		if out.Rows.NumRows() != 2 || out.LastRow != 103 || !slices.Equal(out.Filtered, []int64{101, 104}) || len(out.Dead) != 1 || out.Dead[0].Reason != ReasonEmptyValue || out.Events != 3 {
			t.Errorf("lines %v: %+v", lines, out)
		}
		out.Rows.Release()
		f = fetchOf("")
		f.Records[0].Value = nil
		if out, err := d.Decode(f); err != nil || out.Rows != nil || len(out.Dead) != 0 || len(out.Filtered) != 1 {
			t.Errorf("one alone: %+v, %v", out, err)
		}
	}
}

// What the schema in the event says is held against the contract's format, because nothing in a number tells of its unit.
func TestTheEventsSchemaMustMeanTheSame(t *testing.T) {
	decimal := func(scale string) string {
		return connectType("v", "bytes", "org.apache.kafka.connect.data.Decimal", `,"parameters":{"scale":"`+scale+`"}`)
	}
	named := func(typ, name string) string { return connectType("v", typ, name, "") }
	const arrayOfMicros = `{"type":"array","items":{"type":"int64","optional":true,"name":"io.debezium.time.MicroTimestamp","version":1},"optional":true,"field":"v"}`
	for _, c := range []struct{ contract, field, value, want string }{
		{`{"type":"integer","format":"epoch-ms"}`, named("int64", "io.debezium.time.Timestamp"), `1`, ``},
		{`{"type":"integer","format":"epoch-ms"}`, named("int64", "org.apache.kafka.connect.data.Timestamp"), `1`, ``},
		{`{"type":"integer","format":"epoch-ms"}`, named("int64", "io.debezium.time.MicroTimestamp"), `1`, `says epoch-us (io.debezium.time.MicroTimestamp), and test.json#/properties/v takes it for epoch-ms`},
		{`{"type":"integer","format":"epoch-us"}`, named("int64", "io.debezium.time.Timestamp"), `1`, `epoch-ms`},
		{`{"type":"integer","format":"epoch-ns"}`, named("int64", "io.debezium.time.NanoTimestamp"), `1`, ``},
		{`{"type":"integer","format":"epoch-days"}`, named("int32", "io.debezium.time.Date"), `1`, ``},
		{`{"type":"integer","format":"epoch-s"}`, named("int32", "io.debezium.time.Date"), `1`, `epoch-days`},
		{`{"type":"integer","format":"time-ms"}`, named("int32", "io.debezium.time.Time"), `1`, ``},
		{`{"type":"integer","format":"time-us"}`, named("int64", "io.debezium.time.NanoTime"), `1`, `time-ns`},
		{`{"type":"string","format":"date-time"}`, named("string", "io.debezium.time.ZonedTimestamp"), `"2026-06-04T11:01:23Z"`, ``},
		{`{"type":"string","format":"time"}`, named("string", "io.debezium.time.ZonedTime"), `"11:01:23Z"`, ``},
		{`{"type":"string","format":"date-time"}`, named("string", "io.debezium.time.IsoTimestamp"), `"2024-02-29T23:59:59.123456Z"`, ``},
		{`{"type":"string","format":"date"}`, named("string", "io.debezium.time.IsoDate"), `"2024-02-29Z"`, ``},
		{`{"type":"string","format":"time"}`, named("string", "io.debezium.time.IsoTime"), `"23:59:59.5Z"`, ``},
		{`{"type":"string","format":"time"}`, named("string", "io.debezium.time.IsoDate"), `"23:59:59"`, `says date `},
		{`{"type":"array","items":{"type":"integer","format":"epoch-us"}}`, arrayOfMicros, `[1]`, ``},
		{`{"type":"array","items":{"type":"integer","format":"epoch-ms"}}`, arrayOfMicros, `[1]`, `says epoch-us (io.debezium.time.MicroTimestamp), and test.json#/properties/v/items takes it for epoch-ms`},
		{`{"type":"object","properties":{"v":{"type":"integer","format":"epoch-ms"}}}`, `{"type":"struct","fields":[` + named("int64", "io.debezium.time.MicroTimestamp") + `],"optional":true,"field":"v"}`, `{"v":1}`, `says epoch-us`},
		{`{"type":"integer"}`, named("int64", "io.debezium.time.MicroTimestamp"), `1`, ``}, // as it is written
		{`{"type":"integer","format":"epoch-ms"}`, `{"type":"int64","optional":true,"field":"v"}`, `1`, ``},
		{`{"type":"string","format":"decimal","contentEncoding":"base64","x-precision":9,"x-scale":2}`, decimal("2"), `"AQ=="`, ``},
		{`{"type":"string","format":"decimal","contentEncoding":"base64","x-precision":9,"x-scale":2}`, decimal("4"), `"AQ=="`, `x-scale 4`},
		{`{"type":"string","format":"decimal","contentEncoding":"base64","x-precision":9,"x-scale":2}`, `{"type":"bytes","optional":true,"field":"v"}`, `"AQ=="`, `bytes (of no further meaning)`},
		{`{"type":"string","format":"decimal","x-precision":9,"x-scale":2}`, decimal("2"), `"1234"`, `takes it for decimal: change`},
		{`{"type":"string","format":"decimal","x-precision":9,"x-scale":2}`, `{"type":"string","optional":true,"field":"v"}`, `"12.5"`, ``},
		{`{"type":"string"}`, decimal("2"), `"AQ=="`, `takes it for string`},
		{`{"type":"string","format":"byte"}`, decimal("2"), `"AQ=="`, ``},
		{`{"type":"string"}`, named("string", "io.debezium.data.Enum"), `"a"`, ``},
	} {
		d := changesOf(t, `{"type":"object","properties":{"v":`+c.contract+`}}`, Options{Mem: checked(t)})
		event := `{"schema":` + connectSchemaOf(c.field) + `,"payload":{"op":"c","after":{"v":` + c.value + `}}}`
		for range 2 { // the second time the schema is known
			out := mustDecode(t, d, event)
			if out.Rows != nil {
				out.Rows.Release()
			}
			if c.want == "" && len(out.Dead) > 0 || c.want != "" && (len(out.Dead) != 1 || out.Dead[0].Reason != ReasonIncompatible ||
				out.Dead[0].Place != "/payload/after/v" || !strings.Contains(out.Dead[0].Message, c.want)) {
				t.Errorf("%s and %s: %+v, want %q", c.contract, c.field, out.Dead, c.want)
			}
		}
	}
	d := changesOf(t, `{"type":"object","properties":{"v":{"type":"integer","format":"epoch-ms"}}}`, Options{Mem: checked(t), OnIncompatible: Stop})
	wrong := `{"schema":` + connectSchemaOf(named("int64", "io.debezium.time.MicroTimestamp")) + `,"payload":{"op":"c","after":{"v":1}}}`
	if _, err := d.Decode(fetchOf(wrong)); !errors.Is(err, engine.ErrIncompatibleSchema) || !strings.Contains(err.Error(), "field v") {
		t.Errorf("with stop: %v", err)
	}
	out := mustDecode(t, d, `{"op":"c","after":{"v":1}}`) // which names no schema
	out.Rows.Release()
}

// Schemas take turns, more of them than are kept, and each event is held against its own.
func TestSchemasOfEventsTakeTurns(t *testing.T) {
	d := changesOf(t, `{"type":"object","properties":{"v":{"type":"integer","format":"epoch-ms"}}}`, Options{Mem: checked(t)})
	var events []string
	for i := range 40 {
		name := [2]string{"io.debezium.time.Timestamp", "io.debezium.time.MicroTimestamp"}[i%2]
		events = append(events, `{"schema":`+connectSchemaOf(connectType("v", "int64", name, fmt.Sprintf(`,"doc":"%d"`, i%(2*maxConnectSchemas))))+`,"payload":{"op":"c","after":{"v":`+itoa(i)+`}}}`)
	}
	out := mustDecode(t, d, append(events, events[0], events[0], events[1])...)
	defer out.Rows.Release()
	if out.Rows.NumRows() != 22 || len(out.Dead) != 21 || len(d.change.schemas.kept) != maxConnectSchemas {
		t.Errorf("%d rows, %d dead letters, %d schemas", out.Rows.NumRows(), len(out.Dead), len(d.change.schemas.kept))
	}
}

// Rules hold for the row of a change; what they require is not asked of a delete. The rest is that of the row.
func TestRulesAndTheRestOfChanges(t *testing.T) {
	c, err := contractOf(t, `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"op":{"type":"string"},"n":{"type":["integer","null"],"maximum":9}}}`).WithEnvelope(Envelope{Type: "debezium", Op: "change", Time: "at", Source: "origin"})
	if err == nil {
		c, err = c.WithRest("_rest")
	}
	if err == nil {
		c, err = c.WithRules(Rules{Rules: []Rule{{Column: "n", Required: true}, {Column: "op", MaxLength: new(int), OnViolation: ActionFlag}}, Complete: []string{"op"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	d := decoderOf(t, c, Options{Mem: checked(t)})
	out := mustDecode(t, d, `{"op":"c","after":{"id":1,"n":2,"x":{"y":1},"op":"a"},"x":7}`, `{"op":"c","after":{"id":1}}`, `{"op":"d","before":{"id":3,"z":0},"ts_ms":1}`, `{"op":"t"}`,
		`{"schema":{},"payload":{"op":"u","after":{"id":1,"n":10}}}`, `{"op":"x","after":{"id":1}}`)
	defer out.Rows.Release()
	want := []string{`id=1 op="a" n=2 change="c" at=null origin=null _rest="{\"x\":{\"y\":1}}" _contract_violations=["op:out_of_range"]`,
		`id=3 op=null n=null change="d" at="1970-01-01T00:00:00.001Z" origin=null _rest="{\"z\":0}" _contract_violations=null`,
		`id=null op=null n=null change="t" at=null origin=null _rest=null _contract_violations=null`}
	if got := rowsJSON(t, out.Rows); !slices.Equal(got, want) {
		t.Errorf("rows\n%s", strings.Join(got, "\n"))
	}
	if got := letterSpots(out.Dead); len(got) != 3 || !strings.HasPrefix(got[0], "101:0 missing_field /after/n ") || !strings.HasPrefix(got[1], "104:0 out_of_range /payload/after/n ") || !strings.HasPrefix(got[2], "105:0 not_in_enum /op ") {
		t.Errorf("dead letters %q", got)
	}
	if got := fmt.Sprint(out.Violations); got != "[{n missing_field dead_letter 1} {n out_of_range dead_letter 1} {op out_of_range keep_and_flag 1}]" {
		t.Errorf("violations %s", got)
	}
	if out.MaxEvent.UnixMilli() != 1 {
		t.Errorf("the event time is %v", out.MaxEvent)
	}
}

// A column that the table itself requires is asked of every row.
func TestWhatTheTableRequiresIsAskedOfDeletes(t *testing.T) {
	c, err := contractOf(t, customers).WithEnvelope(Envelope{Type: EnvelopeDebezium})
	if err != nil {
		t.Fatal(err)
	}
	fields := slices.Clone(c.IcebergSchema().Fields())
	fields[1].Required = true // email
	d, err := NewJSON(c, iceberg.NewSchema(0, fields...), Options{Mem: checked(t)})
	if err != nil {
		t.Fatal(err)
	}
	out := mustDecode(t, d, `{"op":"d","before":{"id":1}}`, `{"op":"d","before":{"email":null}}`, `{"op":"t"}`, `{"op":"d","before":{"email":"a"}}`)
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil || out.Rows.NumRows() != 1 {
		t.Errorf("%d rows, %v", out.Rows.NumRows(), err)
	}
	var got []string
	for _, l := range out.Dead {
		got = append(got, l.Reason+l.Place)
	}
	if !slices.Equal(got, []string{"missing_field/before/email", "wrong_type/before/email", "missing_field/email"}) {
		t.Errorf("dead letters %q", got)
	}
}

func TestEnvelopesNeedColumnsOfTheirOwn(t *testing.T) {
	avro, err := LoadAvro([]byte(`{"type":"record","name":"a","fields":[{"name":"a","type":"int"}]}`), nil, "a.avsc")
	if err != nil {
		t.Fatal(err)
	}
	c := contractOf(t, customers)
	for _, x := range []struct {
		contract *Contract
		envelope Envelope
		want     string
	}{
		{c, Envelope{Type: "maxwell"}, `envelope.type: "maxwell": the only envelope is debezium`},
		{c, Envelope{Op: "op"}, "envelope.type: say which envelope"},
		{c, Envelope{Type: "debezium", Op: "ID"}, `envelope.op: test.json has a field "id" (#/properties/id)`},
		{c, Envelope{Type: "debezium", Time: "_kafka_timestamp"}, "envelope.ts_ms: _kafka_timestamp is a column that firn writes itself"},
		{c, Envelope{Type: "debezium", Source: "_OP"}, `envelope.source: "_op" is the name of another column`},
		{withRest(t, customers, "_op"), Envelope{Type: "debezium"}, `envelope.op: "_op" is the name of another column`},
		{avro, Envelope{Type: "debezium"}, "envelope: a.avsc is not the schema of a change event"},
	} {
		if _, err := x.contract.WithEnvelope(x.envelope); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %s", x.envelope, err, x.want)
		}
	}
	dated := contractOf(t, `{"type":"object","properties":{"metadata":{"type":"object","properties":{"event_timestamp":{"type":"string","format":"date-time"}}}}}`)
	for want, c := range map[string]*Contract{"_ts_ms": c, defaultEventTime: dated} {
		if got, err := c.WithEnvelope(Envelope{Type: EnvelopeDebezium}); err != nil || got.EventTime != want {
			t.Errorf("event time %q, want %q: %v", got.EventTime, want, err)
		}
	}
}

func TestChangesAllocateNothingPerEvent(t *testing.T) {
	allocatesNothing(t, changesOf(t, customers, Options{}), 2_000, 0.01,
		`{"schema":`+connectSchemaOf(customersFields)+`,"payload":{"before":null,"after":`+anne+`,"source":`+pgSource+`,"op":"c",`+pgTimes+`}}`,
		`{"before":{"id":1},"after":null,"source":`+pgSource+`,"op":"d",`+pgTimes+`}`)
}

// inEnvelope holds what a change gives against what its row gives by itself: the same values, or the same reason at the same
// place in the row.
func inEnvelope(tb testing.TB, plain, changes *JSON, row []byte, event, place string) error {
	out, err := plain.Decode(fetchOf(string(row)))
	if err != nil {
		return err
	}
	got, err := changes.Decode(fetchOf(event))
	if err != nil {
		return err
	}
	for _, r := range []engine.Decoded{out, got} {
		if r.Rows != nil {
			defer r.Rows.Release()
		}
	}
	if len(out.Dead) > 0 && (strings.HasPrefix(out.Dead[0].Message, "string where the contract wants number") || strings.HasPrefix(out.Dead[0].Message, "the string is not a date")) {
		return nil // "NaN" and "2024-02-29Z" are values in an envelope alone
	}
	if (out.Rows == nil) != (got.Rows == nil) {
		if out.Rows != nil && got.Dead[0].Reason == ReasonTooDeep { // the envelope is a level or two of it
			return nil
		}
		return fmt.Errorf("alone %v, in the envelope %v", out.Dead, got.Dead)
	}
	if out.Rows == nil {
		a, b := out.Dead[0], got.Dead[0]
		if b.Reason == ReasonTooDeep || a.Reason == b.Reason && (a.Reason == ReasonInvalidUTF8 || place+a.Place == b.Place) {
			return nil
		}
		return fmt.Errorf("alone %s %s, in the envelope %s %s", a.Reason, a.Place, b.Reason, b.Place)
	}
	if err := validate(got.Rows); err != nil {
		return err
	}
	if a, b := rowsJSON(tb, out.Rows)[0], rowsJSON(tb, got.Rows)[0]; !strings.HasPrefix(b, a+" _op=") {
		return fmt.Errorf("alone %s, in the envelope %s", a, b)
	}
	return nil
}

// Envelopes of any order, with what else may be in them, around documents of a contract with every kind.
func TestChangesGiveWhatTheirRowsGive(t *testing.T) {
	plain, changes := decoderOf(t, contractOf(t, everyKind), Options{Mem: checked(t)}), changesOf(t, everyKind, Options{Mem: checked(t)})
	rapid.Check(t, func(rt *rapid.T) {
		g := &document{t: rt}
		g.object(contractOf(t, everyKind).root)
		row := g.b.String()
		place := "/after"
		members := []string{`"op":"` + rapid.SampledFrom([]string{"c", "r", "u"}).Draw(rt, "op") + `"`, `"after":` + row}
		for _, m := range []string{`"before":null`, `"before":{"s":"old"}`, `"source":` + pgSource, `"source":null`, `"ts_ms":1559033904863`, `"transaction":{"id":"1"}`, `"payload":[]`, `"":0`} {
			if key, _, _ := strings.Cut(m, ":"); g.chance(40, m) && !slices.ContainsFunc(members, func(have string) bool { return strings.HasPrefix(have, key+":") }) {
				members = append(members, m)
			}
		}
		event := "{" + strings.Join(rapid.Permutation(members).Draw(rt, "order"), " , ") + "}"
		if g.chance(50, "wrapped") {
			place = "/payload/after"
			event = `{"schema":` + connectSchemaOf(`{"type":"string","field":"s"}`) + `,"payload":` + event + `}`
		}
		if err := inEnvelope(t, plain, changes, []byte(row), event, place); err != nil {
			rt.Fatalf("%s\n%v", event, err)
		}
	})
}

// asChange is what a fuzzer's payload has to give as the row of a change, and as a change itself.
func asChange(t *testing.T, plain, changes *JSON, payload []byte) error {
	out, err := changes.Decode(fetchOf(string(payload)))
	if err != nil {
		return err
	}
	sound := json.Valid(payload) && utf8.Valid(payload)
	if out.Rows != nil {
		defer out.Rows.Release()
		if err := validate(out.Rows); err != nil {
			return err
		}
		if !sound {
			return errors.New("a change is taken, and encoding/json refuses it or it is not UTF-8")
		}
	}
	if !sound || len(payload) == 0 || payload[0] != '{' {
		return nil
	}
	if err := inEnvelope(t, plain, changes, payload, `{"op":"c","after":`+string(payload)+`}`, "/after"); err != nil {
		return err
	}
	return inEnvelope(t, plain, changes, payload, `{"payload":{"after":`+string(payload)+`,"op":"r"}}`, "/payload/after")
}

// Changes with Connect's wrapper and without, beside their rows alone: go test -bench Changes -count 6 ./engine/decode, for benchstat.
func BenchmarkChanges(b *testing.B) {
	envelope := `{"before":null,"after":` + event + `,"source":` + pgSource + `,"op":"c",` + pgTimes + `}`
	fields := strings.Repeat(`{"type":"string","optional":true,"field":"some_column"},`, 20) + `{"type":"string","field":"event_id"}`
	raw, err := json.Marshal(json.RawMessage(connectSchemaOf(fields)))
	if err != nil {
		b.Fatal(err)
	}
	changes, err := demoContract(b).WithEnvelope(Envelope{Type: EnvelopeDebezium})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, event string
		contract    *Contract
	}{{"row", event, demoContract(b)}, {"envelope", envelope, changes}, {"wrapped", `{"schema":` + string(raw) + `,"payload":` + envelope + `}`, changes}} {
		d := decoderOf(b, c.contract, Options{})
		f := fetchOf(slices.Repeat([]string{c.event}, 1000)...)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(1000 * len(c.event)))
			b.ReportAllocs()
			for b.Loop() {
				out, err := d.Decode(f)
				if err != nil || len(out.Dead) > 0 {
					b.Fatal(err, out.Dead)
				}
				out.Rows.Release()
			}
		})
	}
}
