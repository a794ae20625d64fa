package ipccheck

import "fmt"

// Values of Schema.fbs' union Type.
const (
	typeNull            = 1
	typeInt             = 2
	typeFloatingPoint   = 3
	typeBinary          = 4
	typeUtf8            = 5
	typeBool            = 6
	typeDecimal         = 7
	typeDate            = 8
	typeTime            = 9
	typeTimestamp       = 10
	typeInterval        = 11
	typeList            = 12
	typeStruct          = 13
	typeUnion           = 14
	typeFixedSizeBinary = 15
	typeFixedSizeList   = 16
	typeMap             = 17
	typeDuration        = 18
	typeLargeBinary     = 19
	typeLargeUtf8       = 20
	typeLargeList       = 21
)

// layout is how the buffers of a column lie, all that the check of a body needs to know of a type.
type layout uint8

const (
	layoutNull   layout = iota // no buffer
	layoutBits                 // validity, one bit a row
	layoutFixed                // validity, width bytes a row
	layoutVar                  // validity, offsets of width bytes, data
	layoutList                 // validity, offsets of width bytes, one child
	layoutFixedL               // validity, one child with width rows a row
	layoutStruct               // validity, children
)

// column is one field of a schema.
type column struct {
	layout   layout
	width    int64
	text     bool // the data is UTF-8
	noNulls  bool // the keys of a map: arrow-go panics on a NULL there
	children []column
}

// Bounds of the values that arrow-go multiplies with row counts.
const (
	maxByteWidth = 1 << 20 // bytes of a fixed-size binary
	maxListSize  = 1 << 20 // rows in a row of a fixed-size list
)

// schemaOf walks a Schema table: endianness(4), fields(6), custom_metadata(8), features(10).
func (l Limits) schemaOf(t table) ([]column, error) {
	endian, err := t.i16(4, 0)
	if err != nil {
		return nil, err
	}
	if endian != 0 {
		return nil, fmt.Errorf("%w: big-endian data", ErrUnsupported)
	}
	if _, _, err := t.vector(10, 8); err != nil {
		return nil, err
	}
	if err := l.metadata(t, 8); err != nil {
		return nil, err
	}
	budget := l.MaxFields
	return l.fields(t, 6, 0, &budget)
}

