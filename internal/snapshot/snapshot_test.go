package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
)

// bench is a table whose commits are applied without a catalog.
type bench struct {
	testing.TB
	wh   *objstore.Warehouse
	r    *Reader
	meta table.Metadata
	at   time.Time
}

func newBench(t testing.TB, version string) *bench {
	t.Helper()
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64},
		iceberg.NestedField{ID: 2, Name: "day", Type: iceberg.PrimitiveTypes.Date})
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "day_part", Transform: iceberg.IdentityTransform{}})
	meta, err := table.NewMetadata(sc, &spec, table.UnsortedSortOrder, "mem://lake/t", iceberg.Properties{"format-version": version})
	if err != nil {
		t.Fatal(err)
	}
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	return &bench{t, wh, NewReader(wh, 1<<20), meta, time.UnixMilli(meta.LastUpdatedMillis())}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// file describes a data file; nothing here reads its bytes.
func (b *bench) file(name string, rows, day int64) iceberg.DataFile {
	b.Helper()
	lit := iceberg.NewLiteral(rows)
	up, err := lit.MarshalBinary()
	b.must(err)
	f, err := DataFile(b.meta.PartitionSpec(), DataLocation(b.meta, name), datafile.Stats{Rows: rows, Bytes: 100 * rows,
		ValueCounts: map[int]int64{1: rows}, NullCounts: map[int]int64{1: 0}, Lower: map[int][]byte{1: up}, Upper: map[int][]byte{1: up}},
		map[int]any{1000: iceberg.Date(day)}, nil)
	b.must(err)
	return f
}

func (b *bench) manifest(id int64, entries ...Entry) iceberg.ManifestFile {
	b.Helper()
	m, err := WriteManifest(b.Context(), b.wh, b.meta, b.meta.PartitionSpec(), id, entries)
	b.must(err)
	return m
}

func (b *bench) head() Head {
	b.Helper()
	h, err := LoadHead(b.Context(), b.r, b.meta, table.MainBranch)
	b.must(err)
	return h
}

// commit builds c on the head, applies it, and holds what After says against what was written.
func (b *bench) commit(h Head, c Change) table.Snapshot {
	b.Helper()
	b.at = b.at.Add(time.Second)
	s, err := Build(b.Context(), b.wh, h, c, b.at)
	b.must(err)
	b.apply(h.Updates(s, table.MainBranch, Retention{MinSnapshots: 7, MaxAge: time.Hour}))
	after, err := h.After(b.Context(), b.r, b.meta, s, c)
	b.must(err)
	read := b.head()
	if got, want := fmt.Sprint(describe(after.Manifests)), fmt.Sprint(describe(read.Manifests)); got != want || *after.ID() != *read.ID() {
		b.Fatalf("after the commit of %d:\n%s\nis expected, the list holds\n%s", s.SnapshotID, got, want)
	}
	return s
}

func describe(ms []iceberg.ManifestFile) []string {
	var out []string
	for _, m := range ms {
		out = append(out, fmt.Sprintf("%d %s %d %d %d %v/%v/%v %v/%v/%v seq %d,%d parts %d", m.Version(), m.FilePath(), m.Length(), m.PartitionSpecID(), m.SnapshotID(),
			m.AddedDataFiles(), m.ExistingDataFiles(), m.DeletedDataFiles(), m.AddedRows(), m.ExistingRows(), m.DeletedRows(), m.SequenceNum(), m.MinSequenceNum(), len(m.Partitions())))
	}
	return out
}

func (b *bench) apply(updates table.Updates) {
	b.Helper()
	mb, err := table.MetadataBuilderFromBase(b.meta, "")
	b.must(err)
	for _, u := range updates {
		b.must(u.Apply(mb))
	}
	b.meta, err = mb.Build()
	b.must(err)
}

