package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go/table"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/logging/logtest"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

var trailName = catalog.Identifier{"firn", "ops", "audit"}

func trailServer(t *testing.T, reg prometheus.Registerer, store objstore.Store) *Server {
	t.Helper()
	s, err := New(t.Context(), Config{Store: "sqlite::memory:", Token: units.NewSecret("canary-admin-0123456789"), AuditTable: trailName, AuditInterval: units.Duration(time.Hour)},
		&objstore.Warehouse{Store: store, URI: "s3://lake/warehouse"}, slog.New(slog.NewTextHandler(&logtest.Buffer{}, nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func entry(i int) AuditEntry {
	return AuditEntry{At: time.UnixMicro(int64(1_000_000 + i)).UTC(), Principal: fmt.Sprint("p", i), Via: "token", From: "10.0.0.7", Action: "drop_table",
		About: []string{"ns.t", `ns."a.b"`}, Status: 403, Outcome: "refused"}
}

// trailRows reads the audit table as any engine would, by its manifests and files.
func trailRows(t *testing.T, s *Service) (rows []string, meta table.Metadata) {
	t.Helper()
	got, err := s.LoadTable(t.Context(), trailName, catalog.LoadAll)
	if err != nil {
		t.Fatal(err)
	}
	meta = got.Metadata
	if meta.CurrentSnapshot() == nil {
		return nil, meta
	}
	files, err := snapshot.Files(t.Context(), &s.wh, meta.CurrentSnapshot(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		key, err := s.key(f.FilePath())
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, fileRows(t, s, key)...)
	}
	slices.Sort(rows)
	return rows, meta
}

func fileRows(t *testing.T, s *Service, key string) (rows []string) {
	t.Helper()
	r, err := datafile.Open(t.Context(), s.wh, key, datafile.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = r.Scan(t.Context(), AuditSchema(), func(rec arrow.RecordBatch) error {
		for i := range int(rec.NumRows()) {
			var cells []string
			for c := range int(rec.NumCols()) {
				cells = append(cells, rec.Column(c).(interface{ ValueStr(int) string }).ValueStr(i))
			}
			rows = append(rows, strings.Join(cells, "|"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestTrailTable: what requests did is in the table once the catalog has ended, with nothing of it lost or doubled, and
// what its committer did itself is not.
func TestTrailTable(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := trailServer(t, reg, objstore.NewMemory())
	for i := range 2500 {
		s.service.audit.add(entry(i))
	}
	s.service.audit.close()
	rows, meta := trailRows(t, s.service)
	if len(rows) != 2500 || len(slices.Compact(slices.Clone(rows))) != 2500 || len(meta.Snapshots()) > 4 {
		t.Fatalf("%d rows in %d snapshots", len(rows), len(meta.Snapshots()))
	}
	if want := `1970-01-01T00:00:01Z|p0|token|(null)|10.0.0.7|drop_table|ns.t, ns."a.b"|403|refused`; !slices.Contains(rows, want) {
		t.Errorf("no row %s, but %s", want, rows[0])
	}
	if lost := lostEntries(t, reg); lost != 0 {
		t.Errorf("%v are counted as lost", lost)
	}
}

// TestTrailTableIsBounded: after any number of batches it has few snapshots and few manifests, and every row.
func TestTrailTableIsBounded(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	s := trailServer(t, nil, objstore.NewMemory())
	w := &trailTable{s.service, trailName, mem, time.Millisecond}
	const batches = 2*maxTrailManifests + 10
	for i := range batches {
		if err := w.WriteAudit(t.Context(), []AuditEntry{entry(2 * i), entry(2*i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	rows, meta := trailRows(t, s.service)
	if len(rows) != 2*batches || len(slices.Compact(rows)) != 2*batches {
		t.Errorf("%d rows, want %d", len(rows), 2*batches)
	}
	manifests, err := snapshot.ReadManifests(t.Context(), &s.service.wh, meta.CurrentSnapshot())
	if err != nil {
		t.Fatal(err)
	}
	if len(manifests) > maxTrailManifests+1 || len(meta.Snapshots()) > maxTrailSnapshots {
		t.Errorf("%d manifests, %d snapshots", len(manifests), len(meta.Snapshots()))
	}
}

// flaky refuses the first data files.
type flaky struct {
	objstore.Store
	refuse int
}

func (f *flaky) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	if f.refuse > 0 && strings.HasSuffix(key, ".parquet") {
		f.refuse--
		return objstore.Info{}, objstore.ErrUnavailable
	}
	return f.Store.Put(ctx, key, body, mode)
}

func lostEntries(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "firn_catalog_audit_lost_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("lost entries are not counted")
	return 0
}

// TestTrailTableRivals: two catalogs that write to one table, and an append by somebody else in between, lose nothing.
func TestTrailTableRivals(t *testing.T) {
	s := trailServer(t, nil, objstore.NewMemory())
	w := &trailTable{s.service, trailName, memory.DefaultAllocator, time.Millisecond}
	errs := make(chan error)
	for n := range 4 {
		go func() {
			var err error
			for i := range 5 {
				err = errors.Join(err, w.WriteAudit(context.Background(), []AuditEntry{entry(100*n + i)}))
			}
			errs <- err
		}()
	}
	failed := 0
	for range 4 {
		if err := <-errs; err != nil {
			if !errors.Is(err, catalog.ErrConflict) {
				t.Error(err)
			}
			failed++
		}
	}
	rows, _ := trailRows(t, s.service)
	if len(slices.Compact(slices.Clone(rows))) != len(rows) || failed == 0 && len(rows) != 20 {
		t.Errorf("%d rows, %d writers gave up", len(rows), failed)
	}
	// A batch whose answer was lost is found by its name and not written twice.
	a := trailAppend{id: "one", snapshot: snapshot.NewID()}
	for range 3 {
		if err := w.append(t.Context(), &a, []AuditEntry{entry(999)}); err != nil {
			t.Fatal(err)
		}
	}
	if again, _ := trailRows(t, s.service); len(again) != len(rows)+1 {
		t.Errorf("%d rows after one more, three times", len(again))
	}
}

// TestTrailTableAway: what the storage refuses for a while is written when it is back; what it refuses for long is counted, and
// a request waits for neither.
func TestTrailTableAway(t *testing.T) {
	reg := prometheus.NewRegistry()
	store := &flaky{Store: objstore.NewMemory(), refuse: maxTrailTries - 1}
	s := trailServer(t, reg, store)
	w := &trailTable{s.service, trailName, memory.DefaultAllocator, time.Millisecond}
	if err := w.WriteAudit(t.Context(), []AuditEntry{entry(1)}); err != nil {
		t.Error(err)
	}
	store.refuse = maxTrailTries
	if err := w.WriteAudit(t.Context(), []AuditEntry{entry(2)}); !errors.Is(err, objstore.ErrUnavailable) || !strings.Contains(err.Error(), "firn.ops.audit") {
		t.Error(err)
	}
	if rows, _ := trailRows(t, s.service); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
	// A queue that nobody empties takes what fits, and a request goes on at once.
	full := &auditTrail{log: s.service.log, m: s.service.m, queue: make(chan AuditEntry, 10), full: make(chan struct{}, 1)}
	before := lostEntries(t, reg)
	for i := range 25 {
		full.add(entry(i))
	}
	if lost := lostEntries(t, reg) - before; lost != 15 {
		t.Errorf("%v entries are counted as lost, want 15", lost)
	}
	full.sink = w
	store.refuse = maxTrailTries
	full.flush()
	if lost := lostEntries(t, reg) - before; lost != 25 {
		t.Errorf("%v entries are counted as lost, want 25", lost)
	}
}
