package query

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/snapshot"
)

// inFiles is a range of rows as far as the pinned files can hold it. Firn's own rows all lie below the snapshot's vector, so who asks
// for a row that is not committed yet, as a reader that follows a topic does over and over, needs no file. A range that bounds
// nothing stays one: rows of other engines have no offsets. A table without a vector is not Firn's.
func (p *pinned) inFiles(r past.Rows) past.Rows {
	if !r.All() && len(p.Committed) > 0 {
		r = r.Below(p.Committed)
	}
	return r.Below(p.below)
}

// filesOf lists the files of a pinned table that can hold rows of the range, by the statistics of the manifests.
func (s *Service) filesOf(ctx context.Context, p *pinned, r past.Rows) ([]snapshot.File, error) {
	if p.snap == nil || r.None() {
		return nil, nil
	}
	partition, offs, _ := past.LedgerColumns(p.schema)
	pruned := 0
	files, err := s.manifests.LiveFiles(ctx, p.snap, func(df iceberg.DataFile) bool {
		if r.MayHold(past.BoundsOf(df, partition, offs)) {
			return true
		}
		pruned++
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Table, classify(err))
	}
	for _, f := range files {
		if f.FileFormat() != iceberg.ParquetFile {
			return nil, fmt.Errorf("%s: %s is a %s file: only Parquet is read here", p.Table, f.FilePath(), f.FileFormat())
		}
	}
	s.metrics.files.WithLabelValues("pruned").Add(float64(pruned))
	s.metrics.files.WithLabelValues("read").Add(float64(len(files)))
	return files, nil
}

// maxChecks bounds the files of one statement that are fetched and checked at the same time.
const maxChecks = 8

// localFiles brings the files onto local disk, checked, in their order. release gives all of them back.
func (s *Service) localFiles(ctx context.Context, p *pinned, files []snapshot.File, r past.Rows) (out []File, release func(), err error) {
	partition, offs, _ := past.LedgerColumns(p.schema)
	out = make([]File, len(files))
	releases := make([]func(), len(files))
	release = func() {
		for _, f := range releases {
			if f != nil {
				f()
			}
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(maxChecks, len(files)) {
		wg.Go(func() {
			for i := range next {
				f, free, err := s.files.local(ctx, files[i].FilePath(), files[i].FileSizeBytes())
				if err != nil {
					cancel(err)
					continue
				}
				f.Deleted = files[i].Deleted
				f.Whole = r.HoldsAll(past.BoundsOf(files[i], partition, offs))
				out[i], releases[i] = f, free
			}
		})
	}
	for i := range files {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		release()
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%s: %w", p.Table, err)
	}
	return out, release, nil
}
