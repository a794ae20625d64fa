//go:build cgo

package duck

import (
	"fmt"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"
	db "github.com/duckdb/duckdb-go-bindings"
	"github.com/google/uuid"
)

// A DuckDB vector is read in place and copied into the builder's buffers: what it points to dies with its chunk.

// appendVector appends the entries [from, to) of a vector of type t.
func appendVector(b array.Builder, v db.Vector, t db.LogicalType, from, to int) error {
	valid := validity(v)
	data := db.VectorGetData(v)
	switch id := db.GetTypeId(t); id {
	case db.TypeList, db.TypeArray, db.TypeMap:
		return appendList(b, v, t, id, from, to, valid, data)
	case db.TypeStruct:
		sb := b.(*array.StructBuilder)
		valids := make([]bool, to-from)
		for i := range valids {
			valids[i] = valid(from + i)
		}
		sb.AppendValues(valids) // the children follow, null where the struct is; Append(false) would add to them itself
		for c := range sb.NumField() {
			ct := db.StructTypeChildType(t, db.IdxT(c))
			err := appendVector(sb.FieldBuilder(c), db.StructVectorGetChild(v, db.IdxT(c)), ct, from, to)
			db.DestroyLogicalType(&ct)
			if err != nil {
				return err
			}
		}
		return nil
	case db.TypeSQLNull:
		for range to - from {
			b.AppendNull()
		}
		return nil
	case db.TypeEnum:
		return appendEnum(b.(*array.StringBuilder), t, from, to, valid, data)
	case db.TypeDecimal:
		return appendDecimal(b.(*array.Decimal128Builder), t, from, to, valid, data)
	}
	return appendFlat(b, from, to, valid, data)
}

// validity tells which entries of a vector are not null.
func validity(v db.Vector) func(int) bool {
	mask := (*uint64)(db.VectorGetValidity(v))
	if mask == nil {
		return func(int) bool { return true }
	}
	return func(i int) bool {
		word := *(*uint64)(unsafe.Add(unsafe.Pointer(mask), i/64*8))
		return word>>(i%64)&1 == 1
	}
}

// at is entry i of a vector's data.
func at[T any](data unsafe.Pointer, i int) T {
	var zero T
	return *(*T)(unsafe.Add(data, i*int(unsafe.Sizeof(zero))))
}

func each[T any](from, to int, valid func(int) bool, data unsafe.Pointer, b array.Builder, add func(T)) error {
	b.Reserve(to - from)
	for i := from; i < to; i++ {
		if valid(i) {
			add(at[T](data, i))
		} else {
			b.AppendNull()
		}
	}
	return nil
}

func appendFlat(b array.Builder, from, to int, valid func(int) bool, data unsafe.Pointer) error {
	switch b := b.(type) {
	case *array.BooleanBuilder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Int8Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Int16Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Int32Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Int64Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Uint8Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Uint16Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Uint32Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Uint64Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Float32Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Float64Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Date32Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.Time64Builder:
		return each(from, to, valid, data, b, b.Append)
	case *array.TimestampBuilder:
		return each(from, to, valid, data, b, b.Append)
	case *array.MonthDayNanoIntervalBuilder:
		return each(from, to, valid, data, b, func(v struct {
			Months, Days int32
			Micros       int64
		}) {
			b.Append(arrow.MonthDayNanoInterval{Months: v.Months, Days: v.Days, Nanoseconds: v.Micros * 1000})
		})
	case *array.Decimal128Builder: // HUGEINT
		return each(from, to, valid, data, b, func(v wide) { b.Append(decimal128.New(v.High, v.Low)) })
	case *extensions.UUIDBuilder:
		return each(from, to, valid, data, b, func(v wide) { b.Append(uuidOf(v)) })
	case *array.StringBuilder:
		return eachText(from, to, valid, data, b, func(p []byte) { b.BinaryBuilder.Append(p) })
	case *array.BinaryBuilder:
		return eachText(from, to, valid, data, b, b.Append)
	}
	return fmt.Errorf("no conversion into %s", b.Type())
}

// wide is DuckDB's 128-bit integer.
type wide struct {
	Low  uint64
	High int64
}

// uuidOf undoes DuckDB's flip of the first bit, by which its order is that of signed numbers.
func uuidOf(v wide) (u uuid.UUID) {
	high := uint64(v.High) ^ 1<<63
	for i := range 8 {
		u[i], u[8+i] = byte(high>>(56-8*i)), byte(v.Low>>(56-8*i))
	}
	return u
}

