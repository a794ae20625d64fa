package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/parquet-go/parquet-go"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// errFault marks what is wrong with a file, as against what keeps the audit from reading it.
var errFault = errors.New("data file")

// ledgerIDs are the field ids of the ledger columns in a table's schema.
type ledgerIDs struct {
	partition, offset int
	index             int // 0 where a record gives one row
}

func ledgerColumns(sc *iceberg.Schema) (ids ledgerIDs, err error) {
	for _, c := range []struct {
		name string
		typ  iceberg.Type
		id   *int
	}{{ledger.ColPartition, iceberg.PrimitiveTypes.Int32, &ids.partition}, {ledger.ColOffset, iceberg.PrimitiveTypes.Int64, &ids.offset}} {
		f, ok := sc.FindFieldByName(c.name)
		if !ok || !f.Type.Equals(c.typ) {
			return ids, fmt.Errorf("no column %s of type %s: this is no table that firn ingests into", c.name, c.typ)
		}
		*c.id = f.ID
	}
	if f, ok := sc.FindFieldByName(ledger.ColIndex); ok && f.Type.Equals(iceberg.PrimitiveTypes.Int32) {
		ids.index = f.ID
	}
	return ids, nil
}

// emitter takes n consecutive offsets of a partition whose records gave one row each (line 0), or one line of a record.
type emitter func(p int32, first, n int64, line int32)

// fileRows is what one file was found to hold.
type fileRows struct {
	rows, unledgered int64
	sums             datafile.Checksums
	arrow            bool // read with arrow-go
}

// found takes what a file holds: runs of consecutive offsets, in file order.
type found struct {
	rows    emitter
	deleted emitter // of rows that delete files take out; nil: they are of no interest
}

// readFile reads the ledger of one file.
func readFile(ctx context.Context, wh *objstore.Warehouse, f snapshot.File, ids ledgerIDs, allColumns bool, to found) (out fileRows, err error) {
	fault := func(err error) error { return fmt.Errorf("%w: %w", errFault, err) }
	key, err := wh.Key(f.FilePath())
	if err != nil {
		return out, fault(err)
	}
	obj, err := wh.Open(ctx, key)
	if errors.Is(err, objstore.ErrNotFound) {
		return out, fault(err)
	}
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, obj.Close()) }()
	if obj.Size() != f.FileSizeBytes() {
		return out, fault(fmt.Errorf("%s: %w: %d bytes, its manifest says %d", f.FilePath(), datafile.ErrCorrupt, obj.Size(), f.FileSizeBytes()))
	}
	out, err = readLedger(ctx, obj, obj.Size(), f.FilePath(), ids, allColumns, newRuns(to, f.Deleted))
	if errors.Is(err, datafile.ErrCorrupt) {
		err = fault(err)
	}
	return out, err
}

// readLedger decodes the columns of the ledger with parquet-go, after internal/datafile has looked at every byte that it will
// allocate by.
func readLedger(ctx context.Context, ra io.ReaderAt, size int64, name string, ids ledgerIDs, allColumns bool, runs *runs) (out fileRows, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %w: parquet-go failed: %v", name, datafile.ErrCorrupt, r)
		}
	}()
	footer, err := datafile.ReadFooter(ra, size, name)
	if err != nil {
		return out, err
	}
	if allColumns {
		if out.sums, err = footer.VerifyChecksums(ctx, ra); err != nil {
			return out, err
		}
	}
	out.rows = footer.Rows()
	var leaves []int
	for _, id := range []int{ids.partition, ids.offset} {
		leaf, ok := footer.Leaf(id)
		if !ok {
			out.unledgered = out.rows
			return out, nil
		}
		leaves = append(leaves, leaf)
	}
	// A file from before the column of the index holds whole records.
	if leaf, ok := footer.Leaf(ids.index); ok && ids.index != 0 {
		leaves = append(leaves, leaf)
	}
	gate := &gate{ra: ra}
	f, err := parquet.OpenFile(gate, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return out, fmt.Errorf("%s: %w: parquet-go: %w", name, datafile.ErrCorrupt, err)
	}
	if f.NumRows() != footer.Rows() || len(f.RowGroups()) != footer.RowGroups() {
		return out, fmt.Errorf("%s: %w: parquet-go sees %d rows, arrow-go %d", name, datafile.ErrCorrupt, f.NumRows(), footer.Rows())
	}
	for g := range footer.RowGroups() {
		// parquet-go v0.32.0 gives wrong values for most LZ4 pages, without an error (parquet-go issue 608).
		out.arrow = out.arrow || slices.ContainsFunc(leaves, func(leaf int) bool { return footer.Compression(g, leaf) == "lz4_raw" })
	}
	for g, group := range f.RowGroups() {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		for i, leaf := range leaves {
			c, n, err := footer.Chunk(ra, g, leaf)
			if err != nil {
				return out, err
			}
			gate.chunks[i] = c
			if !allColumns {
				out.sums.Pages, out.sums.Verified = out.sums.Pages+n.Pages, out.sums.Verified+n.Verified
			}
		}
		if out.arrow {
			continue
		}
		if err := readGroup(group, leaves, runs); err != nil {
			return out, fmt.Errorf("%s: %w: row group %d: %w", name, datafile.ErrCorrupt, g, err)
		}
	}
	if out.arrow {
		if err := readArrow(ctx, ra, size, name, ids, runs); err != nil {
			return out, err
		}
	}
	runs.flush()
	out.unledgered = runs.unledgered
	return out, nil
}

