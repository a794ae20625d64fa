package decode

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

// jsonRegistry is a registry of JSON Schemas, whose ids are their places, of objects with the given properties.
func jsonRegistry(required string, properties ...string) schemaList {
	var out schemaList
	for i, p := range properties {
		out = append(out, registry.Schema{ID: i, Type: registry.TypeJSON, Text: `{"type":"object","required":[` + required + `],"properties":{` + p + `}}`})
	}
	return out
}

func framedJSON(t testing.TB, reg Schemas, first string, sc *iceberg.Schema, policy string) *FramedJSON {
	t.Helper()
	c := contractOf(t, first)
	if sc == nil {
		sc = c.IcebergSchema()
	}
	o := JSONOptions{Options: Options{OnIncompatible: policy}, Schemas: reg, Follow: policy != ""}
	if tt, ok := t.(*testing.T); ok {
		o.Mem = checked(tt)
	}
	d, err := NewFramedJSON(c, sc, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Events of several schemas in one stretch: each is read by its own, what it does not have is null, and all rows are in the schema
// that has it all.
func TestJSONFollowsItsWriters(t *testing.T) {
	reg := jsonRegistry(`"id"`,
		`"id":{"type":"string"},"n":{"type":"integer","format":"int32"},"kind":{"type":"string","enum":["a"]},"p":{"type":"object","properties":{"x":{"type":"number"}}}`,
		`"id":{"type":"string"},"n":{"type":"integer"},"kind":{"type":"string","enum":["a","b"]},"note":{"type":["string","null"]},"p":{"type":"object","properties":{"y":{"type":"boolean"},"x":{"type":"number"}}}`,
		`"id":{"type":"string"},"l":{"type":"array","items":{"type":"integer","format":"int32"}}`,
		`"id":{"type":"string"},"l":{"type":"array","items":{"type":"integer"}},"at":{"type":"string","format":"date-time"}`,
		`"id":{"type":"string"},"at":{"type":"integer","format":"epoch-ms"}`)
	d := framedJSON(t, reg, reg[0].Text, nil, DeadLetter)
	events := []string{
		confluent(1, []byte(`{"id":"one","n":1099511627776,"kind":"b","note":"x","p":{"y":true,"x":1.5}}`)),
		confluent(0, []byte(`{"id":"zero","n":1,"kind":"a","p":{"x":2.5,"y":3},"note":7}`)),
		confluent(0, []byte(`{"id":"zero","kind":"b"}`)), // b is not in its own schema
		confluent(0, []byte(`{"id":"zero","n":1099511627776}`)),
		confluent(2, []byte(`{"l":[1,2],"id":"two"}`)),
		confluent(3, []byte(`{"id":"three","l":[1099511627776],"at":"1970-01-01T00:00:01Z"}`)),
		confluent(4, []byte(`{"id":"four","at":2000}`)),
		confluent(3, []byte(`{"id":"three","at":2000}`)),
		confluent(2, []byte(`{"l":[]}`)),
	}
	want := []string{
		`id="one" n=1099511627776 kind="b" p={"x":1.5,"y":true} note="x" l=null at=null`,
		`id="zero" n=1 kind="a" p={"x":2.5,"y":null} note=null l=null at=null`,
		`id="two" n=null kind=null p=null note=null l=[1,2] at=null`,
		`id="three" n=null kind=null p=null note=null l=[1099511627776] at="1970-01-01T00:00:01Z"`,
		`id="four" n=null kind=null p=null note=null l=null at="1970-01-01T00:00:02Z"`,
	}
	for range 2 {
		out := mustDecode(t, d, events...)
		if err := validate(out.Rows); err != nil {
			t.Error(err)
		}
		if got := strings.Join(rowsJSON(t, out.Rows), "\n"); got != strings.Join(want, "\n") {
			t.Errorf("rows\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
		var dead []string
		for _, l := range out.Dead {
			dead = append(dead, fmt.Sprint(l.Offset, " ", l.Reason, " ", l.Place, " ", l.SchemaID))
		}
		if got := strings.Join(dead, "|"); got != "102 not_in_enum /kind 0|103 out_of_range /n 0|107 wrong_type /at 3|108 missing_field /id 2" || len(out.SchemaIDs) != 5 {
			t.Errorf("dead letters %s, schemas %v", got, out.SchemaIDs)
		}
		if !out.Rows.Schema().Equal(d.ArrowSchema()) {
			t.Error("the decoder's schema is not that of its rows")
		}
		out.Rows.Release()
	}
}

func TestJSONIncompatibleSchemas(t *testing.T) {
	for name, c := range map[string]struct{ next, event, says, row string }{
		"int to string":      {`"v":{"type":"string"}`, `{"v":"5"}`, "#/properties/v was a long and is a string", `v=null v_v2="5"`},
		"long to double":     {`"v":{"type":"number"}`, `{"v":2.5}`, "was a long and is a double", `v=null v_v2=2.5`},
		"to an instant":      {`"v":{"type":"integer","format":"epoch-ms"}`, `{"v":1000}`, "was a long and is a timestamptz", `v=null v_v2="1970-01-01T00:00:01Z"`},
		"to a struct":        {`"v":{"type":"object","properties":{"a":{"type":"integer"}}}`, `{"v":{"a":1}}`, "was a long and is a struct", `v=null v_v2={"a":1}`},
		"a name in capitals": {`"v":{"type":"integer"},"V":{"type":"integer"}`, `{"v":1}`, "upper and lower case", ""},
	} {
		reg := jsonRegistry("", `"v":{"type":"integer"}`, c.next)
		event := confluent(1, []byte(c.event))
		if name == "a name in capitals" { // which no contract has by itself
			reg[1].Text = `{"type":"object","properties":{"V":{"type":"integer"}}}`
		}
		if _, err := framedJSON(t, reg, reg[0].Text, nil, Stop).Decode(fetchOf(event)); !errors.Is(err, engine.ErrIncompatibleSchema) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: stop: %v, want %q", name, err, c.says)
		}
		out := mustDecode(t, framedJSON(t, reg, reg[0].Text, nil, DeadLetter), event)
		if out.Rows != nil || len(out.Dead) != 1 || out.Dead[0].Reason != ReasonIncompatible || !strings.Contains(out.Dead[0].Message, c.says) {
			t.Errorf("%s: dead letter: %+v", name, out)
		}
		got := ""
		out = mustDecode(t, framedJSON(t, reg, reg[0].Text, nil, NewColumn), event)
		if out.Rows != nil {
			got = rowsJSON(t, out.Rows)[0]
			out.Rows.Release()
		}
		if got != c.row {
			t.Errorf("%s: new column: %s, want %s; dead %v", name, got, c.row, out.Dead)
		}
	}
	reg := jsonRegistry("", `"v":{"type":"integer"}`, `"v":{"type":"integer"},"w":{"type":"integer"}`)
	reg[1].Text = strings.Replace(reg[1].Text, "[]", `["w"]`, 1)
	if got := rowOrLetter(t, framedJSON(t, reg, reg[0].Text, nil, DeadLetter), confluent(1, []byte(`{"w":1}`))); got != "incompatible_schema " {
		t.Errorf("a field that is new and required: %s", got)
	}
	if got := rowOrLetter(t, framedJSON(t, reg, reg[0].Text, nil, NewColumn), confluent(1, []byte(`{"w":1}`))); got != "v=null w=1" {
		t.Errorf("a field that is new and required, with new_column: %s", got)
	}
}

func TestFramedJSONHeaders(t *testing.T) {
	reg := append(jsonRegistry("", `"v":{"type":"integer"}`, `"v":{"type":"inter"}`), registry.Schema{ID: 2, Type: registry.TypeAvro, Text: `"int"`},
		registry.Schema{ID: 3, Type: registry.TypeJSON, Text: `{"type":"object","properties":{"v":{"$ref":"int.json"}}}`, References: []registry.Reference{{Name: "int.json", Text: `{"type":"integer"}`}}},
		registry.Schema{ID: 4, Type: registry.TypeJSON, Text: `{"type":"object","properties":{"v":{"$ref":"all.json#/$defs/n"}}}`,
			References: []registry.Reference{{Name: "all.json", Text: `{"$defs":{"n":{"$ref":"#/$defs/i"},"i":{"type":"integer"}}}`}}},
		registry.Schema{ID: 5, Type: registry.TypeJSON, Text: `{"type":"object","properties":{"v":{"$ref":"other.json"}}}`},
		registry.Schema{ID: 6, Type: registry.TypeJSON, Text: `{"type":"object","properties":{"v":{"anyOf":[{"type":"integer"},{"type":"null","title":"none"}]}}}`},
		registry.Schema{ID: 7, Type: registry.TypeJSON, Text: `{"type":"object"`})
	for _, policy := range []string{"", DeadLetter} { // without a policy a file is the contract, and ids have to be known
		d := framedJSON(t, reg, reg[0].Text, nil, policy)
		unusable := "unusable_schema "
		if policy == "" {
			unusable = "v=1"
		}
		for event, want := range map[string]string{
			confluent(0, []byte(`{"v":1}`)): "v=1", confluent(3, []byte(`{"v":1}`)): "v=1", confluent(4, []byte(`{"v":1}`)): "v=1", confluent(6, []byte(`{"v":1}`)): "v=1",
			confluent(1, []byte(`{"v":1}`)): unusable, confluent(5, []byte(`{"v":1}`)): unusable, confluent(7, []byte(`{"v":1}`)): unusable,
			confluent(2, []byte(`{"v":1}`)): "unusable_schema ", confluent(9, []byte(`{"v":1}`)): "unknown_schema ", confluent(0xffffffff, []byte(`{"v":1}`)): "unknown_schema ",
			`{"v":1}`: "wrong_magic ", "\x00\x00\x00": "wrong_magic ", "": "empty_value ", confluent(0, nil): "empty_value ", confluent(0, []byte(`{"v":1`)): "invalid_json ",
			confluent(0, []byte(`{"v":"1"}`)): "wrong_type /v",
		} {
			if got := rowOrLetter(t, d, event); got != want {
				t.Errorf("policy %q: %q: %s, want %s", policy, event, got, want)
			}
		}
	}
	reg = append(jsonRegistry(`"v"`, `"v":{"type":"integer"}`), registry.Schema{ID: 1, Type: registry.TypeJSON, Text: `{"type":"object","properties":{"v":{"oneOf":[{"type":"null"},{"type":"integer"}]}}}`})
	if got := rowOrLetter(t, framedJSON(t, reg, reg[0].Text, nil, DeadLetter), confluent(1, []byte(`{"v":null}`))); got != "v=null" {
		t.Errorf("a choice of null: %s", got)
	}
}

func TestFramedJSONWaitsForTheRegistry(t *testing.T) {
	reg := &away{schemaList: jsonRegistry("", `"v":{"type":"integer"}`), err: registry.ErrUnavailable}
	d := framedJSON(t, reg, reg.schemaList[0].Text, nil, Stop)
	f := fetchOf("broken", confluent(0, []byte(`{"v":1}`)))
	if out, err := d.Decode(f); !errors.Is(err, registry.ErrUnavailable) || out.Rows != nil || out.Dead != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	reg.err = nil
	out, err := d.Decode(f)
	if err != nil || out.Rows.NumRows() != 1 || len(out.Dead) != 1 || reg.asked != 2 {
		t.Fatalf("%+v, %v, asked %d times", out, err, reg.asked)
	}
	out.Rows.Release()
}

func TestFramedJSONAllocatesNothingPerEvent(t *testing.T) {
	reg := jsonRegistry("", `"v":{"type":"integer"},"s":{"type":"string"}`, `"s":{"type":"string"},"x":{"type":"object","properties":{"y":{"type":"string"}}}`)
	allocatesNothing(t, framedJSON(t, reg, reg[0].Text, nil, DeadLetter), 2_000, 0.01, confluent(0, []byte(`{"v":1,"s":"a"}`)), confluent(1, []byte(`{"s":"b","x":{"y":"c"}}`)))
}
