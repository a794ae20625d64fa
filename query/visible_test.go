package query_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

// loads counts how often a table is looked at. A catalog that does not watch is one without its second half.
type loads struct {
	catalog.Catalog
	n *atomic.Int64
}

func (c loads) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	c.n.Add(1)
	return c.Catalog.LoadTable(ctx, id, how)
}

type watched struct {
	loads
	catalog.Watcher
}

// TestMinOffsetsWatched: a query that waits for a commit is told of it, and does not ask all the time; where the catalog
// tells of nothing it asks.
func TestMinOffsetsWatched(t *testing.T) {
	l := newLake(t)
	for name, watches := range map[string]bool{"watched": true, "asking": false} {
		s := l.table(0, "ns", name)
		s.add(3)
		var n atomic.Int64
		q := l.service(func(p *parts) {
			counting := loads{l.cat, &n}
			if p.cat = counting; watches {
				p.cat = watched{counting, l.cat.(catalog.Watcher)}
			}
		})
		committed := make(chan time.Time, 1)
		go func() {
			time.Sleep(400 * time.Millisecond)
			s.add(2)
			committed <- time.Now()
		}()
		want := query.Options{Level: query.LevelCommitted, MinOffsets: map[string]offset.Vector{"ns." + name: {0: 5}}}
		got, _ := s.scan(q, want)
		late := time.Since(<-committed)
		same(t, name, got, upTo(offset.Vector{0: 5}))
		if few := n.Load() <= 8; few != watches {
			t.Errorf("%s: the table was loaded %d times in 400 ms", name, n.Load())
		}
		if late > 500*time.Millisecond {
			t.Errorf("%s: the commit was seen %s after it", name, late)
		}
	}
}
