package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/audit"
)

// snapshotsOf waits until a pipeline has made so many more snapshots and returns how many there are.
func snapshotsOf(t *testing.T, c *Client, more int64) (n int64) {
	t.Helper()
	first := int64(-1)
	eventually(t, "commits", func() (bool, string) {
		s, err := c.Status(t.Context())
		if err != nil || len(s.Pipelines) == 0 {
			return false, "no status"
		}
		n = s.Pipelines[0].Snapshots
		if first < 0 {
			first = n
		}
		ready, why := s.Ready()
		return ready && n >= first+more, why
	})
	return n
}

func localConfig(t *testing.T, dir string) *Config {
	t.Helper()
	cfg, _, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = dir
	return cfg
}

// metadataFiles are the metadata files of the warehouse under dir.
func metadataFiles(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	names, err := filepath.Glob(filepath.Join(dir, "warehouse", "*", "metadata", "*.metadata.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		found[n] = true
	}
	return found
}

// loseDatabase deletes the catalog's database.
func loseDatabase(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "catalog.db*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no database in %s: %v", dir, err)
	}
	for _, n := range names {
		if err := os.Remove(n); err != nil {
			t.Fatal(err)
		}
	}
}

// restoreAndGoOn restores the catalog under dir, lets the pipeline catch up and asks for a clean audit.
func restoreAndGoOn(t *testing.T, dir string, rows int64) {
	t.Helper()
	r, err := RestoreCatalog(t.Context(), localConfig(t, dir), server.RestoreOptions{}, slog.New(slog.DiscardHandler))
	if err != nil || len(r.Entries) != 3 { // the namespace, rows and dead letters
		t.Fatalf("restore: %v, %+v", err, r)
	}
	for _, e := range r.Entries {
		if e.Outcome != server.OutcomeRestored || len(e.Notes) > 0 {
			t.Errorf("restored %+v", e)
		}
	}
	p := up(t, dir, Demo{})
	defer down(t, p)
	c := clientOf(t, dir)
	eventually(t, "no lag", func() (bool, string) {
		s, err := c.Status(t.Context())
		if err != nil || len(s.Pipelines) == 0 {
			return false, "no status"
		}
		ready, why := s.Ready()
		return ready && s.Pipelines[0].LagRecords == 0 && s.Pipelines[0].PendingRows == 0, why
	})
	got, err := c.Audit(t.Context(), "analytics.user_events", AuditOptions{Kafka: true})
	if err != nil {
		t.Fatal(err)
	}
	if got.Verdict != audit.Clean || got.Rows != got.Distinct || got.Rows < rows {
		t.Errorf("%d rows were there before: %s", rows, got)
	}
}

// After a stop everything is in the warehouse, and a catalog without its database goes on as if nothing had been.
func TestRestoreAfterAStop(t *testing.T) {
	dir := t.TempDir()
	p := up(t, dir, Demo{Rate: 2000, Broken: 0.01})
	snapshotsOf(t, clientOf(t, dir), 2)
	down(t, p)
	loseDatabase(t, dir)
	restoreAndGoOn(t, dir, 1)
}

// After a crash the newest commits were in the database alone. Firn reads again from the vector of the newest metadata
// file; the data files of the lost commits stay behind, and no table names them.
func TestRestoreAfterACrash(t *testing.T) {
	t.Setenv("FIRN_CATALOG_MATERIALIZE_INTERVAL", "1h")
	dir := t.TempDir()
	p := up(t, dir, Demo{Rate: 2000, Broken: 0.01})
	c := clientOf(t, dir)
	snapshotsOf(t, c, 2)
	e, err := ExportCatalog(t.Context(), localConfig(t, dir), slog.New(slog.DiscardHandler))
	if err != nil || len(e.Tables) != 2 || !e.Tables[0].Wrote || !e.Wrote {
		t.Fatalf("export: %v, %+v", err, e)
	}
	exported := metadataFiles(t, dir)
	snapshotsOf(t, c, 3)
	tables, err := c.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	down(t, p)
	lost := 0
	for name := range metadataFiles(t, dir) { // those of the stop, which a crash would not have written
		if !exported[name] {
			lost++
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lost == 0 {
		t.Fatal("the stop wrote no metadata file: every commit was exported before, and nothing is lost")
	}
	orphans := dataFiles(t, dir)
	loseDatabase(t, dir)
	restoreAndGoOn(t, dir, tables[0].Rows)
	for name, at := range dataFiles(t, dir) {
		if was, ok := orphans[name]; ok && !was.Equal(at) {
			t.Errorf("data file %s was written over", name)
		}
	}
}

// dataFiles are the Parquet files of the warehouse under dir with the time of their last change.
func dataFiles(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	found := map[string]time.Time{}
	err := filepath.Walk(filepath.Join(dir, "warehouse"), func(path string, i os.FileInfo, err error) error {
		if err == nil && strings.HasSuffix(path, ".parquet") {
			found[path] = i.ModTime()
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("data files: %v, %d", err, len(found))
	}
	return found
}
