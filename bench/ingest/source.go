package ingest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

// source is a log in memory: the same events round and round at new offsets, over several partitions, up to a total.
type source struct {
	log        *events.Log
	partitions int32
	total      int64 // events of each partition

	mu   sync.Mutex
	next offset.Vector
	turn int32
}

func newSource(log *events.Log, partitions int, total int64) *source {
	return &source{log: log, partitions: int32(partitions), total: total / int64(partitions)}
}

func (s *source) Describe(context.Context) (engine.Topic, error) {
	t := engine.Topic{Name: "bench", ClusterID: "memory", TopicID: "n/a"}
	for p := range s.partitions {
		t.Partitions = append(t.Partitions, p)
	}
	return t, nil
}

func (s *source) Start(_ context.Context, from offset.Vector, _ map[int32]int32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = from.Clone()
	for p := range s.partitions {
		if _, known := s.next[p]; !known {
			s.next[p] = 0
		}
	}
	return nil
}

// Poll gives the next stretch of the partitions in turn, and waits for ever when all is read.
func (s *source) Poll(ctx context.Context) (*engine.Fetch, error) {
	if f := s.fetch(); f != nil {
		return f, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *source) fetch() *engine.Fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.partitions {
		p := s.turn
		s.turn = (s.turn + 1) % s.partitions
		at := s.next[p]
		left := s.total - at
		if left <= 0 {
			continue
		}
		from := s.log.Fetches[int(at/int64(len(s.log.Fetches[0].Records)))%len(s.log.Fetches)]
		f := *from
		f.Partition, f.Start = p, at
		f.Records = slices.Clone(from.Records[:min(left, int64(len(from.Records)))])
		f.Bytes = 0
		for i := range f.Records {
			f.Records[i].Offset = at + int64(i)
			f.Bytes += int64(len(f.Records[i].Value))
		}
		f.End = at + int64(len(f.Records))
		f.LastStable, f.LogStart = s.total, 0
		s.next[p] = f.End
		return &f
	}
	return nil
}

func (s *source) Positions() map[int32]engine.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int32]engine.Position{}
	for p := range maps.Keys(s.next) {
		out[p] = engine.Position{LastStable: s.total, HighWatermark: s.total}
	}
	return out
}

func (s *source) Health() error { return nil }
func (s *source) Close() error  { return nil }
