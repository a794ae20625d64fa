package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/scan/scantest"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// forged makes snapshots of manifests that name whatever a test wants.
type forged struct {
	*fixture
	*testing.T
	l *scantest.Lake
}

func forge(t *testing.T, change func(*server.Config)) *forged {
	t.Helper()
	store := objstore.NewMemory()
	f := guardedOn(t, store, nil, nil, func(c *server.Config) {
		c.ManifestCheck.Mode = "" // as it is without a word
		if change != nil {
			change(c)
		}
	})
	f.wh = &objstore.Warehouse{Store: store, URI: "s3://lake/warehouse"}
	return &forged{f, t, f.lake(t, "t")}
}

func (f *forged) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// manifest writes one that names files at these places, under a status.
func (f *forged) manifest(id int64, status iceberg.ManifestEntryStatus, places ...string) iceberg.ManifestFile {
	f.Helper()
	var entries []snapshot.Entry
	for _, p := range places {
		b, err := iceberg.NewDataFileBuilder(bySize, iceberg.EntryContentData, p, iceberg.ParquetFile, map[int]any{1000: int32(1)}, nil, nil, 1, 10)
		f.must(err)
		entries = append(entries, snapshot.Entry{Status: status, File: b.Build(), SnapshotID: 5, SequenceNumber: 1, FileSequenceNumber: 1})
	}
	m, err := snapshot.WriteManifest(f.Context(), f.wh, f.l.Meta, bySize, id, entries)
	f.must(err)
	return m
}

// commit is the request that adds a snapshot of these manifests and those that the table has.
func (f *forged) commit(id int64, manifests ...iceberg.ManifestFile) (body string, sn table.Snapshot) {
	f.Helper()
	h, err := snapshot.LoadHead(f.Context(), snapshot.NewReader(f.wh, 0), f.l.Meta, table.MainBranch)
	f.must(err)
	sn, err = snapshot.Build(f.Context(), f.wh, h, snapshot.Change{SnapshotID: id, Operation: table.OpAppend, New: manifests}, time.UnixMilli(f.l.Meta.LastUpdatedMillis()+1000))
	f.must(err)
	doc, err := json.Marshal(wire.CommitTable{Requirements: table.Requirements{}, Updates: snapshot.Updates(sn, table.MainBranch)})
	f.must(err)
	return string(doc), sn
}

// send commits as the principal who may write, and takes over what came of it.
func (f *forged) send(body string, code int, says string) {
	f.Helper()
	w := f.as(f.T, "write", "POST", "/v1/namespaces/ns/tables/t", body)
	f.took(w, code, says)
}

func (f *forged) took(w *httptest.ResponseRecorder, code int, says string) {
	f.Helper()
	if code != 200 {
		fail := want[failure](f.T, w, code)
		if !strings.Contains(fail.Error.Message, says) {
			f.Errorf("refused by %q, want %q", fail.Error.Message, says)
		}
		return
	}
	want[none](f.T, w, code)
	tab, err := f.Service().LoadTable(f.Context(), catalog.Identifier{"ns", "t"}, catalog.LoadAll)
	f.must(err)
	f.l.Meta = tab.Metadata
}

