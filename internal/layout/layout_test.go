package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/internal/datafile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func schema() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "name", Type: p.String}, iceberg.NestedField{ID: 2, Name: "n", Type: p.Int64},
		iceberg.NestedField{ID: 3, Name: "key", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 4, Name: "user", Type: p.UUID}, {ID: 5, Name: "score", Type: p.Float64}}}},
		iceberg.NestedField{ID: 6, Name: "tags", Type: &iceberg.ListType{ElementID: 7, Element: p.String}},
		iceberg.NestedField{ID: 8, Name: "m", Type: &iceberg.MapType{KeyID: 9, KeyType: p.String, ValueID: 10, ValueType: p.Int32}},
		iceberg.NestedField{ID: 11, Name: "ok", Type: p.Bool}, iceberg.NestedField{ID: 12, Name: "price", Type: iceberg.DecimalTypeOf(30, 2)},
		iceberg.NestedField{ID: 13, Name: "at", Type: p.TimestampTz}, iceberg.NestedField{ID: 14, Name: "_kafka_offset", Type: p.Int64})
}

func TestPropertiesAndBack(t *testing.T) {
	c := Config{FileSize: 64 << 20, RowGroupSize: 1 << 20, RowGroupRows: 1000, Statistics: "counts",
		ColumnStatistics: map[string]Statistics{"key.user": "full", "tags.element": "none"}, BloomFilters: []string{"key.user", "name"}, BloomFilterFPP: 0.05, BloomFilterSize: 4096}
	if err := errors.Join(c.Validate(), c.Check(schema())); err != nil {
		t.Fatal(err)
	}
	p := c.Properties("none")
	if got := FileSize(p); got != 64<<20 {
		t.Errorf("files of %d bytes", got)
	}
	o := OptionsOf(p, schema(), datafile.DefaultWriteOptions())
	if o.Codec != "none" || o.RowGroupRows != 1000 || o.RowGroupBytes != 1<<20 || o.Metrics != datafile.MetricsCounts || o.BloomBytes != 4096 {
		t.Errorf("%+v", o)
	}
	want := map[int]datafile.ColumnOptions{1: {Bloom: 0.05}, 4: {Metrics: datafile.MetricsFull, Bloom: 0.05}, 7: {Metrics: datafile.MetricsNone}, 14: {Metrics: datafile.MetricsFull}}
	if fmt.Sprint(o.Columns) != fmt.Sprint(want) {
		t.Errorf("columns %v, want %v", o.Columns, want)
	}
	if out := Outdated(p, p); out != nil {
		t.Errorf("outdated at once: %v", out)
	}
	less := Config{Statistics: "counts"}.Properties("")
	out := Outdated(p, less)
	if len(out) != len(p)-2 || slices.Contains(out, table.DefaultWriteMetricsModeKey) { // but for it and PropManaged
		t.Errorf("outdated %v of %v", out, p)
	}
	if p := (Config{}).Properties(""); len(p) != 0 {
		t.Errorf("an empty layout sets %v", p)
	}
}

// What other engines wrote into the properties never stops a writer.
func TestUnusableProperties(t *testing.T) {
	base := datafile.DefaultWriteOptions()
	o := OptionsOf(iceberg.Properties{"write.parquet.compression-codec": "gzip", "write.parquet.row-group-limit": "-4", "write.parquet.row-group-size-bytes": "many",
		"write.metadata.metrics.default": "most", "write.metadata.metrics.column.gone": "full", "write.metadata.metrics.column.name": "truncate(x)",
		"write.parquet.bloom-filter-enabled.column.n": "true", "write.parquet.bloom-filter-fpp.column.n": "7", "write.metadata.metrics.column._kafka_offset": "none"}, schema(), base)
	if o.Codec != base.Codec || o.RowGroupRows != base.RowGroupRows || o.RowGroupBytes != defaultRowGroupSize || o.Metrics != datafile.MetricsUnset {
		t.Errorf("%+v", o)
	}
	if len(o.Columns) != 2 || o.Columns[2].Bloom != defaultBloomFPP || o.Columns[14].Metrics != datafile.MetricsFull {
		t.Errorf("columns %v", o.Columns)
	}
}

