package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// Service implements Engine over a catalog, a warehouse, the tails of running pipelines and an SQL engine.
type Service struct {
	cfg       Config
	catalog   catalog.Catalog
	warehouse *objstore.Warehouse
	tail      TailSource // nil: none
	sql       SQLEngine  // nil: not built in
	manifests *snapshot.Reader
	files     *fileStore
	foreign   *lru.Cache[int64, headVector] // vectors of heads without a record
	names     names
	scans     slots
	runs      slots // statements that run
	describes slots // statements whose schema is asked for
	mem       memory.Allocator
	metrics   *metrics
	log       *slog.Logger
	now       func() time.Time
}

var _ Engine = (*Service)(nil)

// maxForeignHeads bounds the heads of other engines' commits whose vector is remembered.
const maxForeignHeads = 1024

// NewService answers queries over the tables of cat, whose files lie in wh. tail may be nil: committed rows only; so
// may sql: statements then give ErrNotBuiltIn. The service closes sql when that is an io.Closer.
func NewService(cfg Config, cat catalog.Catalog, wh *objstore.Warehouse, tail TailSource, sql SQLEngine, log *slog.Logger, reg prometheus.Registerer) (*Service, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("query metrics: %w", err)
	}
	files, err := newFileStore(cfg, wh, m)
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg: cfg, catalog: cat, warehouse: wh, tail: tail, sql: sql,
		manifests: snapshot.NewReader(wh, int64(cfg.ManifestCache)), files: files,
		foreign: lru.New[int64, headVector](maxForeignHeads),
		scans:   newSlots(cfg.MaxScans), runs: newSlots(cfg.MaxConcurrent), describes: newSlots(cfg.MaxConcurrent), mem: memory.DefaultAllocator, metrics: m, log: log, now: time.Now,
	}, nil
}

// Close ends the SQL engine and gives the cache back. Results must have been released.
func (s *Service) Close() error {
	var err error
	if c, ok := s.sql.(io.Closer); ok {
		err = c.Close()
	}
	return errors.Join(err, s.files.Close())
}

// Tables implements Engine.
func (s *Service) Tables(ctx context.Context, withSchema bool) ([]TableInfo, error) {
	ids, err := s.listTables(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]TableInfo, 0, len(ids))
	for _, id := range ids {
		info := TableInfo{Identifier: id}
		if withSchema {
			t, err := s.catalog.LoadTable(ctx, id, catalog.LoadRefs)
			if errors.Is(err, catalog.ErrNoSuchTable) {
				continue // dropped since it was listed
			}
			if err != nil {
				return nil, fmt.Errorf("schema of %s: %w", id, err)
			}
			if info.Schema, err = datafile.ArrowSchema(t.Metadata.CurrentSchema()); err != nil {
				return nil, err
			}
		}
		out = append(out, info)
	}
	return out, nil
}

// outcome is the label of how a statement ended.
func outcome(err error) string {
	for _, c := range []struct {
		is    error
		label string
	}{
		{nil, "ok"}, {ErrInvalidSQL, "invalid"}, {ErrNotSelect, "refused"}, {ErrNotBuiltIn, "not_built_in"}, {ErrLimit, "limit"}, {ErrCorrupt, "corrupt"},
		{catalog.ErrNoSuchTable, "invalid"}, {context.Canceled, "canceled"}, {context.DeadlineExceeded, "canceled"},
	} {
		if errors.Is(err, c.is) {
			return c.label
		}
	}
	return "failed"
}

// begin counts a statement; the function it returns ends it, once.
func (s *Service) begin(kind string) (started time.Time, end func(error)) {
	started = time.Now()
	s.metrics.running.WithLabelValues(kind).Inc()
	done := false
	return started, func(err error) {
		if done {
			return
		}
		done = true
		s.metrics.running.WithLabelValues(kind).Dec()
		s.metrics.seconds.WithLabelValues(kind).Observe(time.Since(started).Seconds())
		s.metrics.statements.WithLabelValues(kind, outcome(err)).Inc()
	}
}
