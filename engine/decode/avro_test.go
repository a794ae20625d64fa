package decode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/twmb/avro"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

// avroEvent is the demo's event as an Avro schema.
const avroEvent = `{"type":"record","name":"user_event","namespace":"demo","fields":[
	{"name":"schema_version","type":"int"},{"name":"event_id","type":"string"},
	{"name":"event_type","type":{"type":"enum","name":"event_type","symbols":["page_view","click","purchase"]}},
	{"name":"key","type":{"type":"record","name":"event_key","fields":[{"name":"user_id","type":"string"},{"name":"session_id","type":"string"}]}},
	{"name":"payload","type":{"type":"record","name":"event_payload","fields":[{"name":"page","type":"string"},{"name":"referrer","type":["null","string"]},
		{"name":"currency","type":"string"},{"name":"amount","type":"double"}]}},
	{"name":"metadata","type":{"type":"record","name":"event_metadata","fields":[
		{"name":"event_timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"trace_id","type":"string"},{"name":"source","type":"string"}]}}]}`

func avroDemo(tb testing.TB) []byte {
	tb.Helper()
	raw, err := avro.MustParse(avroEvent).Encode(map[string]any{"schema_version": 3, "event_id": "e-1", "event_type": "page_view",
		"key":      map[string]any{"user_id": "u123", "session_id": "s456"},
		"payload":  map[string]any{"page": "/home", "referrer": "google", "currency": "USD", "amount": 0.5},
		"metadata": map[string]any{"event_timestamp": int64(1_780_570_883_456), "trace_id": "abcd-1234", "source": "web-frontend"}})
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// single puts the header of single-object encoding in front of an event.
func single(schema string, body []byte) string {
	t, err := parseAvro(schema, nil)
	if err != nil {
		panic(err)
	}
	return string(append(binary.LittleEndian.AppendUint64([]byte{0xc3, 1}, avroFingerprint(t)), body...))
}

func TestAvroGivesRowsOfTheTable(t *testing.T) {
	c, err := LoadAvro([]byte(avroEvent), nil, "event.avsc")
	if err != nil {
		t.Fatal(err)
	}
	if c.EventTime != "metadata.event_timestamp" {
		t.Errorf("event time %q", c.EventTime)
	}
	d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Options: Options{Mem: checked(t), Now: func() time.Time { return testNow }},
		Schemas: schemaList{{Type: registry.TypeAvro, Text: avroEvent}}})
	if err != nil {
		t.Fatal(err)
	}
	body := avroDemo(t)
	out := mustDecode(t, d, confluent(0, body), "\x00broken", single(avroEvent, body), confluent(0, body[:10]))
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	rows := rowsJSON(t, out.Rows)
	const want = `schema_version=3 event_id="e-1" event_type="page_view" key={"session_id":"s456","user_id":"u123"} ` +
		`payload={"amount":0.5,"currency":"USD","page":"/home","referrer":"google"} ` +
		`metadata={"event_timestamp":"2026-06-04T11:01:23.456Z","source":"web-frontend","trace_id":"abcd-1234"}`
	if len(rows) != 2 || rows[0] != want || rows[1] != want {
		t.Errorf("rows:\n%s\nwant\n%s", strings.Join(rows, "\n"), want)
	}
	checkLedger(t, out.Rows, []int64{100, 102})
	if len(out.Dead) != 2 || out.Dead[1].Reason != ReasonInvalidAvro || out.Dead[1].Place != "/event_type" && out.Dead[1].Place != "/key/user_id" {
		t.Errorf("dead = %+v", out.Dead)
	}
	if !out.MaxEvent.Equal(time.UnixMilli(1_780_570_883_456)) {
		t.Errorf("MaxEvent = %v", out.MaxEvent)
	}
}

func TestAvroAllocatesNothingPerEvent(t *testing.T) {
	allocatesNothing(t, avroOf(t, avroEvent, avroEvent), 10_000, 0.005, confluent(0, avroDemo(t)))
}

