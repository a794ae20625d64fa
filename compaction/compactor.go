package compaction

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction/plan"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/sleep"
	"github.com/firnlake/firn/internal/snapshot"
)

// Compactor compacts the tables of one catalog. All methods are safe for concurrent use; one table is worked on by one
// of them at a time.
type Compactor struct {
	cfg  Config
	cat  catalog.Catalog
	wh   *objstore.Warehouse
	log  *slog.Logger
	m    *metrics
	read *snapshot.Reader

	calendar plan.Calendar // of the configuration

	now   func() time.Time
	pause func(ctx context.Context, d time.Duration) error // between attempts
	rnd   func(n int64) int64                              // jitter; in [0, n)

	mu      sync.Mutex
	tables  map[string]*tableState
	merging map[string]*mergeState
}

// Option changes what a Compactor takes from its surroundings.
type Option func(*Compactor)

// WithClock has the compactor live in another time than the machine's.
func WithClock(now func() time.Time) Option { return func(c *Compactor) { c.now = now } }

// New checks the configuration and registers the metrics; log and reg may be nil. Nothing is asked of the catalog yet.
func New(cfg Config, cat catalog.Catalog, wh *objstore.Warehouse, log *slog.Logger, reg prometheus.Registerer, opts ...Option) (*Compactor, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("compaction: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("compaction: metrics: %w", err)
	}
	calendar, err := plan.ParseCalendar(cfg.SnapshotTags)
	if err != nil {
		return nil, fmt.Errorf("compaction: snapshot_tags: %w", err)
	}
	c := &Compactor{cfg: cfg, calendar: calendar, cat: cat, wh: wh, log: log, m: m, read: snapshot.NewReader(wh, manifestCacheBytes),
		now: time.Now, pause: sleep.For, rnd: rand.Int64N, tables: map[string]*tableState{}, merging: map[string]*mergeState{}}
	for _, o := range opts {
		o(c)
	}
	return c, nil
}

// Run works until ctx ends, and returns nil then. What fails stands in Status and in the metrics and is tried again in
// the next round. Beside the rounds, which take as long as the data files of a table take, manifests are merged.
func (c *Compactor) Run(ctx context.Context) error {
	var merging sync.WaitGroup
	defer merging.Wait()
	merging.Go(func() { c.mergeLoop(ctx) })
	for ctx.Err() == nil {
		began := c.now()
		more := c.round(ctx)
		c.m.roundSeconds.Observe(c.now().Sub(began).Seconds())
		if more {
			continue // one commit a table and round, so that a backlog of one does not hold up the others
		}
		if c.pause(ctx, c.cfg.Interval.D()) != nil {
			return nil
		}
	}
	return nil
}

// round works on every table once and tells whether there is more to do at once.
func (c *Compactor) round(ctx context.Context) (more bool) {
	ids, err := c.discover(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.m.failures.WithLabelValues("discover", class(err)).Inc()
			c.log.Warn("tables cannot be listed", "error", err)
		}
		return false
	}
	live := map[string]bool{}
	for _, id := range ids {
		live[key(id)] = true
		r, err := c.work(ctx, id, false)
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, catalog.ErrNoSuchTable) {
			delete(live, key(id)) // dropped since it was listed
		}
		// Progress is asked for: without it a failure would be repeated at once for ever.
		more = more || r.More && r.SnapshotID != 0
	}
	c.forget(live)
	return more
}

// forget drops the state of tables that are no more.
func (c *Compactor) forget(live map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, ts := range c.tables {
		if !live[k] {
			delete(c.tables, k)
			c.m.forget(ts.status.Table)
		}
	}
}

// RunOnce works on one table: rewrites, manifests, and expiry and orphans where they are due. With dryRun it only says
// what it would do.
func (c *Compactor) RunOnce(ctx context.Context, id catalog.Identifier, dryRun bool) (Report, error) {
	return c.work(ctx, id, dryRun)
}

// MergeManifests looks at the manifests of one table, as the loop beside the rounds does, and merges them when there are
// enough.
func (c *Compactor) MergeManifests(ctx context.Context, id catalog.Identifier) (Report, error) {
	ms := c.mergeState(id)
	select {
	case ms.busy <- struct{}{}:
		defer func() { <-ms.busy }()
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	return c.mergeTable(ctx, ms)
}

// Status returns every table as it was seen last, by name.
func (c *Compactor) Status() []TableStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]TableStatus, 0, len(c.tables))
	for _, ts := range c.tables {
		if !ts.status.Seen.IsZero() {
			s := ts.status
			s.Quarantined = slices.Clone(s.Quarantined)
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b TableStatus) int { return cmp.Compare(a.Table, b.Table) })
	return out
}

// key tells identifiers apart whose text is the same.
func key(id catalog.Identifier) string { return fmt.Sprintf("%q", []string(id)) }

// state returns the table's state and takes it; give it back by release.
func (c *Compactor) state(ctx context.Context, id catalog.Identifier) (*tableState, func(), error) {
	c.mu.Lock()
	ts := c.tables[key(id)]
	if ts == nil {
		ts = newTableState(id)
		c.tables[key(id)] = ts
	}
	c.mu.Unlock()
	select {
	case ts.busy <- struct{}{}:
		return ts, func() { <-ts.busy }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// show publishes a table's status.
func (c *Compactor) show(ts *tableState, change func(*TableStatus)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&ts.status)
	if c.tables[key(ts.id)] == ts && !ts.status.Seen.IsZero() {
		c.m.show(ts.status)
	}
}

// discover lists the tables to look at.
func (c *Compactor) discover(ctx context.Context) ([]catalog.Identifier, error) {
	if len(c.cfg.Tables) > 0 {
		ids := make([]catalog.Identifier, 0, len(c.cfg.Tables))
		for _, t := range c.cfg.Tables {
			id, err := catalog.ParseIdentifier(t)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		return ids, nil
	}
	var out []catalog.Identifier
	level := []catalog.Identifier{nil}
	for depth := 0; len(level) > 0 && depth < maxNamespaceDepth; depth++ {
		var next []catalog.Identifier
		for _, parent := range level {
			children, err := c.cat.ListNamespaces(ctx, parent)
			if errors.Is(err, catalog.ErrNoSuchNamespace) || depth > 0 && errors.Is(err, catalog.ErrUnsupported) {
				continue // dropped meanwhile, or a catalog without nesting
			}
			if err != nil {
				return nil, fmt.Errorf("list namespaces: %w", err)
			}
			for _, ns := range children {
				ids, err := c.cat.ListTables(ctx, ns)
				if errors.Is(err, catalog.ErrNoSuchNamespace) {
					continue
				}
				if err != nil {
					return nil, fmt.Errorf("list tables of %s: %w", ns, err)
				}
				out = append(out, ids...)
			}
			next = append(next, children...)
		}
		level = next
	}
	return out, nil
}
