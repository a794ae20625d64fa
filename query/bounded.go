package query

import (
	"container/list"
	"context"
	"fmt"
	"sync"
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

// boundedMap is a map that forgets what was used longest ago. Safe for concurrent use.
type boundedMap[K comparable, V any] struct {
	mu    sync.Mutex
	max   int
	order *list.List // of K, newest first
	byKey map[K]*entryOf[V]
}

type entryOf[V any] struct {
	value V
	at    *list.Element
}

func newBoundedMap[K comparable, V any](max int) *boundedMap[K, V] {
	return &boundedMap[K, V]{max: max, order: list.New(), byKey: map[K]*entryOf[V]{}}
}

func (m *boundedMap[K, V]) get(k K) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byKey[k]
	if !ok {
		return v, false
	}
	m.order.MoveToFront(e.at)
	return e.value, true
}

func (m *boundedMap[K, V]) put(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.byKey[k]; ok {
		e.value = v
		m.order.MoveToFront(e.at)
		return
	}
	m.byKey[k] = &entryOf[V]{value: v, at: m.order.PushFront(k)}
	if m.order.Len() > m.max {
		oldest := m.order.Back()
		m.order.Remove(oldest)
		delete(m.byKey, oldest.Value.(K))
	}
}
