package datafile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/objstore"
)

// ErrCorrupt reports a file that is not what its format or its footer says; the error names the file.
var ErrCorrupt = errors.New("data file is damaged")

// ReadOptions tune a reader.
type ReadOptions struct {
	// Mem should be one whose memory the garbage collector takes: arrow-go v18.8.0 does not give back 64 bytes of
	// scratch for each delta-encoded column. TestProjection holds that everything else is given back.
	Mem       memory.Allocator
	BatchRows int64 // greatest rows of a batch; 0: 64 Ki
	// Size is the file's length as its manifest says, in bytes, and saves Open from asking for it; 0: not known. It need not
	// be right.
	Size int64
	// Deleted are positions of rows, from 0, that Scan leaves out; nil: none.
	Deleted *roaring64.Bitmap
	// Within lets Scan pass over row groups none of whose values of a column lie in a range, as the file's statistics say; nil:
	// none. Not together with Deleted, which counts all rows.
	Within *Within
}

// Within is a range of a column of 64-bit integers or times, both ends included, as they are stored.
type Within struct {
	FieldID  int
	From, To int64
}

const (
	defaultBatchRows = 64 << 10
	// wholeFileBytes is up to where a file is fetched in one request instead of one per column chunk.
	wholeFileBytes = 4 << 20
)

// Reader reads one Parquet file. Not safe for concurrent use.
type Reader struct {
	name  string
	opt   ReadOptions
	src   io.Closer // nil when the file is in memory
	pq    *file.Reader
	arrow *pqarrow.FileReader
}

// Open opens the file under key and checks its footer. Close the reader.
func Open(ctx context.Context, store objstore.Store, key string, o ReadOptions) (*Reader, error) {
	if o.Size > 0 && o.Size <= wholeFileBytes {
		data, err := store.Get(ctx, key, wholeFileBytes)
		if err == nil {
			return NewReader(bytes.NewReader(data), int64(len(data)), key, o)
		}
		if !errors.Is(err, objstore.ErrTooLarge) {
			return nil, fmt.Errorf("data file: %w", err)
		}
	}
	obj, err := store.Open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("data file: %w", err)
	}
	size := obj.Size()
	if size > wholeFileBytes {
		r, err := NewReader(obj, size, key, o)
		if err != nil {
			return nil, errors.Join(err, obj.Close())
		}
		r.src = obj
		return r, nil
	}
	data := make([]byte, size)
	_, err = io.ReadFull(io.NewSectionReader(obj, 0, size), data)
	if err = errors.Join(err, obj.Close()); err != nil {
		return nil, fmt.Errorf("data file %s: %w", key, err)
	}
	return NewReader(bytes.NewReader(data), size, key, o)
}

// NewReader reads a file of the given size from ra, which stays the caller's.
func NewReader(ra io.ReaderAt, size int64, name string, o ReadOptions) (r *Reader, err error) {
	if o.Mem == nil {
		o.Mem = memory.DefaultAllocator
	}
	if o.BatchRows <= 0 {
		o.BatchRows = defaultBatchRows
	}
	defer func() { err = damaged(name, recover(), err) }()
	if err := checkFrame(ra, size); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
	}
	pq, err := file.NewParquetReader(io.NewSectionReader(ra, 0, size), file.WithReadProps(parquet.NewReaderProperties(o.Mem)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: footer: %w", name, ErrCorrupt, err)
	}
	if err := checkFooter(pq.MetaData(), size); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
	}
	ar, err := pqarrow.NewFileReader(pq, pqarrow.ArrowReadProperties{BatchSize: o.BatchRows}, o.Mem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
	}
	return &Reader{name: name, opt: o, pq: pq, arrow: ar}, nil
}

// damaged turns what was recovered from a panic of the decoder into ErrCorrupt.
func damaged(name string, recovered any, err error) error {
	if recovered == nil {
		return err
	}
	return fmt.Errorf("%s: %w: the decoder failed: %v", name, ErrCorrupt, recovered)
}

// Rows is the number of rows that the footer says.
func (r *Reader) Rows() int64 { return r.pq.NumRows() }

// Close gives the file back.
func (r *Reader) Close() error {
	if r.src != nil {
		return r.src.Close()
	}
	return nil
}

// Scan calls fn with the columns of want, by field id, of all rows but the deleted ones in file order, as batches in ArrowSchema(want).
// A column that the file lacks is null; one of a narrower type is widened. The batch is valid during the call;
// retain it to keep it. An error of fn ends the scan and is returned.
func (r *Reader) Scan(ctx context.Context, want *iceberg.Schema, fn func(arrow.RecordBatch) error) (err error) {
	target, err := ArrowSchema(want)
	if err != nil {
		return err
	}
	var inFn bool
	defer func() {
		if !inFn { // a panic of fn is the caller's
			err = damaged(r.name, recover(), err)
		}
	}()
	leaves, err := r.leaves(want)
	if err != nil {
		return err
	}
	var del *deletions
	if r.opt.Deleted != nil && !r.opt.Deleted.IsEmpty() {
		del = &deletions{mem: r.opt.Mem, it: r.opt.Deleted.Iterator()}
	}
	pass := func(b arrow.RecordBatch) error {
		if del != nil {
			live, err := del.cut(b)
			if err != nil || live == nil {
				return err
			}
			defer live.Release()
			b = live
		}
		out, err := r.project(ctx, want, target, b)
		if err != nil {
			return err
		}
		defer out.Release()
		inFn = true
		err = fn(out)
		inFn = false
		return err
	}
	if len(leaves) == 0 {
		return r.nulls(ctx, pass)
	}
	groups, expect := r.groups()
	rr, err := r.arrow.GetRecordReader(ctx, leaves, groups)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", r.name, ErrCorrupt, err)
	}
	defer rr.Release()
	var rows int64
	for rr.Next() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		b := rr.RecordBatch()
		rows += b.NumRows()
		if err := pass(b); err != nil {
			return err
		}
	}
	if err := rr.Err(); err != nil && !errors.Is(err, io.EOF) {
		if ctx.Err() != nil || errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, objstore.ErrNotFound) {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		return fmt.Errorf("%s: %w: %w", r.name, ErrCorrupt, err)
	}
	if rows != expect {
		return fmt.Errorf("%s: %w: %d rows, the footer says %d", r.name, ErrCorrupt, rows, expect)
	}
	return nil
}

