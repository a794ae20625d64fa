package tail

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/firnlake/firn/internal/arrowmem"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// segment is one decoded stretch of one partition.
type segment struct {
	rows       arrow.RecordBatch // nil when the stretch gave no row
	start, end int64
	bytes      int64
	committed  time.Time // when a snapshot first held it; zero while it does not
}

// partition is the segments of one partition in offset order.
type partition struct {
	segments []segment
	low      int64 // first offset that Cut can still answer from
	end      int64 // next offset to come
	behind   bool  // there are rows below low, dropped since or never held
}

// Tail implements engine.Tail and answers cuts. Safe for concurrent use.
type Tail struct {
	grace time.Duration
	most  int64
	now   func() time.Time

	mu    sync.Mutex
	epoch int64
	parts map[int32]*partition
	bytes int64
	kept  int64 // of bytes, those of committed rows
	open  bool  // false until the first Reset: nothing is known yet
}

// New returns a tail that keeps committed rows for another grace time, so that a query whose snapshot is a little
// old finds them, but no more than most bytes of them: a pipeline that catches up commits in a second what no query waits for. A
// query that comes too late for them is told so, and has them in the next snapshot.
func New(grace time.Duration, most int64, now func() time.Time) *Tail {
	return &Tail{grace: grace, most: most, now: now, parts: map[int32]*partition{}}
}

// Append implements engine.Tail.
func (t *Tail) Append(rows arrow.RecordBatch, r offset.Range) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parts[r.Partition]
	if p == nil {
		p = &partition{low: r.Start, end: r.Start}
		t.parts[r.Partition] = p
	}
	if r.Start != p.end { // a source that starts over is preceded by Reset; keep the contiguity all the same
		t.dropLocked(p, len(p.segments))
		p.low = r.Start
	}
	s := segment{start: r.Start, end: r.End}
	if rows != nil && rows.NumRows() > 0 {
		rows.Retain()
		s.rows, s.bytes = rows, arrowmem.Bytes(rows)
		t.bytes += s.bytes
	}
	p.segments = append(p.segments, s)
	p.end = r.End
	t.evictLocked(p)
}

// Committed implements engine.Tail.
func (t *Tail) Committed(v offset.Vector) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for id, p := range t.parts {
		for i := range p.segments {
			s := &p.segments[i]
			if s.committed.IsZero() && s.end <= v[id] {
				s.committed = now
				t.kept += s.bytes
			}
		}
		t.evictLocked(p)
	}
	for t.kept > t.most && t.evictOldestLocked() {
	}
}

// evictOldestLocked drops the rows that were committed first, of all partitions; false when there are none.
func (t *Tail) evictOldestLocked() bool {
	var oldest time.Time
	for _, p := range t.parts {
		if len(p.segments) > 0 {
			if at := p.segments[0].committed; !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
	}
	if oldest.IsZero() {
		return false
	}
	for _, p := range t.parts {
		t.dropLocked(p, p.committedBy(oldest))
	}
	return true
}

// evictLocked drops the segments at the front that are committed for longer than the grace time.
func (t *Tail) evictLocked(p *partition) {
	t.dropLocked(p, p.committedBy(t.now().Add(-t.grace)))
}

// committedBy is how many segments at the front were committed at that time.
func (p *partition) committedBy(at time.Time) (n int) {
	for n < len(p.segments) && !p.segments[n].committed.IsZero() && !p.segments[n].committed.After(at) {
		n++
	}
	return n
}

func (t *Tail) dropLocked(p *partition, n int) {
	for i := range p.segments[:n] {
		s := &p.segments[i]
		p.low, p.behind = s.end, true
		t.bytes -= s.bytes
		if !s.committed.IsZero() {
			t.kept -= s.bytes
		}
		if s.rows != nil {
			s.rows.Release()
			s.rows = nil
		}
	}
	p.segments = append(p.segments[:0], p.segments[n:]...)
}

// Reset implements engine.Tail.
func (t *Tail) Reset(epoch int64, v offset.Vector) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		t.dropLocked(p, len(p.segments))
	}
	t.epoch, t.open = epoch, true
	t.parts = make(map[int32]*partition, len(v))
	for id, at := range v {
		t.parts[id] = &partition{low: at, end: at, behind: at > 0}
	}
}

// Close forgets all rows and answers hot.ErrNoTail from then on.
func (t *Tail) Close() {
	t.Reset(0, nil)
	t.mu.Lock()
	t.open = false
	t.mu.Unlock()
}

// Bytes implements engine.Tail.
func (t *Tail) Bytes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// End returns the next offset to come per partition.
func (t *Tail) End() offset.Vector {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endLocked()
}

func (t *Tail) endLocked() offset.Vector {
	v := make(offset.Vector, len(t.parts))
	for id, p := range t.parts {
		v[id] = p.end
	}
	return v
}

// Cut returns the rows from the vector on. A partition that the vector does not know is taken from its first row;
// one on which the tail is behind the vector gives no rows. Errors: hot.ErrNoTail, hot.ErrFenced, hot.ErrExpired.
func (t *Tail) Cut(_ context.Context, from offset.Vector, epoch int64) (*hot.Cut, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open {
		return nil, hot.ErrNoTail
	}
	if epoch != t.epoch {
		return nil, fmt.Errorf("%w: tail %d, snapshot %d", hot.ErrFenced, t.epoch, epoch)
	}
	for id, p := range t.parts {
		at, known := from[id]
		if (known && at < p.low) || (!known && p.behind) {
			return nil, fmt.Errorf("%w (partition %d starts at %d, asked from %d)", hot.ErrExpired, id, p.low, at)
		}
	}
	rows, end := []arrow.RecordBatch{}, from.Clone()
	for id, p := range t.parts {
		at, known := from[id]
		if !known {
			at = p.low
		}
		rows = append(rows, p.from(at)...)
		end[id] = max(p.end, at)
	}
	release := func() {
		for _, r := range rows {
			r.Release()
		}
	}
	return hot.NewCut(rows, from.Clone(), end, epoch, release), nil
}

// from returns the rows at or after the offset, each retained for the caller.
func (p *partition) from(at int64) []arrow.RecordBatch {
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].end > at })
	var out []arrow.RecordBatch
	for _, s := range p.segments[i:] {
		switch {
		case s.rows == nil:
		case s.start >= at:
			s.rows.Retain()
			out = append(out, s.rows)
		default:
			if r := sliceFrom(s.rows, at); r != nil {
				out = append(out, r)
			}
		}
	}
	return out
}

// sliceFrom returns the rows of r whose offset is at or after the given one; nil when there is none.
func sliceFrom(r arrow.RecordBatch, at int64) arrow.RecordBatch {
	cols := r.Schema().FieldIndices(ledger.ColOffset)
	if len(cols) != 1 {
		r.Retain()
		return r
	}
	offsets := r.Column(cols[0]).(*array.Int64)
	n := sort.Search(offsets.Len(), func(i int) bool { return offsets.Value(i) >= at })
	if n == offsets.Len() {
		return nil
	}
	return r.NewSlice(int64(n), r.NumRows())
}
