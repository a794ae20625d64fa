package lru

import (
	"container/list"
	"sync"
)

// Cache keeps values by key up to a sum of weights, whatever their unit is.
type Cache[K comparable, V any] struct {
	mu          sync.Mutex
	limit, held int64
	order       *list.List // of *entry[K, V], the one used last in front
	byKey       map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key    K
	weight int64
	value  V
}

// New returns a cache for weights of at most limit together; with 0 it keeps what weighs nothing.
func New[K comparable, V any](limit int64) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, order: list.New(), byKey: map[K]*list.Element{}}
}

// Get returns the value of k.
func (c *Cache[K, V]) Get(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[k]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// Add keeps v unless there is a value of k: for what never changes.
func (c *Cache[K, V]) Add(k K, weight int64, v V) {
	c.PutUnless(k, weight, v, func(V) bool { return true })
}

// Put keeps v in place of what is there.
func (c *Cache[K, V]) Put(k K, weight int64, v V) {
	c.PutUnless(k, weight, v, func(V) bool { return false })
}

// PutUnless keeps v in place of what is there, unless stays says of that that it stays.
func (c *Cache[K, V]) PutUnless(k K, weight int64, v V, stays func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		if stays(e.Value.(*entry[K, V]).value) {
			return
		}
		c.remove(e)
	}
	if weight > c.limit {
		return
	}
	c.byKey[k] = c.order.PushFront(&entry[K, V]{k, weight, v})
	for c.held += weight; c.held > c.limit; {
		c.remove(c.order.Back())
	}
}

// Drop forgets k.
func (c *Cache[K, V]) Drop(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[k]; ok {
		c.remove(e)
	}
}

// Len is how many values are kept.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey)
}

// Weight is the sum of the weights of what is kept.
func (c *Cache[K, V]) Weight() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

func (c *Cache[K, V]) remove(e *list.Element) {
	v := c.order.Remove(e).(*entry[K, V])
	delete(c.byKey, v.key)
	c.held -= v.weight
}
