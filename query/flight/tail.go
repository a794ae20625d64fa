package flight

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/offset"
)

// cutAnswer is the app_metadata of the first message of a tail's stream.
type cutAnswer struct {
	From  vector `json:"from"`
	End   vector `json:"end"`
	Epoch int64  `json:"epoch"`
}

// sendTail streams the rows of a cut. The rows are held until the last is sent or the call ends.
func (s *Server) sendTail(c command, stream flight.FlightService_DoGetServer) error {
	if s.tails == nil {
		return fmt.Errorf("%w: no ingest runs in this process", hot.ErrNoTail)
	}
	id, err := c.table()
	if err != nil {
		return err
	}
	release, err := s.acquire()
	if err != nil {
		return err
	}
	defer release()
	cut, err := s.tails.Cut(stream.Context(), id, offset.Vector(c.From), c.Epoch)
	if err != nil {
		return err
	}
	defer cut.Release()
	first, err := json.Marshal(cutAnswer{From: vector(cut.From), End: vector(cut.End), Epoch: cut.Epoch})
	if err != nil {
		return fmt.Errorf("flight: tail: %w", err)
	}
	schema := arrow.NewSchema(nil, nil) // of a cut without rows
	if len(cut.Rows) > 0 {
		schema = cut.Rows[0].Schema()
	}
	w := flight.NewRecordWriter(&sender{stream: stream, first: first, metrics: s.metrics, kind: "tail"}, ipc.WithSchema(schema), ipc.WithAllocator(s.mem))
	for _, r := range cut.Rows {
		if err := s.sendBatch(w, "tail", r); err != nil {
			return errors.Join(err, stream.Context().Err())
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("flight: end the tail: %w", err)
	}
	return nil
}
