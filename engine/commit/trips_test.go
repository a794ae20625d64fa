package commit

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

// trips counts the requests that a commit makes, and how many of them wait for one before.
type trips struct {
	mu         sync.Mutex
	all        int
	open       int
	sequential int
}

func (s *trips) begin() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all++; s.open == 0 {
		s.sequential++ // nothing else is under way: this one had to wait for what came before
	}
	s.open++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
	}
}

type tripStore struct {
	objstore.Store
	n *trips
}

func (s tripStore) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	defer s.n.begin()()
	return s.Store.Put(ctx, key, body, mode)
}

func (s tripStore) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	defer s.n.begin()()
	return s.Store.Get(ctx, key, limit)
}

func (s tripStore) Stat(ctx context.Context, key string) (objstore.Info, error) {
	defer s.n.begin()()
	return s.Store.Stat(ctx, key)
}

func (s tripStore) Open(ctx context.Context, key string) (objstore.Object, error) {
	defer s.n.begin()()
	return s.Store.Open(ctx, key)
}

type tripCatalog struct {
	catalog.Catalog
	n *trips
}

func (c tripCatalog) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	defer c.n.begin()()
	return c.Catalog.LoadTable(ctx, id, how)
}

func (c tripCatalog) CommitTable(ctx context.Context, tc catalog.TableCommit) (*catalog.Table, error) {
	defer c.n.begin()()
	return c.Catalog.CommitTable(ctx, tc)
}

// TestACommitIsFourRoundTrips: its data file, its manifest, its list and the catalog, one after the other, and nothing is
// read. A retry of storage or a conflict comes on top; this is the second that nothing disturbs.
func TestACommitIsFourRoundTrips(t *testing.T) {
	l := newLake(t)
	n := &trips{}
	plain := l.wh // the catalog's own writes are none of a commit's
	l.wh = &objstore.Warehouse{Store: tripStore{plain.Store, n}, URI: plain.URI}
	c := l.committer(tripCatalog{l.cat, n})
	l.wh = plain
	l.recover(c)
	l.commit(c, offset.Range{Partition: 0, Start: 0, End: 10})
	for i := int64(1); i < 6; i++ {
		all, sequential := n.all, n.sequential
		l.commit(c, offset.Range{Partition: 0, Start: 10 * i, End: 10*i + 10})
		if n.all-all != 4 || n.sequential-sequential > 4 {
			t.Errorf("commit %d makes %d requests, %d after one another", i, n.all-all, n.sequential-sequential)
		}
	}
}
