package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
)

const restContract = `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"n":{"type":["integer","null"]},` +
	`"user":{"type":"object","properties":{"city":{"type":"string"}}}}}`

func withRest(tb testing.TB, raw, name string) *Contract {
	tb.Helper()
	c, err := contractOf(tb, raw).WithRest(name)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// texts are the values of a string column; null is "(null)".
func texts(rows arrow.RecordBatch, name string) []string {
	col := rows.Column(rows.Schema().FieldIndices(name)[0]).(*array.String)
	out := make([]string, col.Len())
	for i := range out {
		out[i] = col.ValueStr(i)
	}
	return out
}

func TestTheRestIsKeptAsItCame(t *testing.T) {
	d := decoderOf(t, withRest(t, restContract, "_rest"), Options{Mem: checked(t)})
	deep := strings.Repeat("[", 62) + strings.Repeat("]", 62)
	long := strings.Repeat("äö雪", 2000)
	for _, c := range []struct{ event, rest string }{
		{`{"id":"a"}`, `(null)`},
		{`{"id":"a","n":null,"user":{"city":"x","zip":1}}`, `(null)`}, // inside of a struct it is read over
		{`{"id":"a","x":1}`, `{"x":1}`},
		{`{"x":1,"id":"a"}`, `{"x":1}`},
		{` { "b" : [ 1 , {"c":null} ] , "id" : "a" , "a" : "t" } `, `{"b" : [ 1 , {"c":null} ],"a" : "t"}`},
		{`{"x":1.50e+00,"id":"a","y":12345678901234567890123}`, `{"x":1.50e+00,"y":12345678901234567890123}`},
		{`{"x":"\u00e4\/\ud800","id":"a"}`, `{"x":"\u00e4\/\ud800"}`}, // half a pair is sound JSON as long as it stays escaped
		{`{"\ud800":true,"id":"a"}`, `{"\ud800":true}`},
		{`{"x":1,"x":2,"id":"a"}`, `{"x":1,"x":2}`},
		{`{"_rest":{"x":1},"id":"a"}`, `{"_rest":{"x":1}}`},
		{`{"ID":"A","id":"a"}`, `{"ID":"A"}`},
		{`{"\u0069d":"a","i":0}`, `{"i":0}`}, // a name that is known however it is written
		{`{"x":` + deep + `,"id":"a"}`, `{"x":` + deep + `}`},
		{`{"id":"a","x":"` + long + `"}`, `{"x":"` + long + `"}`},
		{"{\"x\":1,\n\t\"id\":\"a\"\r\n,\"\":{}}", `{"x":1,"":{}}`},
	} {
		out := mustDecode(t, d, c.event)
		if out.Rows == nil {
			t.Errorf("%.80s: %+v", c.event, out.Dead)
			continue
		}
		if got := texts(out.Rows, "_rest")[0]; got != c.rest || got != "(null)" && !json.Valid([]byte(got)) {
			t.Errorf("%.80s keeps %.80s, want %.80s", c.event, got, c.rest)
		}
		out.Rows.Release()
	}
	if d.IgnoredFields() != 1 {
		t.Errorf("%d fields were read over, user.zip alone was", d.IgnoredFields())
	}
}

// What fails takes what it had kept with it, and each event has what is its own.
func TestTheRestOfAFailedEventIsGone(t *testing.T) {
	c := withRest(t, restContract, "other").WithLines()
	c, err := c.WithRules(Rules{Rules: []Rule{{Column: "n", Max: "5"}, {Column: "n", Min: "0", OnViolation: ActionFlag}}})
	if err != nil {
		t.Fatal(err)
	}
	d := decoderOf(t, c, Options{Mem: checked(t)})
	out := mustDecode(t, d, `{"x":"`+strings.Repeat("y", 100)+`"}`, `{"x":0,"id":"a"`, "{\"x\":1,\"id\":\"a\"}\n{\"x\":2}\n{\"id\":\"b\",\"n\":9,\"x\":3}\n{\"id\":\"c\",\"n\":-1,\"x\":4}\n{\"id\":\"d\"}",
		`{"x":5,"id":"e","id":"e"}`, `{"id":"f","x":[}`, `{"id":"g","x":{"y":6}}`)
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	if got := texts(out.Rows, "other"); !slices.Equal(got, []string{`{"x":1}`, `{"x":4}`, `(null)`, `{"x":{"y":6}}`}) {
		t.Errorf("%q", got)
	}
	var reasons []string
	for _, l := range out.Dead {
		reasons = append(reasons, l.Reason+l.Place)
	}
	if got := strings.Join(reasons, " "); got != "missing_field/id invalid_json missing_field/id out_of_range/n duplicate_key/id invalid_json/x" {
		t.Errorf("dead letters %s", got)
	}
}

// A field that the contract comes to know has a column of its own from then on, and the rest no longer holds it. A table
// that was made without the rest gets it.
func TestFieldsLeaveTheRestWhenTheyAreKnown(t *testing.T) {
	before := contractOf(t, restContract)
	old := before.IcebergSchema()
	c := withRest(t, restContract, "_rest")
	decode := func(c *Contract, sc *iceberg.Schema) string {
		d, err := NewJSON(c, sc, Options{Mem: checked(t)})
		if err != nil {
			t.Fatal(err)
		}
		out := mustDecode(t, d, `{"id":"a","x":1,"y":2}`)
		defer out.Rows.Release()
		return rowsJSON(t, out.Rows)[0]
	}
	if got := decode(c, old); got != `id="a" n=null user=null _rest="{\"x\":1,\"y\":2}"` {
		t.Errorf("a table without the column: %s", got)
	}
	known := withRest(t, strings.Replace(restContract, `"n":`, `"x":{"type":"integer"},"n":`, 1), "_rest")
	if got := decode(known, c.IcebergSchema()); got != `id="a" n=null user=null _rest="{\"y\":2}" x=1` {
		t.Errorf("once it is known: %s", got)
	}
	if got := decode(before, c.IcebergSchema()); got != `id="a" n=null user=null _rest=null` {
		t.Errorf("switched off: %s", got)
	}
}

func TestTheRestNeedsANameOfItsOwn(t *testing.T) {
	avro, err := LoadAvro([]byte(`{"type":"record","name":"a","fields":[{"name":"a","type":"int"}]}`), nil, "a.avsc")
	if err != nil {
		t.Fatal(err)
	}
	open := contractOf(t, restContract)
	closed := contractOf(t, `{"type":"object","additionalProperties":false,"properties":{"a":{"type":"string"}}}`)
	for _, c := range []struct {
		contract   *Contract
		name, want string
	}{
		{open, "ID", `test.json has a field "id" (#/properties/id): take another name`},
		{open, "_Kafka_Offset", "_kafka_offset is a column that firn writes itself"},
		{withRest(t, restContract, "r"), "R", `"r" is the name of another column already`},
		{open, "a.b", `"a.b" is no name of a column`},
		{open, "", `"" is no name of a column`},
		{open, strings.Repeat("r", 129), "129 bytes"},
		{closed, "_rest", "test.json#/additionalProperties is false"},
		{avro, "_rest", "only JSON events"},
	} {
		if _, err := c.contract.WithRest(c.name); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), ": rest: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	c := withRest(t, restContract, "_rest")
	for want, f := range map[string]iceberg.NestedField{
		"the table says long, and what goes there is a string": {Type: iceberg.PrimitiveTypes.Int64},
		"the table requires it, and it may be null":            {Type: iceberg.PrimitiveTypes.String, Required: true},
	} {
		fields := slices.Clone(open.IcebergSchema().Fields())
		f.ID, f.Name = 100, "_rest"
		if _, err := NewJSON(c, iceberg.NewSchema(0, append(fields, f)...), Options{}); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestTheRestAllocatesNothingPerEvent(t *testing.T) {
	d := decoderOf(t, withRest(t, restContract, "_rest"), Options{})
	allocatesNothing(t, d, 5_000, 0.005, `{"id":"a","x":[1,2],"n":3,"note":"text","user":{"city":"c"},"y":null}`)
}

// referenceRest is what a contract does not name of a payload, cut out of it with encoding/json; nil when there is nothing.
func referenceRest(c *Contract, payload []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	var kept []string
	for dec.More() {
		from := dec.InputOffset()
		from += int64(bytes.IndexByte(payload[from:], '"'))
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(c.root.fields, func(f field) bool { return f.name == key }) {
			kept = append(kept, string(payload[from:dec.InputOffset()]))
		}
	}
	if kept == nil {
		return nil, nil
	}
	return "{" + strings.Join(kept, ",") + "}", nil
}

// What the rest costs, beside a decoder that reads the same members over and one whose events have none:
// go test -bench Rest -count 6 ./engine/decode, for benchstat.
func BenchmarkRest(b *testing.B) {
	more := strings.TrimSuffix(event, "}") + `,"experiment":{"id":"checkout-7","arm":"b"},"client_version":"4.11.0"}`
	kept, err := demoContract(b).WithRest("_rest")
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, event string
		contract    *Contract
	}{{"off/none", event, demoContract(b)}, {"on/none", event, kept}, {"off/some", more, demoContract(b)}, {"on/some", more, kept}} {
		d := decoderOf(b, c.contract, Options{})
		f := fetchOf(slices.Repeat([]string{c.event}, 2000)...)
		b.Run(fmt.Sprintf("rest=%s", c.name), func(b *testing.B) {
			b.SetBytes(int64(2000 * len(c.event)))
			b.ReportAllocs()
			for b.Loop() {
				out, err := d.Decode(f)
				if err != nil {
					b.Fatal(err)
				}
				out.Rows.Release()
			}
		})
	}
}
