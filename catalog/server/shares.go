package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/firnlake/firn/catalog/auth"
)

// shareWait is after what time one who has all of its share is asked to come again. It is short: clients sleep for as long as they are told.
const shareWait = 10 * time.Second

// sharer is the one whose share counts; empty for whoever may take all: everybody where nobody is known, and the operator.
func sharer(who *auth.Principal) string {
	if who == nil || who.Via == auth.ViaAdmin {
		return ""
	}
	return who.Key()
}

// shareOf is what one principal may have of what there is for all: half, so that the next one finds room.
func shareOf[N int | int64](all N) N { return max(1, all/2) }

// shares keep a principal from taking all of something that is there for everybody.
type shares struct {
	each int64

	mu sync.Mutex
	by map[string]*share // of those who have some of it, or wait
}

type share struct {
	sem *semaphore.Weighted
	n   int // takers
}

func newShares(each int64) *shares { return &shares{each: each, by: map[string]*share{}} }

// take takes n of the share of who, and gives it back when free is called. It waits for it until ctx ends.
func (s *shares) take(ctx context.Context, who string, n int64) (free func(), err error) {
	return s.with(who, func(sem *semaphore.Weighted) error { return sem.Acquire(ctx, n) }, n)
}

// try is take that does not wait.
func (s *shares) try(who string, n int64) (free func(), ok bool) {
	free, err := s.with(who, func(sem *semaphore.Weighted) error {
		if !sem.TryAcquire(n) {
			return context.DeadlineExceeded
		}
		return nil
	}, n)
	return free, err == nil
}

func (s *shares) with(who string, acquire func(*semaphore.Weighted) error, n int64) (free func(), err error) {
	if who == "" {
		return func() {}, nil
	}
	s.mu.Lock()
	mine := s.by[who]
	if mine == nil {
		mine = &share{sem: semaphore.NewWeighted(s.each)}
		s.by[who] = mine
	}
	mine.n++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if mine.n--; mine.n == 0 {
			delete(s.by, who)
		}
	}
	if err := acquire(mine.sem); err != nil {
		leave()
		return nil, err
	}
	return func() { mine.sem.Release(n); leave() }, nil
}

// tooMuch says that a principal has all of its share, and what the operator may raise.
func tooMuch(wait time.Duration, who, setting, format string, args ...any) error {
	return &tooManyError{wait: wait, who: who, why: fmt.Sprintf(format, args...) + "; the operator raises catalog." + setting + " for more"}
}
