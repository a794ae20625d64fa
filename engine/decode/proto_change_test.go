package decode

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/firnlake/firn/engine"
)

// protoEnvelope is the schema that Kafka Connect's converter for Protobuf registers for a table's changes, for rows of the given fields.
func protoEnvelope(fields string) string {
	return `syntax = "proto3"; package pg.public.customers; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
	message Envelope {
		Value before = 1; Value after = 2; Source source = 3; block transaction = 4; string op = 5; optional int64 ts_ms = 6; optional int64 ts_us = 7;
		message Value { ` + fields + ` }
		message Source { string version = 1; int64 ts_ms = 2; optional string snapshot = 3; optional int64 lsn = 4; google.protobuf.Int64Value xmin = 5;
			bool late = 6; double lag = 7; float load = 8; bytes raw = 9; Kind kind = 10; repeated sint32 n = 11; repeated string s = 12; map<string, fixed32> m = 13; uint64 big = 15; google.protobuf.StringValue w = 16; }
		enum Kind { NONE = 0; WAL = 1; }
		message block { string id = 1; int64 total_order = 2; }
	}`
}

const protoCustomer = `int32 id = 1; string email = 2; optional int64 n = 3; google.protobuf.Timestamp seen = 4;`

func protoChangesOf(t testing.TB, o ProtobufOptions, texts ...string) *Protobuf {
	t.Helper()
	c, err := LoadProtobuf([]byte(texts[0]), nil, "test.proto", "")
	if err == nil {
		c, err = c.WithEnvelope(Envelope{Type: EnvelopeDebezium})
	}
	if err != nil {
		t.Fatal(err)
	}
	if !o.Plain {
		o.Schemas = protoRegistry(texts...)
	}
	d, err := NewProtobuf(c, c.IcebergSchema(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// protoBody is the encoding of a message that is given as Protobuf's JSON, of a file's first message.
func protoBody(t testing.TB, text, event string) []byte {
	t.Helper()
	fd, err := compileProto(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(fd.Messages().Get(0))
	if err := protojson.Unmarshal([]byte(event), m); err != nil {
		t.Fatal(event, err)
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func protoFramed(id uint32, body []byte) string { return confluent(id, append([]byte{0}, body...)) }

const (
	protoAnne     = `{"id":1,"email":"annek@noanswer.org","n":"5","seen":"2026-06-04T11:01:23.456Z"}`
	protoAnneRow  = `id=1 email="annek@noanswer.org" n=5 seen="2026-06-04T11:01:23.456Z" `
	protoPg       = `{"version":"3.3.1.\"Final\"","tsMs":"1559033904863","snapshot":"last","lsn":"24023128","raw":"AQI=","kind":"WAL","n":[1,-2],"s":["a",""],"m":{"k":7},"big":"18446744073709551615","lag":0.5,"load":"NaN","w":"x"}`
	protoPgText   = `{"version":"3.3.1.\"Final\"","ts_ms":1559033904863,"snapshot":"last","lsn":24023128,"xmin":null,"late":false,"lag":0.5,"load":"NaN","raw":"AQI=","kind":"WAL","n":[1,-2],"s":["a",""],"m":[{"key":"k","value":7}],"big":18446744073709551615,"w":"x"}`
	protoBareText = `{"version":"","ts_ms":0,"snapshot":null,"lsn":null,"xmin":0,"late":false,"lag":0,"load":0,"raw":"","kind":"NONE","n":[],"s":[],"m":[],"big":0,"w":null}`
)

func TestProtobufChangesAreRows(t *testing.T) {
	schema := protoEnvelope(protoCustomer)
	wrapped := strings.Replace(schema, "optional int64 ts_ms = 6", "google.protobuf.Int64Value ts_ms = 6", 1)
	d := protoChangesOf(t, ProtobufOptions{Options: Options{Mem: checked(t)}}, schema, `syntax = "proto3"; package pg.public.customers; message Envelope { int32 id = 1; }`,
		`syntax = "proto3"; message Other { int32 id = 1; }`)
	told := ` _ts_ms="2019-05-28T08:58:24.863Z" _source=` + quotedJSON(t, protoPgText)
	event := func(members string) string { return protoFramed(0, protoBody(t, schema, `{`+members+`}`)) }
	more := `,"tsMs":"1559033904863","tsUs":"1","transaction":{"id":"7"},"source":` + protoPg
	raw := func(b ...byte) string { return protoFramed(0, b) }
	tag := func(n protowire.Number, body string) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), body))
	}
	for _, c := range []struct{ name, event, want string }{
		{"create", event(`"op":"c","after":` + protoAnne + more), protoAnneRow + `_op="c"` + told},
		{"snapshot", event(`"op":"r","after":` + protoAnne + more), protoAnneRow + `_op="r"` + told},
		{"update", event(`"op":"u","before":{"id":9},"after":` + protoAnne + more), protoAnneRow + `_op="u"` + told},
		{"delete", event(`"op":"d","before":` + protoAnne + more), protoAnneRow + `_op="d"` + told},
		{"delete of a key", event(`"op":"d","before":{"id":3}`), `id=3 email="" n=null seen=null _op="d" _ts_ms=null _source=null`},
		{"truncate", event(`"op":"t","source":{"xmin":"0"}`), `id=null email=null n=null seen=null _op="t" _ts_ms=null _source=` + quotedJSON(t, protoBareText)},
		{"a row of zeros", event(`"op":"c","after":{}`), `id=0 email="" n=null seen=null _op="c" _ts_ms=null _source=null`},
		{"op first, members in pieces", protoFramed(0, []byte(tag(5, "d")+tag(2, "\x08\x01")+tag(5, "u")+tag(2, "\x12\x01e")+tag(2, "\x18\x07"))), `id=1 email="e" n=7 seen=null _op="u" _ts_ms=null _source=null`},
		{"a source in pieces", protoFramed(0, []byte(tag(5, "t")+tag(3, tag(1, "v"))+tag(3, "\x2a\x00"))), `id=null email=null n=null seen=null _op="t" _ts_ms=null _source=` + quotedJSON(t, strings.Replace(protoBareText, `"version":""`, `"version":"v"`, 1))},

		{"no bytes but the header", raw(), "missing_field /op"},
		{"no op", event(`"after":` + protoAnne), "missing_field /op"},
		{"a message of PostgreSQL's log", event(`"op":"m"`), "not_in_enum /op"},
		{"op of two letters", event(`"op":"cc","after":` + protoAnne), "not_in_enum /op"},
		{"create without a row", event(`"op":"c","before":` + protoAnne), "missing_field /after"},
		{"delete without a row", event(`"op":"d","after":` + protoAnne), "missing_field /before"},
		{"bad UTF-8 in the row", protoFramed(0, []byte(tag(5, "c")+tag(2, tag(2, "\xff")))), "invalid_utf8 /after/email"},
		{"bad UTF-8 in the source", protoFramed(0, []byte(tag(5, "t")+tag(3, tag(12, "\xff")))), "invalid_utf8 /source/s"},
		{"a time that is none", protoFramed(0, []byte(tag(5, "t")+"\x30\xff\xff\xff\xff\xff\xff\xff\xff\x7f")), "out_of_range /ts_ms"},
		{"a source that is broken", protoFramed(0, []byte(tag(5, "t")+tag(3, "\x08"))), "invalid_protobuf /source"},
		{"a packed list that is broken", protoFramed(0, []byte(tag(5, "t")+tag(3, tag(11, "\x02\x80")))), "invalid_protobuf /source/n"},
		{"a row that is broken", protoFramed(0, []byte(tag(5, "c")+tag(2, "\x08"))), "invalid_protobuf /after/id"},
		{"cut off", event(`"op":"c","after":` + protoAnne)[:20], "invalid_protobuf "},
		{"a schema that is no envelope", protoFramed(1, nil), "missing_field /op"},
		{"another message", protoFramed(2, nil), "incompatible_schema "},
		{"no id of a registry's", protoFramed(9, nil), "unknown_schema "},
		{"no header", "\x08\x01", "wrong_magic "},
		{"no bytes", "", "empty_value "},
	} {
		if got := rowOrLetter(t, d, c.event); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	deep := []byte{}
	for range 100 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 14, protowire.BytesType), deep)
	}
	nested := protoChangesOf(t, ProtobufOptions{Options: Options{Mem: checked(t)}, Follow: true}, schema, strings.Replace(schema, "message Source {", "message Source { Source inner = 14;", 1))
	if got := rowOrLetter(t, nested, protoFramed(1, []byte(tag(5, "t")+tag(3, string(deep))))); !strings.HasPrefix(got, "too_deep /source/inner/inner") {
		t.Errorf("100 levels: %.100s", got)
	}
	if got := rowOrLetter(t, d, protoFramed(0, []byte(tag(5, "t")+tag(3, strings.Repeat("\x6a\x00", 3000))))); !strings.HasPrefix(got, `id=null`) {
		t.Errorf("3,000 entries: %.100s", got)
	}
	plain := protoChangesOf(t, ProtobufOptions{Plain: true}, wrapped)
	for body, want := range map[string]string{`{"op":"t","tsMs":"5"}`: `"1970-01-01T00:00:00.005Z"`, `{"op":"t","tsMs":"0"}`: `"1970-01-01T00:00:00Z"`, `{"op":"t"}`: "null"} {
		if got := rowOrLetter(t, plain, string(protoBody(t, wrapped, body))); !strings.HasSuffix(got, `_ts_ms=`+want+` _source=null`) {
			t.Errorf("%s without a header: %s", body, got)
		}
	}
	f := fetchOf("", event(`"op":"c","after":{}`))
	f.Records[0].Value = nil
	out, err := d.Decode(f)
	if err != nil || out.Rows.NumRows() != 1 || len(out.Dead) > 0 || !slices.Equal(out.Filtered, []int64{100}) {
		t.Errorf("a tombstone: %+v, %v", out, err)
	}
	out.Rows.Release()
}

