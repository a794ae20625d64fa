//go:build cgo

package duck

import (
	"context"
	"errors"
	"sync"
)

// shared is a locked session without files that many use in turn. One that DuckDB has given up on is replaced.
type shared struct {
	turn chan *session // holds the session while nobody uses it; nil when there is none yet
	end  chan struct{}
	once sync.Once
}

func newShared() *shared {
	h := &shared{turn: make(chan *session, 1), end: make(chan struct{})}
	h.turn <- nil
	return h
}

// use waits for the session and calls fn with it.
func (h *shared) use(ctx context.Context, fn func(*session) error) (err error) {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var s *session
	select {
	case s = <-h.turn:
	case <-ctx.Done():
		return ctx.Err()
	case <-h.end:
		return errClosed
	}
	defer func() {
		if s != nil && errors.Is(err, errBroken) {
			s.close()
			s = nil
		}
		h.turn <- s
	}()
	if s == nil {
		if s, err = open(settings{threads: 1, memory: parserMemory}); err != nil {
			return err
		}
		if err = s.lock(nil, ""); err != nil {
			return errors.Join(errBroken, err)
		}
	}
	return fn(s)
}

// close waits for the last user.
func (h *shared) close() {
	h.once.Do(func() {
		close(h.end)
		if s := <-h.turn; s != nil {
			s.close()
		}
	})
}