func (b *bench) add(files ...iceberg.DataFile) table.Snapshot {
	b.Helper()
	id := NewID()
	var entries []Entry
	for _, f := range files {
		entries = append(entries, Added(f))
	}
	return b.commit(b.head(), Change{SnapshotID: id, Operation: table.OpAppend, New: []iceberg.ManifestFile{b.manifest(id, entries...)}, Added: files,
		Summary: map[string]string{"own": "key"}})
}

func (b *bench) files() []File {
	b.Helper()
	files, err := b.r.Files(b.Context(), b.meta.CurrentSnapshot(), nil)
	b.must(err)
	return files
}

func names(files []File) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.FilePath()[len("mem://lake/t/data/"):])
	}
	slices.Sort(out)
	return out
}

func TestAppendsAndTotals(t *testing.T) {
	for _, version := range []string{"2", "3"} {
		t.Run("v"+version, func(t *testing.T) {
			b := newBench(t, version)
			if h := b.head(); h.ID() != nil || len(h.Manifests) != 0 {
				t.Fatalf("a new table has the head %v with %d manifests", h.ID(), len(h.Manifests))
			}
			first := b.add(b.file("a", 3, 1), b.file("b", 4, 2))
			second := b.add(b.file("c", 5, 1))
			if *second.ParentSnapshotID != first.SnapshotID || second.SequenceNumber != first.SequenceNumber+1 {
				t.Errorf("second snapshot: parent %d, sequence number %d", *second.ParentSnapshotID, second.SequenceNumber)
			}
			want := map[string]string{"own": "key", "added-data-files": "1", "added-records": "5", "added-files-size": "500", "total-data-files": "3",
				"total-records": "12", "total-files-size": "1200", "total-delete-files": "0"}
			for k, v := range want {
				if got := second.Summary.Properties[k]; got != v {
					t.Errorf("%s = %q, want %q", k, got, v)
				}
			}
			files := b.files()
			if got := names(files); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Fatalf("files %v", got)
			}
			for _, f := range files {
				s := first
				if f.FilePath() == DataLocation(b.meta, "c") {
					s = second
				}
				if f.SnapshotID != s.SnapshotID || f.SequenceNumber != s.SequenceNumber || f.FileSequenceNumber != s.SequenceNumber {
					t.Errorf("%s: snapshot %d, sequence numbers %d and %d; added by %d, %d", f.FilePath(), f.SnapshotID, f.SequenceNumber, f.FileSequenceNumber, s.SnapshotID, s.SequenceNumber)
				}
				if d, ok := f.Partition()[1000].(iceberg.Date); !ok || d < 1 || d > 2 {
					t.Errorf("%s: partition %v", f.FilePath(), f.Partition())
				}
			}
			some, err := b.r.Files(t.Context(), b.meta.CurrentSnapshot(), func(f iceberg.DataFile) bool { return f.Count() > 3 })
			b.must(err)
			if got := names(some); !slices.Equal(got, []string{"b", "c"}) {
				t.Errorf("kept %v", got)
			}
		})
	}
}

func TestEmptySnapshot(t *testing.T) {
	b := newBench(t, "2")
	b.commit(b.head(), Change{SnapshotID: NewID(), Operation: table.OpAppend})
	if n := len(b.files()); n != 0 {
		t.Errorf("%d files", n)
	}
	b.add(b.file("a", 1, 1))
	s := b.commit(b.head(), Change{SnapshotID: NewID(), Operation: table.OpAppend})
	if got := names(b.files()); !slices.Equal(got, []string{"a"}) || s.Summary.Properties["total-records"] != "1" {
		t.Errorf("files %v, total %s", got, s.Summary.Properties["total-records"])
	}
}

