package datafile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/iceberg-go"
	parquetgo "github.com/parquet-go/parquet-go"
)

func TestMetricsModes(t *testing.T) {
	long := strings.Repeat("x", 40)
	r := batch(t, memory.DefaultAllocator, everything(), `[{"s":"`+long+`","d":1.5,"l":7,"st":{"y":"`+long+`"},"_kafka_offset":1},{"_kafka_offset":2}]`)
	defer r.Release()
	o := DefaultWriteOptions()
	o.Metrics = MetricsCounts
	o.Columns = map[int]ColumnOptions{5: {Metrics: MetricsFull}, 15: {Metrics: 3}, 4: {Metrics: MetricsNone}}
	_, st := encode(t, o, r)
	if string(st.Lower[5]) != long || string(st.Upper[5]) != long {
		t.Errorf("full: %q to %q", st.Lower[5], st.Upper[5])
	}
	if string(st.Lower[15]) != "xxx" || string(st.Upper[15]) != "xxy" {
		t.Errorf("truncate(3): %q to %q", st.Lower[15], st.Upper[15])
	}
	if st.Lower[3] != nil || st.ValueCounts[3] != 2 || st.NullCounts[3] != 1 {
		t.Errorf("counts: lower %x, %d values, %d nulls", st.Lower[3], st.ValueCounts[3], st.NullCounts[3])
	}
	_, values := st.ValueCounts[4]
	_, nulls := st.NullCounts[4]
	_, nans := st.NaNCounts[4]
	if values || nulls || nans || st.Lower[4] != nil || st.ColumnSizes[4] == 0 {
		t.Errorf("none: %v %v %v, lower %x, size %d", values, nulls, nans, st.Lower[4], st.ColumnSizes[4])
	}
}

func TestParseMetricsMode(t *testing.T) {
	for _, text := range []string{"none", "counts", "full", "truncate(1)", "truncate(4096)"} {
		m, err := ParseMetricsMode(text)
		if err != nil || m.String() != text {
			t.Errorf("%s gives %v, %v", text, m, err)
		}
	}
	for _, text := range []string{"", "some", "truncate(0)", "truncate(4097)", "truncate(-1)", "truncate(x)", "truncate(3"} {
		if m, err := ParseMetricsMode(text); err == nil || m != MetricsUnset {
			t.Errorf("%q gives %v", text, m)
		}
	}
}

// wide makes rows whose strings do not compress to nothing.
func wide(t testing.TB, n int) (*iceberg.Schema, arrow.RecordBatch) {
	t.Helper()
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64},
		iceberg.NestedField{ID: 2, Name: "name", Type: iceberg.PrimitiveTypes.String})
	var b strings.Builder
	b.WriteByte('[')
	h := uint64(1)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		h = h*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, `{"id":%d,"name":"%016x"}`, i*2, h)
	}
	b.WriteByte(']')
	return sc, batch(t, memory.DefaultAllocator, sc, b.String())
}

func TestRowGroupsOfBytes(t *testing.T) {
	sc, r := wide(t, 400_000)
	defer r.Release()
	for codec := range Codecs {
		o := DefaultWriteOptions()
		o.Codec, o.RowGroupBytes = codec, 2<<20
		var buf bytes.Buffer
		st, err := Write(&buf, sc, []arrow.RecordBatch{r}, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.SplitOffsets) < 2 {
			t.Fatalf("%s: one row group of %d bytes", codec, st.Bytes)
		}
		for i := 1; i < len(st.SplitOffsets); i++ {
			// A group ends at the first look behind the target, and looks are 64 Ki rows apart.
			if n := st.SplitOffsets[i] - st.SplitOffsets[i-1]; n < 1<<20 || n > 4<<20 {
				t.Errorf("%s: row group %d has %d bytes, 2 MiB were asked for", codec, i-1, n)
			}
		}
	}
}

