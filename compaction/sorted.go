package compaction

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/errgroup"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	// maxSortedInputs and maxSortedBytes bound what a merge in order holds in memory: of each input a row group as it is stored,
	// and a batch. A job beyond them gives a file in no order.
	maxSortedInputs = 64
	maxSortedBytes  = 128 << 20
	// maxOpening is how many inputs of a merge in order are opened at a time.
	maxOpening = 8
	// minSortedRows is the least batch of one input, however many there are.
	minSortedRows = 64
)

// orderOf is by what the rows of a job's output are ordered: the table's sort order, if every input says that it has it. Keys
// are nil otherwise.
func orderOf(meta table.Metadata, schema *iceberg.Schema, inputs []snapshot.File, group int64) (keys []layout.SortKey, id int) {
	order := meta.SortOrder()
	keys, ok := layout.SortKeys(order, schema)
	if !ok || len(inputs) > maxSortedInputs {
		return nil, 0
	}
	var held int64
	for _, f := range inputs {
		has := f.SortOrderID()
		if has == nil || *has != order.OrderID() {
			return nil, 0
		}
		held += min(f.FileSizeBytes(), group)
	}
	if held > maxSortedBytes {
		return nil, 0
	}
	return keys, order.OrderID()
}

// mergeRows writes all rows of the inputs in the order of the keys. An input that is not in it is layout.ErrUnsorted.
func (c *Compactor) mergeRows(ctx context.Context, inputs []snapshot.File, schema *iceberg.Schema, batchRows int64, keys []layout.SortKey, w *datafile.Writer) (err error) {
	readers, err := c.openAll(ctx, inputs, max(batchRows/int64(len(inputs)), minSortedRows))
	if err != nil {
		return err
	}
	sources := make([]layout.Source, len(inputs))
	for i, r := range readers {
		defer func() { err = errors.Join(err, r.Close()) }()
		next, stop := iter.Pull2(batches(ctx, r, schema))
		defer stop()
		sources[i] = &input{inputs[i].FilePath(), next}
	}
	return layout.Merge(ctx, memory.DefaultAllocator, keys, sources, w.Write)
}

// openAll opens all inputs of a merge, some at a time: each is a request to the storage or two, which all have to be answered
// before the first row is there. Either all are open or none is.
func (c *Compactor) openAll(ctx context.Context, inputs []snapshot.File, batchRows int64) ([]*datafile.Reader, error) {
	readers := make([]*datafile.Reader, len(inputs))
	var g errgroup.Group // without a context of its own: readers go on reading under that which they were opened with
	g.SetLimit(maxOpening)
	for i, f := range inputs {
		g.Go(func() error {
			r, err := c.open(ctx, f, batchRows)
			if err != nil {
				return &fileError{f.FilePath(), err}
			}
			readers[i] = r
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		for _, r := range readers {
			if r != nil {
				err = errors.Join(err, r.Close())
			}
		}
		return nil, err
	}
	return readers, nil
}

// batches gives the batches of a file, each valid until the next is asked for.
func batches(ctx context.Context, r *datafile.Reader, schema *iceberg.Schema) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		stopped := errors.New("nobody asks for more")
		err := r.Scan(ctx, schema, func(b arrow.RecordBatch) error {
			if !yield(b, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(nil, err)
		}
	}
}

// input is a layout.Source.
type input struct {
	location string
	next     func() (arrow.RecordBatch, error, bool)
}

func (in *input) Next() (arrow.RecordBatch, error) {
	b, err, ok := in.next()
	switch {
	case !ok:
		return nil, io.EOF
	case err != nil:
		return nil, &fileError{in.location, err}
	}
	return b, nil
}