// groups are the row groups to be read, and how many rows they have.
func (r *Reader) groups() (groups []int, rows int64) {
	leaf := -1
	if w := r.opt.Within; w != nil && r.opt.Deleted == nil {
		for i := range r.arrow.Manifest.Fields {
			f := &r.arrow.Manifest.Fields[i]
			if id, ok := fieldID(*f.Field); ok && id == w.FieldID {
				leaf = f.ColIndex
			}
		}
	}
	for i := range r.pq.NumRowGroups() {
		g := r.pq.MetaData().RowGroup(i)
		if leaf >= 0 && r.outside(g, leaf) {
			continue
		}
		groups, rows = append(groups, i), rows+g.NumRows()
	}
	return groups, rows
}

// outside tells that no value of a row group lies in the range that is asked for.
func (r *Reader) outside(g *metadata.RowGroupMetaData, leaf int) bool {
	c, err := g.ColumnChunk(leaf)
	if err != nil {
		return false
	}
	st, err := c.Statistics()
	if err != nil || st == nil || !st.HasMinMax() {
		return false
	}
	s, ok := st.(*metadata.Int64Statistics)
	return ok && (s.Max() < r.opt.Within.From || s.Min() > r.opt.Within.To)
}

// leaves returns the file's column indices under the top-level fields that want names.
func (r *Reader) leaves(want *iceberg.Schema) ([]int, error) {
	wanted := map[int]bool{}
	for _, f := range want.Fields() {
		wanted[f.ID] = true
	}
	var out []int
	var walk func(f *pqarrow.SchemaField)
	walk = func(f *pqarrow.SchemaField) {
		if f.ColIndex >= 0 {
			out = append(out, f.ColIndex)
		}
		for i := range f.Children {
			walk(&f.Children[i])
		}
	}
	for i := range r.arrow.Manifest.Fields {
		f := &r.arrow.Manifest.Fields[i]
		id, ok := fieldID(*f.Field)
		if !ok {
			return nil, fmt.Errorf("%s: column %s has no field id: rewrite the file with an engine that writes them", r.name, f.Field.Name)
		}
		if wanted[id] {
			walk(f)
		}
	}
	return out, nil
}

// nulls passes batches without columns, for a want of which the file has nothing.
func (r *Reader) nulls(ctx context.Context, pass func(arrow.RecordBatch) error) error {
	empty := arrow.NewSchema(nil, nil)
	for left := r.pq.NumRows(); left > 0; left -= r.opt.BatchRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := pass(array.NewRecordBatch(empty, nil, min(left, r.opt.BatchRows))); err != nil {
			return err
		}
	}
	return nil
}

// project puts the file's columns into the wanted order and types.
func (r *Reader) project(ctx context.Context, want *iceberg.Schema, target *arrow.Schema, b arrow.RecordBatch) (arrow.RecordBatch, error) {
	have := map[int]int{}
	for i, f := range b.Schema().Fields() {
		if id, ok := fieldID(f); ok {
			have[id] = i
		}
	}
	cols := make([]arrow.Array, target.NumFields())
	defer func() {
		for _, c := range cols {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, f := range target.Fields() {
		id, _ := fieldID(f)
		at, ok := have[id]
		if !ok {
			cols[i] = array.MakeArrayOfNull(r.opt.Mem, f.Type, int(b.NumRows()))
			continue
		}
		c := b.Column(at)
		if !arrow.TypeEqual(c.DataType(), f.Type) {
			return r.convert(ctx, want, target, b)
		}
		c.Retain()
		cols[i] = c
	}
	return array.NewRecordBatch(target, cols, b.NumRows()), nil
}

// convert is the slow way: nested fields that came or went, and widened types.
func (r *Reader) convert(ctx context.Context, want *iceberg.Schema, target *arrow.Schema, b arrow.RecordBatch) (arrow.RecordBatch, error) {
	fileSchema, err := table.ArrowSchemaToIceberg(b.Schema(), false, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: schema of the file: %w", r.name, err)
	}
	out, err := table.ToRequestedSchema(ctx, want, fileSchema, b, table.SchemaOptions{IncludeFieldIDs: true})
	if err != nil {
		return nil, fmt.Errorf("%s: columns as the table has them: %w", r.name, err)
	}
	defer out.Release()
	return array.NewRecordBatch(target, out.Columns(), out.NumRows()), nil
}
