//go:build integration

package server_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// bus is a catalog that remembers some tables, and another on the same database that made them.
type bus struct {
	*fixture
	other *fixture
	db    *sql.DB
	reg   *prometheus.Registry
	tabs  []*catalog.Table // each with one snapshot, 1, and main at 2
}

func newBus(t *testing.T, tables int) *bus {
	t.Helper()
	p := onPostgres(t)
	cfg := p.config(t, server.Config{MaterializeInterval: hours})
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	b := &bus{other: start(t, cfg, wh), reg: prometheus.NewRegistry()}
	s, err := server.New(t.Context(), cfg, wh, nil, b.reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	b.fixture = &fixture{s, wh, cfg}
	if b.db, err = sql.Open("pgx", cfg.Store+"&password="+p.password); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.db.Close() })
	for i := range tables {
		tab := b.other.append(t, b.other.append(t, b.other.makeTable(t, fmt.Sprint("t", i)), 1), 2)
		if tab, err = b.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadRefs); err != nil {
			t.Fatal(err)
		}
		b.tabs = append(b.tabs, tab)
	}
	return b
}

// together has every table commit the snapshot that id gives it, all at the same time: none gets through until others have
// gathered. It returns the errors and how many statements they took.
func (b *bus) together(t *testing.T, id func(i int) int64) (errs []error, statements float64) {
	t.Helper()
	gate, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.ExecContext(t.Context(), "LOCK TABLE snapshot_log IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	before := metric(t, b.reg, "firn_catalog_db_statements_total")
	errs = make([]error, len(b.tabs))
	var wg sync.WaitGroup
	for i, tab := range b.tabs {
		wg.Go(func() {
			_, errs[i] = b.Service().CommitTable(t.Context(), catalogtest.Append(tab, id(i), nil))
		})
	}
	for waiting, deadline := 0, time.Now().Add(4*time.Second); waiting == 0; time.Sleep(10 * time.Millisecond) {
		if err := b.db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'snapshot_log'::regclass").Scan(&waiting); err != nil || time.Now().After(deadline) {
			t.Fatal("nobody waits at the gate", err)
		}
	}
	time.Sleep(200 * time.Millisecond) // for all to come
	if err := gate.Commit(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return errs, metric(t, b.reg, "firn_catalog_db_statements_total") - before
}

// is checks where a table stands, by what the other catalog reads.
func (b *bus) is(t *testing.T, i int, version, head int64) {
	t.Helper()
	now, err := b.other.Service().LoadTable(t.Context(), b.tabs[i].Identifier, catalog.LoadAll)
	if err != nil {
		t.Fatal(err)
	}
	if s := now.Metadata.CurrentSnapshot(); now.Version != version || s.SnapshotID != head || len(now.Metadata.Snapshots()) != int(version)-1 {
		t.Errorf("table %d stands at version %d with snapshot %d, %d in all; want version %d, snapshot %d", i, now.Version, s.SnapshotID, len(now.Metadata.Snapshots()), version, head)
	}
}

// TestCommitsShareTransactions: commits to several tables that come at once go to Postgres in a few transactions.
func TestCommitsShareTransactions(t *testing.T) {
	b := newBus(t, 20)
	errs, statements := b.together(t, func(int) int64 { return 3 })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if statements > 10 {
		t.Errorf("%d commits took %v statements", len(b.tabs), statements)
	}
	for i, tab := range b.tabs {
		b.is(t, i, 4, 3)
		e, err := b.other.Server.Service().(catalog.Historian).HistoryAt(t.Context(), tab.Identifier, time.Now())
		if err != nil || e.Version != 4 || e.SnapshotID != 3 {
			t.Errorf("the history of table %d ends with %+v, %v", i, e, err)
		}
	}
}

// TestACommitOfManyFailsAlone: one that is refused, one whose table moved and one whose table is held by another process
// take none of the others with them, nor make them wait.
func TestACommitOfManyFailsAlone(t *testing.T) {
	const repeated, moved, held = 3, 7, 10
	b := newBus(t, 12)
	b.other.append(t, b.tabs[moved], 5)
	lock, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.ExecContext(t.Context(), "SELECT 1 FROM tables WHERE name = $1 FOR UPDATE", b.tabs[held].Identifier.Name()); err != nil {
		t.Fatal(err)
	}
	free := time.AfterFunc(time.Second, func() { _ = lock.Commit() })
	defer free.Stop()
	began := time.Now()
	errs, _ := b.together(t, func(i int) int64 {
		if i == repeated {
			return 1 // which is not in what is remembered: no ref names it
		}
		return 3
	})
	if took := time.Since(began); took < time.Second {
		t.Errorf("the commit to a table that is held took %s", took)
	}
	for i, err := range errs {
		switch i {
		case repeated:
			if !errors.Is(err, catalog.ErrInvalid) {
				t.Errorf("a repeated snapshot: %v", err)
			}
			b.is(t, i, 3, 2)
		case moved:
			if !errors.Is(err, catalog.ErrConflict) {
				t.Errorf("a head that has moved: %v", err)
			}
			b.is(t, i, 4, 5)
		default:
			if err != nil {
				t.Errorf("table %d: %v", i, err)
			}
			b.is(t, i, 4, 3)
		}
	}
}
