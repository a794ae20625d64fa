package commit

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// output is one data file of a batch. Its bytes are dropped once it is on storage.
type output struct {
	location  string
	data      []byte
	stats     datafile.Stats
	partition map[int]any
}

// fileLayout is how rows become files.
type fileLayout struct {
	spec    iceberg.PartitionSpec
	order   table.SortOrder
	options datafile.WriteOptions
	size    int64 // where a file ends
}

// layoutOf is the table's own layout; what w sets comes before its properties.
func layoutOf(meta table.Metadata, sc *iceberg.Schema, w datafile.WriteOptions) fileLayout {
	o := layout.OptionsOf(meta.Properties(), sc, datafile.DefaultWriteOptions())
	if w.Codec != "" {
		o.Codec = w.Codec
	}
	if w.RowGroupRows > 0 {
		o.RowGroupRows = w.RowGroupRows
	}
	if w.Mem != nil {
		o.Mem = w.Mem
	}
	return fileLayout{spec: meta.PartitionSpec(), order: meta.SortOrder(), options: o, size: layout.FileSize(meta.Properties())}
}

// encodeFiles writes rows as Parquet, a file for each partition value or more where they are large, in memory.
func encodeFiles(ctx context.Context, meta table.Metadata, sc *iceberg.Schema, lay fileLayout, rows []arrow.RecordBatch) ([]*output, error) {
	e, err := newEncoder(meta, sc, lay)
	if err != nil {
		return nil, err
	}
	defer e.drop()
	return e.finish(ctx, rows)
}

// encoder makes the files of one batch. Its rows come at once, or some of them before the others; then the files that were begun
// stay open until the end.
type encoder struct {
	meta   table.Metadata
	schema *iceberg.Schema
	lay    fileLayout
	split  *splitter
	keys   []layout.SortKey
	sorted bool

	open  map[string]*fileWriter // by partition values
	order []*fileWriter          // the same as they came
}

func newEncoder(meta table.Metadata, sc *iceberg.Schema, lay fileLayout) (*encoder, error) {
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	e := &encoder{meta: meta, schema: sc, lay: lay, open: map[string]*fileWriter{}}
	if e.split, err = newSplitter(lay.options.Mem, lay.spec, sc, as); err != nil {
		return nil, err
	}
	e.keys, e.sorted = layout.SortKeys(lay.order, sc)
	return e, nil
}

// add writes rows into open files, no more than most of them; false when there would be more, or when the files are sorted,
// for which all rows have to be there. Then nothing but drop may follow.
func (e *encoder) add(ctx context.Context, rows []arrow.RecordBatch, most int) (bool, error) {
	if e.sorted {
		return false, nil
	}
	groups, err := e.split.split(ctx, rows)
	if err != nil {
		return false, err
	}
	defer releaseGroups(groups)
	for _, g := range groups {
		w := e.open[g.key]
		if w == nil {
			if len(e.open) == most {
				return false, nil
			}
			w = &fileWriter{schema: e.schema, lay: e.lay, values: g.values}
			e.open[g.key], e.order = w, append(e.order, w)
		}
		if err := w.write(g.rows); err != nil {
			return false, err
		}
	}
	return true, nil
}

