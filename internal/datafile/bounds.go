package datafile

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
)

// bounds gathers the least and greatest value of a column chunk, in the order that Parquet gives its type.
type bounds struct {
	leaf     *leaf
	order    order
	some     bool
	lo, up   int64   // of integers and booleans
	flo, fup float64 // of floats; NaN is left out
	blo, bup []byte
}

type order uint8

const (
	orderInt32 order = iota
	orderInt64
	orderFloat32
	orderFloat64
	orderBytes
	orderDecimal // big-endian two's complement
	orderBool
)

func (b *bounds) reset(l *leaf) {
	b.leaf, b.some, b.blo, b.bup = l, false, b.blo[:0], b.bup[:0]
	switch {
	case l.kind == kindBool:
		b.order = orderBool
	case l.kind == kindBytes:
		b.order = orderBytes
	case l.kind == kindFixed && l.signed:
		b.order = orderDecimal
	case l.kind == kindFixed:
		b.order = orderBytes
	case l.typ.ID() == arrow.FLOAT32:
		b.order = orderFloat32
	case l.typ.ID() == arrow.FLOAT64:
		b.order = orderFloat64
	case l.kind == kind32:
		b.order = orderInt32
	default:
		b.order = orderInt64
	}
}

// add takes the values of a stretch from one on.
func (b *bounds) add(s *stretch, v *values, from int) {
	switch b.leaf.kind {
	case kindBool:
		for i := from; i < s.n; i++ {
			x := int64(0)
			if v.bools.Value(s.at(i)) {
				x = 1
			}
			b.integer(x)
		}
	case kind32:
		for i := from; i < s.n; i++ {
			b.number(uint64(v.v32[s.at(i)]))
		}
	case kind64:
		for i := from; i < s.n; i++ {
			b.number(v.v64[s.at(i)])
		}
	case kindBytes:
		for i := from; i < s.n; i++ {
			at := s.at(i)
			b.bytes(v.data[v.offsets[at]:v.offsets[at+1]])
		}
	default:
		for i := from; i < s.n; i++ {
			b.bytes(v.data[s.at(i)*b.leaf.width:][:b.leaf.width])
		}
	}
}

// addEntries takes the entries of a dictionary, which are all values that were encoded with it.
func (b *bounds) addEntries(d *dictionary) {
	for _, x := range d.nums {
		b.number(x)
	}
	for i := range d.ends {
		b.bytes(d.entry(i))
	}
}

func (b *bounds) number(x uint64) {
	switch b.order {
	case orderInt32:
		b.integer(int64(int32(x)))
	case orderInt64:
		b.integer(int64(x))
	case orderFloat32:
		b.float(float64(math.Float32frombits(uint32(x))))
	default:
		b.float(math.Float64frombits(x))
	}
}

func (b *bounds) integer(x int64) {
	if !b.some {
		b.some, b.lo, b.up = true, x, x
		return
	}
	b.lo, b.up = min(b.lo, x), max(b.up, x)
}

func (b *bounds) float(x float64) {
	if x != x {
		return
	}
	if !b.some {
		b.some, b.flo, b.fup = true, x, x
		return
	}
	b.flo, b.fup = min(b.flo, x), max(b.fup, x) // -0 is less than +0 here, as the format wants
}

func (b *bounds) bytes(x []byte) {
	if !b.some {
		b.some, b.blo, b.bup = true, append(b.blo[:0], x...), append(b.bup[:0], x...)
		return
	}
	if b.less(x, b.blo) {
		b.blo = append(b.blo[:0], x...)
	} else if b.less(b.bup, x) {
		b.bup = append(b.bup[:0], x...)
	}
}

func (b *bounds) less(x, y []byte) bool {
	if b.order == orderDecimal && x[0]^y[0] >= 0x80 {
		return x[0] >= 0x80
	}
	return bytes.Compare(x, y) < 0
}

// encode gives the bounds in PLAIN encoding; ok is false when there is no value to bound.
func (b *bounds) encode() (lo, up []byte, ok bool) {
	if !b.some {
		return nil, nil, false
	}
	le := binary.LittleEndian
	switch b.order {
	case orderInt32:
		return le.AppendUint32(nil, uint32(b.lo)), le.AppendUint32(nil, uint32(b.up)), true
	case orderInt64:
		return le.AppendUint64(nil, uint64(b.lo)), le.AppendUint64(nil, uint64(b.up)), true
	case orderBool:
		return []byte{byte(b.lo)}, []byte{byte(b.up)}, true
	}
	flo, fup := b.flo, b.fup
	if flo == 0 {
		flo = math.Copysign(0, -1)
	}
	if fup == 0 {
		fup = 0
	}
	switch b.order {
	case orderFloat32:
		return le.AppendUint32(nil, math.Float32bits(float32(flo))), le.AppendUint32(nil, math.Float32bits(float32(fup))), true
	case orderFloat64:
		return le.AppendUint64(nil, math.Float64bits(flo)), le.AppendUint64(nil, math.Float64bits(fup)), true
	}
	return append([]byte{}, b.blo...), append([]byte{}, b.bup...), true // never nil: an empty string is a bound
}