// TestRewrite replaces two of three files, on a head that moved after the manifest was written.
func TestRewrite(t *testing.T) {
	b := newBench(t, "2")
	first := b.add(b.file("a", 3, 1), b.file("b", 4, 1), b.file("c", 5, 1))
	old := b.files()
	id := NewID()
	big := b.file("ab", 7, 1)
	entries := []Entry{Added(big)}
	var removed []File
	for _, f := range old {
		if f.FilePath() == DataLocation(b.meta, "c") {
			entries = append(entries, Kept(f))
			continue
		}
		entries = append(entries, Removed(f))
		removed = append(removed, f)
	}
	c := Change{SnapshotID: id, Operation: table.OpReplace, New: []iceberg.ManifestFile{b.manifest(id, entries...)},
		Drop: map[string]bool{old[0].Manifest: true}, Added: []iceberg.DataFile{big}, Removed: removed}
	b.add(b.file("d", 1, 1))
	s := b.commit(b.head(), c)
	if got := names(b.files()); !slices.Equal(got, []string{"ab", "c", "d"}) {
		t.Fatalf("files %v", got)
	}
	if p := s.Summary.Properties; p["total-records"] != "13" || p["deleted-data-files"] != "2" || p["deleted-records"] != "7" || p["total-data-files"] != "3" {
		t.Errorf("summary %v", p)
	}
	for _, f := range b.files() {
		if f.FilePath() == DataLocation(b.meta, "c") && (f.SnapshotID != first.SnapshotID || f.SequenceNumber != first.SequenceNumber) {
			t.Errorf("the kept file is of snapshot %d, sequence number %d", f.SnapshotID, f.SequenceNumber)
		}
	}
	// The manifest that only told what was removed goes with the next snapshot.
	all := b.files()
	id = NewID()
	gone := b.manifest(id, Removed(all[0]))
	b.commit(b.head(), Change{SnapshotID: id, Operation: table.OpDelete, New: []iceberg.ManifestFile{gone}, Drop: map[string]bool{all[0].Manifest: true}, Removed: all[:1]})
	b.add(b.file("e", 1, 1))
	for _, m := range b.head().Manifests {
		if m.FilePath() == gone.FilePath() {
			t.Errorf("%s has no live file and is still listed", m.FilePath())
		}
	}
}

// TestForeignSummary: a total that the head does not tell is not made up.
func TestForeignSummary(t *testing.T) {
	b := newBench(t, "2")
	b.add(b.file("a", 3, 1))
	h := b.head()
	delete(h.Snapshot.Summary.Properties, "total-records")
	delete(h.Snapshot.Summary.Properties, "total-delete-files")
	s := b.commit(h, Change{SnapshotID: NewID(), Operation: table.OpAppend})
	for _, key := range []string{"total-records", "total-delete-files"} {
		if v, ok := s.Summary.Properties[key]; ok {
			t.Errorf("%s = %s out of nothing", key, v)
		}
	}
	h = b.head()
	h.Snapshot.Summary = nil
	b.commit(h, Change{SnapshotID: NewID(), Operation: table.OpAppend})
}

func TestTimeNeverRunsBackwards(t *testing.T) {
	b := newBench(t, "2")
	b.at = b.at.Add(time.Hour)
	first := b.add(b.file("a", 3, 1))
	b.at = b.at.Add(-30 * time.Minute)
	if s := b.add(b.file("b", 3, 1)); s.TimestampMs < first.TimestampMs {
		t.Errorf("snapshot at %d follows one at %d", s.TimestampMs, first.TimestampMs)
	}
	c := newBench(t, "2")
	s, err := Build(t.Context(), c.wh, c.head(), Change{SnapshotID: NewID(), Operation: table.OpAppend}, time.UnixMilli(1000))
	c.must(err)
	if s.TimestampMs < c.meta.LastUpdatedMillis() {
		t.Errorf("the first snapshot of a table is older than the table: %d", s.TimestampMs)
	}
}

