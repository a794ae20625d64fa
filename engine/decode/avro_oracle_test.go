package decode

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/avro"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/internal/registry"
)

// schemaList is a registry of schemas by their index.
type schemaList []registry.Schema

func (l schemaList) Schema(id uint32) (registry.Schema, error) {
	if int(id) >= len(l) {
		return registry.Schema{}, fmt.Errorf("%w: id %d", registry.ErrNotFound, id)
	}
	return l[id], nil
}

// confluent puts the Confluent wire format's header in front of an event.
func confluent(id uint32, body []byte) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{0}, id), body...))
}

func avroOf(tb testing.TB, schema string, writers ...string) *Avro {
	tb.Helper()
	c, err := LoadAvro([]byte(schema), nil, "test.avsc")
	if err != nil {
		tb.Fatal(err)
	}
	var known schemaList
	for i, w := range writers {
		known = append(known, registry.Schema{ID: i, Type: registry.TypeAvro, Text: w})
	}
	d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Options: Options{Now: func() time.Time { return testNow }}, Schemas: known})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// schemaGen draws pairs of schemas, one to write with and one to read with, and values of the former.
type schemaGen struct {
	t     *rapid.T
	names int
}

// pair is a type as it is written and as it is read, and how a value of it is drawn.
type pair struct {
	w, r  any
	value func() any
}

func (g *schemaGen) name(prefix string) string {
	g.names++
	return prefix + strconv.Itoa(g.names)
}

