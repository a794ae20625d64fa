package decode

import (
	"slices"
	"testing"

	"github.com/twmb/avro"

	"github.com/firnlake/firn/internal/registry"
)

// everyAvro is a writer's schema with each type, and everyAvroRead what reads it: reordered, promoted, with defaults.
const (
	everyAvro = `{"type":"record","name":"E","fields":[
		{"name":"s","type":["null","string"]},{"name":"i","type":"int"},{"name":"l","type":["long","null"]},{"name":"f","type":"float"},{"name":"d","type":"double"},
		{"name":"b","type":"boolean"},{"name":"raw","type":"bytes"},{"name":"fx","type":{"type":"fixed","name":"F","size":3}},
		{"name":"en","type":{"type":"enum","name":"N","symbols":["A","B","C"]}},{"name":"gone","type":["null",{"type":"array","items":{"type":"map","values":"long"}}]},
		{"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"t","type":{"type":"int","logicalType":"time-millis"}},
		{"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
		{"name":"list","type":{"type":"array","items":["null",{"type":"record","name":"I","fields":[{"name":"x","type":"int"},{"name":"y","type":"string"}]}]}},
		{"name":"m","type":{"type":"map","values":{"type":"array","items":"int"}}}]}`
	everyAvroRead = `{"type":"record","name":"E","fields":[
		{"name":"m","type":{"type":"map","values":{"type":"array","items":"long"}}},{"name":"s","type":["null","string"]},{"name":"i","type":"double"},
		{"name":"l","type":["null","long"]},{"name":"f","type":"double"},{"name":"d","type":"double"},{"name":"b","type":["null","boolean"]},{"name":"raw","type":"bytes"},
		{"name":"fx","type":{"type":"fixed","name":"F","size":3}},{"name":"en","type":{"type":"enum","name":"N","symbols":["B","D"],"default":"D"}},
		{"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"t","type":{"type":"int","logicalType":"time-millis"}},
		{"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
		{"name":"list","type":{"type":"array","items":["null",{"type":"record","name":"I","fields":[{"name":"y","type":"string"},{"name":"z","type":"string","default":"z"}]}]}},
		{"name":"new","type":["null","string"],"default":null}]}`
)

func everyAvroSeeds(tb testing.TB) [][]byte {
	w := avro.MustParse(everyAvro)
	var out [][]byte
	for _, v := range []map[string]any{
		{"s": "text", "i": 1, "l": int64(2), "f": float32(1.5), "d": 2.5, "b": true, "raw": []byte{1, 2}, "fx": []byte{1, 2, 3}, "en": "B", "gone": []any{map[string]any{"k": int64(1)}},
			"ts": int64(1), "t": int32(5), "dec": []byte{1, 0}, "list": []any{nil, map[string]any{"x": 1, "y": "ü"}}, "m": map[string]any{"a": []any{1, 2}}},
		{"s": nil, "i": -1, "l": nil, "f": float32(0), "d": 0.0, "b": false, "raw": []byte{}, "fx": []byte{0, 0, 0}, "en": "C", "gone": nil,
			"ts": int64(-1), "t": int32(0), "dec": []byte{0xff}, "list": []any{}, "m": map[string]any{}},
	} {
		raw, err := w.Encode(v)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, raw)
	}
	return out
}

// go test -fuzz FuzzAvro ./engine/decode. Whatever the bytes: one row or one dead letter, arrays that are whole, and
// where both decoders take the bytes the same values.
func FuzzAvro(f *testing.F) {
	for _, s := range everyAvroSeeds(f) {
		f.Add(s)
		f.Add(s[:len(s)/2])
		f.Add(append(slices.Clone(s), 0))
	}
	f.Add([]byte{})
	w, r := avro.MustParse(everyAvro), avro.MustParse(everyAvroRead)
	resolved, err := avro.Resolve(w, r)
	if err != nil {
		f.Fatal(err)
	}
	ours, err := parseAvro(everyAvroRead, nil)
	if err != nil {
		f.Fatal(err)
	}
	d := avroOf(f, everyAvroRead, everyAvro)
	whole := confluent(0, everyAvroSeeds(f)[0])
	f.Fuzz(func(t *testing.T, body []byte) {
		out := mustDecode(t, d, whole, confluent(0, body), whole)
		defer out.Rows.Release()
		if err := validate(out.Rows); err != nil {
			t.Fatal(err)
		}
		if int(out.Rows.NumRows())+len(out.Dead) != 3 {
			t.Fatalf("%d rows and %d dead letters of 3 events", out.Rows.NumRows(), len(out.Dead))
		}
		if len(out.Dead) > 0 {
			return
		}
		var v any
		if rest, err := resolved.Decode(body, &v); err != nil || len(rest) > 0 {
			t.Fatalf("% x was taken; the oracle says %v, %d bytes are left", body, err, len(rest))
		}
		got := make([]any, len(ours.fields))
		for j := range got {
			got[j] = stored(out.Rows.Column(j), 1)
		}
		if want := plain(ours, v); !equalPlain(sortedMaps(got), sortedMaps(want)) {
			t.Fatalf("% x\nstored %v\nwant   %v", body, got, want)
		}
	})
}

// sortedMaps puts lists of pairs, which maps are, into the order of their keys: the oracle forgets it.
func sortedMaps(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	pairs := len(list) > 0
	for i := range list {
		list[i] = sortedMaps(list[i])
		p, ok := list[i].([]any)
		if pairs = pairs && ok && len(p) == 2; pairs {
			_, pairs = p[0].(string)
		}
	}
	if pairs {
		slices.SortFunc(list, func(a, b any) int {
			x, y := a.([]any)[0].(string), b.([]any)[0].(string)
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		})
	}
	return list
}

// go test -fuzz FuzzLoadAvro ./engine/decode. A schema that is taken makes a decoder; what another schema wrote does
// nothing worse than to be refused.
func FuzzLoadAvro(f *testing.F) {
	for _, s := range []string{avroEvent, everyAvro, everyAvroRead, fieldV(`"int"`), `{"type":"record"}`, `["null","int"]`, `"string"`, ``} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, schema string) {
		for _, reader := range []string{schema, everyAvroRead} {
			c, err := LoadAvro([]byte(reader), nil, "fuzz.avsc")
			if err != nil {
				continue
			}
			known := schemaList{{Type: registry.TypeAvro, Text: schema}, {Type: registry.TypeAvro, Text: everyAvro}}
			d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Schemas: known})
			if err != nil {
				continue
			}
			out := mustDecode(t, d, confluent(0, []byte{2, 2, 2, 2}), confluent(1, []byte{0, 0, 0, 0}))
			if out.Rows != nil {
				if err := validate(out.Rows); err != nil {
					t.Error(err)
				}
				out.Rows.Release()
			}
		}
	})
}
