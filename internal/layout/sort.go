package layout

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// ErrSort reports rows that cannot be sorted.
var ErrSort = errors.New("rows cannot be sorted")

// Sort returns the rows of all batches, which share a schema, as one batch in the order of the keys; rows that are
// equal in all keys stay in the order in which they came. The caller releases the result. While it runs, the rows are in memory
// up to three times.
func Sort(ctx context.Context, mem memory.Allocator, rows []arrow.RecordBatch, keys []SortKey) (arrow.RecordBatch, error) {
	if n := rowsOf(rows); n == 0 || n > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d rows, from 1 to %d can be", ErrSort, n, math.MaxInt32)
	}
	all, err := concat(rows, mem)
	if err != nil {
		return nil, err
	}
	defer all.Release()
	cols, err := newSortColumns(all, keys)
	if err != nil {
		return nil, err
	}
	order := make([]int32, all.NumRows())
	for i := range order {
		order[i] = int32(i)
	}
	compare := func(a, b int32) int {
		if c := cols.compare(a, cols, b); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	}
	if slices.IsSortedFunc(order, compare) {
		all.Retain()
		return all, nil
	}
	slices.SortFunc(order, compare)
	return take(ctx, mem, all, order)
}

// take returns the rows of a batch in another order. The caller releases the result.
func take(ctx context.Context, mem memory.Allocator, all arrow.RecordBatch, order []int32) (arrow.RecordBatch, error) {
	b := array.NewInt32Builder(mem)
	defer b.Release()
	b.AppendValues(order, nil)
	idx := b.NewInt32Array()
	defer idx.Release()
	d, err := compute.Take(compute.WithAllocator(ctx, mem), *compute.DefaultTakeOptions(), compute.NewDatumWithoutOwning(all), compute.NewDatumWithoutOwning(idx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSort, err)
	}
	return d.(*compute.RecordDatum).Value, nil
}

func concat(rows []arrow.RecordBatch, mem memory.Allocator) (arrow.RecordBatch, error) {
	if len(rows) == 1 {
		rows[0].Retain()
		return rows[0], nil
	}
	cols := make([]arrow.Array, 0, rows[0].NumCols())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	parts := make([]arrow.Array, len(rows))
	for i := range int(rows[0].NumCols()) {
		for j, r := range rows {
			parts[j] = r.Column(i)
		}
		c, err := array.Concatenate(parts, mem)
		if err != nil {
			return nil, fmt.Errorf("%w: column %s: %w", ErrSort, rows[0].ColumnName(i), err)
		}
		cols = append(cols, c)
	}
	return array.NewRecordBatch(rows[0].Schema(), cols, rowsOf(rows)), nil
}

// sortColumns are the keys of a batch's rows.
type sortColumns []sortColumn

func newSortColumns(r arrow.RecordBatch, keys []SortKey) (sortColumns, error) {
	cols := make(sortColumns, len(keys))
	for i, k := range keys {
		var err error
		if cols[i], err = newSortColumn(r, k); err != nil {
			return nil, err
		}
	}
	return cols, nil
}

// compare holds row i against row j of o, which has the same keys and may be of another batch.
func (c sortColumns) compare(i int32, o sortColumns, j int32) int {
	for k := range c {
		if d := c[k].compare(i, &o[k], j); d != 0 {
			return d
		}
	}
	return 0
}

// sortColumn is the values of one key in a form that compares fast: eight bytes of each value as a number whose order is
// that of the values, and the rest only where these are equal.
type sortColumn struct {
	key   SortKey
	heads []uint64
	null  []bool             // nil without nulls
	low   func(int32) uint64 // the rest of a decimal; nil of others
	bytes func(int32) []byte // the whole of a text; nil of others
}

