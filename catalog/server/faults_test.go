package server_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver that the catalog uses

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// handed is every metadata location that clients were given, with what its file held then.
type handed struct {
	wh *objstore.Warehouse
	mu sync.Mutex
	at map[string][sha256.Size]byte
}

func newHanded(wh *objstore.Warehouse) *handed {
	return &handed{wh: wh, at: map[string][sha256.Size]byte{}}
}

// saw takes an answer: its file is there at once.
func (h *handed) saw(t *testing.T, w *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	t.Helper()
	var l loaded
	if w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &l) != nil || l.Location == "" {
		return w
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	sum := h.sum(t, h.wh, l.Location)
	if was, ok := h.at[l.Location]; ok && was != sum {
		t.Errorf("%s has changed", l.Location)
	}
	h.at[l.Location] = sum
	return w
}

func (h *handed) sum(t *testing.T, wh *objstore.Warehouse, location string) [sha256.Size]byte {
	t.Helper()
	key, err := wh.Key(location)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := wh.Get(t.Context(), key, 1<<30)
	if err != nil {
		t.Errorf("a location that was handed out: %v", err)
	}
	return sha256.Sum256(doc)
}

// check reads all of them again.
func (h *handed) check(t *testing.T, wh *objstore.Warehouse) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.at) == 0 {
		t.Error("no location was handed out")
	}
	for loc, sum := range h.at {
		if h.sum(t, wh, loc) != sum {
			t.Errorf("%s is not what was handed out", loc)
		}
	}
}

// corpse is what a catalog leaves that is killed now: the files of its database, and the warehouse.
type corpse struct {
	store string
	wh    *objstore.Warehouse
}

