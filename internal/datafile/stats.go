package datafile

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/apache/iceberg-go"
)

// Stats is what a manifest says of a data file; maps are by field id (Iceberg spec, "data_file").
type Stats struct {
	Rows, Bytes                                     int64
	ColumnSizes, ValueCounts, NullCounts, NaNCounts map[int]int64
	Lower, Upper                                    map[int][]byte // single-value binary serialization
	SplitOffsets                                    []int64
	SortOrderID                                     int // of the table's order that the rows are in; 0: none
}

func statsOf(meta *metadata.FileMetaData, sc *iceberg.Schema, nans map[int]int64, mode func(id int) MetricsMode) (Stats, error) {
	st := Stats{Rows: meta.NumRows, ColumnSizes: map[int]int64{}, ValueCounts: map[int]int64{}, NullCounts: map[int]int64{},
		NaNCounts: nans, Lower: map[int][]byte{}, Upper: map[int][]byte{}}
	bounds := map[int]*bound{}
	for g := range meta.NumRowGroups() {
		rg := meta.RowGroup(g)
		for c := range rg.NumColumns() {
			chunk, err := rg.ColumnChunk(c)
			if err != nil {
				return st, fmt.Errorf("parquet footer: row group %d column %d: %w", g, c, err)
			}
			if c == 0 {
				st.SplitOffsets = append(st.SplitOffsets, chunkStart(chunk))
			}
			col := meta.Schema.Column(c)
			id := int(col.SchemaNode().FieldID())
			st.ColumnSizes[id] += chunk.TotalCompressedSize()
			m := mode(id)
			if m == MetricsNone {
				delete(st.NaNCounts, id)
				continue
			}
			st.ValueCounts[id] += chunk.NumValues()
			b := bounds[id]
			if b == nil {
				b = newBound(sc, id, col, m)
				bounds[id] = b
			}
			stats, err := chunk.Statistics()
			if err != nil || stats == nil {
				b.lost = true
				continue
			}
			if stats.HasNullCount() {
				st.NullCounts[id] += stats.NullCount()
			}
			b.add(stats, chunk.NumValues())
		}
	}
	for id, b := range bounds {
		if lo, up, ok := b.serialize(); ok {
			st.Lower[id] = lo
			if up != nil {
				st.Upper[id] = up
			}
		}
	}
	return st, nil
}

func chunkStart(c *metadata.ColumnChunkMetaData) int64 {
	if c.HasDictionaryPage() && c.DictionaryPageOffset() > 0 && c.DictionaryPageOffset() < c.DataPageOffset() {
		return c.DictionaryPageOffset()
	}
	return c.DataPageOffset()
}

// bound gathers the least and greatest value of one column over the row groups, as Parquet encodes them.
type bound struct {
	typ      iceberg.Type
	mode     MetricsMode
	compare  func(a, b []byte) int
	min, max []byte
	lost     bool // some chunk with values told no minimum: nothing can be said of the file
}

func newBound(sc *iceberg.Schema, id int, col *schema.Column, mode MetricsMode) *bound {
	b := &bound{lost: true, mode: mode}
	f, ok := sc.FindFieldByID(id)
	// Columns inside lists and maps have no bounds, as in Iceberg's own writers.
	if !ok || mode == MetricsCounts || col.MaxRepetitionLevel() > 0 {
		return b
	}
	b.typ, b.lost = f.Type, false
	if b.compare = comparison(f.Type); b.compare == nil {
		b.lost = true
	}
	return b
}

func (b *bound) add(s metadata.TypedStatistics, values int64) {
	if b.lost {
		return
	}
	if !s.HasMinMax() {
		// A chunk of nulls (or NaNs) alone says nothing and takes nothing away.
		b.lost = !s.HasNullCount() || s.NullCount() != values
		return
	}
	lo, up := s.EncodeMin(), s.EncodeMax()
	if b.min == nil || b.compare(lo, b.min) < 0 {
		b.min = lo
	}
	if b.max == nil || b.compare(up, b.max) > 0 {
		b.max = up
	}
}

// serialize gives the bounds in Iceberg's binary form; upper is nil when a cut string has no greater neighbour.
func (b *bound) serialize() (lower, upper []byte, ok bool) {
	if b.lost || b.min == nil {
		return nil, nil, false
	}
	switch t := b.typ.(type) {
	case iceberg.StringType:
		return cutString(b.min, b.length()), raiseString(b.max, b.length()), true
	case iceberg.BinaryType, iceberg.FixedType:
		return b.min[:min(len(b.min), b.length())], raiseBytes(b.max, b.length()), true
	case iceberg.DecimalType:
		return decimalBytes(b.min), decimalBytes(b.max), true
	case iceberg.Float32Type, iceberg.Float64Type:
		return signedZero(b.min, true), signedZero(b.max, false), true
	default:
		_ = t
		return b.min, b.max, true
	}
}

