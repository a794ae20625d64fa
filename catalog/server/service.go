package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/internal/scan"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
)

// lockStripes is how many locks the tables share: enough that of a thousand that commit at once few wait for another table.
// Commits of one process to one table queue here rather than fail against each other in the database.
const lockStripes = 8192

// maxNameBytes bounds one part of a name.
const maxNameBytes = 1024

// Service is the catalog inside the process. It implements catalog.Catalog; what it returns to Firn itself
// is never materialised for it: Table.MetadataLocation is that of the newest file, perhaps of an older version.
type Service struct {
	store *sqlstore.Store
	wh    objstore.Warehouse
	cfg   Config
	log   *slog.Logger
	m     *metrics

	locks   [lockStripes]chan struct{}
	leans   *lru.Cache[int64, *lean] // by table id
	named   *lru.Cache[string, spot] // by nameKey: what had the name when it was last looked up
	exposed *lru.Cache[int64, *document]
	flights flights
	who     *auth.Authenticator // nil: everybody may do all
	audit   *auditTrail
	lends   *lender // nil: clients get no access to the storage of the catalog
	inv     inventories
	watches *hub
	pasts   *pasts
	planner *scan.Planner
	vets    *vetter // nil: what is in manifests is not looked at

	stop     context.CancelFunc
	done     sync.WaitGroup
	closing  sync.Once
	closeErr error
}

var (
	_ catalog.Catalog       = (*Service)(nil)
	_ catalog.HistoryKeeper = (*Service)(nil)
	_ catalog.Watcher       = (*Service)(nil)
)

// NewService serves the tables of store, whose files lie in warehouse. Close it before the store.
func NewService(store *sqlstore.Store, warehouse objstore.Warehouse, cfg Config, logger *slog.Logger, reg prometheus.Registerer) (*Service, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if _, err := splitLocation(warehouse.URI, hides); err != nil {
		return nil, fmt.Errorf("catalog: warehouse: %w", err)
	}
	warehouse.URI = strings.TrimRight(warehouse.URI, "/")
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(reg, store)
	if err != nil {
		return nil, fmt.Errorf("catalog: metrics: %w", err)
	}
	s := &Service{store: store, wh: warehouse, cfg: cfg, log: logger, m: m,
		leans: lru.New[int64, *lean](int64(cfg.CachedTables)), named: lru.New[string, spot](int64(cfg.CachedTables)), exposed: lru.New[int64, *document](int64(cfg.CachedMetadata)),
		flights: flights{running: map[int64]*flight{}}, watches: newHub(cfg.MaxWatchers), pasts: newPasts()}
	s.planner = scan.New(&s.wh, cfg.Plan.limits())
	for i := range s.locks {
		s.locks[i] = make(chan struct{}, 1)
	}
	if s.lends, err = newLender(cfg.S3, warehouse.Store, m, logger); err != nil {
		return nil, err
	}
	if cfg.Auth.Enabled() || !cfg.Token.IsZero() {
		if s.who, err = auth.New(cfg.Auth, auth.Options{Admin: cfg.Token}); err != nil {
			return nil, err
		}
	}
	s.vets = newVetter(cfg.ManifestCheck, s.who != nil)
	var sink AuditSink
	if len(cfg.AuditTable) > 0 {
		sink = &trailTable{s, cfg.AuditTable, memory.DefaultAllocator, trailPause}
	}
	s.audit = newAuditTrail(logger, m, sink, cfg.AuditInterval.D())
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.done.Add(1)
	go s.backgroundLoop(ctx)
	return s, nil
}

// Close ends the background work and materialises every table that has newer commits than its metadata file.
func (s *Service) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.stop()
		s.watches.close()
		s.done.Wait()
		s.pasts.close()
		s.audit.close()  // no request runs any more, and what it commits is written below
		s.flights.wait() // one that began for a request that has gone may yet fail: what it leaves undone is done below
		s.closeErr = errors.Join(s.MaterializeAll(ctx), s.keepInventory(ctx, true))
		s.flights.wait()
		if s.who != nil {
			s.who.Close()
		}
	})
	return s.closeErr
}

// lock takes the stripes in ascending order, so that two transactions cannot wait for each other.
func (s *Service) lock(ctx context.Context, names []catalog.Identifier) (unlock func(), err error) {
	var want, held []uint32
	for _, n := range names {
		h := uint32(2166136261)
		for _, part := range n {
			for i := 0; i < len(part); i++ {
				h = (h ^ uint32(part[i])) * 16777619
			}
			h = (h ^ 0xff) * 16777619
		}
		want = append(want, h%lockStripes)
	}
	slices.Sort(want)
	unlock = func() {
		for _, i := range held {
			<-s.locks[i]
		}
	}
	for _, i := range slices.Compact(want) {
		select {
		case s.locks[i] <- struct{}{}:
			held = append(held, i)
		case <-ctx.Done():
			unlock()
			return nil, fmt.Errorf("%w: waiting for other commits to the table: %w", catalog.ErrUnavailable, ctx.Err())
		}
	}
	return unlock, nil
}