func (f *fixture) killed(t *testing.T) *corpse {
	t.Helper()
	c := &corpse{store: filepath.Join(t.TempDir(), "catalog.db"), wh: &objstore.Warehouse{Store: objstore.NewMemory(), URI: f.wh.URI}}
	from := strings.TrimPrefix(f.cfg.Store, "sqlite://")
	for _, suffix := range []string{"", "-wal"} {
		raw, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(c.store+suffix, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err := f.wh.List(t.Context(), "", func(i objstore.Info) error {
		doc, err := f.wh.Get(t.Context(), i.Key, 1<<30)
		if err == nil {
			_, err = c.wh.Put(t.Context(), i.Key, strings.NewReader(string(doc)), objstore.IfAbsent)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// onDisk is a catalog with its database in a file, which writes no metadata files by itself.
func onDisk(t *testing.T, edit ...func(*server.Config)) *fixture {
	t.Helper()
	cfg := server.Config{Store: "sqlite://" + t.TempDir() + "/catalog.db", MaterializeInterval: hours,
		SQLite: sqlstore.Options{Synchronous: sqlstore.SyncNormal, BusyTimeout: units.Duration(300 * time.Millisecond)}}
	for _, e := range edit {
		e(&cfg)
	}
	return start(t, cfg, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
}

func setProperty(key, value string) string {
	return `{"requirements":[],"updates":[{"action":"set-properties","updates":{"` + key + `":"` + value + `"}}]}`
}

// TestKilledAtEveryPoint: a catalog that dies between the database and a file leaves both so that the next one serves all
// that anyone was told of, and the request that nobody answered takes effect once when it is sent again.
func TestKilledAtEveryPoint(t *testing.T) {
	type request struct{ method, path, body string }
	commit := request{"POST", "/v1/namespaces/ns/tables/t", setProperty("a", "b")}
	transaction := request{"POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"t"},"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]},
		{"identifier":{"namespace":["ns"],"name":"u"},"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}]}`}
	create := request{"POST", "/v1/namespaces/ns/tables", `{"name":"new","schema":` + schemaJSON + `}`}
	view := request{"POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "spark", "select 2"))}
	newView := request{"POST", "/v1/namespaces/ns/views", viewJSON("w", "")}
	for _, c := range []struct {
		at   crash.Point
		asks []request
	}{
		{crash.CatalogBeforeCommit, []request{commit, transaction, create}},
		{crash.CatalogAfterCommit, []request{commit, transaction, create}},
		{crash.CatalogMetadataWritten, []request{commit, create}},
		{crash.CatalogMetadataNamed, []request{commit, create}},
		{crash.CatalogViewWritten, []request{view, newView}},
		{crash.CatalogViewCommitted, []request{view, newView}},
	} {
		for _, q := range c.asks {
			t.Run(string(c.at)+" "+q.path, func(t *testing.T) {
				f := onDisk(t)
				given := newHanded(f.wh)
				u := f.append(t, f.makeTable(t, "t"), 1)
				f.makeTable(t, "u")
				given.saw(t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")))
				for i := range 3 {
					given.saw(t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t", setProperty("i", fmt.Sprint(i))))
					given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/u", ""))
				}
				key := uuid.NewString()
				var left *corpse
				ctx := crash.With(t.Context(), func(p crash.Point) {
					if p == c.at && left == nil {
						left = f.killed(t)
					}
				})
				r := httptest.NewRequestWithContext(ctx, q.method, q.path, strings.NewReader(q.body))
				r.Header.Set("Idempotency-Key", key)
				if w := f.exchange(t, r, q.body); w.Code/100 != 2 || left == nil {
					t.Fatalf("HTTP %d, and it came by the place: %t: %s", w.Code, left != nil, w.Body)
				}
				next := start(t, server.Config{Store: "sqlite://" + left.store, MaterializeInterval: hours}, left.wh)
				given.check(t, left.wh)
				given.wh = left.wh
				version := func(name string) int64 {
					got, err := next.Service().LoadTable(t.Context(), catalog.Identifier{"ns", name}, catalog.LoadRefs)
					if err != nil {
						t.Fatal(err)
					}
					return got.Version
				}
				for range 2 { // again, and once more
					if w := given.saw(t, next.keyed(t, key, q.method, q.path, q.body)); w.Code/100 != 2 {
						t.Fatalf("sent again: HTTP %d: %s", w.Code, w.Body)
					}
				}
				wantT, wantU := int64(5), int64(1)
				if q == commit || q == transaction {
					wantT++
				}
				if q == transaction {
					wantU++
				}
				if gotT, gotU := version("t"), version("u"); gotT != wantT || gotU != wantU {
					t.Errorf("versions %d and %d, want %d and %d", gotT, gotU, wantT, wantU)
				}
				for _, path := range []string{"tables/t", "tables/u", "views/v"} {
					w := given.saw(t, next.ask(t, "GET", "/v1/namespaces/ns/"+path, ""))
					if l := want[loaded](t, w, 200); !sameJSON(next.handedOut(t, l), l.Metadata) {
						t.Errorf("%s: the file differs from the answer", path)
					}
				}
				next.append(t, next.full(t, u), 2)
				given.check(t, left.wh)
			})
		}
	}
}

// TestKilledAfterInventory: an inventory that was written and not pruned behind is one more, and names what there is.
func TestKilledAfterInventory(t *testing.T) {
	f := onDisk(t)
	f.makeTable(t, "t")
	var left *corpse
	exporter := f.Server
	if _, err := exporter.Export(crash.With(t.Context(), func(p crash.Point) {
		if p == crash.CatalogInventory {
			left = f.killed(t)
		}
	})); err != nil || left == nil {
		t.Fatalf("%v, and it came by the place: %t", err, left != nil)
	}
	lost := start(t, server.Config{Store: "sqlite::memory:", MaterializeInterval: hours}, left.wh)
	if r, err := lost.Restore(t.Context(), server.RestoreOptions{}); err != nil || !slices.Contains(outcomes(r), "table ns.t: restored") {
		t.Errorf("%v, %v", outcomes(r), err)
	}
}

// TestDatabaseLocked: another process holds the database. Commits wait for busy_timeout and are refused for now, loads go
// on, and nothing of a refused commit is there afterwards.
func TestDatabaseLocked(t *testing.T) {
	f := onDisk(t)
	given := newHanded(f.wh)
	tab := f.append(t, f.makeTable(t, "t"), 1)
	given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""))
	db, err := sql.Open("sqlite", strings.TrimPrefix(f.cfg.Store, "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	other, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	lock := func(statement string) {
		t.Helper()
		if _, err := other.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	lock("BEGIN EXCLUSIVE")
	began := time.Now()
	_, err = f.Service().CommitTable(t.Context(), catalogtest.Append(tab, 2, nil))
	if took := time.Since(began); !errors.Is(err, catalog.ErrUnavailable) || took < 250*time.Millisecond || took > 3*time.Second {
		t.Errorf("a commit to a locked database: %v after %s", err, took)
	}
	w := f.ask(t, "POST", "/v1/namespaces/ns/tables/t", setProperty("refused", "x"))
	if want[failure](t, w, 503); w.Header().Get("Retry-After") == "" {
		t.Error("a 503 without Retry-After")
	}
	given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", "")) // readers wait for nobody
	lock("COMMIT")

	lock("BEGIN EXCLUSIVE") // one that is given back in time is waited for
	time.AfterFunc(100*time.Millisecond, func() { lock("COMMIT") })
	tab = f.append(t, tab, 3)
	if m := f.full(t, tab).Metadata; tab.Version != 3 || len(m.Snapshots()) != 2 || m.Properties()["refused"] != "" {
		t.Errorf("version %d with %d snapshots and %v", tab.Version, len(m.Snapshots()), m.Properties())
	}
	given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""))
	given.check(t, f.wh)
}

// TestClientDisconnects: half a body changes nothing. Who goes away while the answer is made, wherever that stands, has made
// the change once or not at all, and once when it is sent again with its key.
func TestClientDisconnects(t *testing.T) {
	f := onDisk(t)
	given := newHanded(f.wh)
	tab := f.makeTable(t, "t")
	given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""))
	var conn net.Conn
	var leaveAt crash.Point
	left := make(chan struct{}, 1)
	srv := httptest.NewUnstartedServer(f.Handler())
	srv.Config.BaseContext = func(net.Listener) context.Context {
		return crash.With(t.Context(), func(p crash.Point) {
			if p == leaveAt {
				_ = conn.Close() // the client's side
				time.Sleep(20 * time.Millisecond)
				left <- struct{}{}
			}
		})
	}
	srv.Start()
	defer srv.Close()
	send := func(part int, key, body string) {
		t.Helper()
		var err error
		if conn, err = net.Dial("tcp", srv.Listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST /v1/namespaces/ns/tables/t HTTP/1.1\r\nHost: x\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s", key, len(body), body[:part]); err != nil {
			t.Fatal(err)
		}
	}
	again := func(key, body string) {
		t.Helper()
		for range 2 {
			want[loaded](t, given.saw(t, f.keyed(t, key, "POST", "/v1/namespaces/ns/tables/t", body)), 200)
		}
	}
	body, half := setProperty("a", "b"), uuid.NewString()
	for part := 0; part < len(body); part += 7 {
		send(part, half, body)
		_ = conn.Close()
	}
	again(half, body)
	for _, leaveAt = range crash.CatalogPoints() {
		body, key := setProperty("left", string(leaveAt)), uuid.NewString()
		send(len(body), key, body)
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Fatalf("the request did not come by %s", leaveAt)
		}
		again(key, body)
	}
	if m := f.full(t, tab); m.Version != int64(2+len(crash.CatalogPoints())) {
		t.Errorf("version %d after %d changes, each sent more than once", m.Version, 1+len(crash.CatalogPoints()))
	}
	f.append(t, f.full(t, tab), 1)
	given.check(t, f.wh)
}

// TestCallerGoesAway: a caller that stops waiting does not stop its commit half-way: it took effect or it did not, and
// nothing after it waits.
func TestCallerGoesAway(t *testing.T) {
	f := onDisk(t)
	tab := f.makeTable(t, "t")
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
		got, err := f.Service().CommitTable(ctx, catalogtest.Append(tab, int64(100+i), nil))
		cancel()
		now := f.full(t, tab)
		there := now.Metadata.SnapshotByID(int64(100+i)) != nil
		switch {
		case err == nil && (!there || got.Version != now.Version):
			t.Errorf("commit %d: acknowledged at version %d, the table stands at %d, its snapshot is there: %t", i, got.Version, now.Version, there)
		case err != nil && there && !errors.Is(err, catalog.ErrUnknownOutcome):
			t.Errorf("commit %d took effect, and its caller was told %v", i, err)
		}
		tab = now
	}
}
