package decode

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

func protosOf(bodies ...string) schemaList {
	var out schemaList
	for i, b := range bodies {
		out = append(out, registry.Schema{ID: i, Type: registry.TypeProtobuf, Text: `syntax = "proto3"; message E { ` + b + ` }`})
	}
	return out
}

func protoFollower(t *testing.T, reg schemaList, policy string) *Protobuf {
	t.Helper()
	c, err := LoadProtobuf([]byte(reg[0].Text), nil, "test.proto", "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewProtobuf(c, c.IcebergSchema(), ProtobufOptions{Options: Options{Mem: checked(t), Now: func() time.Time { return testNow }, OnIncompatible: policy}, Schemas: reg, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// protoWritten is an event of a schema, given as Protobuf's JSON.
func protoWritten(t *testing.T, reg schemaList, id int, json string) string {
	t.Helper()
	fd, err := compileProto(reg[id].Text, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(fd.Messages().Get(0))
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		t.Fatal(err)
	}
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return confluent(uint32(id), append([]byte{0}, body...))
}

// Events of five versions of a message in one stretch: what a version has not is null, also where Protobuf itself would say
// zero, and what it has is read as that version writes it, whatever the width on the wire.
func TestProtobufFollowsItsWriters(t *testing.T) {
	reg := protosOf(
		`string id = 1; int32 n = 2; float f = 3;`,
		`string id = 1; int64 n = 2; double f = 3; optional string note = 4; repeated sint32 l = 5;`,
		`string name = 1; sfixed32 n = 2; map<string, int32> m = 6; message At { double lat = 1; } At at = 7;`,
		`string id = 1; int32 n = 2; map<string, int64> m = 6; message At { double lat = 1; oneof how { string gps = 2; int32 cell = 3; } } At at = 7; repeated sint64 l = 5;`,
		`string id = 1;`)
	d := protoFollower(t, reg, Stop)
	events := []string{
		protoWritten(t, reg, 3, `{"id":"three","n":3,"m":{"k":"4294967296"},"at":{"lat":1.5,"cell":9},"l":["-5"]}`),
		protoWritten(t, reg, 0, `{"id":"zero","n":-1,"f":0.5}`),
		protoWritten(t, reg, 1, `{"id":"one","n":"1099511627776","f":0.25,"note":"x","l":[1,-2]}`),
		protoWritten(t, reg, 2, `{"name":"two","n":-7,"m":{"a":5},"at":{"lat":2.5}}`),
		protoWritten(t, reg, 4, `{"id":"four"}`),
		protoWritten(t, reg, 3, `{"id":"bare"}`),
	}
	want := []string{
		`id="three" n=3 f=null note=null l=[-5] m=[{"key":"k","value":4294967296}] at={"cell":9,"gps":null,"lat":1.5}`,
		`id="zero" n=-1 f=0.5 note=null l=null m=null at=null`,
		`id="one" n=1099511627776 f=0.25 note="x" l=[1,-2] m=null at=null`,
		`id="two" n=-7 f=null note=null l=null m=[{"key":"a","value":5}] at={"cell":null,"gps":null,"lat":2.5}`,
		`id="four" n=null f=null note=null l=null m=null at=null`,
		`id="bare" n=0 f=null note=null l=[] m=[] at=null`,
	}
	for range 2 {
		out := mustDecode(t, d, events...)
		if err := validate(out.Rows); err != nil {
			t.Error(err)
		}
		got := rowsJSON(t, out.Rows)
		for i := range got { // columns come in the order in which the versions did
			parts := strings.Split(got[i], " ")
			slices.Sort(parts)
			w := strings.Split(want[i], " ")
			if slices.Sort(w); !slices.Equal(parts, w) {
				t.Errorf("row %d: %s\nwant   %s", i, got[i], want[i])
			}
		}
		if len(out.Dead) > 0 || len(got) != len(want) || len(out.SchemaIDs) != 5 {
			t.Errorf("%d rows, dead %v, schema ids %v", len(got), out.Dead, out.SchemaIDs)
		}
		out.Rows.Release()
	}
}

func TestProtobufIncompatibleSchemas(t *testing.T) {
	for name, c := range map[string]struct{ next, event, says, row string }{
		"int to string":   {`string id = 1; string v = 2;`, `{"id":"x","v":"5"}`, "field E.v was a int and is a string", `id="x" v=null v_v2="5"`},
		"to an unsigned":  {`string id = 1; uint64 v = 2;`, `{"id":"x","v":"5"}`, "field E.v was a int and is a decimal", `id="x" v=null v_v2="5"`},
		"another number":  {`string id = 1; int32 v = 3;`, `{"id":"x","v":5}`, "another number", `id="x" v=null v_v2=5`},
		"contains itself": {`string id = 1; int32 v = 2; E e = 3;`, `{"id":"x"}`, "contains itself", ""},
	} {
		reg := protosOf(`string id = 1; int32 v = 2;`, c.next)
		event := protoWritten(t, reg, 1, c.event)
		if _, err := protoFollower(t, reg, Stop).Decode(fetchOf(event)); !errors.Is(err, engine.ErrIncompatibleSchema) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: stop: %v, want %q", name, err, c.says)
		}
		out := mustDecode(t, protoFollower(t, reg, DeadLetter), event, event)
		if out.Rows != nil || len(out.Dead) != 2 || out.Dead[1].Reason != ReasonIncompatible || !strings.Contains(out.Dead[1].Message, c.says) {
			t.Errorf("%s: dead letter: %+v", name, out)
		}
		got := ""
		out = mustDecode(t, protoFollower(t, reg, NewColumn), event)
		if out.Rows != nil {
			got = rowsJSON(t, out.Rows)[0]
			out.Rows.Release()
		}
		if got != c.row {
			t.Errorf("%s: new column: %s, want %s; dead %v", name, got, c.row, out.Dead)
		}
	}
}
