//go:build integration

package server_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// postgres is a server of the tests' own; it ends with this process.
type postgres struct {
	dir, port, password string
}

var shared = sync.OnceValues(func() (*postgres, error) {
	dir, err := os.MkdirTemp("", "firn-postgres-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &postgres{dir: dir, port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
	if err := l.Close(); err != nil {
		return nil, err
	}
	atEnd = append(atEnd, func() error { return errors.Join(p.script("stop", p.dir), os.RemoveAll(p.dir)) })
	if err := p.script("start", p.dir, p.port); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "credentials"))
	p.password = strings.TrimPrefix(strings.TrimSpace(string(raw)), "PGPASSWORD=")
	return p, err
})

func (p *postgres) script(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // it may have to install Postgres
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{"../../scripts/services/postgres.sh"}, args...)...)
	cmd.Env = append(os.Environ(), "FIRN_OWNER="+strconv.Itoa(os.Getpid()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("postgres.sh %v: %w\n%s", args, err, out)
	}
	return nil
}

var schemas atomic.Int64

// config is that of a catalog in a schema of its own on p.
func (p *postgres) config(t *testing.T, cfg server.Config) server.Config {
	t.Helper()
	db, err := sql.Open("pgx", fmt.Sprintf("postgres://firn:%s@127.0.0.1:%s/firn", p.password, p.port))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	schema := fmt.Sprintf("test_%d", schemas.Add(1))
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	cfg.Store = fmt.Sprintf("postgres://firn@127.0.0.1:%s/firn?search_path=%s&sslmode=disable", p.port, schema)
	cfg.Postgres = sqlstore.PostgresOptions{Password: units.NewSecret(p.password), MaxConns: 8}
	return cfg
}