func TestProtobufChangesFollowTheirWriters(t *testing.T) {
	texts := []string{protoEnvelope(protoCustomer), protoEnvelope(strings.Replace(protoCustomer, "int32 id", "int64 id", 1) + ` optional bool vip = 5;`),
		protoEnvelope(strings.Replace(protoCustomer, "int32 id", "string id", 1)), `syntax = "proto3"; package pg.public.customers; message Envelope { int32 id = 1; }`}
	change := func(id int, row string) string {
		return protoFramed(uint32(id), protoBody(t, texts[id], `{"op":"u","after":`+row+`}`))
	}
	d := protoChangesOf(t, ProtobufOptions{Options: Options{Mem: checked(t), OnIncompatible: DeadLetter}, Follow: true}, texts...)
	out := mustDecode(t, d, change(0, `{"id":1,"email":"a"}`), change(1, `{"id":"1099511627776","email":"b","vip":true}`), change(2, `{"id":"x"}`), protoFramed(3, nil))
	defer out.Rows.Release()
	want := []string{`_op="u" _source=null _ts_ms=null email="a" id=1 n=null seen=null vip=null`, `_op="u" _source=null _ts_ms=null email="b" id=1099511627776 n=null seen=null vip=true`}
	for i, row := range rowsJSON(t, out.Rows) { // the new column stands where evolution puts it
		if got := strings.Join(slices.Sorted(slices.Values(strings.Fields(row))), " "); got != want[i] {
			t.Errorf("row %s\nwant %s", got, want[i])
		}
	}
	if got := letterSpots(out.Dead); len(got) != 2 || !strings.HasPrefix(got[0], "102:0 incompatible_schema ") || !strings.HasPrefix(got[1], "103:0 missing_field /op ") || !slices.Equal(out.SchemaIDs, []uint32{0, 1, 2, 3}) {
		t.Errorf("dead %q, schemas %v", got, out.SchemaIDs)
	}
	stops := protoChangesOf(t, ProtobufOptions{Options: Options{Mem: checked(t), OnIncompatible: Stop}, Follow: true}, texts...)
	if _, err := stops.Decode(fetchOf(change(2, `{"id":"x"}`))); !errors.Is(err, engine.ErrIncompatibleSchema) {
		t.Errorf("with stop: %v", err)
	}
}

