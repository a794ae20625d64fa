package query

import (
	"context"
	"errors"
	"time"

	"github.com/firnlake/firn/catalog"
)

// watchedPoll is how often a query that waits for commits looks again although nobody told it to: a watch that has died
// must not hold it longer.
const watchedPoll = time.Second

// visible tells a query that waits for rows when to look again. Where only commits can bring them and the catalog tells
// of commits, it is told; otherwise it looks every visiblePoll. end must be called.
type visible struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the watch has ended; nil without one
	woken  chan struct{}
	heard  bool
}

func (s *Service) visible(ctx context.Context, id catalog.Identifier, level Level) *visible {
	v := &visible{woken: make(chan struct{}, 1), cancel: func() {}}
	w, ok := s.catalog.(catalog.Watcher)
	if !ok || level != LevelCommitted && s.tail != nil {
		return v
	}
	ctx, v.cancel = context.WithCancel(ctx)
	v.done = make(chan struct{})
	go func() {
		defer close(v.done)
		// The first event is of the present version: what was committed since the last look is not missed.
		err := w.Watch(ctx, id, 0, func(catalog.Event) error {
			select {
			case v.woken <- struct{}{}:
			default:
			}
			return nil
		})
		if err != nil && ctx.Err() == nil && !errors.Is(err, catalog.ErrUnsupported) {
			s.log.Debug("a watch has ended; the query looks by itself", "table", id.String(), "error", err)
		}
	}()
	return v
}

// wait returns when it is time to look again.
func (v *visible) wait(ctx context.Context) error {
	pause := visiblePoll
	if v.heard {
		pause = watchedPoll
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	done := v.done
	if !v.heard {
		done = nil // it looks often anyway
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-v.woken:
		v.heard = true
	case <-done:
		v.heard = false
	case <-t.C:
	}
	return nil
}

func (v *visible) end() {
	v.cancel()
	if v.done != nil {
		<-v.done
	}
}
