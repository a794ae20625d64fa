package decode

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

var errDefault = errors.New("the default is not of the field's type")

// avroDefault appends a default value in Avro's binary encoding (specification, "Complex Types", the table of defaults).
func avroDefault(b []byte, t *avroType, v *tree) ([]byte, error) {
	bad := func() ([]byte, error) { return nil, fmt.Errorf("%w: %s is no %s", errDefault, v.describe(), t) }
	switch t.kind {
	case avroNull:
		if v.isNull() {
			return b, nil
		}
	case avroBoolean:
		if x, ok := v.scalar.(bool); ok {
			if x {
				return append(b, 1), nil
			}
			return append(b, 0), nil
		}
	case avroInt, avroLong:
		x, err := wholeNumber(v)
		if err == nil && (t.kind == avroLong || x == int64(int32(x))) {
			return binary.AppendVarint(b, x), nil
		}
	case avroFloat, avroDouble:
		if x, ok := floatDefault(v); ok {
			if t.kind == avroFloat {
				return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x))), nil
			}
			return binary.LittleEndian.AppendUint64(b, math.Float64bits(x)), nil
		}
	case avroString:
		if s, ok := v.str(); ok {
			return append(binary.AppendVarint(b, int64(len(s))), s...), nil
		}
	case avroBytes, avroFixed:
		raw, ok := bytesDefault(v)
		if ok && t.kind == avroBytes {
			return append(binary.AppendVarint(b, int64(len(raw))), raw...), nil
		}
		if ok && len(raw) == t.size {
			return append(b, raw...), nil
		}
	case avroEnum:
		s, _ := v.str()
		if i := slices.Index(t.symbols, s); i >= 0 {
			return binary.AppendVarint(b, int64(i)), nil
		}
	case avroUnion:
		for i, branch := range t.branches { // since 1.12 the first branch that the default fits
			if out, err := avroDefault(binary.AppendVarint(b, int64(i)), branch, v); err == nil {
				return out, nil
			}
		}
	case avroArray, avroMap:
		if v.isArr == (t.kind == avroArray) && v.isObj == (t.kind == avroMap) {
			return blockDefault(b, t, v)
		}
	case avroRecord:
		if v.isObj {
			return recordDefault(b, t, v)
		}
	}
	return bad()
}

func floatDefault(v *tree) (float64, bool) {
	if s, ok := v.str(); ok { // as Java writes what JSON has no number for
		x, known := map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}[s]
		return x, known
	}
	n, ok := v.scalar.(json.Number)
	if !ok {
		return 0, false
	}
	x, err := n.Float64()
	return x, err == nil
}

// bytesDefault reads the bytes that the characters U+0000 to U+00FF of a string stand for.
func bytesDefault(v *tree) ([]byte, bool) {
	s, ok := v.str()
	if !ok || !utf8.ValidString(s) {
		return nil, false
	}
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return nil, false
		}
		out = append(out, byte(r))
	}
	return out, true
}

func blockDefault(b []byte, t *avroType, v *tree) ([]byte, error) {
	if len(v.vals) > 0 {
		b = binary.AppendVarint(b, int64(len(v.vals)))
	}
	for i, e := range v.vals {
		if t.kind == avroMap {
			b = append(binary.AppendVarint(b, int64(len(v.keys[i]))), v.keys[i]...)
		}
		var err error
		if b, err = avroDefault(b, t.elem, e); err != nil {
			return nil, err
		}
	}
	return append(b, 0), nil
}

func recordDefault(b []byte, t *avroType, v *tree) ([]byte, error) {
	for _, f := range t.fields {
		d := v.get(f.name)
		if d == nil {
			d = f.def
		}
		if d == nil {
			return nil, fmt.Errorf("%w: %s lacks %q", errDefault, t, f.name)
		}
		var err error
		if b, err = avroDefault(b, f.typ, d); err != nil {
			return nil, err
		}
	}
	return b, nil
}