// In Protobuf 2 a row may require fields, which a delete need not have; a column that the table requires is asked of all.
func TestProtobuf2ChangesMayDeleteByKey(t *testing.T) {
	const text = `syntax = "proto2"; message Envelope { optional Value before = 1; optional Value after = 2; required string op = 3; message Value { required int32 id = 1; required string email = 2; } }`
	c, err := LoadProtobuf([]byte(text), nil, "test.proto", "")
	if err == nil {
		c, err = c.WithEnvelope(Envelope{Type: EnvelopeDebezium})
	}
	if err != nil {
		t.Fatal(err)
	}
	fields := slices.Clone(c.IcebergSchema().Fields())
	fields[0].Required = true
	d, err := NewProtobuf(c, iceberg.NewSchema(0, fields...), ProtobufOptions{Plain: true, Options: Options{Mem: checked(t)}})
	if err != nil {
		t.Fatal(err)
	}
	for event, want := range map[string]string{
		"\x1a\x01d\x0a\x02\x08\x05":          `id=5 email=null _op="d" _ts_ms=null _source=null`,
		"\x1a\x01d\x0a\x00":                  "missing_field /before/id",
		"\x1a\x01c\x12\x02\x08\x05":          "missing_field /after/email",
		"\x1a\x01c\x12\x05\x08\x05\x12\x01a": `id=5 email="a" _op="c" _ts_ms=null _source=null`,
		"\x1a\x01t":                          "missing_field /id",
	} {
		if got := rowOrLetter(t, d, event); got != want {
			t.Errorf("% x: %s, want %s", event, got, want)
		}
	}
}