func (c *sortColumn) compare(i int32, o *sortColumn, j int32) int {
	nullI, nullJ := c.null != nil && c.null[i], o.null != nil && o.null[j]
	if nullI || nullJ {
		if nullI == nullJ {
			return 0
		}
		if nullI == c.key.NullsFirst {
			return -1
		}
		return 1
	}
	d := cmp.Compare(c.heads[i], o.heads[j])
	switch {
	case d != 0:
	case c.low != nil:
		d = cmp.Compare(c.low(i), o.low(j))
	case c.bytes != nil:
		d = bytes.Compare(c.bytes(i), o.bytes(j))
	}
	if c.key.Desc {
		return -d
	}
	return d
}

func newSortColumn(r arrow.RecordBatch, k SortKey) (sortColumn, error) {
	c := sortColumn{key: k}
	a := r.Column(k.Path[0])
	c.nulls(a)
	for _, i := range k.Path[1:] {
		st, ok := a.(*array.Struct)
		if !ok {
			return c, fmt.Errorf("%w: a %s where a struct was expected", ErrSort, a.DataType())
		}
		a = st.Field(i)
		c.nulls(a)
	}
	if e, ok := a.(array.ExtensionArray); ok {
		a = e.Storage()
	}
	c.heads = make([]uint64, a.Len())
	if !c.fill(a) {
		return c, fmt.Errorf("%w: by a column of Arrow type %s", ErrSort, a.DataType())
	}
	return c, nil
}

// nulls adds the nulls of an array: a value in a struct that is null is null as well.
func (c *sortColumn) nulls(a arrow.Array) {
	if a.NullN() == 0 {
		return
	}
	if c.null == nil {
		c.null = make([]bool, a.Len())
	}
	for i := range c.null {
		c.null[i] = c.null[i] || a.IsNull(i)
	}
}

const signBit = 1 << 63

func (c *sortColumn) fill(a arrow.Array) bool {
	switch a := a.(type) {
	case *array.Boolean:
		for i := range c.heads {
			if a.Value(i) {
				c.heads[i] = 1
			}
		}
	case *array.Int32:
		integers(c.heads, a.Int32Values())
	case *array.Date32:
		integers(c.heads, a.Date32Values())
	case *array.Int64:
		integers(c.heads, a.Int64Values())
	case *array.Time64:
		integers(c.heads, a.Time64Values())
	case *array.Timestamp:
		integers(c.heads, a.TimestampValues())
	case *array.Float32:
		for i, v := range a.Float32Values() {
			c.heads[i] = floatHead(float64(v))
		}
	case *array.Float64:
		for i, v := range a.Float64Values() {
			c.heads[i] = floatHead(v)
		}
	case *array.Decimal128:
		for i := range c.heads {
			c.heads[i] = uint64(a.Value(i).HighBits()) ^ signBit
		}
		c.low = func(i int32) uint64 { return a.Value(int(i)).LowBits() }
	case *array.String:
		c.text(func(i int) []byte { return stringBytes(a, i) })
	case *array.Binary:
		c.text(a.Value)
	case *array.FixedSizeBinary:
		c.text(a.Value)
	default:
		return false
	}
	return true
}

func stringBytes(a *array.String, i int) []byte {
	off := a.ValueOffsets()
	buf := a.Data().Buffers()[2]
	if buf == nil {
		return nil
	}
	return buf.Bytes()[off[i]:off[i+1]]
}

func integers[T ~int32 | ~int64](heads []uint64, vals []T) {
	for i, v := range vals {
		heads[i] = uint64(int64(v)) ^ signBit
	}
}

// floatHead orders floats as the Iceberg spec does: -NaN, -Infinity, …, -0, +0, …, Infinity, NaN.
func floatHead(v float64) uint64 {
	b := math.Float64bits(v)
	if b&signBit != 0 {
		return ^b
	}
	return b | signBit
}

func (c *sortColumn) text(value func(int) []byte) {
	for i := range c.heads {
		if c.null != nil && c.null[i] {
			continue
		}
		v := value(i)
		if len(v) >= 8 {
			c.heads[i] = binary.BigEndian.Uint64(v)
			continue
		}
		var pad [8]byte
		copy(pad[:], v)
		c.heads[i] = binary.BigEndian.Uint64(pad[:])
	}
	c.bytes = func(i int32) []byte { return value(int(i)) }
}
