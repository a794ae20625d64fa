package scan

import (
	"container/list"
	"sync"
)

// cache keeps what was used last, by location, up to a sum of weights.
type cache[V any] struct {
	mu           sync.Mutex
	limit, bytes int64
	order        *list.List // of *kept[V], most recent first
	byLocation   map[string]*list.Element
}

type kept[V any] struct {
	location string
	weight   int64
	value    V
}

func newCache[V any](limit int64) *cache[V] {
	return &cache[V]{limit: limit, order: list.New(), byLocation: map[string]*list.Element{}}
}

func (c *cache[V]) get(location string) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byLocation[location]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept[V]).value, true
}

func (c *cache[V]) put(location string, weight int64, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byLocation[location]; ok || weight > c.limit {
		return
	}
	c.byLocation[location] = c.order.PushFront(&kept[V]{location, weight, v})
	for c.bytes += weight; c.bytes > c.limit; {
		last := c.order.Remove(c.order.Back()).(*kept[V])
		delete(c.byLocation, last.location)
		c.bytes -= last.weight
	}
}
