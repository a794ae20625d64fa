package query

import (
	"context"
	"fmt"
	"time"
)

// slots bounds how many run at the same time.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

// acquire waits for a slot, at most as long as wait. Whoever gets one gives it back with release.
func (s slots) acquire(ctx context.Context, wait time.Duration, what string) error {
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fmt.Errorf("%w: %d %s already, and none ended within %s: try again later", ErrLimit, cap(s), what, wait)
	}
}

func (s slots) release() { <-s }
