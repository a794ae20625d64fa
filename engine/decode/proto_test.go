package decode

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/firnlake/firn/internal/registry"
)

// protoEvent is the demo's event as a Protobuf schema; what it is made of comes after it, so that it is message 0.
const protoEvent = `syntax = "proto3";
package demo;
import "google/protobuf/timestamp.proto";
message UserEvent {
	int32 schema_version = 1; string event_id = 2; EventType event_type = 3; Key key = 4; Payload payload = 5; Metadata metadata = 6;
	message Key { string user_id = 1; string session_id = 2; }
	message Payload { string page = 1; optional string referrer = 2; string currency = 3; double amount = 4; }
	message Metadata { google.protobuf.Timestamp event_timestamp = 1; string trace_id = 2; string source = 3; }
}
enum EventType { unknown = 0; page_view = 1; click = 2; purchase = 3; signup = 4; }
`

func protoDemo(tb testing.TB) []byte {
	tb.Helper()
	fd, err := compileProto(protoEvent, nil)
	if err != nil {
		tb.Fatal(err)
	}
	m := dynamicpb.NewMessage(fd.Messages().Get(0))
	if err := protojson.Unmarshal([]byte(`{"schema_version":3,"event_id":"e-1","event_type":"page_view","key":{"user_id":"u123","session_id":"s456"},
		"payload":{"page":"/home","referrer":"google","currency":"USD","amount":0.5},
		"metadata":{"event_timestamp":"2026-06-04T11:01:23.456Z","trace_id":"abcd-1234","source":"web-frontend"}}`), m); err != nil {
		tb.Fatal(err)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func protoRegistry(texts ...string) schemaList {
	var l schemaList
	for i, t := range texts {
		l = append(l, registry.Schema{ID: i, Type: registry.TypeProtobuf, Text: t})
	}
	return l
}

func TestProtobufGivesRowsOfTheTable(t *testing.T) {
	d, _ := protoOf(t, protoEvent, "demo.UserEvent", ProtobufOptions{Schemas: protoRegistry(protoEvent),
		Options: Options{Mem: checked(t), Now: func() time.Time { return testNow }}})
	body := protoDemo(t)
	framed := confluent(0, append([]byte{0}, body...))
	out := mustDecode(t, d, framed, "broken", confluent(0, append([]byte{2, 0}, body...)), framed[:40])
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
	if len(out.Dead) != 2 || out.Dead[0].Reason != ReasonWrongMagic || out.Dead[1].Reason != ReasonInvalidProtobuf || out.Dead[1].Place != "/payload" {
		t.Errorf("dead = %+v", out.Dead)
	}
	if !out.MaxEvent.Equal(time.UnixMilli(1_780_570_883_456)) {
		t.Errorf("MaxEvent = %v", out.MaxEvent)
	}
}

func TestProtobufAllocatesNothingPerEvent(t *testing.T) {
	d, _ := protoOf(t, protoEvent, "demo.UserEvent", ProtobufOptions{Schemas: protoRegistry(protoEvent)})
	allocatesNothing(t, d, 10_000, 0.005, confluent(0, append([]byte{0}, protoDemo(t)...)))
}

// fieldP is a file whose message M has the single field v.
func fieldP(field string) string {
	return `syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/struct.proto";
		import "google/protobuf/wrappers.proto"; message M { ` + field + ` }
		message S { int32 x = 1; } message Empty {} enum E { A = 0; B = 1; }`
}

// Payloads with the outcome of each, byte by byte.
func TestProtobufPayloads(t *testing.T) {
	group := strings.Repeat("\x13", 100) + strings.Repeat("\x14", 100)
	for _, c := range []struct{ field, body, want string }{
		{"int32 v = 1;", "", "0"},
		{"optional int32 v = 1;", "", "null"},
		{"int32 v = 1;", "\x08\x96\x01", "150"},
		{"int32 v = 1;", "\x08\x01\x08\x02", "2"}, // the last one counts
		{"int32 v = 1;", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "-1"},
		{"int32 v = 1;", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "invalid_protobuf /v"}, // of 65 bits
		{"int32 v = 1;", "\x08", "invalid_protobuf /v"},
		{"int32 v = 1;", "\x0d\x01\x00\x00\x00", "0"}, // of another wire type: not the field
		{"int32 v = 1;", "\x0d\x01\x00", "invalid_protobuf "},
		{"int32 v = 1;", "\x00\x01", "invalid_protobuf "},                     // field 0
		{"int32 v = 1;", "\x0f\x01", "invalid_protobuf "},                     // wire type 7
		{"int32 v = 1;", "\x0c", "invalid_protobuf "},                         // a group that did not begin
		{"int32 v = 1;", "\xf8\xff\xff\xff\xff\x01\x01", "invalid_protobuf "}, // a number beyond 2^29
		{"int32 v = 1;", "\x13\x08\x05\x14\x08\x07", "7"},                     // an unknown group
		{"int32 v = 1;", "\x13\x08\x05\x1c", "invalid_protobuf "},             // that ends as another
		{"int32 v = 1;", "\x13\x08\x05", "invalid_protobuf "},                 // or not at all
		{"int32 v = 1;", group, "too_deep "},
		{"string v = 1;", "\x0a\x02ab", `"ab"`},
		{"string v = 1;", "\x0a\x03ab", "invalid_protobuf /v"},
		{"string v = 1;", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "invalid_protobuf /v"},
		{"string v = 1;", "\x0a\x01\xff", "invalid_utf8 /v"},
		{"uint64 v = 1;", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", `"18446744073709551615"`},
		{"fixed64 v = 1;", "\x09\xff\xff\xff\xff\xff\xff\xff\xff", `"18446744073709551615"`},
		{"fixed64 v = 1;", "\x09\xff", "invalid_protobuf /v"},
		{"fixed32 v = 1;", "\x0d\xff\xff\xff\xff", "4294967295"},
		{"E v = 1;", "", `"A"`},
		{"E v = 1;", "\x08\x07", `"7"`}, // a value without a name
		{"repeated int32 v = 1;", "", "[]"},
		{"repeated int32 v = 1;", "\x08\x01\x0a\x02\x02\x03\x08\x04", "[1,2,3,4]"}, // packed and not
		{"repeated int32 v = 1;", "\x0a\x02\x02\x80", "invalid_protobuf /v/1"},
		{"repeated string v = 1;", "\x0a\x01a\x0a\x01\xff", "invalid_utf8 /v/1"},
		{"map<string, int32> v = 1;", "\x0a\x05\x0a\x01a\x10\x01\x0a\x00", `[{"key":"a","value":1},{"key":"","value":0}]`},
		{"map<string, int32> v = 1;", "\x0a\x03\x0a\x01a\x0a\x03\x0a\x01a", "duplicate_key /v/a"},
		{"map<string, S> v = 1;", "\x0a\x03\x0a\x01a\x0a\x0a\x12\x02\x08\x01\x12\x00\x0a\x02bb", `[{"key":"a","value":{"x":0}},{"key":"bb","value":{"x":1}}]`},
		{"map<string, S> v = 1;", "\x0a\x07\x0a\x01a\x12\x02\x08\x80", "invalid_protobuf /v/a/x"},
		{"map<int32, int32> v = 1;", "\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", `[{"key":"-1","value":0}]`},
		{"S v = 1;", "", "null"},
		{"S v = 1;", "\x0a\x00", `{"x":0}`},
		{"S v = 1;", "\x0a\x02\x08\x01\x0a\x00", `{"x":1}`}, // messages merge
		{"S v = 1;", "\x0a\x02\x08\x80", "invalid_protobuf /v/x"},
		{"Empty v = 1;", "\x0a\x00", "true"},
		{"Empty v = 1;", "\x0a\x01\x08", "invalid_protobuf /v"},
		{"google.protobuf.Timestamp v = 1;", "\x0a\x02\x08\x01", `"1970-01-01T00:00:01Z"`},
		{"google.protobuf.Timestamp v = 1;", "\x0a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "out_of_range /v"},
		{"google.protobuf.Timestamp v = 1;", "\x0a\x06\x10\x80\x94\xeb\xdc\x03", "out_of_range /v"}, // a second of nanoseconds
		{"google.protobuf.Duration v = 1;", "\x0a\x08\x08\x01\x10\xc0\x84\x3d", "invalid_protobuf /v"},
		{"google.protobuf.Duration v = 1;", "\x0a\x06\x08\x01\x10\xc0\x84\x3d", "1001000"},
		{"google.protobuf.Duration v = 1;", "\x0a\x0d\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "out_of_range /v"}, // 1 s and -1 ns
		{"google.protobuf.Int32Value v = 1;", "\x0a\x00", "0"},
		{"google.protobuf.Int32Value v = 1;", "\x0a\x02\x08\x05", "5"},
		{"google.protobuf.Value v = 1;", "\x0a\x06\x32\x04\x0a\x02\x20\x01", `"[true]"`},
		{"google.protobuf.Value v = 1;", "\x0a\x01\x32", "invalid_protobuf /v"},
		{"oneof o { int32 v = 1; int32 w = 2; }", "\x08\x01\x10\x02", "null w=2"},
		{"oneof o { int32 v = 1; int32 w = 2; }", "\x10\x02\x08\x01", "1 w=null"},
	} {
		d, _ := protoOf(t, fieldP(c.field), "M", ProtobufOptions{Plain: true})
		if got := one(t, d, c.body); got != c.want {
			t.Errorf("%s % x: %s, want %s", c.field, c.body, got, c.want)
		}
	}
}

func TestProtobufNests(t *testing.T) {
	var deep []byte // a list in a list in a list…
	for range 80 {
		deep = append([]byte{0x32, byte(len(deep) + 2), 0x0a, byte(len(deep))}, deep...)
		if len(deep) > 120 {
			break
		}
	}
	d, _ := protoOf(t, fieldP("google.protobuf.Value v = 1;"), "M", ProtobufOptions{Plain: true, Options: Options{MaxDepth: 4}})
	if got := one(t, d, "\x0a"+string(byte(len(deep)))+string(deep)); got != "invalid_protobuf /v" {
		t.Errorf("30 levels of lists where 4 may be: %.100s", got)
	}
	file := fieldP("W0 v = 1;")
	for i := range 70 {
		file += "message W" + itoa(i) + " { W" + itoa(i+1) + " w = 1; }"
	}
	c, err := LoadProtobuf([]byte(file+"message W70 { int32 x = 1; }"), nil, "deep.proto", "M")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewProtobuf(c, c.IcebergSchema(), ProtobufOptions{}); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), "max_depth") {
		t.Errorf("70 levels: %v", err)
	}
}

// Proto2: required fields, defaults, closed enums, extensions as unknown fields.
func TestProtobuf2(t *testing.T) {
	const file = `syntax = "proto2"; message M { required int32 v = 1; optional E e = 2; optional string s = 3 [default = "d"]; repeated E l = 4; map<string, E> m = 5; extensions 100 to 200; }
		enum E { A = 1; B = 2; }`
	d, _ := protoOf(t, file, "M", ProtobufOptions{Plain: true})
	for body, want := range map[string]string{
		"":                         "missing_field /v",
		"\x08\x05":                 "5 e=null s=null l=[] m=[]",
		"\x08\x05\x10\x02":         `5 e="B" s=null l=[] m=[]`,
		"\x08\x05\x10\x02\x10\x09": `5 e="B" s=null l=[] m=[]`, // 9 is no value of the enum
		"\x08\x05\x10\x09":         "5 e=null s=null l=[] m=[]",
		"\x08\x05\x20\x01\x20\x09\x20\x02\xa8\x06\x01": `5 e=null s=null l=["A","B"] m=[]`,
		"\x08\x05\x2a\x04\x0a\x00\x10\x09":             `5 e=null s=null l=[] m=[]`,
		"\x08\x05\x2a\x04\x0a\x00\x10\x02":             `5 e=null s=null l=[] m=[{"key":"","value":"B"}]`,
	} {
		if got := one(t, d, body); got != want {
			t.Errorf("% x: %s, want %s", body, got, want)
		}
	}
}

func TestProtobufHeaders(t *testing.T) {
	const two = `syntax = "proto3"; message Other { int32 x = 1; message In { int32 v = 1; } } message M { int32 v = 1; }`
	known := append(protoRegistry(two, `syntax = "proto3"; mess`, `syntax = "proto3"; message M { int32 v = 1; int32 more = 2; }`),
		registry.Schema{ID: 3, Type: registry.TypeAvro, Text: `"int"`})
	with := func(s Schemas, message string) *Protobuf {
		d, _ := protoOf(t, two, message, ProtobufOptions{Schemas: s, Options: Options{MaxValueBytes: 100}})
		return d
	}
	d := with(known, "M")
	for payload, want := range map[string]string{
		confluent(0, []byte("\x02\x02\x08\x01")):     "1", // [1]
		confluent(2, []byte("\x00\x08\x01\x10\x05")): "1", // first message of another version, with a field more
		"":                                   "empty_value ",
		"\x00\x00\x00\x00\x00":               "wrong_magic ",
		"\x08\x01":                           "wrong_magic ",
		confluent(0, []byte("\x00\x08\x01")): "incompatible_schema ", // Other
		confluent(0, []byte("\x04\x00\x00\x08\x01")):         "incompatible_schema ", // Other.In
		confluent(0, []byte("\x02\x04\x08\x01")):             "wrong_message_index ",
		confluent(0, []byte("\x04\x02\x00\x08\x01")):         "wrong_message_index ",
		confluent(0, []byte("\x01")):                         "wrong_message_index ",
		confluent(0, []byte("\x02")):                         "wrong_message_index ",
		confluent(0, []byte("\xfe\xff\x03")):                 "wrong_message_index ",
		confluent(0, []byte("\x02\x01")):                     "wrong_message_index ",
		confluent(1, []byte("\x00\x08\x01")):                 "unusable_schema ",
		confluent(3, []byte("\x00\x08\x01")):                 "unusable_schema ",
		confluent(9, []byte("\x00\x08\x01")):                 "unknown_schema ",
		confluent(0xffffffff, []byte("\x00\x08\x01")):        "unknown_schema ",
		confluent(0, []byte("\x00"+strings.Repeat("x", 99))): "too_large ",
	} {
		if got := one(t, d, payload); got != want {
			t.Errorf("% x: %s, want %s", payload, got, want)
		}
	}
	if got := one(t, with(known, "Other.In"), confluent(0, []byte("\x04\x00\x00\x08\x07"))); got != "7" {
		t.Errorf("a message in a message: %s", got)
	}
	d = with(nil, "M")
	if got := one(t, d, confluent(77, []byte("\x02\x02\x08\x01"))); got != "1" {
		t.Errorf("without a registry: %s", got)
	}
	if got := one(t, d, confluent(77, []byte("\x00\x08\x01"))); got != "incompatible_schema " {
		t.Errorf("without a registry, another message: %s", got)
	}
}

func TestProtobufWaitsForTheRegistry(t *testing.T) {
	reg := &away{schemaList: protoRegistry(fieldP("int32 v = 1;")), err: registry.ErrUnavailable}
	d, _ := protoOf(t, fieldP("int32 v = 1;"), "M", ProtobufOptions{Schemas: reg, Options: Options{Mem: checked(t)}})
	f := fetchOf("broken", confluent(0, []byte("\x00\x08\x01")))
	if out, err := d.Decode(f); !errors.Is(err, registry.ErrUnavailable) || out.Rows != nil || out.Dead != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	reg.err = nil
	out, err := d.Decode(f)
	if err != nil || out.Rows.NumRows() != 1 || len(out.Dead) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	out.Rows.Release()
}

func TestProtobufFollowsTheTable(t *testing.T) {
	c, err := LoadProtobuf([]byte(`syntax = "proto3"; message M { sint32 i = 1; float f = 2; repeated fixed32 l = 3; }`), nil, "test.proto", "")
	if err != nil {
		t.Fatal(err)
	}
	fields := c.IcebergSchema().Fields()
	fields[0].Type, fields[1].Type = iceberg.PrimitiveTypes.Int64, iceberg.PrimitiveTypes.Float64
	d, err := NewProtobuf(c, iceberg.NewSchema(1, append([]iceberg.NestedField{{ID: 90, Name: "other", Type: iceberg.PrimitiveTypes.String}}, fields...)...),
		ProtobufOptions{Plain: true, Options: Options{Mem: checked(t)}})
	if err != nil {
		t.Fatal(err)
	}
	out := mustDecode(t, d, "\x08\x03\x15\x00\x00\xc0\x3f\x1d\x01\x00\x00\x00\x28\x01")
	defer out.Rows.Release()
	if got := strings.Join(rowsJSON(t, out.Rows), "|"); got != "other=null i=-2 f=1.5 l=[1]" {
		t.Errorf("rows %s; dead %+v", got, out.Dead)
	}
	if d.IgnoredFields() != 1 {
		t.Errorf("%d ignored fields", d.IgnoredFields())
	}
	if _, err := NewProtobuf(demoContract(t), demoContract(t).IcebergSchema(), ProtobufOptions{}); !errors.Is(err, ErrContract) {
		t.Errorf("a JSON contract: %v", err)
	}
}

// What a Protobuf field becomes as a table.
func TestProtobufColumns(t *testing.T) {
	for typ, want := range map[string]string{
		"double": "double", "float": "float", "int32": "int", "sint32": "int", "sfixed32": "int", "uint32": "long", "fixed32": "long", "int64": "long",
		"sint64": "long", "sfixed64": "long", "uint64": "decimal(20, 0)", "fixed64": "decimal(20, 0)", "bool": "boolean", "string": "string", "bytes": "binary",
		"E": "string", "Empty": "boolean", "S": "struct<2: x: optional int>", "google.protobuf.Timestamp": "timestamptz", "google.protobuf.Duration": "long",
		"google.protobuf.Struct": "string", "google.protobuf.Value": "string", "google.protobuf.ListValue": "string", "google.protobuf.UInt64Value": "decimal(20, 0)",
		"google.protobuf.BytesValue": "binary", "repeated string": "list<string>", "map<int64, double>": "map<string, double>",
	} {
		c, err := LoadProtobuf([]byte(fieldP(typ+" v = 1;")), nil, "test.proto", "")
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		if got := c.IcebergSchema().Field(0).Type.String(); got != want {
			t.Errorf("%s: %s, want %s", typ, got, want)
		}
	}
}

func TestProtobufSchemasThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                                "there is no message",
		`mess`:                            "line ",
		`syntax = "proto3"; message M {}`: "has no fields",
		`syntax = "proto3"; import "x.proto"; message M { int32 v = 1; }`:                        "x.proto",
		`syntax = "proto3"; message M { M v = 1; }`:                                              "contains itself",
		`syntax = "proto3"; message M { repeated N v = 1; } message N { map<string, M> m = 1; }`: "contains itself",
		`syntax = "proto2"; message M { optional group V = 1 { optional int32 x = 1; } }`:        "groups have no column",
		`syntax = "proto3"; message M { int32 v = 1; int32 V = 2; }`:                             "upper and lower case",
		`syntax = "proto3"; message M { int32 _kafka_offset = 1; }`:                              "belongs to a column that firn writes",
	} {
		if _, err := LoadProtobuf([]byte(text), nil, "test.proto", ""); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := LoadProtobuf([]byte(protoEvent), nil, "test.proto", "demo.UserEvnt"); err == nil || !strings.Contains(err.Error(), `did you mean "demo.UserEvent"`) {
		t.Errorf("another message: %v", err)
	}
}

func TestProtobufReferences(t *testing.T) {
	const main = `syntax = "proto3"; import "a/leaf.proto"; message M { a.Leaf v = 1; }`
	refs := []registry.Reference{{Name: "a/leaf.proto", Text: `syntax = "proto3"; package a; message Leaf { int32 x = 1; }`}}
	c, err := LoadProtobuf([]byte(main), refs, "test.proto", "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewProtobuf(c, c.IcebergSchema(), ProtobufOptions{Schemas: schemaList{{Type: registry.TypeProtobuf, Text: main, References: refs}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := one(t, d, confluent(0, []byte("\x00\x0a\x02\x08\x01"))); got != `{"x":1}` {
		t.Errorf("got %s", got)
	}
}

func TestDescriptorSets(t *testing.T) {
	fd, err := compileProto(protoEvent, nil)
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(fd)
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadDescriptorSet(raw, "events.desc", "demo.UserEvent")
	if err != nil || c.EventTime != "metadata.event_timestamp" {
		t.Fatalf("%+v, %v", c, err)
	}
	d, err := NewProtobuf(c, c.IcebergSchema(), ProtobufOptions{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	out := mustDecode(t, d, string(protoDemo(t)))
	out.Rows.Release()
	set.File = set.File[1:]
	cut, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct{ raw, message, want string }{
		{string(raw), "", "say which one"}, {string(raw), "demo.UserEvnt", `did you mean "demo.UserEvent"`}, {"syntax", "x", "no FileDescriptorSet"}, {"", "x", "no FileDescriptorSet"},
		{string(cut), "demo.UserEvent", "is not whole"},
	} {
		if _, err := LoadDescriptorSet([]byte(bad.raw), "events.desc", bad.message); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q: %v", bad.want, err)
		}
	}
}

func BenchmarkProtobuf(b *testing.B) {
	d, _ := protoOf(b, protoEvent, "demo.UserEvent", ProtobufOptions{Schemas: protoRegistry(protoEvent)})
	payloads := make([]string, 2000)
	for i := range payloads {
		payloads[i] = confluent(0, append([]byte{0}, protoDemo(b)...))
	}
	benchEvents(b, d, payloads)
}