// current returns a table's newest lean state.
func (s *Service) current(ctx context.Context, id catalog.Identifier) (*lean, error) {
	if err := checkTableName(id); err != nil {
		return nil, err
	}
	h, err := s.store.Head(ctx, id)
	if err != nil {
		return nil, err
	}
	s.named.Put(nameKey(id), 1, spot{h.ID, h.NamespaceID})
	if l, ok := s.leans.Get(h.ID); ok && l.head.Version == h.Version {
		if l.head != h { // renamed, or a metadata file was written
			fresh := *l
			fresh.head = h
			s.remember(&fresh)
			return &fresh, nil
		}
		return l, nil
	}
	scope := sqlstore.Scope{Also: statisticsSnapshots}
	scope.SkipFrom, scope.SkipTo = ledger.MarkRange()
	st, err := s.store.Load(ctx, id, scope)
	if err != nil {
		return nil, err
	}
	l, err := newLean(st)
	if err != nil {
		return nil, err
	}
	s.remember(l)
	return l, nil
}

// nameKey is a name as a key of a map.
func nameKey(id catalog.Identifier) string { return strings.Join(id, wire.Separator) }

// spot is a table, and the namespace in which it had a name.
type spot struct{ table, namespace int64 }

// likely returns what this process last saw of a table, if it remembers it. It may be out of date in every respect: only
// what is decided by the swap of the head row may rest on it, and no refusal.
func (s *Service) likely(id catalog.Identifier) (*lean, bool) {
	at, ok := s.named.Get(nameKey(id))
	if !ok {
		return nil, false
	}
	l, ok := s.leans.Get(at.table)
	return l, ok && l.head.NamespaceID == at.namespace // else it has been moved to another namespace, perhaps under the same name
}

// withMarks returns the base with the marks and their snapshots, which lean metadata leaves out: hundreds of refs that would
// be decoded, compared and sent with every commit, and that one commit a minute is about.
func (s *Service) withMarks(ctx context.Context, base *lean) (*lean, error) {
	st, err := s.store.LoadByID(ctx, base.head.ID, sqlstore.Scope{Also: statisticsSnapshots})
	if err != nil {
		return nil, err
	}
	if st.Version != base.head.Version {
		return nil, fmt.Errorf("%w: version %d", sqlstore.ErrStale, base.head.Version)
	}
	return newLean(st)
}

func (s *Service) remember(l *lean) {
	s.leans.PutUnless(l.head.ID, 1, l, func(have *lean) bool { return have.head.Version > l.head.Version })
}

// LoadTable implements catalog.Catalog.
func (s *Service) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	if how == catalog.LoadRefs {
		l, err := s.current(ctx, id)
		if err == nil && l.loose > 0 {
			l, err = s.pruned(l)
		}
		if err != nil {
			return nil, fmt.Errorf("load table: %w", err)
		}
		return l.table(id), nil
	}
	if err := checkTableName(id); err != nil {
		return nil, fmt.Errorf("load table: %w", err)
	}
	st, err := s.store.Load(ctx, id, sqlstore.Scope{AllSnapshots: true, FullLog: true, MetadataLog: s.cfg.MetadataLog})
	if err != nil {
		return nil, fmt.Errorf("load table: %w", err)
	}
	l, err := newLean(st)
	if err != nil {
		return nil, fmt.Errorf("load table: %w", err)
	}
	return l.table(id), nil
}

// pruned is l without the snapshots that recent commits left in it and that no ref names.
func (s *Service) pruned(l *lean) (*lean, error) {
	m, err := prune(l)
	if err != nil {
		return nil, err
	}
	p := *l
	p.meta, p.loose = m, 0
	s.remember(&p)
	return &p, nil
}

func (l *lean) table(id catalog.Identifier) *catalog.Table {
	return &catalog.Table{Identifier: append(catalog.Identifier{}, id...), Metadata: l.meta,
		MetadataLocation: l.head.MaterializedLocation, Version: l.head.Version}
}

// TableExists gives ErrNoSuchTable when it does not.
func (s *Service) TableExists(ctx context.Context, id catalog.Identifier) error {
	if err := checkTableName(id); err != nil {
		return err
	}
	_, err := s.store.Head(ctx, id)
	return err
}

