package flight

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/firnlake/firn/query"
)

// sender writes Arrow messages into a call. Send blocks while the client's flow-control window is full, so a slow
// reader holds its query back and nothing piles up here.
type sender struct {
	stream  flight.FlightService_DoGetServer
	first   []byte // app_metadata of the first message, the schema
	metrics *metrics
	kind    string // label: sql | scan | tail | watch
}

func (s *sender) Send(d *flight.FlightData) error {
	if s.first != nil {
		d.AppMetadata = s.first
		defer func() { d.AppMetadata = nil }() // the writer uses the same FlightData again
		s.first = nil
	}
	s.metrics.bytes.WithLabelValues(s.kind).Add(float64(len(d.DataHeader) + len(d.DataBody)))
	return s.stream.Send(d)
}

// acquire takes a slot for a query; release gives it back.
func (s *Server) acquire() (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		s.metrics.streams.Inc()
		return func() {
			s.metrics.streams.Dec()
			<-s.slots
		}, nil
	default:
		return nil, fmt.Errorf("%w: %d queries are running (max_concurrent): try again", query.ErrLimit, s.cfg.MaxConcurrent)
	}
}

// sendResult streams res and releases it. announce puts the pins before the rows, for clients that speak Firn's
// commands; they also follow as a trailer.
func (s *Server) sendResult(stream flight.FlightService_DoGetServer, kind string, res query.Result, announce bool) error {
	defer res.Release()
	out := &sender{stream: stream, metrics: s.metrics, kind: kind}
	if announce {
		out.first = encodePins(res.Pins(), true)
	}
	w := flight.NewRecordWriter(out, ipc.WithSchema(res.Schema()), ipc.WithAllocator(s.mem))
	if err := s.sendRows(stream.Context(), w, kind, res); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // sends the schema when no row came
		return fmt.Errorf("flight: end the stream: %w", err)
	}
	stream.SetTrailer(pinsTrailer(res.Pins()))
	return nil
}

func (s *Server) sendRows(ctx context.Context, w *flight.Writer, kind string, res query.Result) error {
	for res.Next(ctx) {
		if err := s.sendBatch(w, kind, res.RecordBatch()); err != nil {
			return err
		}
	}
	return res.Err()
}

// sendBatch sends r in halves, and halves of those, until each piece is small enough or a single row.
func (s *Server) sendBatch(w *flight.Writer, kind string, r arrow.RecordBatch) error {
	n := r.NumRows()
	if n > 1 && batchBytes(r) > int64(s.cfg.MaxBatch) {
		for _, half := range []arrow.RecordBatch{r.NewSlice(0, n/2), r.NewSlice(n/2, n)} {
			err := s.sendBatch(w, kind, half)
			half.Release()
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := w.Write(r); err != nil {
		return fmt.Errorf("flight: send: %w", err)
	}
	s.metrics.rows.WithLabelValues(kind).Add(float64(n))
	return nil
}

// batchBytes is about what r takes on the wire: only the rows of a slice count, unlike with arrowmem.
func batchBytes(r arrow.RecordBatch) int64 {
	var n int64
	for _, c := range r.Columns() {
		n += sliceBytes(c, 0, c.Len())
	}
	return n
}

// sliceBytes is the buffers of rows [from, to) of a.
func sliceBytes(a arrow.Array, from, to int) int64 {
	rows := int64(to - from)
	if rows <= 0 {
		return 0
	}
	n := bitutil.BytesForBits(rows)
	switch a := a.(type) {
	case *array.Null:
		return 0
	case array.BinaryLike:
		return n + 8*rows + a.ValueOffset64(to-1) + int64(a.ValueLen(to-1)) - a.ValueOffset64(from)
	case *array.Struct:
		for i := range a.NumField() { // fields are sliced with their parent
			n += sliceBytes(a.Field(i), from, to)
		}
		return n
	case *array.FixedSizeList:
		start, _ := a.ValueOffsets(from)
		_, end := a.ValueOffsets(to - 1)
		return n + sliceBytes(a.ListValues(), int(start), int(end))
	case array.ListLike:
		start, _ := a.ValueOffsets(from)
		_, end := a.ValueOffsets(to - 1)
		return n + 8*rows + sliceBytes(a.ListValues(), int(start), int(end))
	case array.ExtensionArray:
		return sliceBytes(a.Storage(), from, to)
	}
	if w, ok := a.DataType().(arrow.FixedWidthDataType); ok {
		return n + (rows*int64(w.BitWidth())+7)/8
	}
	var all int64 // a layout without a cheap answer: the whole of its buffers
	for _, b := range a.Data().Buffers() {
		if b != nil {
			all += int64(b.Len())
		}
	}
	return all
}