// textEntry is duckdb_string_t: short texts lie inside it, others behind the pointer.
type textEntry struct {
	Length uint32
	Inline [4]byte
	Ptr    unsafe.Pointer
}

const inlineText = 12

func eachText(from, to int, valid func(int) bool, data unsafe.Pointer, b array.Builder, add func([]byte)) error {
	for i := from; i < to; i++ {
		if !valid(i) {
			b.AppendNull()
			continue
		}
		e := (*textEntry)(unsafe.Add(data, i*int(unsafe.Sizeof(textEntry{}))))
		if e.Length <= inlineText {
			add(unsafe.Slice(&e.Inline[0], e.Length))
		} else {
			add(unsafe.Slice((*byte)(e.Ptr), e.Length))
		}
	}
	return nil
}

func appendEnum(b *array.StringBuilder, t db.LogicalType, from, to int, valid func(int) bool, data unsafe.Pointer) error {
	names := make([]string, db.EnumDictionarySize(t))
	for i := range names {
		names[i] = db.EnumDictionaryValue(t, db.IdxT(i))
	}
	switch db.EnumInternalType(t) {
	case db.TypeUTinyInt:
		return each(from, to, valid, data, b, func(v uint8) { b.Append(names[v]) })
	case db.TypeUSmallInt:
		return each(from, to, valid, data, b, func(v uint16) { b.Append(names[v]) })
	}
	return each(from, to, valid, data, b, func(v uint32) { b.Append(names[v]) })
}

func appendDecimal(b *array.Decimal128Builder, t db.LogicalType, from, to int, valid func(int) bool, data unsafe.Pointer) error {
	switch db.DecimalInternalType(t) {
	case db.TypeSmallInt:
		return each(from, to, valid, data, b, func(v int16) { b.Append(decimal128.FromI64(int64(v))) })
	case db.TypeInteger:
		return each(from, to, valid, data, b, func(v int32) { b.Append(decimal128.FromI64(int64(v))) })
	case db.TypeBigInt:
		return each(from, to, valid, data, b, func(v int64) { b.Append(decimal128.FromI64(v)) })
	}
	return each(from, to, valid, data, b, func(v wide) { b.Append(decimal128.New(v.High, v.Low)) })
}

// appendList handles lists, maps (lists of key and value) and arrays of fixed size.
func appendList(b array.Builder, v db.Vector, t db.LogicalType, id db.Type, from, to int, valid func(int) bool, data unsafe.Pointer) error {
	var child db.Vector
	if id == db.TypeArray {
		child = db.ArrayVectorGetChild(v)
	} else {
		child = db.ListVectorGetChild(v)
	}
	var add func(lo, hi int) error
	var open func(valid bool)
	switch lb := b.(type) {
	case *array.MapBuilder:
		k, vt := db.MapTypeKeyType(t), db.MapTypeValueType(t)
		defer db.DestroyLogicalType(&k)
		defer db.DestroyLogicalType(&vt)
		open = lb.Append
		add = func(lo, hi int) error {
			if err := appendVector(lb.KeyBuilder(), db.StructVectorGetChild(child, 0), k, lo, hi); err != nil {
				return err
			}
			return appendVector(lb.ItemBuilder(), db.StructVectorGetChild(child, 1), vt, lo, hi)
		}
	case *array.ListBuilder:
		ct := childType(t, id)
		defer db.DestroyLogicalType(&ct)
		open = lb.Append
		add = func(lo, hi int) error { return appendVector(lb.ValueBuilder(), child, ct, lo, hi) }
	default:
		return fmt.Errorf("no conversion of a list into %s", b.Type())
	}
	for i := from; i < to; i++ {
		ok := valid(i)
		open(ok)
		if !ok {
			continue
		}
		lo, n := 0, 0
		if id == db.TypeArray {
			n = int(db.ArrayTypeArraySize(t))
			lo = i * n
		} else {
			e := at[struct{ Offset, Length uint64 }](data, i)
			lo, n = int(e.Offset), int(e.Length)
		}
		if err := add(lo, lo+n); err != nil {
			return err
		}
	}
	return nil
}

// appendChunk appends a chunk to the columns of a record.
func appendChunk(b *array.RecordBuilder, chunk db.DataChunk, types []db.LogicalType) (int, error) {
	n := int(db.DataChunkGetSize(chunk))
	for i, t := range types {
		if err := appendVector(b.Field(i), db.DataChunkGetVector(chunk, db.IdxT(i)), t, 0, n); err != nil {
			return 0, fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return n, nil
}

var heap = memory.DefaultAllocator