func TestRetentionIsKept(t *testing.T) {
	b := newBench(t, "2")
	b.add(b.file("a", 3, 1))
	ref := func(name string) table.SnapshotRef {
		for n, r := range b.meta.Refs() {
			if n == name {
				return r
			}
		}
		t.Fatalf("no ref %s", name)
		return table.SnapshotRef{}
	}
	if r := ref("main"); r.MinSnapshotsToKeep == nil || *r.MinSnapshotsToKeep != 7 || r.MaxSnapshotAgeMs == nil || *r.MaxSnapshotAgeMs != 3_600_000 {
		t.Errorf("first commit: %+v", r)
	}
	b.apply(table.Updates{table.NewSetSnapshotRefUpdate("main", b.meta.CurrentSnapshot().SnapshotID, table.BranchRef, 0, 5000, 3)})
	b.add(b.file("b", 3, 1))
	if r := ref("main"); r.MinSnapshotsToKeep == nil || *r.MinSnapshotsToKeep != 3 || r.MaxSnapshotAgeMs == nil || *r.MaxSnapshotAgeMs != 5000 {
		t.Errorf("somebody's retention was not kept: %+v", r)
	}
	s, err := Build(t.Context(), b.wh, b.head(), Change{SnapshotID: NewID(), Operation: table.OpAppend}, b.at)
	b.must(err)
	b.apply(append(Updates(s, "work"), SetTag("firn.p", s.SnapshotID, time.Minute)))
	if r := ref("firn.p"); r.SnapshotRefType != table.TagRef || r.SnapshotID != s.SnapshotID || *r.MaxRefAgeMs != 60_000 {
		t.Errorf("tag %+v", r)
	}
	if ref("work").SnapshotID != s.SnapshotID || ref("main").SnapshotID == s.SnapshotID {
		t.Error("a snapshot on a branch moved main")
	}
}

