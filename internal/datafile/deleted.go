package datafile

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// deletions walks through the deleted positions of a file beside its batches.
type deletions struct {
	mem memory.Allocator
	it  roaring64.IntPeekable64
	at  uint64 // position of the next batch's first row
}

// cut returns the rows of the file's next batch that are not deleted, the caller's; nil when there is none.
func (d *deletions) cut(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	end := d.at + uint64(b.NumRows())
	var runs [][2]int64
	from := d.at
	for d.it.HasNext() && d.it.PeekNext() < end {
		gone := d.it.Next()
		if gone > from {
			runs = append(runs, [2]int64{int64(from - d.at), int64(gone - d.at)})
		}
		from = gone + 1
	}
	if from < end {
		runs = append(runs, [2]int64{int64(from - d.at), int64(end - d.at)})
	}
	d.at = end
	return TakeRuns(d.mem, b, runs)
}

// TakeRuns returns the rows of b in the runs [start, end), which ascend; nil when there are none. The result is the
// caller's. It copies only when there is more than one run.
func TakeRuns(mem memory.Allocator, b arrow.RecordBatch, runs [][2]int64) (arrow.RecordBatch, error) {
	switch len(runs) {
	case 0:
		return nil, nil
	case 1:
		return b.NewSlice(runs[0][0], runs[0][1]), nil
	}
	cols := make([]arrow.Array, 0, b.NumCols())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	var rows int64
	for _, r := range runs {
		rows += r[1] - r[0]
	}
	for _, col := range b.Columns() {
		parts := make([]arrow.Array, len(runs))
		for i, r := range runs {
			parts[i] = array.NewSlice(col, r[0], r[1])
		}
		c, err := array.Concatenate(parts, mem)
		for _, p := range parts {
			p.Release()
		}
		if err != nil {
			return nil, fmt.Errorf("runs of rows: %w", err)
		}
		cols = append(cols, c)
	}
	return array.NewRecordBatch(b.Schema(), cols, rows), nil
}
