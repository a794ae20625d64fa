package decode

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

const ruledContract = `{"type":"object","required":["id"],"properties":{
	"id":{"type":"string"},
	"price":{"type":["number","null"]},
	"amount":{"type":"number","format":"decimal","x-precision":10,"x-scale":2},
	"count":{"type":"integer","format":"int32"},
	"at":{"type":"integer","format":"epoch-s"},
	"day":{"type":"string","format":"date"},
	"who":{"type":"object","properties":{"mail":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}}}}}}`

func ruled(t *testing.T, schema string, rs Rules) *Contract {
	t.Helper()
	c, err := contractOf(t, schema).WithRules(rs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRulesDoWhatTheySay(t *testing.T) {
	five := 5
	d := decoderOf(t, ruled(t, ruledContract, Rules{OnViolation: ActionFlag, Complete: []string{"day"}, Rules: []Rule{
		{Column: "price", Min: "0", Max: "10.5", OnViolation: ActionNull},
		{Column: "amount", Max: "99.99"},
		{Column: "count", OneOf: []string{"1", "2"}, OnViolation: ActionDeadLetter},
		{Column: "at", Min: "2026-01-01T00:00:00Z"},
		{Column: "day", Max: "2026-12-31", OnViolation: ActionNull},
		{Column: "who.mail", Required: true, Pattern: "^[^@]+@", MaxLength: &five},
	}}), Options{Mem: checked(t)})
	out := mustDecode(t, d,
		`{"id":"whole","price":10.5,"amount":99.99,"count":2,"at":1767225600,"day":"2026-12-31","who":{"mail":"a@b.c"}}`,
		`{"id":"nulls","price":11,"count":1,"day":"2027-01-01","who":{"mail":"a@b.c"}}`,
		`{"id":"flags","price":null,"amount":100,"at":1767225599,"who":{"mail":"abcdef"}}`,
		`{"id":"dead","count":3,"who":{"mail":"abcdef"}}`,
		`{"id":"no who","day":"2026-01-01"}`,
		`{"price":1}`)
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	want := []string{
		`id="whole" price=10.5 amount="99.99" count=2 at="2026-01-01T00:00:00Z" day="2026-12-31" who={"mail":"a@b.c","tags":null} _contract_violations=null`,
		`id="nulls" price=null amount=null count=1 at=null day=null who={"mail":"a@b.c","tags":null} _contract_violations=["price:out_of_range","day:out_of_range"]`,
		`id="flags" price=null amount="100" count=null at="2025-12-31T23:59:59Z" day=null who={"mail":"abcdef","tags":null} _contract_violations=["amount:out_of_range","at:out_of_range","who.mail:out_of_range","who.mail:pattern_mismatch"]`,
		`id="no who" price=null amount=null count=null at=null day="2026-01-01" who=null _contract_violations=["who.mail:missing_field"]`,
	}
	if got := rowsJSON(t, out.Rows); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(out.Dead) != 2 || out.Dead[0].Reason != ReasonNotInEnum || out.Dead[0].Place != "/count" || out.Dead[0].Message != "the value is none of: 1, 2" || out.Dead[1].Place != "/id" {
		t.Errorf("dead letters %+v", out.Dead)
	}
	if out.Events != 6 || out.Complete != 1 {
		t.Errorf("%d of %d events complete, want 1 of 6: the whole one has a day and a mail", out.Complete, out.Events)
	}
	wantBroken := []string{"amount out_of_range keep_and_flag 1", "at out_of_range keep_and_flag 1", "count not_in_enum dead_letter 1", "day out_of_range null 1",
		"id missing_field dead_letter 1", "price out_of_range null 1", "who.mail missing_field keep_and_flag 1", "who.mail out_of_range keep_and_flag 1", "who.mail pattern_mismatch keep_and_flag 1"}
	if got := violations(out); !slices.Equal(got, wantBroken) {
		t.Errorf("violations\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wantBroken, "\n"))
	}
	again := mustDecode(t, d, `{"id":"x","who":{"mail":"a@b"},"day":"2026-01-01"}`)
	defer again.Rows.Release()
	if len(again.Violations) != 0 || again.Complete != 1 {
		t.Errorf("counts of an earlier fetch are told again: %+v", again.Violations)
	}
}

func violations(d engine.Decoded) []string {
	var out []string
	for _, v := range d.Violations {
		out = append(out, fmt.Sprintf("%s %s %s %d", v.Column, v.Rule, v.Action, v.Count))
	}
	return out
}

// TestRulesOfTheSchemaItself: x-on-violation beside the keywords of JSON Schema.
func TestRulesOfTheSchemaItself(t *testing.T) {
	c := contractOf(t, `{"type":"object","required":["id","state"],"properties":{"id":{"type":"string","pattern":"^e-"},
		"state":{"type":"string","enum":["on","off"],"x-on-violation":"keep_and_flag"},
		"n":{"type":"integer","minimum":3,"maximum":7,"x-on-violation":null},
		"t":{"type":"integer","format":"epoch-ms","minimum":1000,"x-on-violation":"keep_and_flag"},
		"in":{"type":"object","required":["x"],"properties":{"x":{"type":"string","minLength":2,"x-on-violation":"keep_and_flag"}}}}}`)
	d := decoderOf(t, c, Options{Mem: checked(t)})
	out := mustDecode(t, d, `{"id":"e-1","state":"on","n":3,"t":1000,"in":{"x":"ab"}}`, `{"id":"e-2","n":8,"t":999,"in":{}}`, `{"id":"e-3","state":"?","in":{"x":"a"}}`, `{"id":"4","state":"on"}`)
	defer out.Rows.Release()
	want := `id="e-1" state="on" n=3 t="1970-01-01T00:00:01Z" in={"x":"ab"} _contract_violations=null
id="e-2" state=null n=null t="1970-01-01T00:00:00.999Z" in={"x":null} _contract_violations=["state:missing_field","t:out_of_range","in.x:missing_field","n:out_of_range"]
id="e-3" state="?" n=null t=null in={"x":"a"} _contract_violations=["state:not_in_enum","in.x:out_of_range"]`
	if got := strings.Join(rowsJSON(t, out.Rows), "\n"); got != want {
		t.Errorf("rows:\n%s\nwant\n%s", got, want)
	}
	if len(out.Dead) != 1 || out.Dead[0].Reason != ReasonNoMatch || out.Complete != 2 || out.Events != 4 {
		t.Errorf("%d of %d complete, dead %+v; want 2 of 4 and one", out.Complete, out.Events, out.Dead)
	}
}

// TestRulesOfBinaryFormats: the same rules over Avro and Protobuf.
func TestRulesOfBinaryFormats(t *testing.T) {
	rs := Rules{Rules: []Rule{{Column: "n", Min: "1", OnViolation: ActionFlag}, {Column: "s", OneOf: []string{"a", "b"}, OnViolation: ActionNull},
		{Column: "f", Max: "1.5"}, {Column: "s", Required: true, OnViolation: ActionFlag}}}
	t.Run("avro", func(t *testing.T) {
		const schema = `{"type":"record","name":"e","fields":[{"name":"n","type":"int"},{"name":"s","type":["null","string"]},{"name":"f","type":"float"}]}`
		c, err := LoadAvro([]byte(schema), nil, "e.avsc")
		if err != nil {
			t.Fatal(err)
		}
		if c, err = c.WithRules(rs); err != nil {
			t.Fatal(err)
		}
		d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Schemas: schemaList{{Type: registry.TypeAvro, Text: schema}}, Options: Options{Mem: checked(t)}})
		if err != nil {
			t.Fatal(err)
		}
		float := func(f float32) string {
			b := math.Float32bits(f)
			return string([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
		}
		event := func(n byte, s string, f float32) string {
			return "\x00\x00\x00\x00\x00" + string([]byte{n << 1}) + s + float(f)
		}
		checkBinary(t, mustDecode(t, d, event(1, "\x02\x02a", 1.5), event(0, "\x02\x02c", 1), event(1, "\x00", 0), event(1, "\x02\x02b", 2), event(1, "\x02\x02b", float32(math.NaN()))))
	})
	t.Run("protobuf", func(t *testing.T) {
		c, err := LoadProtobuf([]byte(`syntax = "proto3"; message E { int32 n = 1; optional string s = 2; float f = 3; }`), nil, "e.proto", "")
		if err != nil {
			t.Fatal(err)
		}
		if c, err = c.WithRules(rs); err != nil {
			t.Fatal(err)
		}
		d, err := NewProtobuf(c, c.IcebergSchema(), ProtobufOptions{Plain: true, Options: Options{Mem: checked(t)}})
		if err != nil {
			t.Fatal(err)
		}
		float := func(f float32) string {
			b := math.Float32bits(f)
			return "\x1d" + string([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
		}
		checkBinary(t, mustDecode(t, d, "\x08\x01\x12\x01a"+float(1.5), "\x12\x01c"+float(1), "\x08\x01", "\x08\x01\x12\x01b"+float(2), "\x08\x01\x12\x01b"+float(float32(math.NaN()))))
	})
}

func checkBinary(t *testing.T, out engine.Decoded) {
	t.Helper()
	defer out.Rows.Release()
	const want = `n=1 s="a" f=1.5 _contract_violations=null
n=0 s=null f=1 _contract_violations=["n:out_of_range","s:not_in_enum"]
n=1 s=null f=0 _contract_violations=["s:missing_field"]`
	if got := strings.Join(rowsJSON(t, out.Rows), "\n"); got != want {
		t.Errorf("rows:\n%s\nwant\n%s", got, want)
	}
	if len(out.Dead) != 2 || out.Dead[0].Place != "/f" || out.Dead[1].Reason != ReasonOutOfRange || out.Complete != 1 {
		t.Errorf("complete %d, dead %+v", out.Complete, out.Dead)
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	minus := -1
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{Column: "idd", Required: true}, "contract.rules[0]: column idd of test.json: there is no such column outside lists and maps; the nearest is id"},
		{Rule{Column: "id", Pattern: "x", OnViolation: ActionNull}, "on_violation: null needs an optional column, and the schema (#/properties/id) requires it"},
		{Rule{Column: "price", Required: true, OnViolation: ActionNull}, "on_violation: null means nothing for required"},
		{Rule{Column: "price", Min: "1x"}, `min: "1x" is not a number`},
		{Rule{Column: "price", Min: "5", Max: "4.9"}, "min and max: nothing is at least 5 and at most 4.9"},
		{Rule{Column: "count", Min: "1.5"}, "the bound of an integer must be a whole number"},
		{Rule{Column: "amount", Max: "1.234"}, "the bound must fit scale 2"},
		{Rule{Column: "at", Max: "yesterday"}, `"yesterday" is not written as 2006-01-02T15:04:05.999999999Z07:00`},
		{Rule{Column: "who", Max: "1"}, "a bound needs an integer or a number, this is struct"},
		{Rule{Column: "price", OneOf: []string{"1"}}, "one_of: needs a string or an integer, this is double"},
		{Rule{Column: "count", OneOf: []string{"one"}}, `one_of[0]: "one" is not a number`},
		{Rule{Column: "count", Pattern: "x"}, "pattern and lengths need a string, this is int"},
		{Rule{Column: "id", Pattern: "("}, "patterns are RE2"},
		{Rule{Column: "id", MinLength: &minus}, "is no range of lengths"},
		{Rule{Column: "id"}, "has no demand"},
		{Rule{Required: true}, "name the column"},
		{Rule{Column: "id", Required: true, OnViolation: "drop"}, `"drop" is none of dead_letter, null, keep_and_flag`},
	} {
		_, err := contractOf(t, ruledContract).WithRules(Rules{Rules: []Rule{c.rule}})
		if !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v\nwant %s", c.rule, err, c.want)
		}
	}
	if _, err := contractOf(t, ruledContract).WithRules(Rules{Complete: []string{"dy"}}); err == nil || !strings.Contains(err.Error(), "contract.complete[0]") {
		t.Errorf("complete: %v", err)
	}
	plain := contractOf(t, ruledContract)
	flagging := ruled(t, ruledContract, Rules{Rules: []Rule{{Column: "id", Pattern: "x", OnViolation: ActionFlag}}})
	if d, err := NewJSON(flagging, plain.IcebergSchema(), Options{}); err != nil || !d.ArrowSchema().HasField("_contract_violations") {
		t.Errorf("a table that grows the column: %v", err)
	}
	if _, err := NewJSON(plain, flagging.IcebergSchema(), Options{}); err != nil {
		t.Errorf("a table whose rules no longer flag: %v", err)
	}
	for schema, want := range map[string]string{
		`{"type":"object","properties":{"a":{"type":"array","items":{"type":"string","x-on-violation":"null"}}}}`:                                                      "#/properties/a/items/x-on-violation: only for columns outside lists and maps",
		`{"type":"object","required":["a"],"properties":{"a":{"type":"string","minLength":1,"x-on-violation":"null"}}}`:                                                "the field is required and so cannot become null",
		`{"type":"object","properties":{"a":{"type":"string","x-on-violation":"drop"}}}`:                                                                               "take one of dead_letter, null, keep_and_flag",
		`{"type":"object","properties":{"_contract_violations":{"type":"string"}}}`:                                                                                    "the name belongs to a column that firn writes itself",
		`{"type":"object","properties":{"a":{"type":"object","additionalProperties":{"type":"object","properties":{"b":{"type":"string","x-on-violation":"null"}}}}}}`: "only for columns outside lists and maps",
	} {
		if _, err := LoadContract([]byte(schema), "c.json"); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", schema, err, want)
		}
	}
}

// TestColumnsOfRefusedValues: what the reading of values refuses is counted by columns, of which a table has few.
func TestColumnsOfRefusedValues(t *testing.T) {
	d := decoderOf(t, contractOf(t, `{"type":"object","properties":{"a/b":{"type":"integer","maximum":1},"l":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}},
		"m":{"type":"object","additionalProperties":{"type":"array","items":{"type":"boolean"}}}}}`), Options{Mem: checked(t)})
	out := mustDecode(t, d, `{"a/b":2}`, `{"l":[{},{"x":"1"}]}`, `{"l":[{"x":"1"}]}`, `{"m":{"k":[1]}}`, `{"m":{"other":[true,null]}}`, `{"m":{"k":[true]}`, ``)
	want := []string{"a/b out_of_range dead_letter 1", "l.element.x wrong_type dead_letter 2", "m.value.element wrong_type dead_letter 2"}
	if got := violations(out); !slices.Equal(got, want) || len(out.Dead) != 7 || out.Events != 7 || out.Complete != 0 {
		t.Errorf("violations %v, want %v; %d events", got, want, out.Events)
	}
}
