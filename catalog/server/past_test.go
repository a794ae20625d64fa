package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

// TestPastTables: whatever was committed, compacted and expired, a table of a past time has exactly the rows that were committed
// by then, for each commit of the history, in both format versions and where files are sorted otherwise than by offset.
func TestPastTables(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { anyPast(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func anyPast(t *testing.T, rng *rand.Rand) {
	l := memory(t).ledgerTable(t, []string{"2", "3"}[rng.IntN(2)])
	for range 2 + rng.IntN(5) {
		switch rng.IntN(6) {
		case 0:
			l.compact([]func(a, b row) int{byLedger, func(a, b row) int { return byLedger(b, a) }}[rng.IntN(2)])
		case 1:
			l.expire()
		case 2:
			l.change(nil, nil, l.record())
		default:
			l.add(rng.Int32N(3), 1+rng.Int64N(4), "a", "b")
		}
	}
	l.expire()
	kinds := map[string]int{}
	for _, e := range l.history() {
		m := l.asOf(t, e.At)
		kinds[m.Properties()["firn.as-of.kind"]]++
		v, err := offset.DecodeVector(e.Offsets)
		l.must(err)
		var rows []row
		for _, r := range l.all {
			if r.o < v[r.p] {
				rows = append(rows, r)
			}
		}
		slices.SortFunc(rows, byLedger)
		if got := l.rowsOf(m); !slices.Equal(got, rows) {
			t.Fatalf("as of version %d, offsets %s: rows %v, want %v", e.Version, v, got, rows)
		}
		l.rowIDs(m)
		if s := m.Properties()["firn.as-of.offsets"]; len(v) > 0 && s != v.String() {
			t.Fatalf("firn.as-of.offsets is %q, want %s", s, v)
		}
	}
	if len(l.history()) > 0 && kinds["snapshot"] == 0 {
		t.Fatalf("the newest commit is no snapshot: %v", kinds)
	}
}

// TestPastTableKinds: the snapshot while the table has it, be it by a tag, else the ledger; the schema of then or of now.
func TestPastTableKinds(t *testing.T) {
	f := memory(t)
	l := f.ledgerTable(t, "2")
	first := l.add(0, 2, "a")
	second := l.add(0, 3, "a")
	if _, err := f.Service().CommitTable(t.Context(), catalog.TableCommit{Identifier: l.id, Updates: table.Updates{snapshot.SetTag("kept", second, 0)}}); err != nil {
		t.Fatal(err)
	}
	third := l.add(0, 4, "a")
	wider := iceberg.NewSchema(1, append(ledgerSchema().Fields(), iceberg.NestedField{ID: 4, Name: "more", Type: iceberg.PrimitiveTypes.String})...)
	_, err := f.Service().CommitTable(t.Context(), catalog.TableCommit{Identifier: l.id, Updates: table.Updates{table.NewAddSchemaUpdate(wider), table.NewSetCurrentSchemaUpdate(-1)}})
	l.must(err)
	last := l.change(nil, nil, l.record())
	at := func(id int64) time.Time { return l.stamp(id) }
	check := func(when time.Time, kind string, snap int64, rows, columns int) {
		t.Helper()
		m := l.asOf(t, when)
		if got := m.Properties()["firn.as-of.kind"]; got != kind || m.Properties()["firn.as-of.snapshot-id"] != fmt.Sprint(snap) || len(l.rowsOf(m)) != rows || m.CurrentSchema().NumFields() != columns {
			t.Errorf("as of %s: %v, %d rows, %d columns, want %s of %d with %d and %d", when, m.Properties(), len(l.rowsOf(m)), m.CurrentSchema().NumFields(), kind, snap, rows, columns)
		}
		if kind == "snapshot" && m.CurrentSnapshot().SnapshotID != snap {
			t.Errorf("as of %s: snapshot %d, want %d", when, m.CurrentSnapshot().SnapshotID, snap)
		}
	}
	check(at(first), "snapshot", first, 2, 3)
	check(at(second).Add(time.Millisecond), "snapshot", second, 5, 3)
	check(at(last), "snapshot", last, 9, 4)
	whole := l.asOf(t, at(first)).Properties()["firn.as-of"]
	if whole != at(first).Format("2006-01-02T15:04:05.000Z") {
		t.Errorf("firn.as-of is %s, the commit was at %s", whole, at(first))
	}
	uuids := map[uuid.UUID]bool{l.asOf(t, at(first)).TableUUID(): true, l.asOf(t, at(first).Add(time.Millisecond)).TableUUID(): true}
	if len(uuids) != 1 {
		t.Error("two times of one state have two uuids")
	}
	l.compact(byLedger)
	l.expire()
	compacted := *l.meta().CurrentSnapshot()
	check(at(first), "ledger", compacted.SnapshotID, 2, 4)
	check(at(second), "snapshot", second, 5, 3)
	check(at(third), "ledger", compacted.SnapshotID, 9, 4)
	m := l.asOf(t, at(first))
	if p := m.CurrentSnapshot().Summary.Properties; p["total-position-deletes"] != "7" || p["total-delete-files"] != "1" || p["total-data-files"] != "1" {
		t.Errorf("summary %v", p)
	}

	// A row of somebody else's is of no time. And what the table no longer stands on is made anew.
	l.all = append(l.all, row{kind: "theirs", p: -1})
	l.change([]iceberg.DataFile{l.write([]row{{kind: "theirs", p: -1}})}, nil, nil)
	check(at(first), "ledger", compacted.SnapshotID, 2, 4)
	l.compact(byLedger)
	l.expire()
	check(at(first), "ledger", l.meta().CurrentSnapshot().SnapshotID, 2, 4)
}

// TestPastTableNames: forms, what is real, what is hidden, and what cannot be.
// TestPastTableRowIDs: a manifest that is written anew has its row ids counted once.
func TestPastTableRowIDs(t *testing.T) {
	l := memory(t).ledgerTable(t, "3")
	first := l.stamp(l.add(0, 2, "a"))
	l.add(0, 3, "b")
	l.compact(byLedger)
	l.expire()
	m := l.asOf(t, first)
	if added := *m.CurrentSnapshot().AddedRows; added != 2 || len(l.rowsOf(m)) != 2 {
		t.Errorf("%d row ids for %d rows, want 2", added, len(l.rowsOf(m)))
	}
	l.rowIDs(m)
}

func TestPastTableNames(t *testing.T) {
	f := memory(t)
	begin := time.Now().Add(-time.Second)
	l := f.ledgerTable(t, "2")
	at := l.stamp(l.add(0, 2, "a"))
	ns := "/v1/namespaces/ns/tables/"
	name := l.id.Name()
	for _, n := range []string{past.Name(name, at), strings.ToLower(past.Name(name, at)), name + "@" + at.Format(time.RFC3339Nano), name + "@" + strings.ToLower(at.Format(time.RFC3339Nano))} {
		want[loaded](t, f.ask(t, "GET", ns+url.PathEscape(n), ""), 200)
		want[none](t, f.ask(t, "HEAD", ns+url.PathEscape(n), ""), 204)
		want[none](t, f.ask(t, "POST", ns+url.PathEscape(n)+"/metrics", scanReport), 204)
		want[loaded](t, f.ask(t, "GET", ns+url.PathEscape(n)+"?snapshots=refs", ""), 200)
		want[failure](t, f.ask(t, "GET", ns+url.PathEscape(n), "", "X-Firn-Lean", "1"), 404)
	}
	if list := f.ask(t, "GET", "/v1/namespaces/ns/tables", "").Body.String(); strings.Contains(list, "__at_") || strings.Contains(list, "@") {
		t.Errorf("a table of a past time is listed: %s", list)
	}
	for n, code := range map[string]int{past.Name(name, begin): 404, past.Name(name, time.Now().Add(time.Hour)): 400, past.Name("absent", at): 404, past.Name(past.Name(name, at), at): 404} {
		for _, method := range []string{"GET", "HEAD"} {
			if got := f.ask(t, method, ns+n, ""); got.Code != code {
				t.Errorf("%s %s: HTTP %d, want %d: %s", method, n, got.Code, code, got.Body)
			}
		}
	}

	// A table that has such a name from before is what the name means.
	l.f.restored(t, "weird@2020-01-01T00:00:00Z")
	f.makeTable(t, "weird")
	if m := want[loaded](t, f.ask(t, "GET", ns+"weird@2020-01-01T00:00:00Z", ""), 200); strings.Contains(string(m.Metadata), "firn.as-of") {
		t.Error("the table of that very name is hidden by a time")
	}
	want[none](t, f.ask(t, "DELETE", ns+"weird@2020-01-01T00:00:00Z", ""), 204)
	want[failure](t, f.ask(t, "GET", ns+"weird@2020-01-01T00:00:00Z", ""), 404) // before the first commit of weird

	// A snapshot that has gone and carried no offsets leaves nothing to tell its rows by.
	lone := l.change([]iceberg.DataFile{l.write([]row{{kind: "theirs", p: -1}})}, nil, nil)
	stamp := l.stamp(lone)
	l.add(0, 1, "a")
	l.expire()
	refused := want[failure](t, f.ask(t, "GET", l.path(stamp), ""), 400)
	if !strings.Contains(refused.Error.Message, "carried no Kafka offsets") {
		t.Errorf("%q does not say why", refused.Error.Message)
	}
}

// restored makes a table of a name that none can have any more, as one of an earlier version: through the database.
func (f *fixture) restored(t *testing.T, name string) {
	t.Helper()
	made := f.makeTable(t, "before")
	got := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/before", ""), 200)
	if err := f.Service().DropTable(t.Context(), made.Identifier, false); err != nil {
		t.Fatal(err)
	}
	if err := f.RegisterAs(t.Context(), catalog.Identifier{"ns", name}, got.Location); err != nil {
		t.Fatal(err)
	}
}

// TestPastTableIsReadOnly: nothing changes one, and none can be made over the name.
func TestPastTableIsReadOnly(t *testing.T) {
	f := memory(t)
	l := f.ledgerTable(t, "2")
	at := l.stamp(l.add(0, 2, "a"))
	name := past.Name(l.id.Name(), at)
	loc := want[loaded](t, f.ask(t, "GET", l.path(at), ""), 200).Location
	before := l.meta()
	ident := fmt.Sprintf(`{"namespace":["ns"],"name":%q}`, name)
	other := `{"namespace":["ns"],"name":"other"}`
	set := `"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]`
	f.makeTable(t, "real")
	for _, c := range [][3]string{
		{"POST", l.path(at), `{` + set + `}`},
		{"POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":` + ident + `,` + set + `}]}`},
		{"POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"real"},` + set + `},{"identifier":` + ident + `,` + set + `}]}`},
		{"DELETE", l.path(at), ""},
		{"DELETE", l.path(at) + "?purgeRequested=true", ""},
		{"POST", "/v1/tables/rename", `{"source":` + ident + `,"destination":` + other + `}`},
		{"POST", "/v1/tables/rename", `{"source":{"namespace":["ns"],"name":"real"},"destination":` + ident + `}`},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"` + name + `","schema":` + schemaJSON + `}`},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"` + name + `","stage-create":true,"schema":` + schemaJSON + `}`},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"absent@2020-01-01T00:00:00Z","schema":` + schemaJSON + `}`},
		{"POST", "/v1/namespaces/ns/register", `{"name":"` + name + `","metadata-location":"` + loc + `"}`},
		{"POST", l.path(at), `{"requirements":[{"type":"assert-create"}],"updates":[]}`},
		{"POST", "/v1/namespaces/ns/views", `{"name":"` + name + `","schema":` + schemaJSON + `,"view-version":{"version-id":1,"timestamp-ms":1,"schema-id":0,"summary":{},"representations":[{"type":"sql","sql":"select 1","dialect":"spark"}],"default-namespace":["ns"]},"properties":{}}`},
	} {
		got := f.ask(t, c[0], c[1], c[2])
		if got.Code != 400 || !strings.Contains(got.Body.String(), "as of "+at.Format(time.RFC3339Nano)) && !strings.Contains(got.Body.String(), "as of 2020") {
			t.Errorf("%s %s %s: HTTP %d %s", c[0], c[1], c[2], got.Code, got.Body)
		}
	}
	if m := l.meta(); !m.Equals(before) {
		t.Error("the table has changed")
	}
	l.asOf(t, at)
}

// TestPastTableOnce: any number of readers share one, two catalogs over one warehouse too, and it goes when its time has come.
func TestPastTableOnce(t *testing.T) {
	f, l, at := expiredPast(t)
	var wg sync.WaitGroup
	locations := make([]string, 20)
	for i := range locations {
		wg.Go(func() {
			w := f.ask(t, "GET", l.path(at), "")
			var got loaded
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
				t.Errorf("HTTP %d, %v", w.Code, err)
			}
			locations[i] = got.Location
		})
	}
	wg.Wait()
	if slices.Sort(locations); locations[0] != locations[len(locations)-1] && len(slices.Compact(slices.Clone(locations))) > 2 { // 2: over the border of two stretches
		t.Errorf("the table was made more than once: %q", slices.Compact(locations))
	}
	count := func(under string) (keys []string) {
		l.must(f.wh.List(t.Context(), under, func(i objstore.Info) error { keys = append(keys, i.Key); return nil }))
		return keys
	}
	key, err := f.wh.Key(l.meta().Location())
	l.must(err)
	if len(count("_firn/as-of")) == 0 || len(count(key+"/as-of")) == 0 {
		t.Fatal("nothing says when the table goes")
	}
	l.must(f.SweepPasts(t.Context(), time.Now().Add(23*time.Hour)))
	f.handedOut(t, want[loaded](t, f.ask(t, "GET", l.path(at), ""), 200))
	data := len(count(key + "/data"))
	l.must(f.SweepPasts(t.Context(), time.Now().Add(25*time.Hour)))
	if m, d := count("_firn/as-of"), count(key+"/as-of"); len(m) != 0 || len(d) != 0 {
		t.Errorf("after its time there are still %q and %q", m, d)
	}
	if n := len(count(key + "/data")); n != data {
		t.Errorf("%d data files of the table are left of %d", n, data)
	}
	l.asOf(t, at) // it is made again
}

// TestPastTableMetrics: each load of a table of a past time is counted with its time, by what became of it.
func TestPastTableMetrics(t *testing.T) {
	f, l, at := expiredPast(t)
	is := func(want map[string]uint64) {
		t.Helper()
		for outcome, n := range want {
			if got, err := f.AsOfLoads(outcome); err != nil || got != n {
				t.Errorf("%d loads are %s, %v, want %d", got, outcome, err, n)
			}
		}
	}
	want[failure](t, f.ask(t, "GET", l.path(at.Add(-time.Hour)), ""), 404)
	want[failure](t, f.ask(t, "GET", l.path(time.Now().Add(time.Hour)), ""), 400)
	is(map[string]uint64{"refused": 2, "made": 0, "found": 0, "failed": 0})
	l.asOf(t, at)
	is(map[string]uint64{"refused": 2, "made": 1, "failed": 0})
	l.asOf(t, at) // found, but over the border of two stretches
	made, err := f.AsOfLoads("made")
	l.must(err)
	is(map[string]uint64{"refused": 2, "found": 2 - made, "failed": 0})
	if made == 2 {
		l.asOf(t, at)
		is(map[string]uint64{"made": 2, "found": 1})
	}
}

// TestPastTableForged: who has keys for the table's files can write where the catalog looks for what it made. What is no
// metadata of a table is not handed on, and nothing is made in vain beside it.
func TestPastTableForged(t *testing.T) {
	f, l, at := expiredPast(t)
	for _, forged := range []string{``, `{`, `{"format-version":2}`, `{},"config":{"token":"stolen"}`} {
		var w *httptest.ResponseRecorder
		var key string
		before := 0
		for range 2 { // over the border of two stretches it is another table
			var err error
			key, err = f.wh.Key(want[loaded](t, f.ask(t, "GET", l.path(at), ""), 200).Location)
			l.must(err)
			_, err = f.wh.Put(t.Context(), key, strings.NewReader(forged), objstore.Overwrite)
			l.must(err)
			before = l.files(path.Dir(key))
			if w = f.ask(t, "GET", l.path(at), ""); w.Code != http.StatusOK {
				break
			}
		}
		if got := want[failure](t, w, 400); !strings.Contains(got.Error.Message, "remove it, and it is made anew") {
			t.Errorf("%q is answered with %q", forged, got.Error.Message)
		}
		if after := l.files(path.Dir(key)); after != before {
			t.Errorf("%d files where there were %d", after, before)
		}
		l.must(f.wh.Delete(t.Context(), key))
	}
	l.asOf(t, at)
}

// TestPastTableBounds: rows to be looked into, and how many there may be.
func TestPastTableBounds(t *testing.T) {
	f := start(t, server.Config{Store: "sqlite::memory:", AsOf: server.AsOf{MaxRows: 3, MaxTables: 1}}, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	l := f.ledgerTable(t, "2")
	first, second := l.stamp(l.add(0, 2, "a")), l.stamp(l.add(0, 2, "a"))
	l.compact(byLedger)
	l.expire()
	got := want[failure](t, f.ask(t, "GET", l.path(first), ""), 400)
	if !strings.Contains(got.Error.Message, "more than 3: raise catalog.as_of.max_rows") {
		t.Errorf("%q", got.Error.Message)
	}
	full := f.ask(t, "GET", l.path(second), "")
	if got := want[failure](t, full, 503); full.Header().Get("Retry-After") == "" || !strings.Contains(got.Error.Message, "raise catalog.as_of.max_tables") {
		t.Errorf("%q", got.Error.Message)
	}
	for _, c := range []server.AsOf{{Lifetime: units.Duration(time.Second)}, {Lifetime: units.Duration(72 * time.Hour)}, {MaxTables: -1}, {MaxRows: -1}} {
		if err := (server.Config{Store: "sqlite::memory:", AsOf: c}).WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "as_of.") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestPastTableRights: whoever may read the table may read it as it was, and get keys to read its files; nobody else knows of it.
func TestPastTableRights(t *testing.T) {
	f, s3 := lending(t, nil, nil, nil)
	f.wh = &objstore.Warehouse{Store: s3, URI: "s3://lake/warehouse"}
	l := f.ledgerTable(t, "2")
	at := l.stamp(l.add(0, 2, "a"))
	if err := f.Service().(interface {
		RenameTable(context.Context, catalog.Identifier, catalog.Identifier) error
	}).RenameTable(t.Context(), l.id, catalog.Identifier{"ns", "t"}); err != nil { // that which the roles of the tests are about
		t.Fatal(err)
	}
	l.id = catalog.Identifier{"ns", "t"}
	path := l.path(at)
	set := `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`
	for who, codes := range map[string][4]int{ // load, exists, commit, drop
		"nobody": {404, 404, 404, 404}, "list": {403, 204, 403, 403}, "read": {200, 204, 403, 403}, "write": {200, 204, 400, 403}, "manage": {200, 204, 400, 400}, "reader": {200, 204, 403, 403}} {
		got := [4]int{f.as(t, who, "GET", path, "").Code, f.as(t, who, "HEAD", path, "").Code, f.as(t, who, "POST", path, set).Code, f.as(t, who, "DELETE", path, "").Code}
		if got != codes {
			t.Errorf("%s: load, exists, commit and drop answer %v, want %v", who, got, codes)
		}
	}
	given := want[lent](t, f.as(t, "write", "GET", path, "", "X-Iceberg-Access-Delegation", vended), 200)
	if len(given.Credentials) != 1 || given.Credentials[0].Prefix != given.Metadata.Location+"/" {
		t.Fatalf("%+v", given.Credentials)
	}
	want[lent](t, f.as(t, "manage", "GET", path+"/credentials", ""), 200)
	for _, s := range s3.asked() {
		if s.Write {
			t.Errorf("keys that write were lent: %+v", s)
		}
	}
	key, err := f.wh.Key(given.Metadata.Location)
	l.must(err)
	signs := func(method string) int {
		body := fmt.Sprintf(`{"region":"us-east-1","method":%q,"uri":"http://storage:9000/lake/warehouse/%s/as-of/x","headers":{}}`, method, key)
		return f.as(t, "manage", "POST", path+"/sign", body).Code
	}
	if get, put := signs("GET"), signs("PUT"); get != 200 || put != 403 {
		t.Errorf("signing answers %d for GET and %d for PUT", get, put)
	}
}
