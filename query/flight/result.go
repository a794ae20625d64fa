package flight

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc"

	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight/ipccheck"
)

func flightClient(conn *grpc.ClientConn) flightRPC { return pb.NewFlightServiceClient(conn) }

// checkedGet hands on messages of a server that ipccheck has passed.
type checkedGet struct {
	stream flight.FlightService_DoGetClient
	check  *ipccheck.Stream
	first  []byte // app_metadata of the first message
	begun  bool
}

func (g *checkedGet) Recv() (*flight.FlightData, error) {
	for {
		d, err := g.stream.Recv()
		if err != nil {
			return nil, err
		}
		if !g.begun {
			g.begun, g.first = true, d.GetAppMetadata()
		}
		if len(d.GetDataHeader()) == 0 { // metadata alone; arrow-go would panic on it
			continue
		}
		if err := g.check.Check(d.GetDataHeader(), d.GetDataBody()); err != nil {
			return nil, err
		}
		return d, nil
	}
}

// result reads a stream; it implements query.Result.
type result struct {
	client *Client
	in     *checkedGet
	reader *flight.Reader
	first  []byte
	pins   []query.Pin
	cancel context.CancelFunc
	err    error
	once   sync.Once
}

var _ query.Result = (*result)(nil)

// newResult reads the schema; the result owns cancel.
func newResult(c *Client, in *checkedGet, cancel context.CancelFunc) (*result, error) {
	reader, err := flight.NewRecordReader(in, ipc.WithAllocator(c.mem))
	if err != nil {
		return nil, err
	}
	return &result{client: c, in: in, reader: reader, first: in.first, cancel: cancel}, nil
}

func (r *result) Schema() *arrow.Schema { return r.reader.Schema() }

func (r *result) Next(ctx context.Context) bool {
	if r.err != nil {
		return false
	}
	if err := ctx.Err(); err != nil {
		r.err = err
		return false
	}
	stop := context.AfterFunc(ctx, r.cancel) // the call has a context of its own
	ok := r.reader.Next()
	if stop(); ok {
		return true
	}
	if err := r.reader.Err(); err != nil {
		if r.err = ctx.Err(); r.err == nil {
			r.err = r.client.failed("read", err)
		}
	}
	return false
}

func (r *result) RecordBatch() arrow.RecordBatch { return r.reader.RecordBatch() }

func (r *result) Err() error { return r.err }

func (r *result) Pins() []query.Pin { return r.pins }

// Release ends the call: the server stops the query.
func (r *result) Release() {
	r.once.Do(func() {
		r.cancel()
		r.reader.Release()
		if r.err == nil {
			r.err = errReleased
		}
	})
}

var errReleased = errors.New("the result was released")

// drain reads every batch, each retained, until the bytes reach the bound.
func (r *result) drain(ctx context.Context, maxBytes int64) ([]arrow.RecordBatch, error) {
	var (
		rows  []arrow.RecordBatch
		bytes int64
	)
	for r.Next(ctx) {
		b := r.RecordBatch()
		if bytes += batchBytes(b); bytes > maxBytes {
			releaseAll(rows)
			return nil, fmt.Errorf("%w: the newest rows take more than %d bytes", query.ErrLimit, maxBytes)
		}
		b.Retain()
		rows = append(rows, b)
	}
	if r.Err() != nil {
		releaseAll(rows)
		return nil, r.Err()
	}
	return rows, nil
}
