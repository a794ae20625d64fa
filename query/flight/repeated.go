package flight

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/query"
)

// repeated is the results of one statement under several rows of parameters, one after the other, each opened when
// the one before is read to its end.
type repeated struct {
	query.Result // the current one
	schema       *arrow.Schema
	rows         []arrow.RecordBatch
	open         func(context.Context, arrow.RecordBatch) (query.Result, error)
	err          error
}

func newRepeated(ctx context.Context, rows []arrow.RecordBatch, open func(context.Context, arrow.RecordBatch) (query.Result, error)) (*repeated, error) {
	first, err := open(ctx, rows[0])
	if err != nil {
		return nil, err
	}
	return &repeated{Result: first, schema: first.Schema(), rows: rows[1:], open: open}, nil
}

func (r *repeated) Schema() *arrow.Schema { return r.schema }

func (r *repeated) Next(ctx context.Context) bool {
	for r.err == nil {
		if r.Result.Next(ctx) {
			return true
		}
		if r.err = r.Result.Err(); r.err != nil || len(r.rows) == 0 {
			return false
		}
		next, err := r.open(ctx, r.rows[0])
		if err != nil {
			r.err = err
			return false
		}
		r.rows = r.rows[1:]
		r.Result.Release()
		if r.Result = next; !next.Schema().Equal(r.schema) {
			r.err = fmt.Errorf("%w: the rows of parameters give columns of different types: run them one by one", query.ErrInvalidSQL)
		}
	}
	return false
}

func (r *repeated) Err() error { return r.err }
