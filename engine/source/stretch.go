package source

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/firnlake/firn/engine"
)

// Sizes of pooled memory. What grew beyond maxPooled goes to the garbage collector, so that one large batch does not
// stay for ever.
const (
	smallChunk = 64 << 10
	largeChunk = 2 * stretchBytes
	maxPooled  = 32 << 20

	stretchOverhead = 512 // so that stretches without records are bounded in number too
)

var (
	replyPool  = sync.Pool{New: func() any { return new(reply) }}
	smallPool  = sync.Pool{New: func() any { b := make([]byte, 0, smallChunk); return &b }}
	largePool  = sync.Pool{New: func() any { b := make([]byte, 0, largeChunk); return &b }}
	recordPool = sync.Pool{New: func() any { return new([]engine.Record) }}
)

// reply is the memory of a fetch response, shared by the stretches whose records alias it.
type reply struct {
	buf  []byte
	refs atomic.Int32
}

func newReply() *reply {
	r := replyPool.Get().(*reply)
	r.refs.Store(1)
	return r
}

func (r *reply) release() {
	if r.refs.Add(-1) != 0 {
		return
	}
	if cap(r.buf) > maxPooled {
		r.buf = nil
	}
	replyPool.Put(r)
}

// stretch is an engine.Fetch and the memory behind it.
type stretch struct {
	engine.Fetch
	data    int64            // plain bytes of its batches, for its own bound
	size    int64            // memory that it keeps, for the bound on the read-ahead
	reply   *reply           // of the response; a reference of its own once aliased
	aliases bool             // records alias the response
	chunks  []*[]byte        // decompressed batches
	pooled  *[]engine.Record // what Records came from
	done    atomic.Bool
}

// newStretch returns an empty stretch of a partition in a response.
func newStretch(partition int32, r *reply) *stretch {
	s := &stretch{size: stretchOverhead, reply: r, pooled: recordPool.Get().(*[]engine.Record)}
	s.Partition = partition
	s.Records = (*s.pooled)[:0]
	s.Release = s.release
	return s
}

// alias keeps the response for n bytes of it that records point to.
func (s *stretch) alias(n int) {
	if !s.aliases {
		s.aliases = true
		s.reply.refs.Add(1)
	}
	s.size += int64(n)
	s.data += int64(n)
}

// decompress returns the plain bytes of a batch, in memory of the stretch.
func (s *stretch) decompress(d *decompressor, codec int8, src []byte) ([]byte, error) {
	const expected = 4 // times smaller than plain: only a guess at which chunk to take
	if n := len(s.chunks); n == 0 || cap(*s.chunks[n-1])-len(*s.chunks[n-1]) < 2*len(src) {
		pool := &smallPool
		if expected*len(src) > smallChunk || n > 0 {
			pool = &largePool
		}
		s.grow(pool.Get().(*[]byte))
	}
	chunk := s.chunks[len(s.chunks)-1]
	free := (*chunk)[len(*chunk):len(*chunk):cap(*chunk)]
	out, err := d.run(free, codec, src)
	if err != nil {
		return nil, err
	}
	s.data += int64(len(out))
	if cap(out) > 0 && cap(free) > 0 && &out[:1][0] == &free[:1][0] {
		*chunk = (*chunk)[:len(*chunk)+len(out)]
		return out[:len(out):len(out)], nil
	}
	// It did not fit and has memory of its own now, whose rest the next batch may use.
	s.grow(&out)
	return out[:len(out):len(out)], nil
}

func (s *stretch) grow(chunk *[]byte) {
	s.chunks = append(s.chunks, chunk)
	s.size += int64(cap(*chunk))
}

// release gives the memory back, once.
func (s *stretch) release() {
	if s.done.Swap(true) {
		return
	}
	clear(s.Records) // keys and values must not keep other memory alive
	*s.pooled = s.Records[:0]
	s.Records = nil
	if cap(*s.pooled)*int(recordSize) <= maxPooled {
		recordPool.Put(s.pooled)
	}
	for _, c := range s.chunks {
		*c = (*c)[:0]
		switch n := cap(*c); {
		case n >= largeChunk && n <= maxPooled:
			largePool.Put(c)
		case n >= smallChunk && n < largeChunk:
			smallPool.Put(c)
		}
	}
	if s.aliases {
		s.reply.release()
	}
	s.pooled, s.chunks, s.reply = nil, nil, nil
}

// readAhead is the queue between the fetching goroutines and Poll, bounded by the memory of what waits in it.
type readAhead struct {
	max int64

	mu    sync.Mutex
	items []*stretch
	bytes int64
	err   error         // final; comes out after the items
	ready chan struct{} // closed when there is something to take; renewed when it was taken
	room  chan struct{} // closed when there may be room; renewed when there is none
}

var errSuperseded = errors.New("reading has started over")

func newReadAhead(limit int64) *readAhead {
	return &readAhead{max: limit, ready: make(chan struct{}), room: make(chan struct{})}
}

// push waits for room: a single stretch always fits, however large.
func (q *readAhead) push(ctx context.Context, s *stretch) error {
	for {
		q.mu.Lock()
		if q.err != nil {
			q.mu.Unlock()
			return q.err
		}
		if q.bytes == 0 || q.bytes+s.size <= q.max {
			q.items = append(q.items, s)
			q.bytes += s.size
			q.wake()
			q.mu.Unlock()
			return nil
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake tells pop that there is something; under mu.
func (q *readAhead) wake() {
	select {
	case <-q.ready:
	default:
		close(q.ready)
	}
}

// pop waits for the next stretch, or for the end.
func (q *readAhead) pop(ctx context.Context) (*stretch, error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 && !errors.Is(q.err, errSuperseded) {
			s := q.items[0]
			q.items[0] = nil
			if q.items = q.items[1:]; len(q.items) == 0 {
				q.items = nil
			}
			q.bytes -= s.size
			close(q.room)
			q.room = make(chan struct{})
			q.mu.Unlock()
			return s, nil
		}
		if q.err != nil {
			defer q.mu.Unlock()
			return nil, q.err
		}
		select {
		case <-q.ready:
			q.ready = make(chan struct{})
		default:
		}
		ready := q.ready
		q.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fail ends the queue: the first reason stays, but for being superseded, which also drops what waits.
func (q *readAhead) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil || errors.Is(err, errSuperseded) {
		q.err = err
	}
	if errors.Is(err, errSuperseded) {
		for _, s := range q.items {
			s.release()
		}
		q.items, q.bytes = nil, 0
	}
	close(q.room)
	q.room = make(chan struct{})
	q.wake()
}

func (q *readAhead) held() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}
