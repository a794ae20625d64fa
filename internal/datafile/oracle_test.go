package datafile

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"
	"github.com/google/uuid"
	parquetgo "github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"
)

// nested has lists and maps in each other, and required fields at every depth.
func nested() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	inner := &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 11, Name: "a", Type: p.Int32}, {ID: 12, Name: "texts", Type: &iceberg.ListType{ElementID: 13, Element: p.String}},
		{ID: 14, Name: "must", Type: p.Date, Required: true}}}
	return iceberg.NewSchema(1,
		iceberg.NestedField{ID: 1, Name: "id", Type: p.Int64, Required: true},
		iceberg.NestedField{ID: 2, Name: "name", Type: p.String, Required: true},
		iceberg.NestedField{ID: 3, Name: "flag", Type: p.Bool, Required: true},
		iceberg.NestedField{ID: 4, Name: "u", Type: p.UUID},
		iceberg.NestedField{ID: 5, Name: "big", Type: iceberg.DecimalTypeOf(30, 3)},
		iceberg.NestedField{ID: 6, Name: "small", Type: iceberg.DecimalTypeOf(7, 2)},
		iceberg.NestedField{ID: 7, Name: "f", Type: p.Float32},
		iceberg.NestedField{ID: 10, Name: "items", Type: &iceberg.ListType{ElementID: 15, Element: inner, ElementRequired: true}},
		iceberg.NestedField{ID: 20, Name: "m", Type: &iceberg.MapType{KeyID: 21, KeyType: p.String, ValueID: 22, ValueType: &iceberg.ListType{ElementID: 23, Element: p.Float64}}},
		iceberg.NestedField{ID: 30, Name: "s", Required: true, Type: &iceberg.StructType{FieldList: []iceberg.NestedField{
			{ID: 31, Name: "t", Type: p.TimestampTz}, {ID: 32, Name: "deep", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 33, Name: "x", Type: p.Int64}}}},
			{ID: 34, Name: "ints", Required: true, Type: &iceberg.ListType{ElementID: 35, Element: p.Int32, ElementRequired: true}}}}},
	)
}

// fill appends a random value of a field.
func fill(t *rapid.T, b array.Builder, f arrow.Field, skew int) {
	if f.Nullable && rapid.IntRange(0, 99).Draw(t, "null") < skew {
		b.AppendNull()
		return
	}
	small := rapid.IntRange(0, 9).Draw(t, "small")
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(small < 5)
	case *array.Int32Builder:
		b.Append(rapid.SampledFrom([]int32{0, 1, -1, math.MaxInt32, math.MinInt32, int32(small)}).Draw(t, "int"))
	case *array.Int64Builder:
		b.Append(rapid.SampledFrom([]int64{0, -1, math.MaxInt64, math.MinInt64, int64(small)}).Draw(t, "long"))
	case *array.Date32Builder:
		b.Append(arrow.Date32(small))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(small * 1_000_003))
	case *array.Float32Builder:
		b.Append(rapid.SampledFrom([]float32{0, float32(math.Copysign(0, -1)), 1.5, -7}).Draw(t, "float"))
	case *array.Float64Builder:
		b.Append(rapid.Float64().Draw(t, "double"))
	case *array.StringBuilder:
		b.Append(rapid.SampledFrom([]string{"", "a", "b", "é" + strings.Repeat("x", small*10)}).Draw(t, "text"))
	case *extensions.UUIDBuilder:
		b.Append(uuid.UUID{byte(small), 15: byte(skew)})
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(rapid.Int64Range(-9_999_999, 9_999_999).Draw(t, "decimal")))
	case *array.StructBuilder:
		b.Append(true)
		for i, c := range f.Type.(*arrow.StructType).Fields() {
			fill(t, b.FieldBuilder(i), c, skew)
		}
	case *array.MapBuilder:
		b.Append(true)
		mt := f.Type.(*arrow.MapType)
		for i := range small % 4 {
			b.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprint("k", i))
			fill(t, b.ItemBuilder(), mt.ItemField(), skew)
		}
	case *array.ListBuilder:
		b.Append(true)
		for range small % 4 {
			fill(t, b.ValueBuilder(), f.Type.(*arrow.ListType).ElemField(), skew)
		}
	default:
		t.Fatalf("no values for %T", b)
	}
}