// fieldV is a record of the single field v.
func fieldV(typ string) string {
	return `{"type":"record","name":"R","fields":[{"name":"v","type":` + typ + `}]}`
}

// Payloads that are no value of their schema, byte by byte, with the outcome of each.
func TestAvroMalformedPayloads(t *testing.T) {
	const list, mapped = `{"type":"array","items":["null","string"]}`, `{"type":"map","values":"int"}`
	const dec = `{"type":"bytes","logicalType":"decimal","precision":3,"scale":1}`
	for _, c := range []struct{ typ, body, want string }{
		{`"string"`, "\x02a", `"a"`},
		{`"string"`, "", "invalid_avro /v"},
		{`"string"`, "\x04a", "invalid_avro /v"},                                        // shorter than it says
		{`"string"`, "\x01", "invalid_avro /v"},                                         // a negative length
		{`"string"`, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "invalid_avro /v"},     // of 2^63-1 bytes
		{`"string"`, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "invalid_avro /v"}, // a number of 11 bytes
		{`"string"`, "\x04\xff\xfe", "invalid_utf8 /v"},
		{`"string"`, "\x02ab", "invalid_avro "}, // a byte too many
		{`"int"`, "\x80\x80\x80\x80\x10", "invalid_avro /v"},
		{`"int"`, "\xff\xff\xff\xff\x0f", "-2147483648"},
		{`"long"`, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "-9223372036854775808"},
		{`"long"`, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "invalid_avro /v"}, // of 65 bits
		{`"long"`, "\x80", "invalid_avro /v"},
		{`"boolean"`, "\x02", "invalid_avro /v"},
		{`"double"`, "\x00\x00\x00\x00", "invalid_avro /v"},
		{`"float"`, "\x00\x00\x80\x3f", "1"},
		{`["null","int"]`, "\x00", "null"},
		{`["null","int"]`, "\x04\x00", "invalid_avro /v"}, // a branch that is not there
		{`["null","int"]`, "\x01\x00", "invalid_avro /v"},
		{`{"type":"enum","name":"E","symbols":["A"]}`, "\x02", "invalid_avro /v"},
		{`{"type":"enum","name":"E","symbols":["A"]}`, "\x01", "invalid_avro /v"},
		{`{"type":"fixed","name":"F","size":3}`, "ab", "invalid_avro /v"},
		{`{"type":"string","logicalType":"uuid"}`, "\x02a", "invalid_format /v"},
		{`{"type":"int","logicalType":"date"}`, "\xfe\xff\xff\xff\x0f", "out_of_range /v"},
		{`{"type":"int","logicalType":"time-millis"}`, string(binary.AppendVarint(nil, 86_400_000)), "out_of_range /v"}, // 24:00:00
		{`{"type":"int","logicalType":"time-millis"}`, "\x01", "out_of_range /v"},
		{`{"type":"long","logicalType":"timestamp-millis"}`, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "out_of_range /v"},
		{`{"type":"long","logicalType":"timestamp-nanos"}`, "\x01", `"1969-12-31T23:59:59.999999Z"`}, // down, as before 1970 too
		{dec, "\x04\x03\xe7", `"99.9"`},
		{dec, "\x04\x03\xe8", "out_of_range /v"},
		{dec, "\x00", "invalid_avro /v"},                                  // of no bytes
		{dec, "\x22" + strings.Repeat("\xff", 17), `"-0.1"`},              // longer than needed
		{dec, "\x22\x00" + strings.Repeat("\xff", 16), "out_of_range /v"}, // 2^128-1
		{list, "\x04\x00\x02\x02a\x00", `[null,"a"]`},
		{list, "\x03\x08\x00\x02\x00\x00", "invalid_avro /v"},                     // the block's end is elsewhere
		{list, "\x03\x06\x00\x02\x00\x02\x02", "invalid_avro /v/2"},               // no end
		{list, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "invalid_avro /v"},     // 2^62 items
		{list, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", "invalid_avro /v"}, // -2^63 items
		{list, "\x01\x00\x00\x00", "invalid_avro /v"},                             // a block of one item and no bytes
		{mapped, "\x04\x02a\x02\x02b\x04\x00", `[{"key":"a","value":1},{"key":"b","value":2}]`},
		{mapped, "\x04\x02a\x02\x02a\x04\x00", "duplicate_key /v/a"},
		{mapped, "\x02\x02\xff\x02\x00", "invalid_utf8 /v"},
		{mapped, "\x02\x02a\x80", "invalid_avro /v/a"},
	} {
		d := avroOf(t, fieldV(c.typ), fieldV(c.typ))
		if got := one(t, d, confluent(0, []byte(c.body))); got != c.want {
			t.Errorf("%s % x: %s, want %s", c.typ, c.body, got, c.want)
		}
	}
}

func TestAvroHeaders(t *testing.T) {
	proto := registry.Schema{ID: 1, Type: registry.TypeProtobuf, Text: `syntax = "proto3";`}
	known := schemaList{{Type: registry.TypeAvro, Text: fieldV(`"int"`)}, proto, {ID: 2, Type: registry.TypeAvro, Text: `{"type":"recor`},
		{ID: 3, Type: registry.TypeAvro, Text: fieldV(`"string"`)}, {ID: 4, Type: registry.TypeAvro, Text: fieldV(`["string","int"]`)}}
	with := func(s Schemas) *Avro {
		c, err := LoadAvro([]byte(fieldV(`"int"`)), nil, "test.avsc")
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Options: Options{MaxValueBytes: 100}, Schemas: s})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := with(known)
	for payload, want := range map[string]string{
		confluent(0, []byte{2}):                        "1",
		single(fieldV(`"int"`), []byte{2}):             "1",
		"":                                             "empty_value ",
		"\x00\x00":                                     "wrong_magic ",
		`{"v":1}`:                                      "wrong_magic ",
		"\xc3\x01\x00":                                 "wrong_magic ",
		"\x01\x00\x00\x00\x00\x02":                     "wrong_magic ",
		confluent(9, []byte{2}):                        "unknown_schema ",
		confluent(0xffffffff, []byte{2}):               "unknown_schema ",
		single(fieldV(`"long"`), []byte{2}):            "unknown_schema ",
		confluent(1, []byte{2}):                        "unusable_schema ",
		confluent(2, []byte{2}):                        "unusable_schema ",
		confluent(3, []byte{2}):                        "incompatible_schema ",
		confluent(4, []byte{2, 2}):                     "1",
		confluent(4, []byte{0, 2, 'a'}):                "wrong_type /v",
		confluent(0, []byte(strings.Repeat("x", 100))): "too_large ",
	} {
		if got := one(t, d, payload); got != want {
			t.Errorf("% x: %s, want %s", payload, got, want)
		}
	}
	if got := one(t, with(nil), confluent(0, []byte{2})); got != "unknown_schema " {
		t.Errorf("without a registry: %s", got)
	}
}

