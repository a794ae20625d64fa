package datafile

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// leaf is one column of values in the file: where it lies in the Arrow schema and how its values are stored.
type leaf struct {
	col    *schema.Column
	top    int    // column of the record batch
	nodes  []node // from that column down to the values
	flat   bool   // no list or map above: one level for each row
	kind   valueKind
	width  int  // bytes of a fixed value
	signed bool // fixed values are decimals, whose order is that of signed numbers
	typ    arrow.DataType
}

// node is an Arrow array on the way to a leaf, and how to go on from it.
type node struct {
	nullable bool
	down     way
	child    int // of a struct; of a map 0 for its keys and 1 for its values
}

type way uint8

const (
	wayEnd way = iota // the values
	wayStruct
	wayList
	wayMap
)

type valueKind uint8

const (
	kindBool valueKind = iota
	kind32             // int32, date, float and small decimals, as bits
	kind64
	kindBytes
	kindFixed
)

// leavesOf walks the Arrow schema in the order of the Parquet schema's columns, which was made from it.
func leavesOf(as *arrow.Schema, ps *schema.Schema) ([]*leaf, error) {
	var out []*leaf
	var walk func(top int, f arrow.Field, path []node) error
	walk = func(top int, f arrow.Field, path []node) error {
		n := node{nullable: f.Nullable}
		down := func(w way, child int, to arrow.Field) error {
			n.down, n.child = w, child
			return walk(top, to, append(path[:len(path):len(path)], n))
		}
		switch t := f.Type.(type) {
		case *arrow.StructType:
			for i, c := range t.Fields() {
				if err := down(wayStruct, i, c); err != nil {
					return err
				}
			}
			return nil
		case *arrow.MapType:
			if err := down(wayMap, 0, t.KeyField()); err != nil {
				return err
			}
			return down(wayMap, 1, t.ItemField())
		case *arrow.ListType:
			return down(wayList, 0, t.ElemField())
		}
		if len(out) >= ps.NumColumns() {
			return fmt.Errorf("column %s: the Parquet schema has fewer columns", f.Name)
		}
		l := &leaf{col: ps.Column(len(out)), top: top, nodes: append(path[:len(path):len(path)], n), typ: f.Type, flat: true}
		for _, p := range path {
			l.flat = l.flat && p.down == wayStruct
		}
		out = append(out, l)
		return l.storage()
	}
	for i, f := range as.Fields() {
		if err := walk(i, f, nil); err != nil {
			return nil, err
		}
	}
	if len(out) != ps.NumColumns() {
		return nil, fmt.Errorf("%d columns of values, the Parquet schema has %d", len(out), ps.NumColumns())
	}
	return out, nil
}

// fieldID is the Iceberg id of the column of values.
func (l *leaf) fieldID() int { return int(l.col.SchemaNode().FieldID()) }

// storage says how values of the leaf's Arrow type are stored.
func (l *leaf) storage() error {
	t := l.typ
	if e, ok := t.(arrow.ExtensionType); ok {
		t = e.StorageType()
	}
	switch t := t.(type) {
	case *arrow.BooleanType:
		l.kind = kindBool
	case *arrow.Int32Type, *arrow.Date32Type, *arrow.Float32Type:
		l.kind, l.width = kind32, 4
	case *arrow.Int64Type, *arrow.Time64Type, *arrow.TimestampType, *arrow.Float64Type:
		l.kind, l.width = kind64, 8
	case *arrow.StringType, *arrow.BinaryType:
		l.kind = kindBytes
	case *arrow.FixedSizeBinaryType:
		l.kind, l.width = kindFixed, t.ByteWidth
	case *arrow.Decimal128Type:
		l.signed = true
		switch l.col.PhysicalType() {
		case parquet.Types.Int32:
			l.kind, l.width = kind32, 4
		case parquet.Types.Int64:
			l.kind, l.width = kind64, 8
		default:
			l.kind, l.width = kindFixed, l.col.TypeLength()
		}
	default:
		return fmt.Errorf("column %s: firn does not write the type %s", l.col.Path(), l.typ)
	}
	return nil
}

