package decode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"pgregory.net/rapid"
)

// everyKind is a contract with a field of each kind, some of them nested.
const everyKind = `{"type":"object","properties":{
	"s":{"type":["string","null"]},"en":{"type":"string","enum":["a","b","ü"]},"len":{"type":"string","minLength":1,"maxLength":3},
	"i":{"type":["integer","null"],"format":"int32"},"l":{"type":"integer","minimum":-1000000000000000000},"n":{"type":["number","null"]},"b":{"type":["boolean","null"]},
	"ts":{"type":["string","null"],"format":"date-time"},"ms":{"type":"integer","format":"epoch-ms"},"d":{"type":"string","format":"date"},
	"t":{"type":"string","format":"time"},"u":{"type":"string","format":"uuid"},"dec":{"type":"number","format":"decimal","x-precision":20,"x-scale":4},
	"tdec":{"type":["string","null"],"format":"decimal","x-precision":5,"x-scale":2},"bin":{"type":"string","format":"byte"},
	"ns":{"type":["integer","null"],"format":"epoch-ns"},"day":{"type":"integer","format":"epoch-days"},"tms":{"type":"integer","format":"time-ms"},"tns":{"type":"integer","format":"time-ns"},
	"bdec":{"type":["string","null"],"format":"decimal","contentEncoding":"base64","x-precision":20,"x-scale":3},
	"arr":{"type":"array","items":{"type":["integer","null"]}},
	"m":{"type":["object","null"],"additionalProperties":{"type":"array","items":{"type":"string"}}},
	"o":{"type":["object","null"],"required":["x"],"properties":{"x":{"type":"integer"},"y":{"type":["string","null"]},
		"list":{"type":"array","items":{"type":["object","null"],"additionalProperties":false,"properties":{"z":{"type":"number"}}}}}}}}`

// stored reads an Arrow value back as the same plain Go.
func stored(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Int32:
		return int64(a.Value(i))
	case *array.Int64:
		return a.Value(i)
	case *array.Float64:
		return math.Float64bits(a.Value(i))
	case *array.Float32:
		return floatBits(a.Value(i))
	case *array.FixedSizeBinary:
		return append([]byte{}, a.Value(i)...)
	case *array.Boolean:
		return a.Value(i)
	case *array.Timestamp:
		return int64(a.Value(i))
	case *array.Date32:
		return int64(a.Value(i))
	case *array.Time64:
		return int64(a.Value(i))
	case *extensions.UUIDArray:
		id := a.Value(i)
		return id[:]
	case *array.Decimal128:
		return a.Value(i).BigInt().String()
	case *array.Binary:
		return append([]byte{}, a.Value(i)...)
	case *array.Map:
		from, to := a.ValueOffsets(i)
		out := []any{}
		for j := int(from); j < int(to); j++ {
			out = append(out, []any{stored(a.Keys(), j), stored(a.Items(), j)})
		}
		return out
	case *array.List:
		from, to := a.ValueOffsets(i)
		out := []any{}
		for j := int(from); j < int(to); j++ {
			out = append(out, stored(a.ListValues(), j))
		}
		return out
	case *array.Struct:
		out := make([]any, a.NumField())
		for j := range out {
			out[j] = stored(a.Field(j), i)
		}
		return out
	}
	return fmt.Sprintf("unexpected array %T", a)
}

// floatBits tells floats apart by their bits, but not a signalling NaN from its quiet form: an oracle that holds a float as a double
// has made it quiet, where Firn stores the bits as they came.
func floatBits(f float32) uint32 {
	u := math.Float32bits(f)
	if math.IsNaN(float64(f)) {
		u |= 1 << 22
	}
	return u
}

func equalPlain(a, b any) bool { return reflect.DeepEqual(a, b) }

var loneEscape = regexp.MustCompile(`(?i)\\ud[89a-f]`)

// against compares what the decoder made of one payload with encoding/json and the reference.
func against(c *Contract, d *JSON, payload []byte) error {
	f := fetchOf(string(payload))
	out, err := d.Decode(f)
	if err != nil {
		return err
	}
	if out.Rows != nil {
		defer out.Rows.Release()
		if err := validate(out.Rows); err != nil {
			return err
		}
	}
	if n := len(out.Dead); (out.Rows != nil) == (n > 0) || n > 1 {
		return fmt.Errorf("row: %v, dead letters: %d", out.Rows != nil, n)
	}
	if len(out.Dead) == 1 {
		l := out.Dead[0]
		if !utf8.ValidString(l.Place) || !utf8.ValidString(l.Message) {
			return fmt.Errorf("place %q or message %q is not UTF-8", l.Place, l.Message)
		}
		if !bytes.Equal(l.Value, payload) {
			return fmt.Errorf("the dead letter's value is %q", l.Value)
		}
	}
	sound := json.Valid(payload) && utf8.Valid(payload)
	if !sound {
		if out.Rows != nil {
			return fmt.Errorf("taken, and encoding/json refuses it or it is not UTF-8")
		}
		return nil
	}
	if out.Rows == nil && out.Dead[0].Reason == ReasonInvalidJSON {
		return fmt.Errorf("refused as %+v, and encoding/json takes it", out.Dead[0])
	}
	if loneEscape.Match(payload) {
		return nil // encoding/json does not tell a lone surrogate from U+FFFD
	}
	return compare(c, payload, out.Rows, func() refused { return refused{out.Dead[0].Reason, out.Dead[0].Place} })
}

