package server_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// hours is an interval that no test reaches: only what is handed out is written.
const hours = units.Duration(5 * time.Hour)

// count returns the metadata files in the warehouse.
func (f *fixture) files(t *testing.T) (keys []string) {
	t.Helper()
	err := f.wh.List(t.Context(), "", func(i objstore.Info) error {
		if strings.HasSuffix(i.Key, ".metadata.json") {
			keys = append(keys, i.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestMaterializeBeforeExpose(t *testing.T) {
	f := disk(t)
	tab := f.makeTable(t, "t")
	for i := int64(1); i <= 20; i++ {
		tab = f.append(t, tab, i)
	}
	if n := len(f.files(t)); n != 0 {
		t.Errorf("Firn's own commits wrote %d metadata files", n)
	}
	var given []loaded
	for i := int64(21); i <= 25; i++ {
		var wg sync.WaitGroup
		answers := make([]loaded, 8)
		for j := range answers {
			wg.Go(func() { answers[j] = want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200) })
		}
		wg.Wait()
		for _, a := range answers {
			if a.Location != answers[0].Location {
				t.Errorf("one version has two metadata files, %s and %s", a.Location, answers[0].Location)
			}
		}
		m := f.wantFile(t, answers[0])
		if !m.Equals(f.full(t, tab).Metadata) {
			t.Errorf("the file differs from the state in the catalog")
		}
		given = append(given, answers[0])
		tab = f.append(t, tab, i)
	}
	for _, l := range given { // for ever readable, and as it was
		f.wantFile(t, l)
	}
	if n := len(f.files(t)); n != len(given) {
		t.Errorf("%d metadata files for %d versions handed out", n, len(given))
	}
	// A commit by others is answered with its file, and refs leave snapshots out of the answer only.
	w := f.ask(t, "POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`)
	f.wantFile(t, want[loaded](t, w, 200))
	refs := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t?snapshots=refs", ""), 200)
	m, err := table.ParseMetadataBytes(refs.Metadata)
	if err != nil || len(m.Snapshots()) != 1 {
		t.Errorf("snapshots=refs gives %d snapshots, %v", len(m.Snapshots()), err)
	}
}

func (f *fixture) full(t *testing.T, tab *catalog.Table) *catalog.Table {
	t.Helper()
	got, err := f.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadAll)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestMetadataLogIsBounded(t *testing.T) {
	f := start(t, server.Config{Store: "sqlite::memory:", MetadataLog: 5, MaterializeInterval: hours}, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	tab := f.makeTable(t, "t")
	load := func() (files []string) {
		l := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
		for e := range f.wantFile(t, l).PreviousFiles() {
			files = append(files, e.MetadataFile)
		}
		return files
	}
	for i := int64(1); i <= 12; i++ {
		tab = f.append(t, tab, i)
		if n := len(load()); n != int(min(i-1, 5)) {
			t.Fatalf("%d earlier metadata files after %d commits", n, i)
		}
	}
	if _, err := f.Service().CommitTable(t.Context(), catalog.TableCommit{Identifier: tab.Identifier,
		Updates: table.Updates{table.NewSetPropertiesUpdate(iceberg.Properties{"write.metadata.previous-versions-max": "2"})}}); err != nil {
		t.Fatal(err)
	}
	if n := len(load()); n != 2 {
		t.Errorf("%d earlier metadata files, the table asks for 2", n)
	}
}

// flaky is a store whose Puts fail, before or after the object is there.
type flaky struct {
	objstore.Store
	before, after atomic.Bool
}

var errInjected = errors.New("injected")

func (s *flaky) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	if s.before.Load() {
		return objstore.Info{}, errors.Join(objstore.ErrUnavailable, errInjected)
	}
	i, err := s.Store.Put(ctx, key, body, mode)
	if s.after.Load() {
		return objstore.Info{}, errors.Join(objstore.ErrUnknownResult, errInjected)
	}
	return i, err
}

// TestStorageFails: the database has the commit, the file is missing. Nobody is given a location, a commit
// by others is told that its outcome is open, and everything works again when the storage does.
func TestStorageFails(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			st := &flaky{Store: objstore.NewMemory()}
			f := start(t, server.Config{Store: "sqlite::memory:", MaterializeInterval: hours}, &objstore.Warehouse{Store: st, URI: "s3://lake/warehouse"})
			tab := f.makeTable(t, "t")
			fail := &st.before
			if when == "after" {
				fail = &st.after
			}
			fail.Store(true)
			tab = f.append(t, tab, 1) // Firn's own commits do not need the file
			want[failure](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 503)
			got := want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`), 500)
			if got.Error.Type != "CommitStateUnknownException" {
				t.Errorf("a commit without its file: %+v", got)
			}
			got = want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"u","schema":`+schemaJSON+`}`), 500)
			if got.Error.Type != "CommitStateUnknownException" {
				t.Errorf("a table created without its file: %+v", got)
			}
			fail.Store(false)
			l := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
			if m := f.wantFile(t, l); m.Properties()["a"] != "b" || m.CurrentSnapshot().SnapshotID != 1 {
				t.Errorf("after the storage came back: %s", l.Metadata)
			}
			f.append(t, f.full(t, tab), 2)
		})
	}
}

