package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/objstore"
)

// Statements of one steady append commit: on Postgres each is a round trip, on SQLite BEGIN and COMMIT are two of them.
var (
	maxTripsPostgres = trips{commit: 1, keyed: 2, pair: 4}
	maxTripsSQLite   = trips{commit: 7, keyed: 9, pair: 12}
)

// trips are the statements of an append to one table, of the same with an idempotency key, and of a transaction over two tables.
type trips struct{ commit, keyed, pair float64 }

// TestTrips: a commit to a table that the process knows costs no more statements than it must.
func TestTrips(t *testing.T) {
	cfg, most := server.Config{Store: "sqlite://" + t.TempDir() + "/catalog.db", MaterializeInterval: hours,
		SQLite: sqlstore.Options{Synchronous: sqlstore.SyncNormal}}, maxTripsSQLite
	if elsewhere != nil {
		cfg, most = elsewhere(t, cfg), maxTripsPostgres
	}
	wh, reg := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}, prometheus.NewRegistry()
	s, err := server.New(t.Context(), cfg, wh, nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	f := &fixture{s, wh, cfg}
	sent := func() float64 { return metric(t, reg, "firn_catalog_db_statements_total") }
	a, b := f.makeTable(t, "a"), f.makeTable(t, "b")
	id := int64(0)
	next := func(tab *catalog.Table) catalog.TableCommit {
		id++
		c := catalogtest.Append(tab, id, map[string]string{"firn.offsets": "v1:0=7"})
		c.Updates = append(c.Updates, table.NewSetSnapshotRefUpdate("firn.p", id, table.TagRef, 0, 0, 0))
		return c
	}
	post := func(key string) float64 {
		c := next(a)
		body, err := json.Marshal(map[string]any{"requirements": c.Requirements, "updates": c.Updates})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/v1/namespaces/ns/tables/a", strings.NewReader(string(body)))
		r.Header.Set("X-Firn-Lean", "1")
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w, before := httptest.NewRecorder(), sent()
		if f.Handler().ServeHTTP(w, r); w.Code != 200 {
			t.Fatalf("HTTP %d: %s", w.Code, w.Body)
		}
		took := sent() - before
		if a, err = f.Service().LoadTable(t.Context(), a.Identifier, catalog.LoadRefs); err != nil {
			t.Fatal(err)
		}
		return took
	}
	both := func() float64 {
		before := sent()
		if err := f.Service().CommitTransaction(t.Context(), []catalog.TableCommit{next(a), next(b)}); err != nil {
			t.Fatal(err)
		}
		took := sent() - before
		for _, tab := range []**catalog.Table{&a, &b} {
			if *tab, err = f.Service().LoadTable(t.Context(), (*tab).Identifier, catalog.LoadRefs); err != nil {
				t.Fatal(err)
			}
		}
		return took
	}
	post("") // the first one looks the table up
	both()
	for range 3 {
		if got := (trips{post(""), post(uuid.NewString()), both()}); got.commit > most.commit || got.keyed > most.keyed || got.pair > most.pair {
			t.Errorf("statements of a commit: %+v, at most %+v", got, most)
		}
	}
	got := f.full(t, a)
	if n := len(got.Metadata.Snapshots()); n != 11 || got.Version != 12 {
		t.Errorf("%d snapshots at version %d after 11 commits", n, got.Version)
	}
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// rivals are two catalogs on one database, neither of which knows what the other does.
func rivals(t *testing.T) (mine, theirs *fixture) {
	t.Helper()
	cfg := server.Config{Store: "sqlite://" + t.TempDir() + "/catalog.db", MaterializeInterval: hours, SQLite: sqlstore.Options{Synchronous: sqlstore.SyncNormal}}
	return startTwo(t, cfg, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
}

// startTwo starts two catalogs on one database, wherever that is.
func startTwo(t *testing.T, cfg server.Config, wh *objstore.Warehouse) (a, b *fixture) {
	t.Helper()
	if elsewhere != nil {
		cfg = elsewhere(t, cfg)
		defer func(f func(*testing.T, server.Config) server.Config) { elsewhere = f }(elsewhere)
		elsewhere = nil
	}
	return start(t, cfg, wh), start(t, cfg, wh)
}

// TestRememberedTables: what a catalog remembers of a table is out of date. A commit is then decided by what the table is,
// whether that refuses or allows it.
func TestRememberedTables(t *testing.T) {
	mine, theirs := rivals(t)
	set := func(f *fixture, id catalog.Identifier, key string, reqs ...table.Requirement) error {
		_, err := f.Service().CommitTable(t.Context(), catalog.TableCommit{Identifier: id, Requirements: reqs,
			Updates: table.Updates{table.NewSetPropertiesUpdate(iceberg.Properties{key: "1"})}})
		return err
	}
	has := func(id catalog.Identifier, keys ...string) {
		t.Helper()
		now, err := theirs.Service().LoadTable(t.Context(), id, catalog.LoadRefs)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, k := range keys {
			got += len(now.Metadata.Properties()[k])
		}
		if got != len(keys) {
			t.Errorf("table %s has %v, want %v", id, now.Metadata.Properties(), keys)
		}
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	rename := func(from, to catalog.Identifier) {
		t.Helper()
		is(theirs.Server.Service().(*server.Service).RenameTable(t.Context(), from, to), nil)
	}
	tab := mine.append(t, mine.makeTable(t, "t"), 1)
	at, other := tab.Identifier, catalog.Identifier{"other", "t"}
	is(theirs.Service().CreateNamespace(t.Context(), other.Namespace(), nil), nil)

	now := theirs.append(t, tab, 2)
	_, err := mine.Service().CommitTable(t.Context(), catalogtest.Append(tab, 3, nil)) // on the head that it remembers
	is(err, catalog.ErrConflict)
	theirs.append(t, now, 4)
	head := int64(4)
	is(set(mine, at, "allowed", table.AssertRefSnapshotID("main", &head)), nil) // on one that it has not seen
	is(set(theirs, at, "theirs"), nil)
	is(set(mine, at, "mine"), nil) // on whatever it is
	has(at, "allowed", "theirs", "mine")

	rename(at, other) // the name stays, the namespace does not
	is(set(mine, at, "lost"), catalog.ErrNoSuchTable)
	is(set(mine, other, "moved"), nil)
	is(set(mine, at, "lost"), catalog.ErrNoSuchTable) // now that it remembers the table under the other name
	rename(other, catalog.Identifier{"other", "u"})
	is(set(mine, other, "lost"), catalog.ErrNoSuchTable)
	rename(catalog.Identifier{"other", "u"}, at)
	is(set(mine, at, "back"), nil)
	has(at, "allowed", "theirs", "mine", "moved", "back")

	is(theirs.Service().DropTable(t.Context(), at, false), nil)
	is(set(mine, at, "lost"), catalog.ErrNoSuchTable)
	again := theirs.makeTable(t, "t")
	is(set(mine, at, "lost", table.AssertTableUUID(tab.Metadata.TableUUID())), catalog.ErrConflict)
	is(set(mine, at, "anew", table.AssertTableUUID(again.Metadata.TableUUID())), nil)
	has(at, "anew")

	u := mine.append(t, mine.makeTable(t, "u"), 1)
	is(theirs.Service().DropTable(t.Context(), u.Identifier, false), nil)
	is(mine.Service().CommitTransaction(t.Context(), []catalog.TableCommit{catalogtest.Append(u, 2, nil), {Identifier: at,
		Updates: table.Updates{table.NewSetPropertiesUpdate(iceberg.Properties{"half": "1"})}}}), catalog.ErrNoSuchTable)
	if now, err := mine.Service().LoadTable(t.Context(), at, catalog.LoadRefs); err != nil || now.Metadata.Properties()["half"] != "" {
		t.Errorf("half of a transaction took effect: %v, %v", now, err)
	}
}