// readArrow is the way around parquet-go.
func readArrow(ctx context.Context, ra io.ReaderAt, size int64, name string, ids ledgerIDs, to *runs) error {
	r, err := datafile.NewReader(ra, size, name, datafile.ReadOptions{})
	if err != nil {
		return err
	}
	want := []iceberg.NestedField{{ID: ids.partition, Name: ledger.ColPartition, Type: iceberg.PrimitiveTypes.Int32},
		{ID: ids.offset, Name: ledger.ColOffset, Type: iceberg.PrimitiveTypes.Int64}}
	if ids.index != 0 {
		want = append(want, iceberg.NestedField{ID: ids.index, Name: ledger.ColIndex, Type: iceberg.PrimitiveTypes.Int32})
	}
	return r.Scan(ctx, iceberg.NewSchema(0, want...), func(b arrow.RecordBatch) error {
		partitions, offsets := b.Column(0).(*array.Int32), b.Column(1).(*array.Int64)
		for i := range partitions.Len() {
			line := int64(0)
			if ids.index != 0 {
				if c := b.Column(2).(*array.Int32); c.IsValid(i) {
					line = int64(c.Value(i)) + 1
				}
			}
			to.row(partitions.Value(i), offsets.Value(i), line, partitions.IsValid(i) && offsets.IsValid(i))
		}
		return nil
	})
}

// gate serves parquet-go the chunks that were checked, byte for byte, and everything else from the file.
type gate struct {
	ra     io.ReaderAt
	chunks [3]datafile.Chunk
}

func (g *gate) ReadAt(p []byte, at int64) (int, error) {
	for _, c := range g.chunks {
		if at >= c.Offset && at+int64(len(p)) <= c.Offset+int64(len(c.Bytes)) {
			return c.ReadAt(p, at)
		}
	}
	return g.ra.ReadAt(p, at)
}

const valuesAtOnce = 4096

// readGroup reads the columns of a row group side by side.
func readGroup(group parquet.RowGroup, leaves []int, to *runs) (err error) {
	readers := make([]parquet.ColumnChunkValueReader, len(leaves))
	values := make([][]parquet.Value, len(leaves))
	for i, leaf := range leaves {
		readers[i] = parquet.NewColumnChunkValueReader(group.ColumnChunks()[leaf])
		values[i] = make([]parquet.Value, valuesAtOnce)
		defer func() { err = errors.Join(err, readers[i].Close()) }()
	}
	for left := group.NumRows(); left > 0; {
		n := min(left, valuesAtOnce)
		for i, r := range readers {
			if err := readFull(r, values[i][:n]); err != nil {
				return err
			}
		}
		for i := range n {
			p, at, line := values[0][i], values[1][i], int64(0)
			if len(leaves) > 2 && !values[2][i].IsNull() {
				line = int64(values[2][i].Int32()) + 1
			}
			to.row(p.Int32(), at.Int64(), line, !p.IsNull() && !at.IsNull())
		}
		left -= n
	}
	for _, r := range readers {
		if n, err := r.ReadValues(values[0][:1]); n > 0 || !errors.Is(err, io.EOF) {
			return fmt.Errorf("values after the last row: %w", errors.Join(err))
		}
	}
	return nil
}

func readFull(r parquet.ValueReader, to []parquet.Value) error {
	for len(to) > 0 {
		n, err := r.ReadValues(to)
		to = to[n:]
		if len(to) == 0 {
			return nil
		}
		if errors.Is(err, io.EOF) || (err == nil && n == 0) {
			return fmt.Errorf("%d values are missing", len(to))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// runs joins rows with consecutive offsets of one partition.
type runs struct {
	to         found
	gone       roaring64.IntPeekable64 // positions that are deleted; nil: none
	at         uint64                  // position of the next row
	p          int32
	first, n   int64
	unledgered int64
}

func newRuns(to found, deleted *roaring64.Bitmap) *runs {
	r := &runs{to: to}
	if deleted != nil {
		r.gone = deleted.Iterator()
	}
	return r
}

// row takes one row; line is 0 for a record as a whole.
func (r *runs) row(p int32, at, line int64, valid bool) {
	valid = valid && p >= 0 && at >= 0 && line >= 0 && line <= maxLine && (line == 0 || at <= maxLinedOffset)
	here := r.at
	r.at++
	if r.gone != nil && r.gone.HasNext() && r.gone.PeekNext() == here {
		r.gone.Next()
		if valid && r.to.deleted != nil {
			r.to.deleted(p, at, 1, int32(line))
		}
		return
	}
	if !valid {
		r.unledgered++
		return
	}
	if line > 0 {
		r.flush()
		r.to.rows(p, at, 1, int32(line))
		return
	}
	if r.n > 0 && p == r.p && at == r.first+r.n {
		r.n++
		return
	}
	r.flush()
	r.p, r.first, r.n = p, at, 1
}

func (r *runs) flush() {
	if r.n > 0 {
		r.to.rows(r.p, r.first, r.n, 0)
	}
	r.n = 0
}