// away is a registry that does not answer until it is told to.
type away struct {
	schemaList
	err   error
	asked int
}

func (a *away) Schema(id uint32) (registry.Schema, error) {
	a.asked++
	if a.err != nil {
		return registry.Schema{}, a.err
	}
	return a.schemaList.Schema(id)
}

// A registry that is down delays: no row, no dead letter, and the same stretch again gives all of it.
func TestAvroWaitsForTheRegistry(t *testing.T) {
	reg := &away{schemaList: schemaList{{Type: registry.TypeAvro, Text: fieldV(`"int"`)}}, err: registry.ErrUnavailable}
	c, err := LoadAvro([]byte(fieldV(`"int"`)), nil, "test.avsc")
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Options: Options{Mem: checked(t)}, Schemas: reg})
	if err != nil {
		t.Fatal(err)
	}
	f := fetchOf(single(fieldV(`"int"`), []byte{2}), confluent(0, []byte{2}), "broken")
	for range 3 {
		out, err := d.Decode(f)
		if !errors.Is(err, registry.ErrUnavailable) || out.Rows != nil || out.Dead != nil {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	reg.err = nil
	for range 2 {
		out, err := d.Decode(f)
		if err != nil || out.Rows.NumRows() != 2 || len(out.Dead) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		out.Rows.Release()
	}
	if reg.asked != 4 {
		t.Errorf("asked %d times, the plan is to be kept", reg.asked)
	}
}

// Every id of a topic with more schemas than are kept still decodes.
func TestAvroPlansAreBounded(t *testing.T) {
	var known schemaList
	for i := range maxPlans + 10 {
		known = append(known, registry.Schema{ID: i, Type: registry.TypeAvro, Text: fieldV(`"int"`)})
	}
	c, err := LoadAvro([]byte(fieldV(`"int"`)), nil, "test.avsc")
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Schemas: known})
	if err != nil {
		t.Fatal(err)
	}
	var payloads []string
	for range 2 {
		for i := range known {
			payloads = append(payloads, confluent(uint32(i), []byte{2}))
		}
	}
	out := mustDecode(t, d, payloads...)
	defer out.Rows.Release()
	if out.Rows.NumRows() != int64(len(payloads)) || len(d.ids.made) > maxPlans {
		t.Errorf("%d rows, %d plans kept", out.Rows.NumRows(), len(d.ids.made))
	}
}

