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
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	mem := lay.options.Mem
	s, err := newSplitter(mem, lay.spec, sc, as)
	if err != nil {
		return nil, err
	}
	groups, err := s.split(ctx, rows)
	if err != nil {
		return nil, err
	}
	defer releaseGroups(groups)
	keys, sorted := layout.SortKeys(lay.order, sc)
	var out []*output
	for _, g := range groups {
		if sorted {
			if err := g.sort(ctx, mem, keys); err != nil {
				return nil, err
			}
		}
		files, err := writeGroup(sc, g, lay)
		if err != nil {
			return nil, err
		}
		g.release()
		for _, f := range files {
			f.location, f.partition = snapshot.DataLocation(meta, uuid.NewString()+".parquet"), g.values
			if sorted {
				f.stats.SortOrderID = lay.order.OrderID()
			}
		}
		if out = append(out, files...); len(out) > maxFiles {
			return nil, fmt.Errorf("%w: one batch gives more than %d files: choose a coarser partition_by, or a larger layout.file_size", ErrTable, maxFiles)
		}
	}
	return out, nil
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

// writeGroup writes a group's rows, in order, into files that end near the layout's size.
func writeGroup(sc *iceberg.Schema, g *group, lay fileLayout) (out []*output, err error) {
	var buf *bytes.Buffer
	var w *datafile.Writer
	end := func() error {
		st, err := w.Close()
		out, w = append(out, &output{data: buf.Bytes(), stats: st}), nil
		return err
	}
	defer func() {
		if w != nil {
			_, _ = w.Close() // gives its buffers back
		}
	}()
	for _, r := range g.rows {
		for from := int64(0); from < r.NumRows(); from += sizedRows {
			if w == nil {
				buf = &bytes.Buffer{}
				if w, err = datafile.NewWriter(buf, sc, lay.options); err != nil {
					return nil, err
				}
			}
			part := r.NewSlice(from, min(from+sizedRows, r.NumRows()))
			err := w.Write(part)
			part.Release()
			if err != nil {
				return nil, err
			}
			if w.Size() >= lay.size {
				if err := end(); err != nil {
					return nil, err
				}
			}
		}
	}
	if w != nil {
		return out, end()
	}
	return out, nil
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