func logical(base any, name string, more ...any) map[string]any {
	m := map[string]any{"type": base, "logicalType": name}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

func (g *schemaGen) int64(lo, hi int64) func() any {
	return func() any { return rapid.Int64Range(lo, hi).Draw(g.t, "n") }
}

func (g *schemaGen) int32(lo, hi int32) func() any {
	return func() any { return rapid.Int32Range(lo, hi).Draw(g.t, "n") }
}

// scalar draws a type without parts.
func (g *schemaGen) scalar() pair {
	text := func() any { return rapid.String().Draw(g.t, "s") }
	raw := func() any { return rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(g.t, "b") }
	long := g.int64(math.MinInt64, math.MaxInt64)
	same := func(t any, v func() any) pair { return pair{t, t, v} }
	choices := []func() pair{
		func() pair { return same("boolean", func() any { return rapid.Bool().Draw(g.t, "b") }) },
		func() pair {
			r := rapid.SampledFrom([]string{"int", "long", "float", "double"}).Draw(g.t, "promoted")
			return pair{"int", r, g.int32(math.MinInt32, math.MaxInt32)}
		},
		func() pair {
			return pair{"long", rapid.SampledFrom([]string{"long", "float", "double"}).Draw(g.t, "promoted"), long}
		},
		func() pair {
			r := rapid.SampledFrom([]string{"float", "double"}).Draw(g.t, "promoted")
			return pair{"float", r, func() any { return rapid.Float32().Draw(g.t, "f") }}
		},
		func() pair { return same("double", func() any { return rapid.Float64().Draw(g.t, "f") }) },
		func() pair {
			return pair{"string", rapid.SampledFrom([]string{"string", "bytes"}).Draw(g.t, "to"), text}
		},
		func() pair { return same("bytes", raw) },
		func() pair { return same(logical("int", "date"), g.int32(-700_000, 2_900_000)) },
		func() pair { return same(logical("int", "time-millis"), g.int32(0, 86_399_999)) },
		func() pair { return same(logical("long", "time-micros"), g.int64(0, microsPerDay-1)) },
		func() pair { return same(logical("long", "timestamp-millis"), g.int64(minMicros/1000, maxMicros/1000)) },
		func() pair { return same(logical("long", "timestamp-micros"), g.int64(minMicros, maxMicros)) },
		func() pair { return same(logical("long", "timestamp-nanos"), long) },
		func() pair {
			return same(logical("long", "local-timestamp-millis"), g.int64(minMicros/1000, maxMicros/1000))
		},
		func() pair { return same(logical("long", "local-timestamp-micros"), g.int64(minMicros, maxMicros)) },
		func() pair { return same(logical("long", "local-timestamp-nanos"), long) },
		func() pair {
			return same(logical("string", "uuid"), func() any { return uuid.UUID(g.bytes(16)).String() })
		},
		g.decimal,
		g.fixed,
		g.enum,
	}
	return rapid.SampledFrom(choices).Draw(g.t, "scalar")()
}

func (g *schemaGen) bytes(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(g.t, "bytes") }

func (g *schemaGen) fixed() pair {
	n := rapid.IntRange(1, 20).Draw(g.t, "size")
	f := map[string]any{"type": "fixed", "name": g.name("F"), "size": n}
	return pair{f, f, func() any { return g.bytes(n) }}
}

func (g *schemaGen) decimal() pair {
	precision := rapid.IntRange(1, 38).Draw(g.t, "precision")
	scale := rapid.IntRange(0, precision).Draw(g.t, "scale")
	var base any = "bytes"
	f := map[string]any{"logicalType": "decimal", "precision": precision, "scale": scale, "type": base}
	if rapid.Bool().Draw(g.t, "fixed") {
		f["type"], f["name"], f["size"] = "fixed", g.name("D"), 17
	}
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
	return pair{f, f, func() any {
		x := new(big.Int).Mod(new(big.Int).SetBytes(g.bytes(17)), most)
		if rapid.Bool().Draw(g.t, "negative") {
			x.Neg(x)
		}
		return new(big.Rat).SetFrac(x, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
	}}
}

func (g *schemaGen) enum() pair {
	all := []string{"A", "B", "C", "D"}
	name := g.name("E")
	w := map[string]any{"type": "enum", "name": name, "symbols": all}
	r := maps.Clone(w)
	if rapid.Bool().Draw(g.t, "fewer") {
		r["symbols"], r["default"] = []string{"D", "B"}, "B"
	}
	return pair{w, r, func() any { return rapid.SampledFrom(all).Draw(g.t, "symbol") }}
}

func (g *schemaGen) any(depth int) pair {
	kind := rapid.IntRange(0, 9).Draw(g.t, "kind")
	if depth <= 0 && kind >= 7 {
		kind = 0
	}
	switch kind {
	case 7:
		return g.record(depth)
	case 8:
		p := g.optional(depth - 1)
		return pair{map[string]any{"type": "array", "items": p.w}, map[string]any{"type": "array", "items": p.r}, func() any {
			out := make([]any, rapid.IntRange(0, 4).Draw(g.t, "items"))
			for i := range out {
				out[i] = p.value()
			}
			return out
		}}
	case 9:
		p := g.optional(depth - 1)
		return pair{map[string]any{"type": "map", "values": p.w}, map[string]any{"type": "map", "values": p.r}, func() any {
			if rapid.Bool().Draw(g.t, "empty") {
				return map[string]any{}
			}
			return map[string]any{rapid.String().Draw(g.t, "key"): p.value()} // one, for the oracle forgets the order
		}}
	}
	return g.scalar()
}

// optional draws a type, perhaps with null; what is read may allow null where what is written does not.
func (g *schemaGen) optional(depth int) pair {
	p := g.any(depth)
	switch rapid.IntRange(0, 4).Draw(g.t, "null") {
	case 0:
		return pair{p.w, []any{"null", p.r}, p.value}
	case 1, 2:
		of := func(t any) []any { return []any{"null", t} }
		if rapid.Bool().Draw(g.t, "last") {
			of = func(t any) []any { return []any{t, "null"} }
		}
		return pair{of(p.w), []any{"null", p.r}, func() any {
			if rapid.Bool().Draw(g.t, "isNull") {
				return nil
			}
			return p.value()
		}}
	}
	return p
}

// record draws fields that both have, some under another name, some that only one of them has, in different orders.
func (g *schemaGen) record(depth int) pair {
	name := g.name("R")
	var wf, rf []any
	values := map[string]func() any{}
	for range rapid.IntRange(1, 5).Draw(g.t, "fields") {
		p, f := g.optional(depth-1), g.name("f")
		field := map[string]any{"name": f, "type": p.w}
		switch rapid.IntRange(0, 5).Draw(g.t, "fate") {
		case 0: // not read
		case 1:
			rf = append(rf, map[string]any{"name": g.name("renamed"), "aliases": []string{f}, "type": p.r})
		default:
			rf = append(rf, map[string]any{"name": f, "type": p.r})
		}
		wf = append(wf, field)
		values[f] = p.value
	}
	for range rapid.IntRange(0, 2).Draw(g.t, "added") {
		rf = append(rf, g.added())
	}
	if len(rf) == 0 {
		rf = append(rf, g.added())
	}
	rf = rapid.Permutation(rf).Draw(g.t, "order")
	record := func(fields []any) any { return map[string]any{"type": "record", "name": name, "fields": fields} }
	return pair{record(wf), record(rf), func() any {
		out := map[string]any{}
		for _, f := range slices.Sorted(maps.Keys(values)) {
			out[f] = values[f]()
		}
		return out
	}}
}

func (g *schemaGen) added() any {
	types := []any{
		map[string]any{"type": "long", "default": -300}, map[string]any{"type": "string", "default": "ü€"},
		map[string]any{"type": []any{"null", "double"}, "default": nil}, map[string]any{"type": []any{"double", "null"}, "default": 1.5},
		map[string]any{"type": map[string]any{"type": "array", "items": "int"}, "default": []int{1, -2, 3}},
		map[string]any{"type": map[string]any{"type": "map", "values": "string"}, "default": map[string]string{"k": "v"}},
		map[string]any{"type": "bytes", "default": "\u00ff\u0001"}, map[string]any{"type": "float", "default": 0.25},
		map[string]any{"type": logical("long", "timestamp-millis"), "default": 1_780_570_883_456},
		map[string]any{"type": map[string]any{"type": "record", "name": g.name("A"), "fields": []any{
			map[string]any{"name": "x", "type": "int", "default": 7}, map[string]any{"name": "y", "type": "boolean"}}}, "default": map[string]any{"y": true}},
	}
	f := maps.Clone(rapid.SampledFrom(types).Draw(g.t, "added").(map[string]any))
	f["name"] = g.name("added")
	return f
}

// plain turns what the oracle decoded into what stored gives.
func plain(t *avroType, v any) any {
	if t.kind == avroUnion {
		for _, b := range t.branches {
			if b.kind != avroNull {
				t = b
			}
		}
	}
	switch v := v.(type) {
	case nil:
		return nil
	case int32:
		return int64(v)
	case float32:
		return floatBits(v)
	case float64:
		return math.Float64bits(v)
	case time.Time:
		if t.logical == "date" {
			return v.Unix() / 86400 // at midnight
		}
		return v.UnixMicro()
	case time.Duration:
		return v.Microseconds()
	case *big.Rat:
		scaled := new(big.Rat).Mul(v, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.scale)), nil)))
		return scaled.Num().String()
	case string:
		if t.logical == "uuid" {
			id := uuid.MustParse(v)
			return id[:]
		}
		return v
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, plain(t.elem, e))
		}
		return out
	case map[string]any:
		if t.kind == avroMap {
			out := []any{}
			for k, e := range v {
				out = append(out, []any{k, plain(t.elem, e)})
			}
			return out
		}
		out := make([]any, len(t.fields))
		for i, f := range t.fields {
			out[i] = plain(f.typ, v[f.name])
		}
		return out
	}
	return v
}

func mustJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// Random schemas, what is read differing from what is written in every way that resolves, and random values: as
// twmb/avro reads them, and the same fingerprints.
func TestAvroAgainstAnotherDecoder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := &schemaGen{t: rt}
		p := g.record(3)
		wText, rText := mustJSON(p.w), mustJSON(p.r)
		w, err := avro.Parse(wText)
		if err != nil {
			rt.Fatalf("%s\n%v", wText, err)
		}
		r := avro.MustParse(rText)
		resolved, err := avro.Resolve(w, r)
		if err != nil {
			rt.Fatalf("%s\n%s\n%v", wText, rText, err)
		}
		ours, err := parseAvro(rText, nil)
		if err != nil {
			rt.Fatalf("%s\n%v", rText, err)
		}
		if got, want := avroFingerprint(ours), binary.BigEndian.Uint64(r.Fingerprint(avro.NewRabin())); got != want {
			rt.Fatalf("%s\nfingerprint %x, want %x", rText, got, want)
		}
		d := avroOf(t, rText, wText)
		var payloads []string
		var want []any
		for range rapid.IntRange(1, 3).Draw(rt, "events") {
			raw, err := w.Encode(p.value())
			if err != nil {
				rt.Fatalf("%s\n%v", wText, err)
			}
			var v any
			if _, err := resolved.Decode(raw, &v); err != nil {
				rt.Fatalf("%s\n%s\n%v", wText, rText, err)
			}
			payloads, want = append(payloads, confluent(0, raw)), append(want, plain(ours, v))
		}
		out := mustDecode(t, d, payloads...)
		if len(out.Dead) > 0 {
			rt.Fatalf("%s\n%s\n%+v", wText, rText, out.Dead)
		}
		defer out.Rows.Release()
		if err := validate(out.Rows); err != nil {
			rt.Fatal(err)
		}
		for i := range want {
			got := make([]any, len(ours.fields))
			for j := range got {
				got[j] = stored(out.Rows.Column(j), i)
			}
			if !equalPlain(got, want[i]) {
				rt.Fatalf("%s\n%s\nstored %v\nwant   %v", wText, rText, got, want[i])
			}
		}
	})
}