// rowsOf reads a file with parquet-go, levels and all.
func rowsOf(t *rapid.T, data []byte) []parquetgo.Row {
	f, err := parquetgo.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var out []parquetgo.Row
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		buf := make([]parquetgo.Row, g.NumRows())
		for at := 0; at < len(buf); {
			n, err := rows.ReadRows(buf[at:])
			for _, r := range buf[at : at+n] {
				out = append(out, r.Clone())
			}
			if at += n; err != nil && at < len(buf) {
				t.Fatal(err)
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// What is written is what pqarrow would write, level by level, as parquet-go sees it, and reads back with arrow-go as
// the batch that it came from; the statistics are pqarrow's, too, and every page has its checksum.
func TestAgainstPqarrow(t *testing.T) {
	sc := nested()
	as, err := ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		defer mem.AssertSize(rapidFailer{t}, 0)
		b := array.NewRecordBuilder(mem, as)
		defer b.Release()
		n := rapid.IntRange(0, 60).Draw(t, "rows")
		skew := rapid.SampledFrom([]int{0, 10, 90}).Draw(t, "nulls")
		for range n {
			for i, f := range as.Fields() {
				fill(t, b.Field(i), f, skew)
			}
		}
		whole := b.NewRecordBatch()
		defer whole.Release()
		from := rapid.IntRange(0, n).Draw(t, "from")
		part := whole.NewSlice(int64(from), int64(n))
		defer part.Release()

		var ours, theirs bytes.Buffer
		o := DefaultWriteOptions()
		o.Codec = rapid.SampledFrom([]string{"zstd", "snappy", "none"}).Draw(t, "codec")
		o.RowGroupRows = int64(rapid.IntRange(1, 40).Draw(t, "group"))
		st, err := Write(&ours, sc, []arrow.RecordBatch{part}, o)
		if err != nil {
			t.Fatal(err)
		}
		w, err := pqarrow.NewFileWriter(as, &theirs, parquet.NewWriterProperties(parquet.WithStoreDecimalAsInteger(true), parquet.WithMaxRowGroupLength(o.RowGroupRows)), pqarrow.DefaultWriterProps())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteBuffered(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, want := rowsOf(t, ours.Bytes()), rowsOf(t, theirs.Bytes())
		if len(got) != len(want) || len(got) != n-from {
			t.Fatalf("%d rows, %d by pqarrow", len(got), len(want))
		}
		for i := range got {
			if !got[i].Equal(want[i]) {
				t.Fatalf("row %d: %+v\npqarrow %+v", i, got[i], want[i])
			}
		}
		checkOurs(t, sc, part, ours.Bytes())
		if part.NumRows() > 0 {
			checkStats(t, sc, st, theirs.Bytes())
		}
	})
}

type rapidFailer struct{ *rapid.T }

func (rapidFailer) Helper() {}

func checkOurs(t *rapid.T, sc *iceberg.Schema, part arrow.RecordBatch, data []byte) {
	r, err := NewReader(bytes.NewReader(data), int64(len(data)), "f", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	err = r.Scan(t.Context(), sc, func(b arrow.RecordBatch) error {
		want := part.NewSlice(at, at+b.NumRows())
		defer want.Release()
		at += b.NumRows()
		if !array.RecordEqual(want, b) {
			return fmt.Errorf("got %v\nwant %v", b, want)
		}
		return nil
	})
	if err != nil || at != part.NumRows() {
		t.Fatalf("%d rows: %v", at, err)
	}
	f, err := ReadFooter(bytes.NewReader(data), int64(len(data)), "f")
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := f.VerifyChecksums(t.Context(), bytes.NewReader(data)); err != nil || sum.Pages != sum.Verified || (at > 0 && sum.Pages == 0) {
		t.Fatalf("%+v, %v", sum, err)
	}
}

func checkStats(t *rapid.T, sc *iceberg.Schema, st Stats, pqarrowFile []byte) {
	f, err := ReadFooter(bytes.NewReader(pqarrowFile), int64(len(pqarrowFile)), "f")
	if err != nil {
		t.Fatal(err)
	}
	want, err := statsOf(f.meta, sc, st.NaNCounts, new(WriteOptions).metrics)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]any{"lower": {st.Lower, want.Lower}, "upper": {st.Upper, want.Upper}, "nulls": {st.NullCounts, want.NullCounts}, "values": {st.ValueCounts, want.ValueCounts}} {
		if !reflect.DeepEqual(c[0], c[1]) {
			t.Fatalf("%s: %v\npqarrow %v", name, c[0], c[1])
		}
	}
}

// Columns that begin with a dictionary and outgrow it, that are better off without, and that span many pages.
func TestManyPages(t *testing.T) {
	p := iceberg.PrimitiveTypes
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "few", Type: p.String}, iceberg.NestedField{ID: 2, Name: "many", Type: p.String}, iceberg.NestedField{ID: 3, Name: "grows", Type: p.String, Required: true},
		iceberg.NestedField{ID: 4, Name: "flag", Type: p.Bool}, iceberg.NestedField{ID: 5, Name: "n", Type: p.Int64}, iceberg.NestedField{ID: 6, Name: "long", Type: p.Binary})
	as, err := ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	const rows = 150_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, as)
	defer b.Release()
	long := bytes.Repeat([]byte("long "), 1<<20)
	for i := range rows {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprint("kind ", i%7))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("%016x", uint64(i)*0x9E3779B97F4A7C15))
		b.Field(2).(*array.StringBuilder).Append(strings.Repeat("grown ", 20) + fmt.Sprint(i/(1+40*min(1, 70_000/(i+1)))))
		b.Field(3).(*array.BooleanBuilder).Append(i%3 == 0)
		b.Field(4).(*array.Int64Builder).Append(int64(i))
		if i%30_000 == 7 {
			b.Field(5).(*array.BinaryBuilder).Append(long)
		} else {
			b.Field(5).AppendNull()
		}
	}
	src := b.NewRecordBatch()
	defer src.Release()
	var buf bytes.Buffer
	st, err := Write(&buf, sc, []arrow.RecordBatch{src}, DefaultWriteOptions())
	if err != nil {
		t.Fatal(err)
	}
	f, err := ReadFooter(bytes.NewReader(buf.Bytes()), int64(buf.Len()), "f")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"[RLE_DICTIONARY PLAIN RLE]", "[PLAIN RLE]", "[RLE_DICTIONARY PLAIN RLE PLAIN]", "[PLAIN RLE]", "[PLAIN RLE]", "[RLE_DICTIONARY PLAIN RLE PLAIN]"} {
		c, err := f.meta.RowGroup(0).ColumnChunk(i)
		if err != nil || fmt.Sprint(c.Encodings()) != want {
			t.Errorf("column %d: encodings %v, want %s; %v", i, c.Encodings(), want, err)
		}
	}
	if sum, err := f.VerifyChecksums(t.Context(), bytes.NewReader(buf.Bytes())); err != nil || sum.Pages < 20 || sum.Verified != sum.Pages {
		t.Errorf("%+v, %v", sum, err)
	}
	if _, ok := st.Lower[6]; ok || st.NullCounts[6] != rows-5 {
		t.Errorf("a value of %d bytes is no bound; nulls %d", len(long), st.NullCounts[6])
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()), "f", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	if err := r.Scan(t.Context(), sc, func(got arrow.RecordBatch) error {
		want := src.NewSlice(at, at+got.NumRows())
		defer want.Release()
		at += got.NumRows()
		if !array.RecordEqual(want, got) {
			return fmt.Errorf("rows before %d differ", at)
		}
		return nil
	}); err != nil || at != rows {
		t.Fatalf("%d rows: %v", at, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "d", Type: iceberg.DecimalTypeOf(4, 0)}, iceberg.NestedField{ID: 2, Name: "s", Required: true, Type: iceberg.PrimitiveTypes.String})
	as, err := ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	d, s := array.NewDecimal128Builder(memory.DefaultAllocator, &arrow.Decimal128Type{Precision: 4}), array.NewStringBuilder(memory.DefaultAllocator)
	d.Append(decimal128.FromI64(1 << 40))
	s.AppendNull()
	wide, null := d.NewArray(), s.NewArray()
	d.AppendNull()
	s.Append("x")
	for name, c := range map[string]struct {
		cols []arrow.Array
		err  string
	}{
		"a decimal too wide": {[]arrow.Array{wide, s.NewArray()}, "more digits"},
		"a required null":    {[]arrow.Array{d.NewArray(), null}, "required value is null"},
		"another type":       {[]arrow.Array{null, null}, "the schema says decimal"},
		"a column less":      {[]arrow.Array{wide}, "a batch of 1 columns"},
	} {
		fields := append([]arrow.Field(nil), as.Fields()[:len(c.cols)]...)
		for i := range fields {
			fields[i].Type = c.cols[i].DataType()
		}
		b := array.NewRecordBatch(arrow.NewSchema(fields, nil), c.cols, 1)
		if _, err := Write(&bytes.Buffer{}, sc, []arrow.RecordBatch{b}, DefaultWriteOptions()); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewWriter(&bytes.Buffer{}, sc, WriteOptions{Codec: "brotli"}); err == nil {
		t.Error("an unknown codec was taken")
	}
}