func TestSchemasThatAreNoEnvelopes(t *testing.T) {
	const row = ` message V { int32 id = 1; } message W { int32 id = 1; }`
	for text, want := range map[string]string{
		`message E { int32 id = 1; }` + row:                          "is not the schema of a change event",
		`message E { int32 op = 1; V after = 2; }` + row:             "is not the schema of a change event",
		`message E { string op = 1; string after = 2; }` + row:       "is not the schema of a change event",
		`message E { string op = 1; V after = 2; W before = 3; }`:    "",
		`message E { string op = 1; V after = 2; string ts_ms = 3;}`: "E.ts_ms is not what",
		`message E { string op = 1; V after = 2; bytes source = 3;}`: "E.source is not what",
		`message E { string op = 1; X after = 2; }`:                  "belongs to a column that firn writes",
	} {
		c, err := LoadProtobuf([]byte(`syntax = "proto3"; `+text+` message X { int32 _kafka_offset = 1; } `+strings.Repeat(row, 1-strings.Count(text, row))), nil, "test.proto", "")
		if err == nil {
			c, err = c.WithEnvelope(Envelope{Type: EnvelopeDebezium})
		}
		if err == nil {
			_, err = NewProtobuf(c, c.IcebergSchema(), ProtobufOptions{Schemas: schemaList{}})
		}
		if !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestProtobufChangesAllocateNothingPerEvent(t *testing.T) {
	schema := protoEnvelope(protoCustomer)
	event := func(members string) string {
		return protoFramed(0, protoBody(t, schema, `{`+members+`,"tsMs":"1","source":`+protoPg+`}`))
	}
	allocatesNothing(t, protoChangesOf(t, ProtobufOptions{}, schema), 2_000, 0.01, event(`"op":"u","before":`+protoAnne+`,"after":`+protoAnne), event(`"op":"d","before":`+protoAnne))
}

// Updates with both images, their source with every kind of field: go test -bench ProtobufChanges -count 6 ./engine/decode, for benchstat.
func BenchmarkProtobufChanges(b *testing.B) {
	schema := protoEnvelope(protoCustomer)
	d := protoChangesOf(b, ProtobufOptions{}, schema)
	f := fetchOf(slices.Repeat([]string{protoFramed(0, protoBody(b, schema, `{"op":"u","before":`+protoAnne+`,"after":`+protoAnne+`,"tsMs":"1","source":`+protoPg+`}`))}, 1000)...)
	b.ReportAllocs()
	for b.Loop() {
		out, err := d.Decode(f)
		if err != nil || len(out.Dead) > 0 {
			b.Fatal(err, out.Dead)
		}
		out.Rows.Release()
	}
}

// go test -fuzz FuzzProtobufChange ./engine/decode. Whatever the bytes: one row or one dead letter, whole arrays, JSON in _source,
// and what is taken is what Google's decoder reads.
func FuzzProtobufChange(f *testing.F) {
	schema := protoEnvelope(protoCustomer)
	for _, op := range []string{"c", "r", "u", "d", "t", "m"} {
		raw := protoBody(f, schema, `{"op":"`+op+`","before":`+protoAnne+`,"after":`+protoAnne+`,"tsMs":"1","source":`+protoPg+`}`)
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
		f.Add(append(slices.Clone(raw), raw...))
	}
	d := protoChangesOf(f, ProtobufOptions{}, schema)
	fd, err := compileProto(schema, nil)
	if err != nil {
		f.Fatal(err)
	}
	md := fd.Messages().Get(0)
	f.Fuzz(func(t *testing.T, body []byte) {
		out := mustDecode(t, d, protoFramed(0, body))
		if !soundRow(t, out) {
			return
		}
		defer out.Rows.Release()
		m := dynamicpb.NewMessage(md)
		// Strings that are not read over are checked; the oracle checks all, and what is unknown in messages that are not read.
		if err := proto.Unmarshal(body, m); err != nil {
			return
		}
		raw, err := out.Rows.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct {
			Op     string  `json:"_op"`
			Source *string `json:"_source"`
			ID     *int32
			Email  *string
		}
		if err := json.Unmarshal(raw, &rows); err != nil {
			t.Fatal(err)
		}
		got := rows[0]
		if op := m.Get(md.Fields().ByName("op")).String(); op != got.Op {
			t.Fatalf("op %s, the oracle says %s", got.Op, op)
		}
		if got.Source != nil && !json.Valid([]byte(*got.Source)) {
			t.Fatalf("source %s", *got.Source)
		}
		if got.Op == "t" {
			return
		}
		image := md.Fields().ByName("after")
		if got.Op == "d" {
			image = md.Fields().ByName("before")
		}
		row := m.Get(image).Message()
		fields := image.Message().Fields()
		if int64(*got.ID) != row.Get(fields.ByName("id")).Int() || *got.Email != row.Get(fields.ByName("email")).String() {
			t.Fatalf("row %s of %v", raw, m)
		}
	})
}