// TestManifestsAreLookedInto: no commit over HTTP brings in a file outside of the table's places, whatever a manifest
// says of itself, and one that cannot be read is refused.
func TestManifestsAreLookedInto(t *testing.T) {
	f := forge(t, func(c *server.Config) { c.ManifestCheck.MaxManifests = 3 })
	other, err := f.Service().CreateTable(t.Context(), catalog.Identifier{"ns", "other"}, catalog.CreateTable{Schema: scantest.Schema()})
	f.must(err)
	own, theirs := f.l.Meta.Location()+"/data/a.parquet", other.Metadata.Location()+"/data/b.parquet"
	added := iceberg.EntryStatusADDED

	body, _ := f.commit(11, f.manifest(11, added, own))
	f.send(body, 200, "")
	body, _ = f.commit(13, f.manifest(13, added, f.l.Meta.Location()+"/data/name=u+3%2F%25%5C/a%20b.parquet")) // the value of a partition, as writers escape it
	f.send(body, 200, "")
	body, _ = f.commit(12, f.manifest(12, added, own, f.wh.URI+"/staging/c.parquet")) // nobody's place in the warehouse
	f.send(body, 200, "")
	for id, places := range map[int64][]string{
		21: {own, theirs}, 22: {"s3://elsewhere/x.parquet"}, 23: {"file:///etc/passwd"}, 24: {f.l.Meta.Location() + "/../x.parquet"}, 25: {"http://169.254.169.254/latest"},
		26: {f.l.Meta.Location() + "/data/%2e%2e/x.parquet"}, 27: {f.l.Meta.Location() + "/data/a%2F..%2F..%2Fx.parquet"}, 28: {f.l.Meta.Location() + "/data/%252E%252E%255cx.parquet"},
	} {
		for _, status := range []iceberg.ManifestEntryStatus{added, iceberg.EntryStatusEXISTING, iceberg.EntryStatusDELETED} {
			body, _ = f.commit(id, f.manifest(id, status, places...))
			f.send(body, 400, "manifest "+f.l.Meta.Location())
		}
	}
	// One that says that an earlier snapshot added it is new all the same.
	m := f.manifest(11, added, theirs)
	m = iceberg.NewManifestFile(2, m.FilePath(), m.Length(), m.PartitionSpecID(), 11).SequenceNum(1, 1).AddedFiles(1).AddedRows(1).Partitions(m.Partitions()).Build()
	body, _ = f.commit(31, m)
	f.send(body, 400, "lies in the place of table")
	body, _ = f.commit(32, f.manifest(32, added, own), f.manifest(32, added, own), f.manifest(32, added, own), f.manifest(32, added, own))
	f.send(body, 400, "manifest_check.max_manifests allows 3")

	// A transaction is looked into too, and so is a commit that makes its table.
	body, _ = f.commit(33, m)
	tx := `{"table-changes":[` + strings.Replace(body, "{", `{"identifier":{"namespace":["ns"],"name":"t"},`, 1) + `]}`
	f.took(f.as(t, "write", "POST", "/v1/transactions/commit", tx), 400, "lies in the place of table")
	f.createdWith(theirs, 400, "lies in the place of table")
	f.createdWith("", 200, "")

	// What cannot be read is refused.
	lost := f.manifest(41, added, own)
	key, err := f.wh.Key(lost.FilePath())
	f.must(err)
	whole, err := f.wh.Get(t.Context(), key, 1<<30)
	f.must(err)
	body, sn := f.commit(41, lost)
	f.must(f.wh.Delete(t.Context(), key))
	f.send(body, 400, "cannot be looked into")
	for _, wrong := range [][]byte{whole[:len(whole)-1], append(whole, 0), bytes.Repeat([]byte{7}, len(whole))} {
		_, err = f.wh.Put(t.Context(), key, bytes.NewReader(wrong), objstore.Overwrite)
		f.must(err)
		f.send(body, 400, "cannot be looked into")
	}
	f.send(strings.Replace(body, sn.ManifestList, f.l.Meta.Location()+"/metadata/gone.avro", 1), 400, "cannot be looked into")

	// The process itself is not asked, and a catalog to which everybody may do everything does not look by itself.
	_, sn = f.commit(51, f.manifest(51, added, theirs))
	if _, err := f.Service().CommitTable(t.Context(), catalog.TableCommit{Identifier: catalog.Identifier{"ns", "t"}, Updates: snapshot.Updates(sn, table.MainBranch)}); err != nil {
		t.Errorf("the process itself: %v", err)
	}
}

// TestCarriedManifestsAreKnown: what the parent has is not read again, also by another catalog on the database, and a
// snapshot that carries all of it costs one manifest.
func TestCarriedManifestsAreKnown(t *testing.T) {
	f := forge(t, nil)
	own := f.l.Meta.Location() + "/data/a.parquet"
	var first iceberg.ManifestFile
	for id := int64(11); id < 15; id++ {
		m := f.manifest(id, iceberg.EntryStatusADDED, own)
		if first == nil {
			first = m
		}
		_, sn := f.commit(id, m)
		got, err := f.Service().CommitTable(t.Context(), catalog.TableCommit{Identifier: catalog.Identifier{"ns", "t"}, Updates: snapshot.Updates(sn, table.MainBranch)})
		f.must(err)
		f.l.Meta = got.Metadata
	}
	key, err := f.wh.Key(first.FilePath())
	f.must(err)
	f.must(f.wh.Delete(t.Context(), key)) // whoever read it would notice
	for id := int64(21); id < 24; id++ {
		body, _ := f.commit(id, f.manifest(id, iceberg.EntryStatusADDED, own))
		f.send(body, 200, "")
	}
}