// finish writes the last rows and returns all files. A partition that has rows in these alone is written whole before the next,
// so that many of them do not take memory together.
func (e *encoder) finish(ctx context.Context, rows []arrow.RecordBatch) ([]*output, error) {
	groups, err := e.split.split(ctx, rows)
	if err != nil {
		return nil, err
	}
	defer releaseGroups(groups)
	var out []*output
	end := func(w *fileWriter) error {
		if err := w.end(); err != nil {
			return err
		}
		for _, f := range w.out {
			f.location, f.partition = snapshot.DataLocation(e.meta, uuid.NewString()+".parquet"), w.values
			if e.sorted {
				f.stats.SortOrderID = e.lay.order.OrderID()
			}
		}
		if out = append(out, w.out...); len(out) > maxFiles {
			return fmt.Errorf("%w: one batch gives more than %d files: choose a coarser partition_by, or a larger layout.file_size", ErrTable, maxFiles)
		}
		return nil
	}
	for _, g := range groups {
		if e.sorted {
			if err := g.sort(ctx, e.lay.options.Mem, e.keys); err != nil {
				return nil, err
			}
		}
		w, begun := e.open[g.key]
		if !begun {
			w = &fileWriter{schema: e.schema, lay: e.lay, values: g.values}
		}
		err := w.write(g.rows)
		g.release()
		if err == nil && !begun {
			err = end(w)
		}
		if err != nil {
			w.drop()
			return nil, err
		}
	}
	for _, w := range e.order {
		if err := end(w); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// drop gives back what unfinished files hold.
func (e *encoder) drop() {
	for _, w := range e.order {
		w.drop()
	}
}

// sort puts the group's rows in order.
func (g *group) sort(ctx context.Context, mem memory.Allocator, keys []layout.SortKey) error {
	all, err := layout.Sort(ctx, mem, g.rows, keys)
	if err != nil {
		return err
	}
	g.release()
	g.rows = []arrow.RecordBatch{all}
	return nil
}

// sizedRows is after how many rows the size of a file is looked at.
const sizedRows = 64 << 10

// fileWriter writes the rows of one partition value, as they come, into files that end near the layout's size.
type fileWriter struct {
	schema *iceberg.Schema
	lay    fileLayout
	values map[int]any
	out    []*output // finished

	buf *bytes.Buffer
	w   *datafile.Writer // nil between two files
}

func (f *fileWriter) write(rows []arrow.RecordBatch) (err error) {
	for _, r := range rows {
		for from := int64(0); from < r.NumRows(); from += sizedRows {
			if f.w == nil {
				f.buf = &bytes.Buffer{}
				if f.w, err = datafile.NewWriter(f.buf, f.schema, f.lay.options); err != nil {
					return err
				}
			}
			part := r.NewSlice(from, min(from+sizedRows, r.NumRows()))
			err := f.w.Write(part)
			part.Release()
			if err != nil {
				return err
			}
			if f.w.Size() >= f.lay.size {
				if err := f.end(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// end finishes the file at hand, if there is one.
func (f *fileWriter) end() error {
	if f.w == nil {
		return nil
	}
	st, err := f.w.Close()
	f.out, f.w = append(f.out, &output{data: f.buf.Bytes(), stats: st}), nil
	return err
}

// drop gives the buffers of an unfinished file back.
func (f *fileWriter) drop() {
	if f.w != nil {
		_, _ = f.w.Close()
		f.w = nil
	}
}

// upload puts the files that are not on storage yet there, a bounded number at a time. Those that arrive stay there
// whatever becomes of the rest, and are not sent again.
func (c *Committer) upload(ctx context.Context, files []*output) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	slots := make(chan struct{}, c.cfg.MaxUploads)
	for _, f := range files {
		if f.data == nil {
			continue
		}
		slots <- struct{}{}
		mu.Lock()
		failed := first != nil
		mu.Unlock()
		if failed {
			<-slots
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := c.put(ctx, f); err != nil {
				mu.Lock()
				if first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return first
}

// put writes one file. The name is this batch's own, so a second write after a lost answer does no harm.
func (c *Committer) put(ctx context.Context, f *output) error {
	key, err := c.wh.Key(f.location)
	if err != nil {
		return err
	}
	if _, err := c.wh.Put(ctx, key, bytes.NewReader(f.data), objstore.Overwrite); err != nil {
		return fmt.Errorf("data file %s: %w", f.location, err)
	}
	f.data = nil
	crash.At(ctx, crash.FileUploaded)
	return nil
}

// timed measures a phase. Phases that come again in one batch add up.
type timed map[string]time.Duration

func (t timed) since(phase string, start time.Time) { t[phase] += time.Since(start) }
