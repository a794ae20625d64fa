//go:build integration

package server_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/logging/logtest"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// thousand is how many committers there are at once.
const thousand = 1000

// TestThousand: a thousand committers on one table, and on a table each, through two catalogs on Postgres where they fight
// for connections. One table costs so many more tries there that it has fewer; all thousand are on SQLite.
func TestThousand(t *testing.T) {
	both := pair(t)
	t.Run("one table", func(t *testing.T) { crowdOnOne(t, thousand, onDisk(t)) })
	t.Run("one table, two catalogs", func(t *testing.T) { crowdOnOne(t, crowd, both[0], both[1]) })
	t.Run("thousand tables, two catalogs", func(t *testing.T) { crowdOfTables(t, thousand, both[0], both[1]) })
}

// TestAcross: what one process does, the other knows at once, whatever it has cached.
func TestAcross(t *testing.T) {
	both := pair(t)
	a, b := both[0], both[1]
	given := newHanded(a.wh)
	tab := a.makeTable(t, "t")
	const at = "/v1/namespaces/ns/tables/t"
	tag := func(f *fixture, path string) string {
		t.Helper()
		w := given.saw(t, f.ask(t, "GET", path, ""))
		want[loaded](t, w, 200)
		return w.Header().Get("ETag")
	}
	// ETags: the same file, the same tag, wherever it is asked for; a commit elsewhere makes it another.
	for range 3 {
		before := tag(a, at)
		want[none](t, b.ask(t, "GET", at, "", "If-None-Match", before), 304)
		want[loaded](t, given.saw(t, b.ask(t, "POST", at, setProperty("n", uuid.NewString()))), 200)
		w := given.saw(t, a.ask(t, "GET", at, "", "If-None-Match", before))
		if l := want[loaded](t, w, 200); !sameJSON(a.handedOut(t, l), l.Metadata) {
			t.Error("the answer is not what the file holds")
		}
		want[none](t, b.ask(t, "GET", at, "", "If-None-Match", w.Header().Get("ETag")), 304)
	}
	// A commit that was made on a head that one process has cached and the other has moved is refused, and a load shows why.
	stale, err := a.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadRefs)
	if err != nil {
		t.Fatal(err)
	}
	b.append(t, stale, 1)
	if _, err := a.Service().CommitTable(t.Context(), catalogtest.Append(stale, 2, nil)); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("a commit on a head that another process moved: %v", err)
	}
	now, err := a.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadRefs)
	if err != nil || now.Metadata.CurrentSnapshot().SnapshotID != 1 {
		t.Fatalf("after the conflict: %v, %v", now, err)
	}
	a.append(t, now, 2)

	// Views, namespaces and names.
	want[loaded](t, given.saw(t, a.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", ""))), 200)
	want[loaded](t, given.saw(t, b.ask(t, "POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "spark", "select 2")))), 200)
	if l := want[loaded](t, given.saw(t, a.ask(t, "GET", "/v1/namespaces/ns/views/v", "")), 200); !strings.Contains(string(l.Metadata), "select 2") {
		t.Errorf("the other process's view is %s", l.Metadata)
	}
	want[none](t, a.ask(t, "POST", "/v1/namespaces/ns/properties", `{"updates":{"a":"b"}}`), 200)
	if ns := want[struct{ Properties map[string]string }](t, b.ask(t, "GET", "/v1/namespaces/ns", ""), 200); ns.Properties["a"] != "b" {
		t.Errorf("the other process's properties are %v", ns.Properties)
	}
	want[none](t, b.ask(t, "POST", "/v1/tables/rename", `{"source":{"namespace":["ns"],"name":"t"},"destination":{"namespace":["ns"],"name":"u"}}`), 204)
	want[failure](t, a.ask(t, "GET", at, ""), 404)
	tag(a, "/v1/namespaces/ns/tables/u")
	want[none](t, a.ask(t, "DELETE", "/v1/namespaces/ns/tables/u", ""), 204)
	b.makeTable(t, "u") // another table of the name: nothing of the one that went is answered
	if l := want[loaded](t, given.saw(t, a.ask(t, "GET", "/v1/namespaces/ns/tables/u", "")), 200); strings.Contains(string(l.Metadata), tab.Metadata.TableUUID().String()) {
		t.Error("a table that was dropped elsewhere is answered")
	}

	// An idempotency key counts at every process.
	key := uuid.NewString()
	for range 2 {
		for _, f := range both {
			want[loaded](t, given.saw(t, f.keyed(t, key, "POST", "/v1/namespaces/ns/tables/u", setProperty("once", "1"))), 200)
		}
	}
	if v := a.full(t, &catalog.Table{Identifier: catalog.Identifier{"ns", "u"}}).Version; v != 2 {
		t.Errorf("a change that was sent four times with one key left version %d", v)
	}
	given.check(t, a.wh)
}

// TestWatchAcross: commits at one process wake the watchers of another, each once and in order.
func TestWatchAcross(t *testing.T) {
	both := pair(t)
	tab := both[0].makeTable(t, "t")
	const n = 20
	enough := errors.New("enough")
	var got []int64
	done := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		done <- both[1].dial(t).Watch(t.Context(), tab.Identifier, 0, func(e catalog.Event) error {
			if len(got) == 0 {
				close(began)
			}
			if got = append(got, e.Version); e.Version == n+1 {
				return enough
			}
			return nil
		})
	}()
	<-began
	for i := range int64(n) {
		tab = both[i%2].append(t, tab, 1+i)
		time.Sleep(20 * time.Millisecond)
	}
	select {
	case err := <-done:
		if !errors.Is(err, enough) || len(got) != n+1 {
			t.Errorf("%v, then %v", got, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the watch did not come to the last commit")
	}
	for i, v := range got {
		if v != int64(i+1) {
			t.Fatalf("events %v", got)
		}
	}
}

// TestTasksDoNotFight: the background tasks of several processes, all at the same time and often, leave one file for a
// version, one inventory for the names, and no error.
func TestTasksDoNotFight(t *testing.T) {
	log := &logtest.Buffer{}
	cfg := onPostgres(t).config(t, server.Config{MaterializeInterval: units.Duration(100 * time.Millisecond), IdempotencyLifetime: units.Duration(time.Minute),
		Token: units.NewSecret("right"), AuditTable: []string{"sys", "audit"}, AuditInterval: units.Duration(time.Second)})
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	var all []*fixture
	for range 3 {
		s, err := server.New(t.Context(), cfg, wh, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})), nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &fixture{s, wh, cfg})
	}
	given := newHanded(wh)
	var wg sync.WaitGroup
	for i := range 6 {
		tab := all[0].makeTable(t, fmt.Sprint("t", i))
		wg.Go(func() {
			for n := int64(1); n <= 15; n++ {
				tab = all[(i+int(n))%3].append(t, tab, n)
				at := fmt.Sprint("/v1/namespaces/ns/tables/t", i)
				want[loaded](t, given.saw(t, all[n%3].ask(t, "GET", at, "", "Authorization", "Bearer right")), 200)
				want[loaded](t, given.saw(t, all[n%3].ask(t, "POST", at, setProperty("n", fmt.Sprint(n)), "Authorization", "Bearer right", "Idempotency-Key", uuid.NewString())), 200)
				tab = all[n%3].full(t, tab)
				time.Sleep(30 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	for _, f := range all {
		if err := f.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	given.check(t, wh)
	if said := log.String(); said != "" {
		t.Errorf("the catalogs said:\n%s", said)
	}
	last := start(t, cfg, wh)
	for i := range 6 {
		id := catalog.Identifier{"ns", fmt.Sprint("t", i)}
		if got := last.full(t, &catalog.Table{Identifier: id}); got.Version != 31 || len(got.Metadata.Snapshots()) != 15 {
			t.Errorf("%s stands at version %d with %d snapshots", id, got.Version, len(got.Metadata.Snapshots()))
		}
	}
	lost := start(t, server.Config{Store: "sqlite::memory:", MaterializeInterval: hours}, wh)
	r, err := lost.Restore(t.Context(), server.RestoreOptions{DryRun: true})
	if r == nil || len(r.Entries) != 9 { // two namespaces, six tables, and that of the audit; the manifest lists are not there
		t.Errorf("the inventory names %v, %v", outcomes(r), err)
	}
}

// admin is a connection to the database itself, in the schema of a configuration.
func (p *postgres) admin(t *testing.T, cfg server.Config) *sql.Conn {
	t.Helper()
	db, err := sql.Open("pgx", strings.Replace(cfg.Store, "firn@", "firn:"+p.password+"@", 1))
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func do(t *testing.T, c *sql.Conn, statement string) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TestPostgresLocked: somebody holds the rows, or the tables, for longer than lock_timeout. Commits are refused for now and
// had again afterwards; loads go on under a lock of rows.
func TestPostgresLocked(t *testing.T) {
	p := onPostgres(t)
	cfg := p.config(t, server.Config{MaterializeInterval: hours})
	cfg.Postgres.LockTimeout = units.Duration(300 * time.Millisecond)
	f := start(t, cfg, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	given, other := newHanded(f.wh), p.admin(t, cfg)
	tab := f.append(t, f.makeTable(t, "t"), 1)
	free := f.makeTable(t, "free")
	for _, lock := range []string{"SELECT 1 FROM tables WHERE location = '" + tab.Metadata.Location() + "' FOR UPDATE", "LOCK TABLE tables IN EXCLUSIVE MODE"} {
		do(t, other, "BEGIN")
		do(t, other, lock)
		began := time.Now()
		_, err := f.Service().CommitTable(t.Context(), catalogtest.Append(tab, 99, nil))
		if took := time.Since(began); !errors.Is(err, catalog.ErrUnavailable) || took > 5*time.Second {
			t.Errorf("%s: a commit: %v after %s", lock, err, took)
		}
		given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", "")) // the version of before, which has its file
		if strings.HasPrefix(lock, "SELECT") {
			free = f.append(t, free, 1)
		}
		do(t, other, "ROLLBACK")
		tab = f.append(t, f.full(t, tab), 10*tab.Version)
		given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""))
	}
	if m := f.full(t, tab).Metadata; m.SnapshotByID(99) != nil || len(m.Snapshots()) != 3 {
		t.Errorf("a commit that was refused is there: %d snapshots", len(m.Snapshots()))
	}
	given.check(t, f.wh)
}

// TestPostgresConnections: others have all connections. Requests that need one are refused for now, and served afterwards.
func TestPostgresConnections(t *testing.T) {
	p := onPostgres(t)
	cfg := p.config(t, server.Config{MaterializeInterval: hours})
	setup := p.admin(t, cfg)
	do(t, setup, "DO $$ BEGIN CREATE ROLE few LOGIN PASSWORD '"+p.password+"' CONNECTION LIMIT 2; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
	var schema string
	if err := setup.QueryRowContext(t.Context(), "SELECT current_schema()").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	do(t, setup, "GRANT ALL ON SCHEMA "+schema+" TO few")
	cfg.Store = strings.Replace(cfg.Store, "firn@", "few@", 1)
	f := start(t, cfg, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}) // it may open 8, and gets 2
	tab := f.makeTable(t, "t")
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for i := range 16 {
		wg.Go(func() {
			id := catalog.Identifier{"ns", fmt.Sprint("x", i)}
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				_, err := f.Service().CreateTable(t.Context(), id, catalog.CreateTable{Schema: catalogtest.Schema()})
				if err == nil {
					return
				}
				if mu.Lock(); errors.Is(err, catalog.ErrUnavailable) {
					refused++
				} else {
					t.Errorf("table %d: %v", i, err)
				}
				mu.Unlock()
				if time.Now().After(deadline) {
					t.Errorf("table %d: never made: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if refused == 0 {
		t.Error("more connections than there may be were had")
	}
	f.append(t, tab, 1)
}

// TestPostgresFull: the disk of the database is full. Commits are refused and nothing of them is there; with room again
// they go on, and the catalog needs nobody's help.
func TestPostgresFull(t *testing.T) {
	p := onPostgres(t)
	dir, err := os.MkdirTemp(p.dir, "small-")
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("this test needs to mount a small tmpfs (root): %v: %v: %s", args, err, out)
		}
	}
	run("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", dir)
	t.Cleanup(func() { run("umount", "-l", dir) })
	run("chown", "postgres", dir)
	cfg := p.config(t, server.Config{MaterializeInterval: hours})
	admin := p.admin(t, cfg)
	do(t, admin, "CREATE TABLESPACE small LOCATION '"+dir+"'")
	t.Cleanup(func() { // Postgres must not miss it when it starts again
		for _, s := range []string{"DO $$ BEGIN EXECUTE 'DROP SCHEMA ' || current_schema() || ' CASCADE'; END $$", "DROP TABLESPACE small"} {
			if _, err := admin.ExecContext(context.Background(), s); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
	})
	cfg.Store += "&default_tablespace=small"
	f := start(t, cfg, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	given, tab := newHanded(f.wh), f.makeTable(t, "t")
	given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""))
	n := int64(0)
	for deadline := time.Now().Add(time.Minute); err == nil; {
		var next *catalog.Table
		next, err = f.Service().CommitTable(t.Context(), catalogtest.Append(tab, n+1, map[string]string{"filler": random(n)}))
		if err == nil {
			tab, n = next, n+1
		}
		if time.Now().After(deadline) {
			t.Fatal("the disk does not become full")
		}
	}
	for range 3 {
		if !errors.Is(err, catalog.ErrUnavailable) {
			t.Errorf("a commit to a full database: %v", err)
		}
		if got := f.full(t, tab); got.Version != n+1 || int64(len(got.Metadata.Snapshots())) != n {
			t.Errorf("%d snapshots at version %d, %d commits were acknowledged", len(got.Metadata.Snapshots()), got.Version, n)
		}
		_, err = f.Service().CommitTable(t.Context(), catalogtest.Append(tab, n+1, map[string]string{"filler": random(n)}))
	}
	run("mount", "-o", "remount,size=64m", dir)
	f.append(t, tab, n+1)
	given.saw(t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""))
	given.check(t, f.wh)
}

// random is text that does not compress.
func random(seed int64) string {
	rnd, b := rand.New(rand.NewPCG(1, uint64(seed))), make([]byte, 64<<10)
	for i := range b {
		b[i] = '0' + byte(rnd.IntN(64))
	}
	return string(b)
}
