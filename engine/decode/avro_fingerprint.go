package decode

import (
	"encoding/json"
	"strconv"
)

// avroFingerprint is CRC-64-AVRO over the parsing canonical form, which single-object encoding names schemas by.
func avroFingerprint(t *avroType) uint64 {
	crc := uint64(rabinEmpty)
	for _, b := range canonicalAvro(nil, t, map[string]bool{}) {
		crc = crc>>8 ^ rabinTable[byte(crc)^b]
	}
	return crc
}

// rabinEmpty is the fingerprint of nothing, and the polynomial.
const rabinEmpty = 0xc15d213aa4d7a795

var rabinTable = func() (t [256]uint64) {
	for i := range t {
		fp := uint64(i)
		for range 8 {
			fp = fp>>1 ^ rabinEmpty&-(fp&1)
		}
		t[i] = fp
	}
	return t
}()

// canonicalAvro appends the parsing canonical form (specification, "Transforming into Parsing Canonical Form").
func canonicalAvro(b []byte, t *avroType, defined map[string]bool) []byte {
	quote := func(s string) {
		q, _ := json.Marshal(s) // a string always marshals
		b = append(b, q...)
	}
	if t.name != "" {
		if defined[t.name] {
			quote(t.name)
			return b
		}
		defined[t.name] = true
		b = append(b, `{"name":`...)
		quote(t.name)
		b = append(b, `,"type":"`+avroNames[t.kind]+`"`...)
	}
	switch t.kind {
	case avroRecord:
		b = append(b, `,"fields":[`...)
		for i, f := range t.fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"name":`...)
			quote(f.name)
			b = canonicalAvro(append(b, `,"type":`...), f.typ, defined)
			b = append(b, '}')
		}
		b = append(b, ']', '}')
	case avroEnum:
		b = append(b, `,"symbols":[`...)
		for i, s := range t.symbols {
			if i > 0 {
				b = append(b, ',')
			}
			quote(s)
		}
		b = append(b, ']', '}')
	case avroFixed:
		b = strconv.AppendInt(append(b, `,"size":`...), int64(t.size), 10)
		b = append(b, '}')
	case avroArray:
		b = append(canonicalAvro(append(b, `{"type":"array","items":`...), t.elem, defined), '}')
	case avroMap:
		b = append(canonicalAvro(append(b, `{"type":"map","values":`...), t.elem, defined), '}')
	case avroUnion:
		b = append(b, '[')
		for i, u := range t.branches {
			if i > 0 {
				b = append(b, ',')
			}
			b = canonicalAvro(b, u, defined)
		}
		b = append(b, ']')
	default:
		quote(avroNames[t.kind])
	}
	return b
}