func TestConfigRefuses(t *testing.T) {
	for want, c := range map[string]Config{
		"file_size: 1KiB":                             {FileSize: 1024},
		"row_group_size: 1B":                          {RowGroupSize: 1},
		"row_group_rows: -1":                          {RowGroupRows: -1},
		"bloom_filter_fpp: 1 ":                        {BloomFilterFPP: 1},
		"bloom_filter_size: 1B":                       {BloomFilterSize: 1},
		"bloom_filters: n is named twice":             {BloomFilters: []string{"n", "n"}},
		`no column "key.usr"; did you mean key.user?`: {BloomFilters: []string{"key.usr"}},
		"ok is a boolean":                             {BloomFilters: []string{"ok"}},
		`no column "tags"`:                            {ColumnStatistics: map[string]Statistics{"tags": "full"}},
		"_kafka_offset has full statistics":           {ColumnStatistics: map[string]Statistics{"_kafka_offset": "none"}},
	} {
		if err := errors.Join(c.Validate(), c.Check(schema())); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	var s Statistics
	if err := s.UnmarshalText([]byte("Truncate( 8 )")); err != nil || s != "truncate(8)" {
		t.Errorf("%q, %v", s, err)
	}
	if err := s.UnmarshalText([]byte("a bit")); err == nil {
		t.Error("a mode that is none was taken")
	}
}

func TestSortFields(t *testing.T) {
	got, err := SortFields(schema(), []string{"key.user", "n DESC", "at asc nulls last", "price desc nulls first"})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, f := range got {
		text = append(text, f.String())
	}
	want := "4 asc nulls-first|2 desc nulls-last|13 asc nulls-last|12 desc nulls-first"
	if strings.Join(text, "|") != want {
		t.Errorf("%v, want %s", text, want)
	}
	for entry, want := range map[string]string{"": "name a column", "nam": "did you mean name?", "key": `no column "key"`, "tags.element": "no single value", "n up": `"up" is not understood`,
		"n nulls": "is not understood", "n desc desc": "is not understood"} {
		if _, err := SortFields(schema(), []string{entry}); !errors.Is(err, ErrSortBy) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v", entry, want, err)
		}
	}
	if _, err := SortFields(schema(), []string{"n", "n desc"}); !errors.Is(err, ErrSortBy) {
		t.Errorf("a column twice: %v", err)
	}
	order, err := table.NewSortOrder(1, got)
	if err != nil {
		t.Fatal(err)
	}
	keys, ok := SortKeys(order, schema())
	if !ok || len(keys) != 4 || !slices.Equal(keys[0].Path, []int{2, 0}) || !keys[1].Desc || keys[1].NullsFirst || !keys[3].NullsFirst {
		t.Errorf("keys %+v", keys)
	}
	bucketed, err := table.NewSortOrder(1, []table.SortField{{SourceIDs: []int{2}, Transform: iceberg.BucketTransform{NumBuckets: 4}, Direction: table.SortASC, NullOrder: table.NullsFirst}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := SortKeys(bucketed, schema()); ok {
		t.Error("an order that firn cannot keep was taken")
	}
}

// row draws one row as JSON; most columns are null now and then, and values come again.
func row(t *rapid.T, i int) string {
	maybe := func(name, value string) string {
		if rapid.IntRange(0, 5).Draw(t, "null") == 0 {
			return ""
		}
		return fmt.Sprintf("%q:%s,", name, value)
	}
	small := rapid.IntRange(-3, 3)
	names := rapid.SampledFrom([]string{"", "a", "aaaaaaaa", "aaaaaaaab", "aaaaaaaa\\u0000", "é", "zz"})
	key := "{" + strings.TrimSuffix(maybe("user", fmt.Sprintf(`"01234567-89ab-cdef-0123-45678901234%d"`, small.Draw(t, "u")+3))+maybe("score", fmt.Sprintf("%d.5", small.Draw(t, "f"))), ",") + "}"
	return "{" + maybe("name", `"`+names.Draw(t, "s")+`"`) + maybe("n", fmt.Sprint(small.Draw(t, "n"))) + maybe("key", key) + maybe("tags", `["x",null]`) +
		maybe("m", `[{"key":"k","value":1}]`) + maybe("ok", fmt.Sprint(i%2 == 0)) + maybe("price", fmt.Sprintf(`"%d.25"`, small.Draw(t, "d"))) +
		maybe("at", fmt.Sprintf(`"2026-01-0%dT00:00:00Z"`, small.Draw(t, "t")+4)) + fmt.Sprintf(`"_kafka_offset":%d}`, i)
}

func batch(t *rapid.T, mem memory.Allocator, lines []string) arrow.RecordBatch {
	as, err := datafile.ArrowSchema(schema())
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := array.RecordFromJSON(mem, as, strings.NewReader("["+strings.Join(lines, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func drawKeys(t *rapid.T) (by []string, keys []SortKey) {
	fields := []string{"name", "n", "key.user", "key.score", "ok", "price", "at", "_kafka_offset"}
	for range rapid.IntRange(1, 3).Draw(t, "keys") {
		f := rapid.SampledFrom(fields).Draw(t, "field")
		if slices.ContainsFunc(by, func(o string) bool { return strings.HasPrefix(o, f+" ") }) {
			continue
		}
		by = append(by, f+" "+rapid.SampledFrom([]string{"asc", "desc"}).Draw(t, "dir")+" nulls "+rapid.SampledFrom([]string{"first", "last"}).Draw(t, "nulls"))
	}
	sf, err := SortFields(schema(), by)
	if err != nil {
		t.Fatal(err)
	}
	order, err := table.NewSortOrder(1, sf)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ = SortKeys(order, schema())
	return by, keys
}

// Sorted rows are the same rows, in the order that a plain comparison of their values gives, ties as they came.
func TestSort(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		defer func() {
			if mem.CurrentAlloc() != 0 {
				rt.Fatalf("%d bytes are held", mem.CurrentAlloc())
			}
		}()
		var rows []arrow.RecordBatch
		defer func() {
			for _, r := range rows {
				r.Release()
			}
		}()
		i := 0
		var texts []string
		for range rapid.IntRange(1, 3).Draw(rt, "batches") {
			var lines []string
			for range rapid.IntRange(1, 12).Draw(rt, "rows") {
				lines = append(lines, row(rt, i))
				i++
			}
			rows = append(rows, batch(rt, mem, lines))
		}
		for _, r := range rows {
			texts = append(texts, rowTexts(r)...)
		}
		by, keys := drawKeys(rt)
		out, err := Sort(context.Background(), mem, rows, keys)
		if err != nil {
			rt.Fatal(err)
		}
		defer out.Release()
		got := rowTexts(out)
		at := offsetsOf(out)
		for j, o := range at {
			if got[j] != texts[o] {
				rt.Fatalf("row %d changed:\n%s\n%s", o, got[j], texts[o])
			}
			if j > 0 && naive(out, keys, j-1, j) > 0 {
				rt.Fatalf("%v: %s\nbefore %s", by, got[j-1], got[j])
			}
			if j > 0 && naive(out, keys, j-1, j) == 0 && at[j-1] > o {
				rt.Fatalf("%v: ties are not in the order in which they came", by)
			}
		}
		slices.Sort(at)
		for j, o := range at {
			if int64(j) != o {
				rt.Fatalf("the rows are %v", at)
			}
		}
	})
}

func rowTexts(r arrow.RecordBatch) []string {
	out := make([]string, r.NumRows())
	for i := range out {
		for c := range int(r.NumCols()) {
			out[i] += r.Column(c).ValueStr(i) + "|"
		}
	}
	return out
}

func offsetsOf(r arrow.RecordBatch) []int64 {
	return slices.Clone(r.Column(int(r.NumCols()) - 1).(*array.Int64).Int64Values())
}

// naive compares two rows value by value.
func naive(r arrow.RecordBatch, keys []SortKey, a, b int) int {
	for _, k := range keys {
		col := r.Column(k.Path[0])
		nullA, nullB := col.IsNull(a), col.IsNull(b)
		for _, i := range k.Path[1:] {
			col = col.(*array.Struct).Field(i)
			nullA, nullB = nullA || col.IsNull(a), nullB || col.IsNull(b)
		}
		if nullA || nullB {
			if nullA == nullB {
				continue
			}
			if nullA == k.NullsFirst {
				return -1
			}
			return 1
		}
		c := compareValues(col, a, b)
		if k.Desc {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

func compareValues(col arrow.Array, a, b int) int {
	switch col := col.(type) {
	case *array.String:
		return cmp.Compare(col.Value(a), col.Value(b))
	case *array.Int64:
		return cmp.Compare(col.Value(a), col.Value(b))
	case *array.Float64:
		return cmp.Compare(col.Value(a), col.Value(b))
	case *array.Timestamp:
		return cmp.Compare(col.Value(a), col.Value(b))
	case *array.Decimal128:
		return col.Value(a).Cmp(col.Value(b))
	case *array.Boolean:
		n := map[bool]int{true: 1}
		return n[col.Value(a)] - n[col.Value(b)]
	}
	return cmp.Compare(col.ValueStr(a), col.ValueStr(b)) // a uuid's text is in the order of its bytes
}

func TestSortRefuses(t *testing.T) {
	if _, err := Sort(t.Context(), memory.DefaultAllocator, nil, nil); !errors.Is(err, ErrSort) {
		t.Errorf("no rows: %v", err)
	}
}

// pieces gives a batch in pieces, some of them empty.
type pieces struct {
	rows arrow.RecordBatch
	cuts []int64 // ends, rising
	at   int64
	last arrow.RecordBatch
}

func (p *pieces) Next() (arrow.RecordBatch, error) {
	p.release()
	if len(p.cuts) == 0 {
		return nil, io.EOF
	}
	p.last = p.rows.NewSlice(p.at, p.cuts[0])
	p.at, p.cuts = p.cuts[0], p.cuts[1:]
	return p.last, nil
}

func (p *pieces) release() {
	if p.last != nil {
		p.last.Release()
		p.last = nil
	}
}

// Merged rows are the rows of all sources, in the order that a plain comparison gives; a source that is not in order by itself
// is told, and what was given until then is in order.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		defer func() {
			if mem.CurrentAlloc() != 0 {
				rt.Fatalf("%d bytes are held", mem.CurrentAlloc())
			}
		}()
		by, keys := drawKeys(rt)
		broken := rapid.IntRange(0, 3).Draw(rt, "broken") == 0
		var sources []Source
		texts, wrong, i := map[int64]string{}, false, 0
		for range rapid.IntRange(1, 4).Draw(rt, "sources") {
			var lines []string
			for range rapid.IntRange(1, 12).Draw(rt, "rows") {
				lines = append(lines, row(rt, i))
				i++
			}
			b := batch(rt, mem, lines)
			defer b.Release()
			for j, o := range offsetsOf(b) {
				texts[o] = rowTexts(b)[j]
			}
			sorted := b
			if !broken {
				var err error
				if sorted, err = Sort(context.Background(), mem, []arrow.RecordBatch{b}, keys); err != nil {
					rt.Fatal(err)
				}
				defer sorted.Release()
			}
			for j := 1; j < int(sorted.NumRows()); j++ {
				wrong = wrong || naive(sorted, keys, j-1, j) > 0
			}
			p := &pieces{rows: sorted}
			for end := int64(0); end < sorted.NumRows(); {
				end = min(end+rapid.Int64Range(0, 5).Draw(rt, "piece"), sorted.NumRows())
				p.cuts = append(p.cuts, end)
			}
			defer p.release()
			sources = append(sources, p)
		}
		var given []arrow.RecordBatch
		defer func() {
			for _, g := range given {
				g.Release()
			}
		}()
		err := Merge(context.Background(), mem, keys, sources, func(b arrow.RecordBatch) error {
			b.Retain()
			given = append(given, b)
			return nil
		})
		if wrong != errors.Is(err, ErrUnsorted) || !wrong && err != nil {
			rt.Fatalf("unsorted %t, and the merge says %v", wrong, err)
		}
		if len(given) == 0 {
			return
		}
		out, err := concat(given, mem)
		if err != nil {
			rt.Fatal(err)
		}
		defer out.Release()
		got := rowTexts(out)
		for j, o := range offsetsOf(out) {
			if got[j] != texts[o] {
				rt.Fatalf("row %d changed or came twice:\n%s\n%s", o, got[j], texts[o])
			}
			delete(texts, o)
			if j > 0 && naive(out, keys, j-1, j) > 0 {
				rt.Fatalf("%v: %s\nbefore %s", by, got[j-1], got[j])
			}
		}
		if !wrong && len(texts) != 0 {
			rt.Fatalf("%d rows are missing", len(texts))
		}
	})
}