// length is how many characters of a string, or bytes of a binary, a bound keeps.
func (b *bound) length() int {
	if b.mode == MetricsFull {
		return math.MaxInt
	}
	return int(b.mode)
}

// comparison orders plain-encoded Parquet values of a type; nil for types without bounds.
func comparison(t iceberg.Type) func(a, b []byte) int {
	switch t.(type) {
	case iceberg.BooleanType, iceberg.StringType, iceberg.BinaryType, iceberg.UUIDType, iceberg.FixedType:
		return compareBytes
	case iceberg.Int32Type, iceberg.DateType:
		return func(a, b []byte) int { return cmp(int32(le32(a)), int32(le32(b))) }
	case iceberg.Int64Type, iceberg.TimeType, iceberg.TimestampType, iceberg.TimestampTzType, iceberg.TimestampNsType, iceberg.TimestampTzNsType:
		return func(a, b []byte) int { return cmp(int64(le64(a)), int64(le64(b))) }
	case iceberg.Float32Type:
		return func(a, b []byte) int { return cmp(math.Float32frombits(le32(a)), math.Float32frombits(le32(b))) }
	case iceberg.Float64Type:
		return func(a, b []byte) int { return cmp(math.Float64frombits(le64(a)), math.Float64frombits(le64(b))) }
	case iceberg.DecimalType:
		return func(a, b []byte) int { return decimal(a).Cmp(decimal(b)) }
	}
	return nil
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func cmp[T int32 | int64 | float32 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareBytes(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

// decimal reads what Parquet stores a decimal as: 4 or 8 bytes little-endian for the integer types, else big-endian.
func decimal(b []byte) *big.Int {
	switch len(b) {
	case 4:
		return big.NewInt(int64(int32(le32(b))))
	case 8:
		return big.NewInt(int64(le64(b)))
	}
	v := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return v
}

// decimalBytes is the least big-endian two's complement form (Iceberg spec, Appendix D).
func decimalBytes(b []byte) []byte {
	v := decimal(b)
	n := v.BitLen()/8 + 1
	if v.Sign() < 0 { // -2^(8k-1) fits k bytes
		n = new(big.Int).Not(v).BitLen()/8 + 1
		v = new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), uint(8*n)))
	}
	return v.FillBytes(make([]byte, n))
}

// signedZero makes a zero minimum -0 and a zero maximum +0, which bound both zeros.
func signedZero(b []byte, negative bool) []byte {
	for _, c := range b[:len(b)-1] {
		if c != 0 {
			return b
		}
	}
	if b[len(b)-1]&0x7f != 0 {
		return b
	}
	out := make([]byte, len(b))
	if negative {
		out[len(b)-1] = 0x80
	}
	return out
}

// cutString keeps the first characters of a lower bound.
func cutString(b []byte, length int) []byte {
	at := 0
	for range length {
		if at >= len(b) {
			return b
		}
		_, n := utf8.DecodeRune(b[at:])
		at += n
	}
	return b[:at]
}

// raiseString cuts an upper bound and raises its last character that can be raised, so that it stays above the values.
func raiseString(b []byte, length int) []byte {
	cut := cutString(b, length)
	if len(cut) == len(b) {
		return b
	}
	runes := []rune(string(cut))
	for i := len(runes) - 1; i >= 0; i-- {
		next := runes[i] + 1
		if next == 0xD800 { // the surrogates are no characters
			next = 0xE000
		}
		if next <= utf8.MaxRune {
			return []byte(string(append(runes[:i:i], next)))
		}
	}
	return nil
}

func raiseBytes(b []byte, length int) []byte {
	if len(b) <= length {
		return b
	}
	for i := length - 1; i >= 0; i-- {
		if b[i] != 0xff {
			out := append([]byte(nil), b[:i+1]...)
			out[i]++
			return out
		}
	}
	return nil
}

// countNaNs adds the NaN values of the floating-point columns, nested ones included.
func countNaNs(r arrow.RecordBatch, into map[int]int64) {
	for i, c := range r.Columns() {
		countNaNsIn(r.Schema().Field(i), c, into)
	}
}

func countNaNsIn(f arrow.Field, a arrow.Array, into map[int]int64) {
	id, ok := fieldID(f)
	switch a := a.(type) {
	case *array.Float64:
		for i, v := range a.Float64Values() {
			if ok && v != v && a.IsValid(i) {
				into[id]++
			}
		}
		if ok {
			into[id] += 0
		}
	case *array.Float32:
		for i, v := range a.Float32Values() {
			if ok && v != v && a.IsValid(i) {
				into[id]++
			}
		}
		if ok {
			into[id] += 0
		}
	case *array.Struct:
		st := a.DataType().(*arrow.StructType)
		for i := range a.NumField() {
			countNaNsIn(st.Field(i), a.Field(i), into)
		}
	}
}
