package flight

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight/ipccheck"
)

// memEngine scans one batch in memory many times: what is measured is the wire.
type memEngine struct {
	fakeEngine
	rec   arrow.RecordBatch
	times int
}

func (e *memEngine) Scan(context.Context, query.ScanRequest, query.Options) (query.Result, error) {
	return &memResult{e: e, left: e.times}, nil
}

type memResult struct {
	e    *memEngine
	left int
}

func (r *memResult) Schema() *arrow.Schema          { return r.e.rec.Schema() }
func (r *memResult) RecordBatch() arrow.RecordBatch { return r.e.rec }
func (r *memResult) Err() error                     { return nil }
func (r *memResult) Pins() []query.Pin              { return nil }
func (r *memResult) Release()                       {}
func (r *memResult) Next(context.Context) bool {
	r.left--
	return r.left >= 0
}

// wide is a batch of 64Ki rows: 7 integers and a text of about 16 bytes.
func wide() arrow.RecordBatch {
	fields := []arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}
	for i := range 7 {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("i", i), Type: arrow.PrimitiveTypes.Int64})
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for i := range 64 << 10 {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("value %010d", i))
		for j := range 7 {
			b.Field(j + 1).(*array.Int64Builder).Append(int64(i * j))
		}
	}
	return b.NewRecordBatch()
}

// BenchmarkScan sends batches from memory to a client in the same process, over loopback.
func BenchmarkScan(b *testing.B) {
	rec := wide()
	defer rec.Release()
	eng := &memEngine{rec: rec, times: 64}
	s, err := NewServer(Config{}, eng, nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	c, err := Dial(context.Background(), lis.Addr().String(), ClientOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(eng.times) * batchBytes(rec))
	for b.Loop() {
		res, err := c.Scan(context.Background(), query.ScanRequest{Table: events}, query.Options{})
		if err != nil {
			b.Fatal(err)
		}
		rows := int64(0)
		for res.Next(context.Background()) {
			rows += res.RecordBatch().NumRows()
		}
		if res.Err() != nil || rows != int64(eng.times)*rec.NumRows() {
			b.Fatal(rows, res.Err())
		}
		res.Release()
	}
	if err := c.Close(); err != nil {
		b.Error(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		b.Error(err)
	}
	if err := <-served; err != nil {
		b.Error(err)
	}
}

// BenchmarkCheck is what the check of one such batch costs.
func BenchmarkCheck(b *testing.B) {
	rec := wide()
	defer rec.Release()
	var sent sentData
	w := newParamsWriter(&sent, rec.Schema())
	if err := w.Write(rec); err != nil {
		b.Fatal(err)
	}
	check := ipccheck.NewStream(ipccheck.DefaultLimits())
	if err := check.Check(sent[0].GetDataHeader(), nil); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(batchBytes(rec))
	for b.Loop() {
		if err := check.Check(sent[1].GetDataHeader(), sent[1].GetDataBody()); err != nil {
			b.Fatal(err)
		}
	}
}

var _ flight.DataStreamWriter = (*sentData)(nil)