// values are the values of an array by position; which field holds them is told by the leaf's kind.
type values struct {
	bools   *array.Boolean
	v32     []uint32
	v64     []uint64
	offsets []int32 // one more than values
	data    []byte
}

// valuesOf gives the values of a leaf's array. Decimals are brought into their stored form, in scratch.
func (l *leaf) valuesOf(a arrow.Array, scratch *scratch) (v values, err error) {
	if e, ok := a.(array.ExtensionArray); ok {
		a = e.Storage()
	}
	switch a := a.(type) {
	case *array.Boolean:
		v.bools = a
	case *array.Int32:
		v.v32 = bits32(arrow.Int32Traits.CastToBytes(a.Int32Values()))
	case *array.Date32:
		v.v32 = bits32(arrow.Date32Traits.CastToBytes(a.Date32Values()))
	case *array.Float32:
		v.v32 = bits32(arrow.Float32Traits.CastToBytes(a.Float32Values()))
	case *array.Int64:
		v.v64 = bits64(arrow.Int64Traits.CastToBytes(a.Int64Values()))
	case *array.Time64:
		v.v64 = bits64(arrow.Time64Traits.CastToBytes(a.Time64Values()))
	case *array.Timestamp:
		v.v64 = bits64(arrow.TimestampTraits.CastToBytes(a.TimestampValues()))
	case *array.Float64:
		v.v64 = bits64(arrow.Float64Traits.CastToBytes(a.Float64Values()))
	case *array.String:
		v.offsets, v.data = a.ValueOffsets(), bufferBytes(a, 2)
	case *array.Binary:
		v.offsets, v.data = a.ValueOffsets(), bufferBytes(a, 2)
	case *array.FixedSizeBinary:
		if b := bufferBytes(a, 1); len(b) > 0 {
			v.data = b[a.Offset()*l.width:][:a.Len()*l.width]
		}
	case *array.Decimal128:
		return l.decimals(a, scratch)
	default:
		return v, fmt.Errorf("column %s: %s where %s was expected", l.col.Path(), a.DataType(), l.typ)
	}
	return v, nil
}

func bits32(b []byte) []uint32 { return arrow.Uint32Traits.CastFromBytes(b) }
func bits64(b []byte) []uint64 { return arrow.Uint64Traits.CastFromBytes(b) }

func bufferBytes(a arrow.Array, i int) []byte {
	if b := a.Data().Buffers()[i]; b != nil {
		return b.Bytes()
	}
	return nil
}

// decimals gives unscaled values as Parquet stores them: 4 or 8 bytes little-endian, or big-endian in as many bytes as
// the precision needs.
func (l *leaf) decimals(a *array.Decimal128, s *scratch) (v values, err error) {
	n := a.Len()
	switch l.kind {
	case kind32:
		s.v32 = grown(s.v32, n)
	case kind64:
		s.v64 = grown(s.v64, n)
	default:
		s.fixed = grown(s.fixed, n*l.width)
	}
	for i := range n {
		d := a.Value(i)
		if !a.IsValid(i) {
			continue
		}
		low, high := d.LowBits(), d.HighBits()
		switch sign := high >> 63; {
		case l.kind == kindFixed:
			var be [16]byte
			putBig(be[:8], uint64(high))
			putBig(be[8:], low)
			for _, b := range be[:16-l.width] {
				if b != byte(sign) {
					return v, fmt.Errorf("column %s: %s has more digits than its type %s", l.col.Path(), d.BigInt(), l.typ)
				}
			}
			copy(s.fixed[i*l.width:], be[16-l.width:])
		case high != sign || int64(low)>>63 != sign || (l.kind == kind32 && int64(low) != int64(int32(low))):
			return v, fmt.Errorf("column %s: %s has more digits than its type %s", l.col.Path(), d.BigInt(), l.typ)
		case l.kind == kind32:
			s.v32[i] = uint32(low)
		default:
			s.v64[i] = low
		}
	}
	return values{v32: s.v32, v64: s.v64, data: s.fixed}, nil
}

func putBig(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (56 - 8*i))
	}
}

// grown returns b with the length n, its contents lost.
func grown[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}
