package snapshot

import (
	"container/list"
	"sync"

	"github.com/apache/iceberg-go"
)

// manifestCache keeps the entries of the manifests that were used last, up to a number of encoded bytes.
type manifestCache struct {
	mu    sync.Mutex
	limit int64
	bytes int64
	order *list.List // of *cachedManifest, most recent first
	byLoc map[string]*list.Element
}

type cachedManifest struct {
	location string
	bytes    int64
	entries  []iceberg.ManifestEntry
}

func newManifestCache(limit int64) *manifestCache {
	return &manifestCache{limit: limit, order: list.New(), byLoc: map[string]*list.Element{}}
}

func (c *manifestCache) get(location string) ([]iceberg.ManifestEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byLoc[location]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedManifest).entries, true
}

func (c *manifestCache) put(location string, bytes int64, entries []iceberg.ManifestEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byLoc[location]; ok || bytes > c.limit {
		return
	}
	c.byLoc[location] = c.order.PushFront(&cachedManifest{location, bytes, entries})
	for c.bytes += bytes; c.bytes > c.limit; {
		last := c.order.Back()
		m := c.order.Remove(last).(*cachedManifest)
		delete(c.byLoc, m.location)
		c.bytes -= m.bytes
	}
}
