package server

import (
	"container/list"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/firnlake/firn/catalog"
)

const (
	// maxCallers bounds the principals, or the addresses, whose rate is remembered. The one that was not heard of for the
	// longest goes first, and begins anew when it comes back.
	maxCallers = 10_000
	// strangerRate and strangerBurst are how many requests a second without accepted credentials an address may send
	// before it is not even looked at.
	strangerRate  = 10
	strangerBurst = 50
	// smallBody is what a request may send without waiting for its turn, in bytes.
	smallBody = 64 << 10
	// bodiesAtOnce bounds the larger bodies that are in memory at one time, in times of max_body.
	bodiesAtOnce = 4
	// maxBodyValues bounds the JSON values of a body: one of two bytes takes hundreds when it is decoded.
	maxBodyValues = 500_000
)

// hold waits until there is room for the request's body, in the principal's share and then in all of it. It is asked for before
// the rights are, which a body may decide.
func (h *handler) hold(r *request) error {
	n := r.ContentLength
	if n < 0 || n > int64(h.s.cfg.MaxBody) {
		n = int64(h.s.cfg.MaxBody)
	}
	if n <= smallBody || r.holds > 0 {
		return nil
	}
	free, err := h.bodyShares.take(r.Context(), sharer(r.who), n)
	if err != nil {
		return tooMuch(time.Second, sharer(r.who), "max_body", "too many large bodies: the others of %s have all of the %d bytes that one principal's may have in memory, and there was no room in time for %d more",
			r.who.Name, h.bodyShares.each, n)
	}
	if err := h.bodies.Acquire(r.Context(), n); err != nil {
		free()
		return fmt.Errorf("%w: waiting for room for a body of %d bytes beside those of others: %w", catalog.ErrUnavailable, n, err)
	}
	r.holds, r.free = n, free
	return nil
}

// countValues counts the values of a JSON text, or a few more.
func countValues(text []byte) (n int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == ',' || c == '{' || c == '['):
			n++
		}
	}
	return n
}

// tooManyError: a principal or an address sends more than it may, or has all of its share (429).
type tooManyError struct {
	wait time.Duration
	who  string // whose share it is; empty for a rate
	why  string // likewise
}

func (e *tooManyError) Error() string {
	if e.why != "" {
		return e.why
	}
	return fmt.Sprintf("too many requests: wait %s; the operator sets catalog.requests_per_second", e.wait.Round(time.Millisecond))
}

// limiter holds a token bucket for each of a bounded number of callers. A rate of 0 limits nothing.
type limiter struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu    sync.Mutex
	order *list.List // of *bucket, the one heard of last in front
	by    map[string]*list.Element
}

type bucket struct {
	key string
	lim *rate.Limiter
}

func newLimiter(perSecond float64, burst int) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: burst, now: time.Now, order: list.New(), by: map[string]*list.Element{}}
}

// take counts one request of the caller; ok is false when it has to wait.
func (l *limiter) take(key string) (wait time.Duration, ok bool) {
	if l.rate == 0 {
		return 0, true
	}
	b, now := l.bucket(key), l.now()
	res := b.ReserveN(now, 1)
	if wait = res.DelayFrom(now); wait > 0 {
		res.CancelAt(now) // it does not run, and must not push back those that come later
		return wait, false
	}
	return 0, true
}

// peek tells whether take would succeed, and counts nothing.
func (l *limiter) peek(key string) (wait time.Duration, ok bool) {
	if l.rate == 0 {
		return 0, true
	}
	if have := l.bucket(key).TokensAt(l.now()); have < 1 {
		return time.Duration((1 - have) / float64(l.rate) * float64(time.Second)), false
	}
	return 0, true
}

func (l *limiter) bucket(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.by[key]; ok {
		l.order.MoveToFront(e)
		return e.Value.(*bucket).lim
	}
	if len(l.by) >= maxCallers {
		last := l.order.Remove(l.order.Back()).(*bucket)
		delete(l.by, last.key)
	}
	b := &bucket{key, rate.NewLimiter(l.rate, l.burst)}
	l.by[key] = l.order.PushFront(b)
	return b.lim
}