func compare(c *Contract, payload []byte, rows arrow.RecordBatch, dead func() refused) error {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	n, err := readNode(dec)
	if err != nil {
		return err
	}
	want, bad := reference(c.root, &n, 0)
	if rows == nil {
		if got := dead(); bad == nil || got != *bad {
			return fmt.Errorf("refused as %+v, the reference says %+v", got, bad)
		}
		return nil
	}
	if bad != nil {
		return fmt.Errorf("taken, the reference refuses it as %+v", *bad)
	}
	got := make([]any, len(c.root.fields))
	for i := range got {
		got[i] = stored(rows.Column(i), 0)
	}
	if !equalPlain(got, want) {
		return fmt.Errorf("stored %v, the reference says %v", got, want)
	}
	if len(c.extras) == 0 {
		return nil
	}
	rest, err := referenceRest(c, payload)
	if err != nil {
		return err
	}
	if got := stored(rows.Column(len(c.root.fields)), 0); got != rest {
		return fmt.Errorf("the rest is %v, the reference says %v", got, rest)
	}
	return nil
}

// Documents of a contract with every kind, held against encoding/json and a plain reference, value by value and reason by reason.
func TestAgainstEncodingJSON(t *testing.T) {
	contracts := []*Contract{contractOf(t, everyKind), withRest(t, everyKind, "_rest")}
	decoders := []*JSON{decoderOf(t, contracts[0], Options{Mem: checked(t)}), decoderOf(t, contracts[1], Options{Mem: checked(t)})}
	rapid.Check(t, func(rt *rapid.T) {
		g := &document{t: rt}
		i := rapid.IntRange(0, 1).Draw(rt, "keeps the rest")
		c, d := contracts[i], decoders[i]
		g.value(c.root)
		if err := against(c, d, g.b.Bytes()); err != nil {
			rt.Fatalf("%s\n%v", g.b.Bytes(), err)
		}
	})
}

// Any bytes: no panic, taken only if encoding/json takes them, and then with the same values.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{``, `{}`, event, `{"s":"\u00e4\ud83c\udfd4","i":-0,"n":1e-7,"ts":"2026-06-04T11:01:23.456+02:00","arr":[1,null],"m":{"k":["v"]},"o":{"x":1,"list":[{"z":1.5},null]}}`,
		`{"t":"11:01:23","u":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","dec":1.25,"tdec":"1.2","bin":"AAEC","d":"2026-06-04","ms":1780570883456,"b":true,"en":"ü","len":"abc"}`,
		`{"before":null,"after":{"i":1},"source":{"lsn":1},"op":"u","ts_ms":1}`, `{"schema":{"fields":[{"field":"after","fields":[{"field":"ns","name":"io.debezium.time.Date"}]}]},"payload":{"op":"d","before":{"ns":1,"day":2,"bdec":"AYw="}}}`,
		`{"x":[{"y":[1.5e3,"\n",false]}],"l":9223372036854775808}`, "{\"s\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	contracts := []*Contract{contractOf(f, everyKind), withRest(f, everyKind, "_rest")}
	decoders := []*JSON{decoderOf(f, contracts[0], Options{}), decoderOf(f, contracts[1], Options{})}
	changes := changesOf(f, everyKind, Options{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		for i, d := range decoders {
			if err := against(contracts[i], d, payload); err != nil {
				t.Fatalf("%q\n%v", payload, err)
			}
		}
		if err := asChange(t, decoders[0], changes, payload); err != nil {
			t.Fatalf("%q\n%v", payload, err)
		}
	})
}

// Numbers alone, many of them: the fast paths against the exact ones.
func TestNumbersAgainstStrconv(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := anyNumber.Draw(rt, "number")
		b := append([]byte(text), zeroPad[:]...)
		if end := numberEnd(b, 0); end != len(text) {
			rt.Fatalf("%s ends at %d", text, end)
		}
		want, err := strconv.ParseFloat(text, 64)
		got, end, res := parseDouble(b, 0)
		if (err != nil) != (res == numTooBig) || (err == nil && (math.Float64bits(got) != math.Float64bits(want) || end != len(text))) {
			rt.Fatalf("%s: %v %v %v, strconv says %v %v", text, got, end, res, want, err)
		}
	})
}