// maxStale bounds how often a commit is evaluated again because another process moved the table in between.
const maxStale = 20

// CommitTable implements catalog.Catalog.
func (s *Service) CommitTable(ctx context.Context, c catalog.TableCommit) (*catalog.Table, error) {
	after, err := s.commit(ctx, []catalog.TableCommit{c})
	if err != nil {
		return nil, fmt.Errorf("commit table: %w", err)
	}
	return after[0].table(c.Identifier), nil
}

// CommitTransaction implements catalog.Catalog.
func (s *Service) CommitTransaction(ctx context.Context, commits []catalog.TableCommit) error {
	if _, err := s.commit(ctx, commits); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

func (s *Service) commit(ctx context.Context, commits []catalog.TableCommit) ([]*lean, error) {
	if len(commits) == 0 {
		return nil, fmt.Errorf("%w: a transaction without tables", catalog.ErrInvalid)
	}
	start, made := time.Now(), 0
	names := make([]catalog.Identifier, len(commits))
	seen := map[string]bool{}
	for i, c := range commits {
		if err := checkTableName(c.Identifier); err != nil {
			return nil, err
		}
		names[i] = c.Identifier
		made += min(len(c.Updates), 1)
		key := nameKey(c.Identifier)
		if seen[key] {
			return nil, fmt.Errorf("%w: table %s stands twice in the transaction", catalog.ErrInvalid, c.Identifier)
		}
		seen[key] = true
	}
	unlock, err := s.lock(ctx, names)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for try := 0; ; try++ {
		after, err := s.tryCommit(ctx, commits, try > 0)
		if err == nil {
			s.m.commits.Add(float64(made))
			s.m.commitSeconds.Observe(time.Since(start).Seconds())
			return after, nil
		}
		if errors.Is(err, catalog.ErrConflict) {
			s.m.conflicts.Inc()
		}
		if !errors.Is(err, sqlstore.ErrStale) {
			return nil, err
		}
		s.m.stale.Inc()
		if try == maxStale {
			return nil, fmt.Errorf("%w: the table moved %d times during the commit: %w", catalog.ErrUnavailable, try+1, err)
		}
	}
}

// tryCommit evaluates a commit and makes it. With look the tables are read before, even where they are remembered.
func (s *Service) tryCommit(ctx context.Context, commits []catalog.TableCommit, look bool) ([]*lean, error) {
	changes, after := make([]sqlstore.Change, len(commits)), make([]*lean, len(commits))
	for i, c := range commits {
		if err := s.evaluate(ctx, c, look, &changes[i], &after[i]); err != nil {
			return nil, fmt.Errorf("table %s: %w", c.Identifier, err)
		}
	}
	crash.At(ctx, crash.CatalogBeforeCommit)
	heads, err := s.store.Commit(ctx, changes)
	if err != nil {
		return nil, err
	}
	crash.At(ctx, crash.CatalogAfterCommit)
	for i, h := range heads {
		after[i].head = h
		s.remember(after[i])
		s.watches.wake(h.ID)
	}
	return after, nil
}

// evaluate applies one table's commit to what the table is. Most often this process made the last commit to it and need not
// ask the database: the swap of the head row finds out when that was wrong. A refusal is given only of what the table is now,
// and so is the answer to a commit without updates, which swaps nothing.
func (s *Service) evaluate(ctx context.Context, c catalog.TableCommit, look bool, change *sqlstore.Change, after **lean) (err error) {
	guess, guessed := (*lean)(nil), false
	if !look && len(c.Updates) > 0 {
		guess, guessed = s.likely(c.Identifier)
	}
	var refused error
	if guessed {
		if *change, *after, refused = s.applyTo(ctx, guess, c); refused == nil {
			return nil
		}
	}
	base, err := s.current(ctx, c.Identifier)
	switch {
	case err == nil && guessed && base.head.ID == guess.head.ID && base.head.Version == guess.head.Version:
		return refused
	case err == nil:
		*change, *after, err = s.applyTo(ctx, base, c)
	case errors.Is(err, catalog.ErrNoSuchTable) && creates(c.Requirements):
		*change, *after, err = s.applyCreate(ctx, c)
	}
	return err
}

// checkLocation checks that loc is in the warehouse.
func (s *Service) checkLocation(loc string) error {
	_, err := cleanLocation(s.wh.URI, loc)
	return err
}

// key is the object key of a location in the warehouse, in whatever form it is written.
func (s *Service) key(loc string) (string, error) {
	clean, err := cleanLocation(s.wh.URI, loc)
	return keyOf(s.wh.URI, clean), err
}
