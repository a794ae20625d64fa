package server

import (
	"container/list"
	"sync"
)

// cache is a least-recently-used map from table id to V, bounded by the sum of its entries' costs.
type cache[V any] struct {
	mu    sync.Mutex
	max   int64
	cost  int64
	order *list.List // of *cached[V], the newest in front
	byID  map[int64]*list.Element
}

type cached[V any] struct {
	id, cost int64
	value    V
}

func newCache[V any](limit int64) *cache[V] {
	return &cache[V]{max: limit, order: list.New(), byID: map[int64]*list.Element{}}
}

func (c *cache[V]) get(id int64) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byID[id]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[V]).value, true
}

// put keeps v, unless keep says that what is there is newer.
func (c *cache[V]) put(id, cost int64, v V, keep func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byID[id]; ok {
		if keep(e.Value.(*cached[V]).value) {
			return
		}
		c.remove(e)
	}
	if cost > c.max {
		return
	}
	c.byID[id] = c.order.PushFront(&cached[V]{id: id, cost: cost, value: v})
	for c.cost += cost; c.cost > c.max; {
		c.remove(c.order.Back())
	}
}

func (c *cache[V]) drop(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byID[id]; ok {
		c.remove(e)
	}
}

func (c *cache[V]) remove(e *list.Element) {
	v := c.order.Remove(e).(*cached[V])
	delete(c.byID, v.id)
	c.cost -= v.cost
}
