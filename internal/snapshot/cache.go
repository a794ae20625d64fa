package snapshot

import (
	"container/list"
	"sync"
)

// cache keeps what was decoded from the files that were used last, up to a number of bytes.
type cache[V any] struct {
	mu    sync.Mutex
	limit int64
	bytes int64
	order *list.List // of *cached[V], most recent first
	byLoc map[string]*list.Element
}

type cached[V any] struct {
	location string
	bytes    int64
	value    V
}

func newCache[V any](limit int64) *cache[V] {
	return &cache[V]{limit: limit, order: list.New(), byLoc: map[string]*list.Element{}}
}

func (c *cache[V]) get(location string) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byLoc[location]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[V]).value, true
}

func (c *cache[V]) put(location string, bytes int64, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byLoc[location]; ok || bytes > c.limit {
		return
	}
	c.byLoc[location] = c.order.PushFront(&cached[V]{location, bytes, v})
	for c.bytes += bytes; c.bytes > c.limit; {
		last := c.order.Back()
		m := c.order.Remove(last).(*cached[V])
		delete(c.byLoc, m.location)
		c.bytes -= m.bytes
	}
}
