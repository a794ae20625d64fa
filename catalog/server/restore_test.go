package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// grow appends a snapshot that carries offsets and whose manifest list is there.
func (f *fixture) grow(t *testing.T, tab *catalog.Table, id int64) *catalog.Table {
	t.Helper()
	key, err := f.wh.Key(fmt.Sprintf("%s/metadata/snap-%d.avro", tab.Metadata.Location(), id))
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, key, "list")
	got, err := f.Service().CommitTable(t.Context(), catalogtest.Append(tab, id, map[string]string{"firn.offsets": fmt.Sprintf("v-%d", id)}))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (f *fixture) put(t *testing.T, key, body string) {
	t.Helper()
	if _, err := f.wh.Put(t.Context(), key, strings.NewReader(body), objstore.Overwrite); err != nil {
		t.Fatal(err)
	}
}

// afresh is a catalog with an empty database over the same warehouse.
func (f *fixture) afresh(t *testing.T) *fixture {
	t.Helper()
	return start(t, server.Config{Store: "sqlite::memory:", MaterializeInterval: hours}, f.wh)
}

func lasting(t *testing.T) *fixture {
	t.Helper()
	return start(t, server.Config{Store: "sqlite::memory:", MaterializeInterval: hours}, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
}

// outcomes are the entries as "name: outcome".
func outcomes(r *server.RestoreReport) (out []string) {
	for _, e := range r.Entries {
		out = append(out, e.Kind+" "+e.Name+": "+e.Outcome)
	}
	return out
}

func (f *fixture) export(t *testing.T) *server.ExportReport {
	t.Helper()
	r, err := f.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fixture) restore(t *testing.T, o server.RestoreOptions, want ...string) *server.RestoreReport {
	t.Helper()
	r, err := f.Restore(t.Context(), o)
	if failed := strings.Contains(strings.Join(want, "\n"), server.OutcomeFailed); errors.Is(err, server.ErrNotRestored) != failed || err != nil && !failed {
		t.Fatalf("restore: %v, %+v", err, r)
	}
	if got := outcomes(r); !reflect.DeepEqual(got, want) {
		t.Fatalf("restored\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	return r
}

// TestRestore: what was exported comes back, names and all, as often as one asks; what is there is not touched.
func TestRestore(t *testing.T) {
	f := lasting(t)
	if err := f.Service().CreateNamespace(t.Context(), catalog.Identifier{"ns"}, map[string]string{"owner": "someone"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Service().CreateNamespace(t.Context(), catalog.Identifier{"ns", "in.ner"}, nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	tab := f.makeTable(t, "t")
	tab = f.grow(t, tab, 1)
	between := time.Now()
	time.Sleep(3 * time.Millisecond) // entries of the history are told apart by their milliseconds
	for id := int64(2); id <= 5; id++ {
		tab = f.grow(t, tab, id)
	}
	f.grow(t, f.makeTable(t, "gone"), 6)
	view := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")), 200)
	r := f.export(t)
	if !r.Wrote || len(r.Tables) != 2 || !r.Tables[1].Wrote || r.Tables[1].Version != 6 || r.Views != 1 {
		t.Errorf("export %+v", r)
	}
	if r := f.export(t); r.Wrote || r.Tables[0].Wrote || r.Tables[1].Wrote {
		t.Errorf("a second export wrote again: %+v", r)
	}
	if err := f.Service().DropTable(t.Context(), catalog.Identifier{"ns", "gone"}, false); err != nil {
		t.Fatal(err)
	}
	f.export(t)

	names := []string{"namespace ns: restored", "namespace ns.in.ner: restored", "table ns.t: restored", "view ns.v: restored"}
	back := f.afresh(t)
	dry := back.restore(t, server.RestoreOptions{DryRun: true}, names...)
	if len(dry.Unnamed) != 1 || !strings.Contains(dry.Inventory, "/_firn/inventory/000000000002.json") {
		t.Errorf("dry run: %+v", dry)
	}
	if ns, err := back.Service().ListNamespaces(t.Context(), nil); err != nil || len(ns) != 0 {
		t.Errorf("a dry run made %v, %v", ns, err)
	}
	back.restore(t, server.RestoreOptions{}, names...)
	got := back.full(t, tab)
	if full := f.full(t, tab).Metadata; !got.Metadata.Equals(full) {
		t.Errorf("restored %v, was %v", got.Metadata, full)
	}
	if got.Version != 6 {
		t.Errorf("version %d: the numbers of the metadata files do not go on", got.Version)
	}
	if l := want[loaded](t, back.ask(t, "GET", "/v1/namespaces/ns/views/v", ""), 200); l.Location != view.Location {
		t.Errorf("the view is at %s, was at %s", l.Location, view.Location)
	}
	if p := want[struct{ Properties map[string]string }](t, back.ask(t, "GET", "/v1/namespaces/ns", ""), 200); p.Properties["owner"] != "someone" {
		t.Errorf("namespace %+v", p)
	}
	h := back.Service().(catalog.Historian)
	if e, err := h.HistoryAt(t.Context(), tab.Identifier, between); err != nil || e.Offsets != "v-1" || e.SnapshotID != 1 {
		t.Errorf("history between the first and the second commit: %+v, %v", e, err)
	}
	if _, err := h.HistoryAt(t.Context(), tab.Identifier, began.Add(-time.Second)); !errors.Is(err, catalog.ErrNoHistory) {
		t.Errorf("history before the first commit: %v", err)
	}

	there := []string{"namespace ns: left as it is", "namespace ns.in.ner: left as it is", "table ns.t: left as it is", "view ns.v: left as it is"}
	back.grow(t, got, 7)
	back.restore(t, server.RestoreOptions{}, there...)
	if now := back.full(t, tab).Metadata; now.CurrentSnapshot().SnapshotID != 7 {
		t.Error("a table that was there was overwritten")
	}
	there[2] = "table ns.t: replaced"
	back.restore(t, server.RestoreOptions{Overwrite: true}, there...)
	if now := back.full(t, tab).Metadata; now.CurrentSnapshot().SnapshotID != 5 {
		t.Errorf("overwritten: head %d", now.CurrentSnapshot().SnapshotID)
	}
}

// TestRestoreFindsTheNewest: by what the files say, past broken ones, and never by a guess.
func TestRestoreFindsTheNewest(t *testing.T) {
	f := lasting(t)
	tab := f.makeTable(t, "t")
	for id := int64(1); id <= 20; id++ {
		tab = f.grow(t, tab, id)
		want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	}
	r := f.export(t)
	newest := r.Tables[0].MetadataLocation
	key, err := f.wh.Key(newest)
	if err != nil {
		t.Fatal(err)
	}
	dir, name := key[:strings.LastIndexByte(key, '/')+1], []string{"namespace ns: restored", "table ns.t: restored"}

	f.put(t, dir+"00022-torn.metadata.json", `{"format-version":2,`)
	f.put(t, dir+"00023-other.metadata.json", strings.ReplaceAll(f.read(t, key), tab.Metadata.TableUUID().String(), "6e1c2f4e-0000-4000-8000-000000000000"))
	report := f.afresh(t).restore(t, server.RestoreOptions{}, name...)
	if e := report.Entries[1]; e.MetadataLocation != newest || len(e.Notes) != 2 {
		t.Errorf("restored %+v, the newest is %s", e, newest)
	}

	// Written later with a lower sequence number: a table that was put back to an older state, and nobody can say by whom.
	var doc map[string]any
	if err := json.Unmarshal([]byte(f.read(t, key)), &doc); err != nil {
		t.Fatal(err)
	}
	doc["last-sequence-number"], doc["last-updated-ms"], doc["metadata-log"] = 20-1, doc["last-updated-ms"].(float64)+1000, []any{}
	snaps := doc["snapshots"].([]any)
	doc["snapshots"], doc["current-snapshot-id"], doc["refs"] = snaps[:19], snaps[18].(map[string]any)["snapshot-id"], map[string]any{}
	doc["snapshot-log"] = []any{}
	odd, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, dir+"00024-odd.metadata.json", string(odd))
	name[1] = "table ns.t: failed"
	back := f.afresh(t)
	report = back.restore(t, server.RestoreOptions{}, name...)
	if e := report.Entries[1]; !strings.Contains(e.Reason, "--table") || !strings.Contains(e.Reason, "00024-odd") {
		t.Errorf("ambiguous: %+v", e)
	}
	named := []server.NamedTable{{Name: catalog.Identifier{"else", "x"}, Place: newest}}
	report = back.restore(t, server.RestoreOptions{Tables: named}, "namespace ns: left as it is", "namespace else: restored", "table else.x: restored", "table ns.t: failed")
	if report.Entries[2].MetadataLocation != newest {
		t.Errorf("named: %+v", report.Entries[2])
	}

	// Its current snapshot is gone from storage: that file is of no use.
	for _, n := range []string{"00022-torn", "00023-other", "00024-odd"} {
		if err := f.wh.Delete(t.Context(), dir+n+".metadata.json"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.wh.Delete(t.Context(), dir+"snap-20.avro"); err != nil {
		t.Fatal(err)
	}
	name[1] = "table ns.t: restored"
	report = f.afresh(t).restore(t, server.RestoreOptions{}, name...)
	if e := report.Entries[1]; e.SequenceNumber != 19 || len(e.Notes) != 1 {
		t.Errorf("without its newest manifest list: %+v", e)
	}
}

func (f *fixture) read(t *testing.T, key string) string {
	t.Helper()
	b, err := f.wh.Get(t.Context(), key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestInventory: a new database does not hide the names of the one that was lost, and the place is the catalog's own.
func TestInventory(t *testing.T) {
	f := lasting(t)
	first := f.grow(t, f.makeTable(t, "t"), 1)
	f.export(t)
	fresh := f.afresh(t)
	if r := fresh.export(t); r.Inventory != "" || r.Wrote {
		t.Errorf("an empty database wrote %+v", r)
	}
	fresh.makeTable(t, "u")
	if r := fresh.export(t); !r.Wrote || !strings.HasSuffix(r.Inventory, "000000000002.json") {
		t.Errorf("inventory %+v", r)
	}
	third := f.afresh(t)
	third.restore(t, server.RestoreOptions{Inventory: 1}, "namespace ns: restored", "table ns.t: restored")
	if got := third.full(t, first).Metadata; !got.Equals(f.full(t, first).Metadata) {
		t.Error("restored another state")
	}
	if _, err := third.Restore(t.Context(), server.RestoreOptions{Inventory: 9}); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("an inventory that is not there: %v", err)
	}
	for n := range 120 { // bounded
		if err := third.Service().CreateNamespace(t.Context(), catalog.Identifier{fmt.Sprint("n", n)}, nil); err != nil {
			t.Fatal(err)
		}
		third.export(t)
	}
	n := 0
	if err := f.wh.List(t.Context(), "_firn", func(objstore.Info) error { n++; return nil }); err != nil || n != 100 {
		t.Errorf("%d inventories are kept, %v", n, err)
	}
	for _, loc := range []string{"s3://lake/warehouse/_firn", "s3://lake/warehouse/_firn/inventory/x"} {
		_, err := f.Service().CreateTable(context.Background(), catalog.Identifier{"ns", "x"}, catalog.CreateTable{Schema: catalogtest.Schema(), Location: loc})
		if !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("a table at %s: %v", loc, err)
		}
	}
}
