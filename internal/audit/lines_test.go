package audit

import (
	"bytes"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
)

// lined is a row that is a line of a record; line 0 is a record as a whole.
type lined struct {
	at   int64
	line int32
}

func setOf(rows ...lined) *offsets {
	o := newOffsets()
	for _, r := range rows {
		o.addRow(0, r.at, 1, r.line)
	}
	o.close()
	return o
}

// judged are the problems of one partition with these rows and letters, as kind and offsets.
func judged(vector int64, rows, dead, redriven *offsets) []string {
	a := &auditor{rows: rows, dead: dead, redriven: redriven, rowsGone: newOffsets(), deadGone: newOffsets(), report: &Report{}}
	c := &chain{vector: map[int32]int64{0: vector}, record: &ledger.Record{LastRow: map[int32]int64{0: vector - 1}}}
	a.judge([]*partition{a.newPartition(0, c)})
	var out []string
	for _, p := range a.report.Problems {
		out = append(out, string(p.Kind)+" "+p.Offsets)
	}
	return out
}

func TestLinesAreAccountedFor(t *testing.T) {
	whole := []lined{{0, 1}, {0, 3}, {1, 1}, {2, 0}, {3, 1}, {3, 2}}
	for name, c := range map[string]struct {
		rows, dead, redriven []lined
		want                 []string
	}{
		"sound":                        {whole, []lined{{0, 2}}, nil, nil},
		"a line is missing":            {whole, nil, nil, []string{"missing_records 0"}},
		"the first line is missing":    {append(slices.Clone(whole), lined{3, 4}), []lined{{0, 2}}, nil, []string{"missing_records 3"}},
		"row and dead letter":          {whole, []lined{{0, 2}, {3, 2}}, nil, []string{"dead_letter_and_row 3"}},
		"redriven":                     {append(slices.Clone(whole), lined{0, 2}), []lined{{0, 2}}, []lined{{0, 2}}, nil},
		"another line was redriven":    {append(slices.Clone(whole), lined{0, 2}), []lined{{0, 2}, {3, 3}}, []lined{{3, 3}}, []string{"dead_letter_and_row 0"}},
		"whole record dead, and a row": {whole, []lined{{0, 2}, {1, 0}}, nil, []string{"dead_letter_and_row 1"}},
		"whole record redriven":        {whole, []lined{{0, 2}, {3, 0}}, []lined{{3, 0}}, nil},
		"a whole row of a dead line":   {whole, []lined{{0, 2}, {2, 1}}, nil, []string{"dead_letter_and_row 2"}},
		"letter beyond the vector":     {whole, []lined{{0, 2}, {7, 1}}, nil, nil},
		"dead letter twice":            {whole, []lined{{0, 2}, {0, 2}}, nil, []string{"doubled_dead_letters 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := judged(4, setOf(c.rows...), setOf(c.dead...), setOf(c.redriven...)); !slices.Equal(got, c.want) {
				t.Errorf("problems %q, want %q", got, c.want)
			}
		})
	}
}

func TestLinesThatAreDoubled(t *testing.T) {
	a, b := newOffsets(), newOffsets()
	for _, r := range []lined{{0, 1}, {0, 2}, {1, 1}, {5, 0}} {
		a.addRow(0, r.at, 1, r.line)
	}
	for _, r := range []lined{{0, 2}, {1, 2}, {5, 1}, {6, 1}, {6, 1}} {
		b.addRow(0, r.at, 1, r.line)
	}
	all := newOffsets()
	all.merge(a)
	all.merge(b)
	all.close()
	want := roaring64.BitmapOf(0, 5, 6)
	if d := all.doubled[0]; d == nil || !d.Equals(want) {
		t.Errorf("doubled %v, want 0, 5 and 6", d)
	}
	if all.rows[0] != 9 || all.distinct(0) != 7 || !all.of[0].Equals(roaring64.BitmapOf(0, 1, 5, 6)) {
		t.Errorf("%d rows, %d distinct, offsets %v", all.rows[0], all.distinct(0), all.of[0])
	}
}

// TestLinesAreRead: the index is read by either library, and is not there in older files.
func TestLinesAreRead(t *testing.T) {
	p := iceberg.PrimitiveTypes
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 2, Name: ledger.ColPartition, Type: p.Int32}, iceberg.NestedField{ID: 3, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 9, Name: ledger.ColIndex, Type: p.Int32})
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	for _, codec := range []string{"zstd", "lz4"} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, as)
		for _, r := range []lined{{4, 1}, {4, 2}, {5, 0}, {6, 0}, {7, 1}, {8, -1}} {
			b.Field(0).(*array.Int32Builder).Append(0)
			b.Field(1).(*array.Int64Builder).Append(r.at)
			if r.line == 0 {
				b.Field(2).AppendNull()
			} else {
				b.Field(2).(*array.Int32Builder).Append(r.line - 1)
			}
		}
		batch := b.NewRecordBatch()
		b.Release()
		o := datafile.DefaultWriteOptions()
		o.Codec = codec
		var buf bytes.Buffer
		_, err := datafile.Write(&buf, sc, []arrow.RecordBatch{batch}, o)
		batch.Release()
		if err != nil {
			t.Fatal(err)
		}
		for _, with := range []ledgerIDs{{partition: 2, offset: 3, index: 9}, {partition: 2, offset: 3}, {partition: 2, offset: 3, index: 77}} {
			got := newOffsets()
			f, err := readLedger(t.Context(), bytes.NewReader(buf.Bytes()), int64(buf.Len()), "f", with, false, newRuns(found{rows: got.addRow}, nil))
			if err != nil {
				t.Fatal(err)
			}
			got.close()
			lines, unledgered := int64(3), int64(1)
			if with.index != 9 {
				lines, unledgered = 0, 0
			}
			if n := int64(orEmpty(got.lines[0]).GetCardinality()); n != lines || f.unledgered != unledgered || f.arrow != (codec == "lz4") {
				t.Errorf("%s, index %d: %d lines, want %d; %d without a ledger", codec, with.index, n, lines, f.unledgered)
			}
		}
	}
}
