package transform

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrayOf makes the column of an expression's values. The caller releases it.
func arrayOf(mem memory.Allocator, dt arrow.DataType, v *vec, n int) (arrow.Array, error) {
	b := array.NewBuilder(mem, dt)
	defer b.Release()
	b.Reserve(n)
	if err := appendTo(b, v, n); err != nil {
		return nil, err
	}
	return b.NewArray(), nil
}

func appendTo(b array.Builder, v *vec, n int) error {
	each := func(add func(i int)) {
		for i := range n {
			if v.null[i] {
				b.AppendNull()
			} else {
				add(i)
			}
		}
	}
	switch b := b.(type) {
	case *array.BooleanBuilder:
		each(func(i int) { b.UnsafeAppend(v.b[i]) })
	case *array.Int32Builder:
		each(func(i int) { b.UnsafeAppend(int32(v.i[i])) })
	case *array.Int64Builder:
		each(func(i int) { b.UnsafeAppend(v.i[i]) })
	case *array.Date32Builder:
		each(func(i int) { b.UnsafeAppend(arrow.Date32(v.i[i])) })
	case *array.Time64Builder:
		each(func(i int) { b.UnsafeAppend(arrow.Time64(v.i[i])) })
	case *array.TimestampBuilder:
		each(func(i int) { b.UnsafeAppend(arrow.Timestamp(v.i[i])) })
	case *array.Float32Builder:
		each(func(i int) { b.UnsafeAppend(float32(v.f[i])) })
	case *array.Float64Builder:
		each(func(i int) { b.UnsafeAppend(v.f[i]) })
	case *array.Decimal128Builder:
		each(func(i int) { b.UnsafeAppend(v.d[i]) })
	case *array.StringBuilder:
		b.ReserveData(size(v, n))
		each(func(i int) { b.Append(v.s[i]) })
	case *array.BinaryBuilder:
		b.ReserveData(size(v, n))
		each(func(i int) { b.AppendString(v.s[i]) })
	case *array.FixedSizeBinaryBuilder:
		each(func(i int) { b.Append([]byte(v.s[i])) })
	case interface{ StorageBuilder() array.Builder }: // of extension types, such as UUIDs, which have builders of their own
		return appendTo(b.StorageBuilder(), v, n)
	default:
		return fmt.Errorf("%w: a column of type %s cannot be computed", ErrConfig, b.Type())
	}
	return nil
}

func size(v *vec, n int) (bytes int) {
	for i := range n {
		if !v.null[i] {
			bytes += len(v.s[i])
		}
	}
	return bytes
}
