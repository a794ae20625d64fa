//go:build cgo

package query_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/query"
)

// TestCachedCopies: files of a warehouse that is not on this disk are fetched once, survive the process, and are
// fetched again when their copies come to harm.
func TestCachedCopies(t *testing.T) {
	t.Parallel()
	store := &counting{Store: objstore.NewMemory(), opened: map[string]int{}}
	l := lakeIn(t, &objstore.Warehouse{Store: store, URI: "s3://lake/warehouse"})
	s := l.table(0, "ns", "events")
	s.add(3)
	s.add(4)
	s.ingest(0, 2)
	dir := t.TempDir()
	open := func() *query.Service { return l.service(func(p *parts) { p.cfg.CacheDir = dir }) }
	count := func(q *query.Service) {
		t.Helper()
		got, _, err := l.ask(q, query.Options{}, "SELECT count(*), sum(amount) FROM events")
		l.must(err)
		same(t, "rows", got, []string{"9|36"})
	}
	q := open()
	count(q)
	count(q)
	if n := store.total(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
	q = open()
	count(q)
	if n := store.total(); n != 2 {
		t.Errorf("%d fetches with a new process, want 2", n)
	}
	copies, err := filepath.Glob(filepath.Join(dir, "files", "*.parquet"))
	l.must(err)
	if len(copies) != 2 {
		t.Fatalf("copies %v", copies)
	}
	for _, c := range copies {
		info, err := os.Stat(c)
		l.must(err)
		l.must(os.WriteFile(c, make([]byte, info.Size()), 0o600))
	}
	q = open()
	count(q)
	count(q)
	if n := store.total(); n != 4 {
		t.Errorf("%d fetches after damage to the copies, want 4", n)
	}

	// What is damaged in the warehouse itself is told, and fetched once a statement.
	key, err := l.wh.Key(s.files()[0].FilePath())
	l.must(err)
	data, err := store.Store.Get(t.Context(), key, 1<<30)
	l.must(err)
	_, err = l.wh.Put(t.Context(), key, bytes.NewReader(make([]byte, len(data))), objstore.Overwrite)
	l.must(err)
	q = l.service()
	for i := range 2 {
		_, _, err = l.ask(q, query.Options{}, "SELECT count(*) FROM events")
		fails(t, err, query.ErrCorrupt, key)
		if n := store.opened[key]; n != 3+i {
			t.Errorf("%d fetches of the damaged file, want %d", n, 3+i)
		}
	}
}

// TestVanishedFile: a file that goes between the pin and the read makes the statement be planned again.
func TestVanishedFile(t *testing.T) {
	t.Parallel()
	store := &counting{Store: objstore.NewMemory(), opened: map[string]int{}}
	l := lakeIn(t, &objstore.Warehouse{Store: store, URI: "s3://lake/warehouse"})
	s := l.table(0, "ns", "events")
	s.add(5)
	old := s.files()[0].FilePath()
	store.open = func(ctx context.Context, key string) { // compaction swaps the file, and an expiry removes it
		if !strings.HasSuffix(old, key[strings.LastIndexByte(key, '/')+1:]) || store.opened[key] > 1 {
			return
		}
		f, err := s.write(s.meta(), 0, 0, 5)
		l.must(err)
		s.swap(f)
		l.must(l.wh.Delete(ctx, key))
	}
	got, pins, err := l.ask(l.service(), query.Options{Level: query.LevelCommitted}, "SELECT count(*) FROM events")
	l.must(err)
	same(t, "planned again", got, []string{"5"})
	if pins[0].SnapshotID != s.meta().CurrentSnapshot().SnapshotID {
		t.Errorf("pin %+v", pins[0])
	}
	// One that is gone from the head is lost.
	key, err := l.wh.Key(s.files()[0].FilePath())
	l.must(err)
	l.must(l.wh.Delete(t.Context(), key))
	q := l.service()
	for _, ask := range asks(s) {
		_, _, err := read(t, q, ask)
		fails(t, err, objstore.ErrNotFound, key[strings.LastIndexByte(key, '/')+1:])
	}
}

// swap makes a snapshot of one file instead of all.
func (s *stream) swap(f iceberg.DataFile) {
	s.Helper()
	meta := s.meta()
	h, err := snapshot.LoadHead(context.Background(), snapshot.NewReader(s.wh, 0), meta, table.MainBranch)
	s.must(err)
	c := snapshot.Change{SnapshotID: snapshot.NewID(), Operation: table.OpReplace, Drop: map[string]bool{}, Added: []iceberg.DataFile{f}, Removed: s.files(), Summary: map[string]string{}}
	for k, v := range meta.CurrentSnapshot().Summary.Properties {
		if strings.HasPrefix(k, "firn.") {
			c.Summary[k] = v
		}
	}
	for _, m := range h.Manifests {
		c.Drop[m.FilePath()] = true
	}
	m, err := snapshot.WriteManifest(context.Background(), s.wh, meta, meta.PartitionSpec(), c.SnapshotID, []snapshot.Entry{snapshot.Added(f)})
	s.must(err)
	c.New = []iceberg.ManifestFile{m}
	snap, err := snapshot.Build(context.Background(), s.wh, h, c, time.Now())
	s.must(err)
	s.update(snapshot.Updates(snap, table.MainBranch)...)
}

// TestEqualityDeletes: a table with deletes by equality is refused, for its data files alone would show deleted rows.
func TestEqualityDeletes(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(time.Hour, "ns", "events")
	before, meta := s.add(5), s.meta()
	b, err := iceberg.NewDataFileBuilder(meta.PartitionSpec(), iceberg.EntryContentEqDeletes, snapshot.DataLocation(meta, uuid.NewString()+"-deletes.parquet"),
		iceberg.ParquetFile, nil, nil, nil, 1, 100)
	l.must(err)
	s.takeOut(b.EqualityFieldIDs([]int{1}).Build())
	q := l.service()
	for name, ask := range asks(s) {
		_, err := ask(t.Context(), q, query.Options{})
		fails(t, err, snapshot.ErrDeleteFiles, "ns.events", "compact")
		if n := l.tails.open(); n != 0 {
			t.Errorf("%s: %d cuts are held", name, n)
		}
	}
	got, _, err := l.ask(q, query.Options{}, "SELECT count(*) FROM events FOR VERSION AS OF %s", fmt.Sprint(before))
	l.must(err)
	same(t, "before the delete", got, []string{"5"})
}