func onPostgres(t *testing.T) *postgres {
	t.Helper()
	p, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOnPostgres runs on Postgres what the other tests run on SQLite.
func TestOnPostgres(t *testing.T) {
	p := onPostgres(t)
	elsewhere = p.config
	defer func() { elsewhere = nil }()
	t.Run("SuiteInProcess", func(t *testing.T) {
		catalogtest.Run(t, func(t *testing.T) catalog.Catalog { return memory(t).Service() }, all)
	})
	t.Run("SuiteOverHTTP", func(t *testing.T) {
		catalogtest.Run(t, func(t *testing.T) catalog.Catalog { return memory(t).dial(t) }, overHTTP)
	})
	for name, run := range map[string]func(*testing.T){
		"WalkThrough": TestWalkThrough, "Pages": TestPages, "Refused": TestRefused, "Words": TestWords, "Statuses": TestStatuses,
		"ETag": TestETag, "RegisterOverwrite": TestRegisterOverwrite, "IdempotencyKeys": TestIdempotencyKeys, "IdempotencyAtOnce": TestIdempotencyAtOnce,
		"IdempotencyAfterUnknown": TestIdempotencyAfterUnknown, "MaterializeBeforeExpose": TestMaterializeBeforeExpose, "FilesOutOfOrder": TestFilesOutOfOrder,
		"Views": TestViews, "ViewPages": TestViewPages, "ViewsRefused": TestViewsRefused, "RegisterView": TestRegisterView, "ViewLocations": TestViewLocations,
		"ViewsLeaveNoStrays": TestViewsLeaveNoStrays, "ViewCommitsAtOnce": TestViewCommitsAtOnce, "ViewHistoryIsBounded": TestViewHistoryIsBounded,
		"ViewsAreNoTables": TestViewsAreNoTables,
		"PlanScan":         TestPlanScan, "PlanRefuses": TestPlanRefuses, "PlanTasks": TestPlanTasks, "PlanRights": TestPlanRights, "PlanOfThePast": TestPlanOfThePast,
		"Places": TestPlaces, "RegisteredMetadataIsChecked": TestRegisteredMetadataIsChecked, "PropertiesDoNotSteerReaders": TestPropertiesDoNotSteerReaders,
		"PurgeStaysInItsPlace": TestPurgeStaysInItsPlace, "ManifestsAreLookedInto": TestManifestsAreLookedInto, "CarriedManifestsAreKnown": TestCarriedManifestsAreKnown,
		"PastTableKinds": TestPastTableKinds, "PastTableNames": TestPastTableNames, "PastTableIsReadOnly": TestPastTableIsReadOnly,
		"ListingsAreFiltered": TestListingsAreFiltered, "IdempotencyKeysAreOnesOwn": TestIdempotencyKeysAreOnesOwn,
		"Trips": TestTrips, "RememberedTables": TestRememberedTables, "CommitOfNothing": TestCommitOfNothing, "NothingOfAnotherCatalog": TestNothingOfAnotherCatalog,
	} {
		t.Run(name, run)
	}
}

// pair is two catalogs on one database and warehouse.
func pair(t *testing.T) [2]*fixture {
	t.Helper()
	cfg := onPostgres(t).config(t, server.Config{})
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	return [2]*fixture{start(t, cfg, wh), start(t, cfg, wh)}
}

// TestTwoCatalogs: writers on two catalogs at once lose no commit, and each reads what the other wrote.
func TestTwoCatalogs(t *testing.T) {
	both := pair(t)
	tab := both[0].makeTable(t, "t")
	const writers, each = 3, 8
	var wg sync.WaitGroup
	for w := range 2 * writers {
		wg.Go(func() {
			f := both[w%2]
			for i := range each {
				id := int64(1 + w*each + i)
				for {
					now, err := f.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadRefs)
					if err == nil {
						_, err = f.Service().CommitTable(t.Context(), catalogtest.Append(now, id, nil))
					}
					if err == nil {
						break
					}
					if !errors.Is(err, catalog.ErrConflict) {
						t.Errorf("writer %d: %v", w, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	const n = 2 * writers * each
	for _, f := range both {
		got := f.full(t, tab)
		if len(got.Metadata.Snapshots()) != n || got.Version != n+1 {
			t.Errorf("%d snapshots at version %d, want %d", len(got.Metadata.Snapshots()), got.Version, n)
		}
		f.wantFile(t, want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200))
	}
	a := want[loaded](t, both[0].ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	if b := want[loaded](t, both[1].ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200); a.Location != b.Location {
		t.Errorf("one version has two metadata files: %s and %s", a.Location, b.Location)
	}
}

// TestOneNameForAll: of tables and views that are made, renamed and dropped under one name on two catalogs at once,
// there is one at a time, and no location is had twice.
func TestOneNameForAll(t *testing.T) {
	both := pair(t)
	withNamespace(t, both[0])
	rename := `{"source":{"namespace":["ns"],"name":"x"},"destination":{"namespace":["ns"],"name":"x2"}}`
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			f := both[w%2]
			for range 10 {
				var answers []*httptest.ResponseRecorder
				switch w / 2 {
				case 0:
					answers = append(answers, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":`+schemaJSON+`,"location":"s3://lake/warehouse/x"}`),
						f.ask(t, "DELETE", "/v1/namespaces/ns/tables/x", ""))
				case 1:
					answers = append(answers, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("x", `,"location":"s3://lake/warehouse/x"`)),
						f.ask(t, "DELETE", "/v1/namespaces/ns/views/x", ""))
				case 2:
					answers = append(answers, f.ask(t, "POST", "/v1/tables/rename", rename), f.ask(t, "DELETE", "/v1/namespaces/ns/tables/x2", ""))
				}
				for _, a := range answers { // a table may be dropped before the answer to its creation is written
					if a.Code >= 500 && !strings.Contains(a.Body.String(), "has taken effect") {
						t.Errorf("HTTP %d: %s", a.Code, a.Body)
					}
				}
				tables, err := f.Service().ListTables(t.Context(), catalog.Identifier{"ns"})
				if err != nil || len(tables) > 1 { // one place in the warehouse: one table at a time
					t.Errorf("tables %v, %v", tables, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestDropWhileCommitting: a commit takes effect on a table that is there, or finds it gone; nothing is left behind.
func TestDropWhileCommitting(t *testing.T) {
	both := pair(t)
	for i := range 10 {
		tab := both[0].makeTable(t, fmt.Sprint("t", i))
		var wg sync.WaitGroup
		wg.Go(func() {
			now := tab
			for id := int64(1); !t.Failed(); id++ {
				next, err := both[0].Service().CommitTable(t.Context(), catalogtest.Append(now, id, nil))
				if err != nil {
					if !errors.Is(err, catalog.ErrNoSuchTable) {
						t.Errorf("commit %d: %v", id, err)
					}
					return
				}
				now = next
			}
		})
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 3 * time.Millisecond)
			if err := both[1].Service().DropTable(t.Context(), tab.Identifier, false); err != nil {
				t.Errorf("drop: %v", err)
			}
		})
		wg.Wait()
	}
}

// TestTransactionsCross: transactions over the same tables in another order, on two catalogs, neither deadlock nor tear.
func TestTransactionsCross(t *testing.T) {
	both := pair(t)
	a, b := both[0].makeTable(t, "a"), both[0].makeTable(t, "b")
	set := func(tab *catalog.Table, v string) catalog.TableCommit {
		return catalog.TableCommit{Identifier: tab.Identifier, Requirements: table.Requirements{table.AssertTableUUID(tab.Metadata.TableUUID())},
			Updates: table.Updates{table.NewSetPropertiesUpdate(map[string]string{"v": v})}}
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 10 {
				v := fmt.Sprint(w, "-", i)
				commits := []catalog.TableCommit{set(a, v), set(b, v)}
				if w%2 == 1 {
					commits[0], commits[1] = commits[1], commits[0]
				}
				if err := both[w/2].Service().CommitTransaction(t.Context(), commits); err != nil {
					t.Errorf("transaction: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if x, y := both[1].full(t, a), both[1].full(t, b); x.Version != 41 || y.Version != 41 || x.Metadata.Properties()["v"] != y.Metadata.Properties()["v"] {
		t.Errorf("a at %d with %v, b at %d with %v", x.Version, x.Metadata.Properties(), y.Version, y.Metadata.Properties())
	}
}

// TestPostgresRestarts: while the database goes away and comes back, every commit is had, refused for now, or of
// unknown outcome; what was acknowledged is there, and what was refused is not.
func TestPostgresRestarts(t *testing.T) {
	p := onPostgres(t)
	f := start(t, p.config(t, server.Config{}), &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	tab := f.makeTable(t, "t")
	done := make(chan struct{})
	sure, perhaps := map[int64]bool{}, map[int64]bool{}
	var acknowledged atomic.Int32
	more := func() { // some commits go through before the next restart, and after the last
		t.Helper()
		for until, deadline := acknowledged.Load()+5, time.Now().Add(time.Minute); acknowledged.Load() < until; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no commits go through")
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for id := int64(1); ; id++ {
			select {
			case <-done:
				return
			default:
			}
			now, err := f.Service().LoadTable(t.Context(), tab.Identifier, catalog.LoadRefs)
			if err == nil {
				_, err = f.Service().CommitTable(t.Context(), catalogtest.Append(now, id, nil))
			}
			switch {
			case err == nil:
				sure[id] = true
				acknowledged.Add(1)
			case errors.Is(err, catalog.ErrUnknownOutcome):
				perhaps[id] = true
			case errors.Is(err, catalog.ErrUnavailable):
				time.Sleep(5 * time.Millisecond)
			default:
				t.Errorf("commit %d: %v", id, err)
			}
		}
	})
	stop := sync.OnceFunc(func() { close(done); wg.Wait() })
	defer stop()
	for range 2 {
		more()
		if err := errors.Join(p.script("stop", p.dir), p.script("start", p.dir, p.port)); err != nil {
			t.Error(err)
		}
	}
	more()
	stop()
	there := map[int64]bool{}
	for _, s := range f.full(t, tab).Metadata.Snapshots() {
		there[s.SnapshotID] = true
		if !sure[s.SnapshotID] && !perhaps[s.SnapshotID] {
			t.Errorf("commit %d was refused and is there", s.SnapshotID)
		}
	}
	for id := range sure {
		if !there[id] {
			t.Errorf("commit %d was acknowledged and is not there", id)
		}
	}
}

// TestStartTogether: of catalogs that start at once on an empty database one makes the schema.
func TestStartTogether(t *testing.T) {
	cfg := onPostgres(t).config(t, server.Config{})
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			s, err := server.New(t.Context(), cfg, wh, nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(s.Service().CreateNamespace(t.Context(), catalog.Identifier{fmt.Sprint("ns", i)}, nil), s.Close(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if all, err := start(t, cfg, wh).Service().ListNamespaces(t.Context(), nil); err != nil || len(all) != 4 {
		t.Errorf("namespaces %v, %v", all, err)
	}
}

// TestPostgresRefuses: what Postgres cannot keep is a bad request, and a password in the URL is not taken.
func TestPostgresRefuses(t *testing.T) {
	cfg := onPostgres(t).config(t, server.Config{})
	f := start(t, cfg, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	f.makeTable(t, "t")
	f.append(t, f.makeTable(t, "u"), 1)
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/u", `{"requirements":[],"updates":[{"action":"set-snapshot-ref","ref-name":"a\u0000b","type":"tag","snapshot-id":1}]}`), 400)
	const canary = "canary-51f2"
	for _, dsn := range []string{"postgres://firn:" + canary + "@127.0.0.1/firn", "postgres://firn@127.0.0.1/firn?password=" + canary, "postgres://firn@127.0.0.1:1/firn", "postgres://%zz"} {
		cfg.Store, cfg.Postgres.Password = dsn, units.NewSecret(canary)
		s, err := server.New(t.Context(), cfg, f.wh, nil, nil)
		if err == nil {
			t.Fatal(s.Close(t.Context()))
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