func TestIntervalAndClose(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	s, err := server.New(t.Context(), server.Config{Store: "sqlite::memory:", MaterializeInterval: units.Duration(100 * time.Millisecond)}, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Server: s, wh: wh}
	tab := f.append(t, f.makeTable(t, "t"), 1)
	for deadline := time.Now().Add(5 * time.Second); len(f.files(t)) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no metadata file was written in the interval")
		}
	}
	f.append(t, tab, 2)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	files := f.files(t)
	doc, err := wh.Get(t.Context(), files[len(files)-1], 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := table.ParseMetadataBytes(doc); err != nil || m.CurrentSnapshot().SnapshotID != 2 {
		t.Errorf("after Close the newest file is %s", doc)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := s.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadAll); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("a closed catalog answers %v", err)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	open := func() *fixture {
		wh, err := objstore.Open(t.Context(), "file://"+dir+"/warehouse", objstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.New(t.Context(), server.Config{Store: "sqlite://" + dir + "/catalog.db"}, wh, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return &fixture{Server: s, wh: wh}
	}
	f := open()
	tab := f.makeTable(t, "t")
	for i := int64(1); i <= 40; i++ {
		c := catalogtest.Append(tab, i, map[string]string{"firn.offsets": strconv.FormatInt(i, 10)})
		c.Updates = append(c.Updates, table.NewSetSnapshotRefUpdate("firn.p", i, table.TagRef, 0, 0, 0))
		got, err := f.Service().CommitTable(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		tab = got
	}
	before := f.full(t, tab)
	given := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	if err := errors.Join(f.Close(t.Context()), f.wh.Close()); err != nil {
		t.Fatal(err)
	}

	f = open()
	defer func() {
		if err := errors.Join(f.Close(context.Background()), f.wh.Close()); err != nil {
			t.Error(err)
		}
	}()
	after := f.full(t, tab)
	if !after.Metadata.Equals(before.Metadata) || after.Version != before.Version {
		t.Errorf("version %d before the restart, %d after", before.Version, after.Version)
	}
	again := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	if again.Location != given.Location || !sameJSON(again.Metadata, given.Metadata) {
		t.Errorf("one version has the file %s and after a restart %s", given.Location, again.Location)
	}
	e, err := f.Service().(catalog.Historian).HistoryAt(t.Context(), tab.Identifier, time.Now())
	if err != nil || e.Offsets != "40" {
		t.Errorf("history %+v, %v", e, err)
	}
	f.append(t, after, 41)
}

// TestTwoServersOneDatabase: two processes that share a database and a warehouse lose no commit of each other's.
func TestTwoServersOneDatabase(t *testing.T) {
	dir := t.TempDir()
	wh, err := objstore.Open(t.Context(), "file://"+dir+"/warehouse", objstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wh.Close() }) // behind the servers, which write at their end
	cfg := server.Config{Store: "sqlite://" + dir + "/catalog.db", MaterializeInterval: hours}
	servers := []*fixture{start(t, cfg, wh), start(t, cfg, wh)}
	tab := servers[0].makeTable(t, "t")
	const each = 20
	var wg sync.WaitGroup
	for i, f := range servers {
		wg.Go(func() {
			for n := 0; n < each; {
				have, err := f.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadRefs)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = f.Service().CommitTable(t.Context(), catalogtest.Append(have, int64(i*each+n+1), nil))
				switch {
				case err == nil:
					n++
				case !errors.Is(err, catalog.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	a := want[loaded](t, servers[0].ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	b := want[loaded](t, servers[1].ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	if a.Location != b.Location || !sameJSON(a.Metadata, b.Metadata) {
		t.Errorf("two servers give %s and %s for one version", a.Location, b.Location)
	}
	if n := len(servers[0].wantFile(t, a).Snapshots()); n != 2*each {
		t.Errorf("%d snapshots, want %d", n, 2*each)
	}
}

// gated holds back the first metadata file that is written through it until open is closed.
type gated struct {
	objstore.Store
	once       sync.Once
	held, open chan struct{}
}

func (g *gated) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	g.once.Do(func() {
		close(g.held)
		<-g.open
	})
	return g.Store.Put(ctx, key, body, mode)
}

// TestFilesOutOfOrder: a process that is slow with the file of an older version does not change what another wrote
// for a newer one: every answer is what its file holds.
func TestFilesOutOfOrder(t *testing.T) {
	store, uri := objstore.NewMemory(), "s3://lake/warehouse"
	slow := &gated{Store: store, held: make(chan struct{}), open: make(chan struct{})}
	cfg := server.Config{Store: "sqlite://" + t.TempDir() + "/catalog.db", MaterializeInterval: hours}
	if elsewhere != nil {
		cfg = elsewhere(t, cfg)
		defer func(f func(*testing.T, server.Config) server.Config) { elsewhere = f }(elsewhere)
		elsewhere = nil // both on one database
	}
	a := start(t, cfg, &objstore.Warehouse{Store: slow, URI: uri})
	b := start(t, cfg, &objstore.Warehouse{Store: store, URI: uri})
	tab := a.append(t, a.makeTable(t, "t"), 1)
	var late loaded
	var wg sync.WaitGroup
	wg.Go(func() { late = want[loaded](t, a.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200) })
	<-slow.held
	b.append(t, tab, 2)
	newer := want[loaded](t, b.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	b.wantFile(t, newer)
	close(slow.open)
	wg.Wait()
	a.wantFile(t, late)
	for _, f := range []*fixture{a, b, start(t, cfg, &objstore.Warehouse{Store: store, URI: uri})} {
		got := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
		if f.wantFile(t, got); got.Location != newer.Location {
			t.Errorf("one version has two files: %s and %s", got.Location, newer.Location)
		}
	}
}