// TestManifestCheckIsChosen: off where it is off, and on without authentication where it is on.
func TestManifestCheckIsChosen(t *testing.T) {
	for mode, code := range map[string]int{"off": 200, "on": 400, "": 400} {
		f := forge(t, func(c *server.Config) { c.ManifestCheck.Mode = mode })
		body, _ := f.commit(11, f.manifest(11, iceberg.EntryStatusADDED, "s3://elsewhere/x.parquet"))
		f.send(body, code, "s3://elsewhere/x.parquet")
	}
	for mode, code := range map[string]int{"": 200, "on": 400} {
		m := start(t, server.Config{Store: "sqlite::memory:", ManifestCheck: server.ManifestCheck{Mode: mode}}, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
		f := &forged{m, t, m.lake(t, "t")}
		body, _ := f.commit(11, f.manifest(11, iceberg.EntryStatusADDED, "s3://elsewhere/x.parquet"))
		f.took(m.ask(t, "POST", "/v1/namespaces/ns/tables/t", body), code, "s3://elsewhere/x.parquet")
	}
}

// createdWith makes a table by a commit that brings a snapshot along, with a file at place, or in its own location.
func (f *forged) createdWith(place string, code int, says string) {
	f.Helper()
	root := fmt.Sprintf("%s/made-%d", f.wh.URI, code)
	if place == "" {
		place = root + "/data/a.parquet"
	}
	meta, err := table.NewMetadata(scantest.Schema(), &bySize, table.UnsortedSortOrder, root, iceberg.Properties{"format-version": "2"})
	f.must(err)
	l := scantest.Over(f.T, f.wh, meta)
	var sn table.Snapshot
	l.Commit = func(_ context.Context, _ table.Requirements, updates table.Updates) table.Metadata {
		raw, err := json.Marshal(updates[0])
		f.must(err)
		var v struct{ Snapshot table.Snapshot }
		f.must(json.Unmarshal(raw, &v))
		sn = v.Snapshot
		return meta
	}
	b, err := iceberg.NewDataFileBuilder(bySize, iceberg.EntryContentData, place, iceberg.ParquetFile, map[int]any{1000: int32(1)}, nil, nil, 1, 10)
	f.must(err)
	l.Append(bySize, []iceberg.DataFile{b.Build()})
	updates := table.Updates{table.NewAssignUUIDUpdate(meta.TableUUID()), table.NewUpgradeFormatVersionUpdate(2), table.NewAddSchemaUpdate(scantest.Schema()), table.NewSetCurrentSchemaUpdate(-1),
		table.NewAddPartitionSpecUpdate(&bySize, true), table.NewSetDefaultSpecUpdate(-1), table.NewAddSortOrderUpdate(&table.UnsortedSortOrder), table.NewSetDefaultSortOrderUpdate(-1),
		table.NewSetLocationUpdate(root)}
	updates = append(updates, snapshot.Updates(sn, table.MainBranch)...)
	doc, err := json.Marshal(wire.CommitTable{Requirements: table.Requirements{table.AssertCreate()}, Updates: updates})
	f.must(err)
	w := f.as(f.T, "admin", "POST", fmt.Sprintf("/v1/namespaces/ns/tables/made%d", code), string(doc))
	if code == 200 {
		want[none](f.T, w, 200)
		return
	}
	f.took(w, code, says)
}

// BenchmarkManifestCheck appends a file a time to a table of 100 manifests over the handler, looked into and not.
func BenchmarkManifestCheck(b *testing.B) {
	for _, mode := range []string{"off", "on"} {
		b.Run(mode, func(b *testing.B) {
			dir := b.TempDir()
			wh, err := objstore.Open(b.Context(), "file://"+dir+"/warehouse", objstore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer wh.Close()
			s, err := server.New(b.Context(), server.Config{Store: "sqlite://" + dir + "/catalog.db", ManifestCheck: server.ManifestCheck{Mode: mode}}, wh, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close(context.Background())
			id := catalog.Identifier{"ns", "t"}
			if err := s.Service().CreateNamespace(b.Context(), id[:1], nil); err != nil {
				b.Fatal(err)
			}
			made, err := s.Service().CreateTable(b.Context(), id, catalog.CreateTable{Schema: scantest.Schema(), Partition: &bySize})
			if err != nil {
				b.Fatal(err)
			}
			l := scantest.Over(b, wh, made.Metadata)
			commit := func(ctx context.Context, _ table.Requirements, updates table.Updates) table.Metadata {
				got, err := s.Service().CommitTable(ctx, catalog.TableCommit{Identifier: id, Updates: updates})
				if err != nil {
					b.Fatal(err)
				}
				return got.Metadata
			}
			l.Commit = commit
			for i := range int64(100) {
				l.Append(bySize, numbered(l, i, i+1))
			}
			var body []byte
			l.Commit = func(_ context.Context, _ table.Requirements, updates table.Updates) table.Metadata {
				body, err = json.Marshal(wire.CommitTable{Requirements: table.Requirements{}, Updates: updates})
				if err != nil {
					b.Fatal(err)
				}
				return l.Meta
			}
			head := l.Meta
			for b.Loop() {
				b.StopTimer()
				l.Meta = head
				l.Append(bySize, numbered(l, 100, 101)) // always on the same head: the list stays as long
				r := httptest.NewRequestWithContext(b.Context(), "POST", "/v1/namespaces/ns/tables/t", bytes.NewReader(bytes.Replace(body, []byte(`"parent-snapshot-id"`), []byte(`"x-parent"`), 1)))
				r.Header.Set(wire.LeanHeader, "1")
				w := httptest.NewRecorder()
				b.StartTimer()
				s.Handler().ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatalf("HTTP %d: %s", w.Code, w.Body)
				}
			}
		})
	}
}