func TestDeleteFilesAreSeen(t *testing.T) {
	b := newBench(t, "2")
	b.add(b.file("a", 3, 1))
	id := NewID()
	var buf bytes.Buffer
	w, err := iceberg.NewManifestWriter(2, &buf, b.meta.PartitionSpec(), b.meta.CurrentSchema(), id, iceberg.WithManifestWriterContent(iceberg.ManifestContentDeletes))
	b.must(err)
	db, err := iceberg.NewDataFileBuilder(b.meta.PartitionSpec(), iceberg.EntryContentPosDeletes, DataLocation(b.meta, "x"), iceberg.ParquetFile, map[int]any{1000: iceberg.Date(1)}, nil, nil, 1, 10)
	b.must(err)
	b.must(w.Add(iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &id, nil, nil, db.Build())))
	b.must(w.Close())
	location := MetadataLocation(b.meta, "deletes.avro")
	m, err := w.ToManifestFile(location, int64(buf.Len()), iceberg.WithManifestFileContent(iceberg.ManifestContentDeletes))
	b.must(err)
	b.must(put(t.Context(), b.wh, location, buf.Bytes()))
	b.commit(b.head(), Change{SnapshotID: id, Operation: table.OpDelete, New: []iceberg.ManifestFile{m}})
	if _, err := b.r.Files(t.Context(), b.meta.CurrentSnapshot(), nil); !errors.Is(err, ErrDeleteFiles) {
		t.Errorf("row deletes: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	b := newBench(t, "2")
	b.add(b.file("a", 3, 1))
	snap, ctx := b.meta.CurrentSnapshot(), t.Context()
	m := b.head().Manifests[0]
	fresh := NewReader(b.wh, 0)

	outside := *snap
	outside.ManifestList = "file:///etc/passwd"
	if _, err := fresh.Manifests(ctx, &outside); !errors.Is(err, objstore.ErrOutsideRoot) {
		t.Errorf("a list outside the warehouse: %v", err)
	}
	missing := *snap
	missing.ManifestList = MetadataLocation(b.meta, "none.avro")
	if _, err := fresh.Manifests(ctx, &missing); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("a missing list: %v", err)
	}
	lying := iceberg.NewManifestFile(2, m.FilePath(), m.Length(), 0, m.SnapshotID()).SequenceNum(1, 1).AddedFiles(2).Build()
	if _, err := fresh.Entries(ctx, lying); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a list that counts other entries: %v", err)
	}
	unknown := iceberg.NewManifestFile(2, m.FilePath(), m.Length(), 0, m.SnapshotID()).SequenceNum(1, 1).AddedFiles(-1).Build()
	if e, err := fresh.Entries(ctx, unknown); err != nil || len(e) != 1 {
		t.Errorf("a list without counts: %d entries, %v", len(e), err)
	}
	for _, location := range []string{snap.ManifestList, m.FilePath()} {
		key, err := b.wh.Key(location)
		b.must(err)
		_, err = b.wh.Put(ctx, key, bytes.NewReader([]byte("Obj\x01 this is no avro")), objstore.Overwrite)
		b.must(err)
	}
	if _, err := fresh.Manifests(ctx, snap); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged list: %v", err)
	}
	if _, err := fresh.Entries(ctx, m); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged manifest: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	b := newBench(t, "2")
	for i := range 6 {
		b.add(b.file(fmt.Sprint(i), 1, 1))
	}
	head := b.head()
	size := head.Manifests[0].Length()
	limit := 3*size + size/2
	r := NewReader(b.wh, limit)
	_, err := r.FilesOf(t.Context(), head.Manifests, nil)
	b.must(err)
	if n := r.cache.Len(); n != 3 || r.cache.Weight() > limit {
		t.Errorf("%d manifests, %d bytes in a cache of %d", n, r.cache.Weight(), limit)
	}
	var stored int
	for _, m := range head.Manifests[3:] { // the last three read are kept, and answer without the store
		if _, ok := r.cache.Get(m.FilePath()); ok {
			stored++
		}
	}
	if stored != 3 {
		t.Errorf("%d of the newest three are kept", stored)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Entries(ctx, head.Manifests[5]); err != nil {
		t.Errorf("a cached manifest was asked for at the store: %v", err)
	}
	r = NewReader(b.wh, 1<<20)
	list, err := r.Manifests(t.Context(), head.Snapshot)
	b.must(err)
	list[0] = nil // a caller's list is its own
	list, err = r.Manifests(ctx, head.Snapshot)
	if err != nil || len(list) != len(head.Manifests) || list[0] == nil {
		t.Errorf("a list that was read before: %v, %v", list, err)
	}
	if r := NewReader(b.wh, 0); r.cache.Len()+r.lists.Len() != 0 {
		t.Error("a reader without a cache keeps something")
	}
}

// FuzzManifest reads damaged manifests and lists: errors, never a panic, and every error says that the file is damaged.
func FuzzManifest(f *testing.F) {
	b := newBench(f, "2")
	b.add(b.file("a", 3, 1), b.file("b", 4, 2))
	snap := b.meta.CurrentSnapshot()
	m := b.head().Manifests[0]
	for _, location := range []string{snap.ManifestList, m.FilePath()} {
		key, err := b.wh.Key(location)
		b.must(err)
		data, err := b.wh.Get(f.Context(), key, 1<<30)
		b.must(err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
		if _, err := wh.Put(t.Context(), "x.avro", bytes.NewReader(data), objstore.Overwrite); err != nil {
			t.Fatal(err)
		}
		s := *snap
		s.ManifestList = "mem://lake/x.avro"
		if ms, err := ReadManifests(t.Context(), wh, &s); err == nil {
			describe(ms)
		} else if !errors.Is(err, ErrCorrupt) {
			t.Errorf("list: %v", err)
		}
		mf := iceberg.NewManifestFile(2, "mem://lake/x.avro", int64(len(data)), 0, 1).SequenceNum(1, 1).AddedFiles(2).Build()
		es, err := NewReader(wh, 0).Entries(t.Context(), mf)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("manifest: %v", err)
		}
		for _, e := range es {
			df := e.DataFile()
			_, _, _ = df.Partition(), df.LowerBoundValues(), df.UpperBoundValues()
		}
	})
}