// A few bytes must not become a large batch through defaults, symbols or items without bytes.
func TestAvroAmplificationIsBounded(t *testing.T) {
	empty := `{"type":"record","name":"I","fields":[]}`
	filled := fmt.Sprintf(`{"type":"record","name":"I","fields":[{"name":"x","type":"string","default":"%s"}]}`, strings.Repeat("x", 1000))
	list := func(of string) string { return `{"type":"array","items":` + of + `}` }
	d := avroOf(t, fieldV(list(filled)), fieldV(list(empty)), fieldV(list(filled)))
	block := binary.AppendVarint(nil, 1000)
	if got := one(t, d, confluent(0, append(block, 0))); !strings.HasPrefix(got, "too_large /v/") {
		t.Errorf("1,000 items of a byte each: %.100s", got)
	}
	if got := one(t, d, confluent(0, append(binary.AppendVarint(nil, 3), 0))); !strings.HasPrefix(got, `[{"x":"xxx`) {
		t.Errorf("3 items: %.100s", got)
	}
	d = avroOf(t, fieldV(list(`["null","int"]`)), fieldV(list(`["null","int"]`)), fieldV(list(`"null"`)))
	if got := one(t, d, confluent(1, append(binary.AppendVarint(nil, 1<<40), 0))); got != "invalid_avro /v" {
		t.Errorf("2^40 nulls: %.100s", got)
	}
}

func TestAvroSkipsWhatIsNotRead(t *testing.T) {
	wide := `{"type":"record","name":"R","fields":[
		{"name":"tree","type":["null",{"type":"record","name":"Node","fields":[{"name":"n","type":"double"},{"name":"kids","type":{"type":"array","items":"Node"}}]}]},
		{"name":"m","type":{"type":"map","values":["null","string",{"type":"fixed","name":"F","size":2}]}},
		{"name":"v","type":"int"},{"name":"b","type":"boolean"},{"name":"f","type":"float"},{"name":"z","type":"null"},{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}}]}`
	d := avroOf(t, fieldV(`"long"`), wide)
	node := func(kids int) map[string]any { // a chain
		n := map[string]any{"n": 1.5, "kids": []any{}}
		for range kids {
			n = map[string]any{"n": 1.5, "kids": []any{n}}
		}
		return n
	}
	encode := func(kids int) string {
		raw, err := avro.MustParse(wide).Encode(map[string]any{"tree": node(kids), "m": map[string]any{"a": "x", "b": nil, "c": [2]byte{1, 2}},
			"v": 7, "b": true, "f": float32(1), "z": nil, "e": "A"})
		if err != nil {
			t.Fatal(err)
		}
		return confluent(0, raw)
	}
	if got := one(t, d, encode(3)); got != "7" {
		t.Errorf("got %s", got)
	}
	if d.IgnoredFields() != 6 {
		t.Errorf("%d ignored fields", d.IgnoredFields())
	}
	if got := one(t, d, encode(100)); !strings.HasPrefix(got, "too_deep /tree") {
		t.Errorf("100 levels: %s", got)
	}
	if got := one(t, d, encode(3)[:len(encode(3))-1]+"\x80\x80\x80\x80\x20"); !strings.HasPrefix(got, "invalid_avro /e") {
		t.Errorf("an enum's number of 33 bits: %s", got)
	}
	for cut := 6; cut < len(encode(3)); cut++ {
		if got := one(t, d, encode(3)[:cut]); !strings.HasPrefix(got, "invalid_avro ") {
			t.Errorf("cut at %d: %s", cut, got)
		}
	}
}

