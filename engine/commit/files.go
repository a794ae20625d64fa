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

// encodeFiles writes rows as Parquet, a file for each partition value of the table's spec, in memory.
func encodeFiles(ctx context.Context, meta table.Metadata, sc *iceberg.Schema, spec iceberg.PartitionSpec, rows []arrow.RecordBatch, o datafile.WriteOptions) ([]*output, error) {
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	mem := o.Mem
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	s, err := newSplitter(mem, spec, sc, as)
	if err != nil {
		return nil, err
	}
	groups, err := s.split(ctx, rows)
	if err != nil {
		return nil, err
	}
	defer releaseGroups(groups)
	var out []*output
	for _, g := range groups {
		var buf bytes.Buffer
		st, err := datafile.Write(&buf, sc, g.rows, o)
		if err != nil {
			return nil, err
		}
		g.release()
		out = append(out, &output{location: snapshot.DataLocation(meta, uuid.NewString()+".parquet"), data: buf.Bytes(), stats: st, partition: g.values})
	}
	return out, nil
}

// schemaOf finds the table's schema that rows are in: mostly the current one, an earlier one after another engine
// changed it. Files in an earlier schema are as good, because columns are known by their ids.
func schemaOf(meta table.Metadata, as *arrow.Schema) (*iceberg.Schema, error) {
	candidates := []*iceberg.Schema{meta.CurrentSchema()}
	candidates = append(candidates, meta.Schemas()...)
	for _, sc := range candidates {
		have, err := datafile.ArrowSchema(sc)
		if err != nil {
			return nil, err
		}
		if sameFields(have.Fields(), as.Fields()) {
			return sc, nil
		}
	}
	return nil, fmt.Errorf("%w: its schema is another than when the pipeline began, and rows in the old one do not fit: restart the pipeline", ErrTable)
}

func sameFields(a, b []arrow.Field) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		ai, _ := a[i].Metadata.GetValue(table.ArrowParquetFieldIDKey)
		bi, _ := b[i].Metadata.GetValue(table.ArrowParquetFieldIDKey)
		if a[i].Name != b[i].Name || ai != bi || !arrow.TypeEqual(a[i].Type, b[i].Type) {
			return false
		}
	}
	return true
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