// fields walks a vector of Field tables. The same table may be named many times, so the budget counts visits.
func (l Limits) fields(t table, slot int64, depth int, budget *int) ([]column, error) {
	at, n, err := t.vector(slot, 4)
	if err != nil || n == 0 {
		return nil, err
	}
	if n > int64(*budget) {
		return nil, fmt.Errorf("%w: more than %d fields", ErrTooLarge, l.MaxFields)
	}
	if depth >= l.MaxDepth {
		return nil, fmt.Errorf("%w: fields nest deeper than %d", ErrTooLarge, l.MaxDepth)
	}
	*budget -= int(n)
	out := make([]column, n)
	for i := range out {
		f, err := t.element(at, int64(i))
		if err != nil {
			return nil, err
		}
		if out[i], err = l.fieldOf(f, depth, budget); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// fieldOf walks a Field table: name(4), nullable(6), type_type(8), type(10), dictionary(12), children(14),
// custom_metadata(16).
func (l Limits) fieldOf(t table, depth int, budget *int) (column, error) {
	if _, err := t.bytes(4); err != nil {
		return column{}, err
	}
	if _, err := t.u8(6, 0); err != nil {
		return column{}, err
	}
	kind, err := t.u8(8, 0)
	if err != nil {
		return column{}, err
	}
	typ, ok, err := t.child(10)
	if err != nil {
		return column{}, err
	}
	if !ok {
		return column{}, fmt.Errorf("%w: a field has no type", ErrDamaged)
	}
	if _, ok, err := t.child(12); err != nil {
		return column{}, err
	} else if ok {
		return column{}, fmt.Errorf("%w: a dictionary-encoded column", ErrUnsupported)
	}
	if err := l.metadata(t, 16); err != nil {
		return column{}, err
	}
	children, err := l.fields(t, 14, depth+1, budget)
	if err != nil {
		return column{}, err
	}
	c, err := columnOf(kind, typ, children)
	if err != nil {
		return column{}, err
	}
	if kind == typeMap && (len(children) != 1 || children[0].layout != layoutStruct || len(children[0].children) != 2) {
		return column{}, fmt.Errorf("%w: a map is not a list of pairs", ErrDamaged)
	}
	if kind == typeMap {
		c.children[0].noNulls, c.children[0].children[0].noNulls = true, true
	}
	return c, nil
}

// metadata walks a vector of KeyValue tables: key(4), value(6).
func (l Limits) metadata(t table, slot int64) error {
	at, n, err := t.vector(slot, 4)
	if err != nil {
		return err
	}
	if n > int64(l.MaxFields) {
		return fmt.Errorf("%w: more than %d metadata entries", ErrTooLarge, l.MaxFields)
	}
	for i := range n {
		kv, err := t.element(at, i)
		if err != nil {
			return err
		}
		if _, err := kv.bytes(4); err != nil {
			return err
		}
		if _, err := kv.bytes(6); err != nil {
			return err
		}
	}
	return nil
}

// columnOf reads the table of a type.
func columnOf(kind uint8, t table, children []column) (column, error) {
	switch kind {
	case typeList, typeMap, typeLargeList, typeFixedSizeList:
		if len(children) != 1 {
			return column{}, fmt.Errorf("%w: a list with %d children", ErrDamaged, len(children))
		}
	case typeStruct:
		return column{layout: layoutStruct, children: children}, nil
	default:
		if kind > typeLargeList || kind == typeUnion {
			return column{}, fmt.Errorf("%w: type %d", ErrUnsupported, kind)
		}
		if len(children) != 0 {
			return column{}, fmt.Errorf("%w: %d children under a flat type", ErrDamaged, len(children))
		}
	}
	switch kind {
	case typeNull:
		return column{layout: layoutNull}, nil
	case typeBool:
		return column{layout: layoutBits}, nil
	case typeBinary, typeUtf8:
		return column{layout: layoutVar, width: 4, text: kind == typeUtf8}, nil
	case typeLargeBinary, typeLargeUtf8:
		return column{layout: layoutVar, width: 8, text: kind == typeLargeUtf8}, nil
	case typeList, typeMap:
		_, err := t.u8(4, 0)
		return column{layout: layoutList, width: 4, children: children}, err
	case typeLargeList:
		return column{layout: layoutList, width: 8, children: children}, nil
	case typeFixedSizeList:
		size, err := t.i32(4, 0)
		if err == nil && (size < 1 || size > maxListSize) {
			err = fmt.Errorf("%w: lists of %d", ErrTooLarge, size)
		}
		return column{layout: layoutFixedL, width: int64(size), children: children}, err
	}
	width, err := fixedWidth(kind, t)
	return column{layout: layoutFixed, width: width}, err
}

// fixedWidth is the bytes that a row of a flat type takes.
func fixedWidth(kind uint8, t table) (int64, error) {
	unit := func(def int16, widths ...int64) (int64, error) {
		u, err := t.i16(4, def)
		if err == nil && (u < 0 || int(u) >= len(widths)) {
			err = fmt.Errorf("%w: unit %d of type %d", ErrDamaged, u, kind)
		}
		if err != nil {
			return 0, err
		}
		return widths[u], nil
	}
	bits := func(slot int64, def int32, allowed ...int32) (int64, error) {
		w, err := t.i32(slot, def)
		if err != nil {
			return 0, err
		}
		for _, a := range allowed {
			if w == a {
				return int64(w / 8), nil
			}
		}
		return 0, fmt.Errorf("%w: %d bits of type %d", ErrDamaged, w, kind)
	}
	switch kind {
	case typeInt:
		if _, err := t.u8(6, 0); err != nil {
			return 0, err
		}
		return bits(4, 0, 8, 16, 32, 64)
	case typeFloatingPoint:
		return unit(0, 2, 4, 8)
	case typeDecimal:
		return decimalWidth(t, bits)
	case typeDate:
		return unit(1, 4, 8)
	case typeTime:
		u, err := unit(1, 4, 4, 8, 8) // seconds and milliseconds are 32 bits wide, finer ones 64
		if err != nil {
			return 0, err
		}
		return bits(6, 32, int32(u*8))
	case typeTimestamp:
		if _, err := t.bytes(6); err != nil {
			return 0, err
		}
		return unit(0, 8, 8, 8, 8)
	case typeDuration:
		return unit(1, 8, 8, 8, 8)
	case typeInterval:
		return unit(0, 4, 8, 16)
	case typeFixedSizeBinary:
		w, err := t.i32(4, 0)
		if err == nil && (w < 1 || w > maxByteWidth) {
			err = fmt.Errorf("%w: binaries of %d bytes", ErrTooLarge, w)
		}
		return int64(w), err
	}
	return 0, fmt.Errorf("%w: type %d", ErrUnsupported, kind)
}

// maxPrecision is the digits that a decimal of so many bytes holds; arrow-go looks powers of ten up by it.
var maxPrecision = map[int64]int32{4: 9, 8: 18, 16: 38, 32: 76}

// decimalWidth also bounds precision and scale: a value is printed with as many digits as the scale says.
func decimalWidth(t table, bits func(int64, int32, ...int32) (int64, error)) (int64, error) {
	width, err := bits(8, 128, 32, 64, 128, 256)
	if err != nil {
		return 0, err
	}
	precision, err := t.i32(4, 0)
	if err != nil {
		return 0, err
	}
	scale, err := t.i32(6, 0)
	if err != nil {
		return 0, err
	}
	if most := maxPrecision[width]; precision < 1 || precision > most || scale < -most || scale > most {
		return 0, fmt.Errorf("%w: a decimal of precision %d and scale %d in %d bytes", ErrDamaged, precision, scale, width)
	}
	return width, nil
}