func TestAvroFollowsTheTable(t *testing.T) {
	c, err := LoadAvro([]byte(`{"type":"record","name":"R","fields":[{"name":"i","type":"int"},{"name":"f","type":"float"}]}`), nil, "test.avsc")
	if err != nil {
		t.Fatal(err)
	}
	fields := c.IcebergSchema().Fields()
	fields[0].Type, fields[1].Type = iceberg.PrimitiveTypes.Int64, iceberg.PrimitiveTypes.Float64
	sc := iceberg.NewSchema(1, append([]iceberg.NestedField{{ID: 90, Name: "other", Type: iceberg.PrimitiveTypes.String}}, fields...)...)
	known := schemaList{{Type: registry.TypeAvro, Text: `{"type":"record","name":"R","fields":[{"name":"f","type":"int"},{"name":"i","type":"int"}]}`}}
	d, err := NewAvro(c, sc, AvroOptions{Options: Options{Mem: checked(t)}, Schemas: known})
	if err != nil {
		t.Fatal(err)
	}
	out := mustDecode(t, d, confluent(0, []byte{2, 4}), single(`{"type":"record","name":"R","fields":[{"name":"i","type":"int"},{"name":"f","type":"float"}]}`, []byte{6, 0, 0, 0xc0, 0x3f}))
	defer out.Rows.Release()
	if got := strings.Join(rowsJSON(t, out.Rows), "|"); got != "other=null i=2 f=1|other=null i=3 f=1.5" {
		t.Errorf("rows %s; dead %+v", got, out.Dead)
	}
}

func TestAvroWriterFiles(t *testing.T) {
	c, err := LoadAvro([]byte(fieldV(`"long"`)), nil, "test.avsc")
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Writers: []string{fieldV(`"int"`)}})
	if err != nil {
		t.Fatal(err)
	}
	if got := one(t, d, single(fieldV(`"int"`), []byte{2})); got != "1" {
		t.Errorf("got %s", got)
	}
	for text, want := range map[string]string{fieldV(`"string"`): "cannot read what is written", `{`: "writer schema 1"} {
		if _, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Writers: []string{text}}); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := NewAvro(demoContract(t), demoContract(t).IcebergSchema(), AvroOptions{}); !errors.Is(err, ErrContract) {
		t.Errorf("a JSON contract: %v", err)
	}
}

// go test -bench Avro -count 6 ./engine/decode, for benchstat.
func BenchmarkAvro(b *testing.B) {
	d := avroOf(b, avroEvent, avroEvent)
	d.opt.Mem = memory.DefaultAllocator
	payloads := make([]string, 2000)
	for i := range payloads {
		payloads[i] = confluent(0, avroDemo(b))
	}
	benchEvents(b, d, payloads)
}

func benchEvents(b *testing.B, d engine.Decoder, payloads []string) {
	f := fetchOf(payloads...)
	b.SetBytes(int64(len(payloads) * len(payloads[0])))
	b.ReportAllocs()
	for b.Loop() {
		out, err := d.Decode(f)
		if err != nil || len(out.Dead) > 0 {
			b.Fatal(err, out.Dead)
		}
		out.Rows.Release()
	}
}