func TestSizeOfWhatIsNotWrittenYet(t *testing.T) {
	sc, r := wide(t, 200_000)
	defer r.Release()
	for codec := range Codecs {
		o := DefaultWriteOptions()
		o.Codec = codec
		var buf bytes.Buffer
		w, err := NewWriter(&buf, sc, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
		guess := w.Size()
		st, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if ratio := float64(guess) / float64(st.Bytes); ratio < 0.75 || ratio > 1.25 {
			t.Errorf("%s: %d bytes were expected, %d it is", codec, guess, st.Bytes)
		}
	}
}

// Filters are held against arrow-go's reader and parquet-go's: no value that is there may be told absent, and of those
// that are not only about the share that was asked for may be told present.
func TestBloomFilters(t *testing.T) {
	sc, r := wide(t, 20_000)
	defer r.Release()
	o := DefaultWriteOptions()
	o.RowGroupRows = 8000
	o.Columns = map[int]ColumnOptions{1: {Bloom: 0.01}, 2: {Bloom: 0.01}}
	var buf bytes.Buffer
	if _, err := Write(&buf, sc, []arrow.RecordBatch{r}, o); err != nil {
		t.Fatal(err)
	}
	pr, err := file.NewParquetReader(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	pg, err := parquetgo.OpenFile(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if pr.NumRowGroups() != 3 {
		t.Fatalf("%d row groups", pr.NumRowGroups())
	}
	for g := range 3 {
		rg, err := pr.GetBloomFilterReader().RowGroup(g)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := rg.GetColumnBloomFilter(0)
		if err != nil || ids == nil {
			t.Fatalf("no filter of id: %v", err)
		}
		names, err := rg.GetColumnBloomFilter(1)
		if err != nil || names == nil {
			t.Fatalf("no filter of name: %v", err)
		}
		wrong := 0
		for i := g * 8000; i < min(g*8000+8000, 20_000); i++ {
			id := int64(i * 2)
			if !ids.CheckHash(metadata.GetHash(ids.Hasher(), id)) {
				t.Fatalf("id %d is there and told absent", id)
			}
			if ids.CheckHash(metadata.GetHash(ids.Hasher(), id+1)) {
				wrong++
			}
			if ok, err := pg.RowGroups()[g].ColumnChunks()[0].BloomFilter().Check(parquetgo.ValueOf(id)); err != nil || !ok {
				t.Fatalf("id %d is there and told absent by parquet-go: %v", id, err)
			}
			name := r.Column(1).ValueStr(i)
			if !names.CheckHash(metadata.GetHash(names.Hasher(), parquet.ByteArray(name))) {
				t.Fatalf("name %s is there and told absent", name)
			}
		}
		if wrong > 8000/50 {
			t.Errorf("row group %d: %d of 8000 absent ids are told present", g, wrong)
		}
	}
}

func TestBloomFilterKeepsItsBound(t *testing.T) {
	sc, r := wide(t, 30_000)
	defer r.Release()
	for most, want := range map[int64]int64{5000: 4096, 0: 65536} {
		o := DefaultWriteOptions()
		o.BloomBytes, o.Columns = most, map[int]ColumnOptions{2: {Bloom: 0.01}}
		var buf bytes.Buffer
		if _, err := Write(&buf, sc, []arrow.RecordBatch{r}, o); err != nil {
			t.Fatal(err)
		}
		pg, err := parquetgo.OpenFile(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if got := pg.RowGroups()[0].ColumnChunks()[1].BloomFilter().Size(); got != want {
			t.Errorf("at most %d bytes: the filter has %d, want %d", most, got, want)
		}
		if pg.RowGroups()[0].ColumnChunks()[0].BloomFilter() != nil {
			t.Error("a column has a filter that was not asked for")
		}
	}
}

// A column's dictionary follows from its values alone: kept where they come again, given up where they do not.
func TestDictionaryByCardinality(t *testing.T) {
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "few", Type: iceberg.PrimitiveTypes.String},
		iceberg.NestedField{ID: 2, Name: "many", Type: iceberg.PrimitiveTypes.String},
		iceberg.NestedField{ID: 3, Name: "steps", Type: iceberg.PrimitiveTypes.Int64})
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, `,{"few":"kind-%d","many":"value-%d","steps":%d}`, i%20, i, i/100)
	}
	r := batch(t, memory.DefaultAllocator, sc, "["+b.String()[1:]+"]")
	defer r.Release()
	var buf bytes.Buffer
	if _, err := Write(&buf, sc, []arrow.RecordBatch{r}, DefaultWriteOptions()); err != nil {
		t.Fatal(err)
	}
	pr, err := file.NewParquetReader(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	for i, want := range []bool{true, false, true} {
		c, err := pr.MetaData().RowGroup(0).ColumnChunk(i)
		if err != nil {
			t.Fatal(err)
		}
		if c.HasDictionaryPage() != want {
			t.Errorf("column %s: dictionary %v, want %v", sc.Field(i).Name, c.HasDictionaryPage(), want)
		}
	}
}
