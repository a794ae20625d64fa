package server_test

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowmem "github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/snapshot"
)

func ledgerSchema() *iceberg.Schema {
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "kind", Type: iceberg.PrimitiveTypes.String},
		iceberg.NestedField{ID: 2, Name: ledger.ColPartition, Type: iceberg.PrimitiveTypes.Int32},
		iceberg.NestedField{ID: 3, Name: ledger.ColOffset, Type: iceberg.PrimitiveTypes.Int64})
}

// row is a row by its ledger; p is -1 for one of somebody else's.
type row struct {
	kind string
	p    int32
	o    int64
}

// ledgerTable is a table with rows and offsets, in a partition for each kind.
type ledgerTable struct {
	t   testing.TB
	f   *fixture
	id  catalog.Identifier
	vec offset.Vector
	all []row // committed, in order
}

func (f *fixture) ledgerTable(t testing.TB, format string) *ledgerTable {
	t.Helper()
	_ = f.Service().CreateNamespace(context.Background(), catalog.Identifier{"ns"}, nil)
	l := &ledgerTable{t: t, f: f, id: catalog.Identifier{"ns", "events"}, vec: offset.Vector{}}
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "kind", Transform: iceberg.IdentityTransform{}})
	_, err := f.Service().CreateTable(context.Background(), l.id, catalog.CreateTable{Schema: ledgerSchema(), Partition: &spec, Properties: map[string]string{"format-version": format, "owner": "somebody"}})
	l.must(err)
	return l
}

func (l *ledgerTable) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledgerTable) meta() table.Metadata {
	l.t.Helper()
	t, err := l.f.Service().LoadTable(context.Background(), l.id, catalog.LoadAll)
	l.must(err)
	return t.Metadata
}

func (l *ledgerTable) write(rows []row) iceberg.DataFile {
	l.t.Helper()
	meta := l.meta()
	as, err := datafile.ArrowSchema(meta.CurrentSchema())
	l.must(err)
	b := array.NewRecordBuilder(arrowmem.DefaultAllocator, as)
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.StringBuilder).Append(r.kind)
		for _, other := range b.Fields()[3:] {
			other.AppendNull()
		}
		if r.p < 0 {
			b.Field(1).AppendNull()
			b.Field(2).AppendNull()
			continue
		}
		b.Field(1).(*array.Int32Builder).Append(r.p)
		b.Field(2).(*array.Int64Builder).Append(r.o)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	var buf bytes.Buffer
	st, err := datafile.Write(&buf, meta.CurrentSchema(), []arrow.RecordBatch{rec}, datafile.DefaultWriteOptions())
	l.must(err)
	loc := snapshot.DataLocation(meta, uuid.NewString()+".parquet")
	key, err := l.f.wh.Key(loc)
	l.must(err)
	_, err = l.f.wh.Put(context.Background(), key, bytes.NewReader(buf.Bytes()), objstore.IfAbsent)
	l.must(err)
	df, err := snapshot.DataFile(meta.PartitionSpec(), loc, st, map[int]any{1000: rows[0].kind}, nil)
	l.must(err)
	return df
}

// change commits files added and taken out.
func (l *ledgerTable) change(added []iceberg.DataFile, removed []snapshot.File, summary map[string]string) int64 {
	l.t.Helper()
	ctx, meta := context.Background(), l.meta()
	h, err := snapshot.LoadHead(ctx, snapshot.NewReader(l.f.wh, 0), meta, table.MainBranch)
	l.must(err)
	c := snapshot.Change{SnapshotID: snapshot.NewID(), Operation: table.OpAppend, Added: added, Removed: removed, Summary: summary, Drop: map[string]bool{}}
	var entries []snapshot.Entry
	for _, f := range added {
		entries = append(entries, snapshot.Added(f))
	}
	if len(removed) > 0 {
		c.Operation = table.OpReplace
		for _, f := range removed {
			entries, c.Drop[f.Manifest] = append(entries, snapshot.Removed(f)), true
		}
	}
	if len(entries) > 0 {
		m, err := snapshot.WriteManifest(ctx, l.f.wh, meta, meta.PartitionSpec(), c.SnapshotID, entries)
		l.must(err)
		c.New = append(c.New, m)
	}
	s, err := snapshot.Build(ctx, l.f.wh, h, c, time.Now())
	l.must(err)
	_, err = l.f.Service().CommitTable(ctx, catalog.TableCommit{Identifier: l.id, Updates: snapshot.Updates(s, table.MainBranch),
		Requirements: table.Requirements{table.AssertRefSnapshotID(table.MainBranch, h.ID())}})
	l.must(err)
	time.Sleep(2 * time.Millisecond) // the catalog counts milliseconds
	return s.SnapshotID
}

func (l *ledgerTable) record() map[string]string {
	l.t.Helper()
	s, err := ledger.Record{Kind: ledger.KindIngest, Pipeline: "p", BatchID: uuid.Must(uuid.NewV7()).String(), ClusterID: "c", TopicID: "n/a", Offsets: l.vec.Clone()}.Summary()
	l.must(err)
	return s
}

// add commits n rows of a partition, of kinds in turn, a file for each.
func (l *ledgerTable) add(p int32, n int64, kinds ...string) int64 {
	l.t.Helper()
	byKind := map[string][]row{}
	for range n {
		r := row{kinds[int(l.vec[p])%len(kinds)], p, l.vec[p]}
		byKind[r.kind] = append(byKind[r.kind], r)
		l.all = append(l.all, r)
		l.vec[p]++
	}
	var files []iceberg.DataFile
	for _, k := range kinds {
		if len(byKind[k]) > 0 {
			files = append(files, l.write(byKind[k]))
		}
	}
	return l.change(files, nil, l.record())
}

// compact writes all rows of each kind into one file, in the order that by gives.
func (l *ledgerTable) compact(by func(a, b row) int) {
	l.t.Helper()
	old, err := snapshot.Files(context.Background(), l.f.wh, l.meta().CurrentSnapshot(), nil)
	l.must(err)
	byKind := map[string][]row{}
	for _, r := range l.all {
		byKind[r.kind] = append(byKind[r.kind], r)
	}
	var files []iceberg.DataFile
	for _, k := range []string{"a", "b", "theirs"} {
		if rows := byKind[k]; len(rows) > 0 {
			slices.SortStableFunc(rows, by)
			files = append(files, l.write(rows))
		}
	}
	l.change(files, old, l.record())
}

// expire removes every snapshot that no ref names, and the data files that none has any more.
func (l *ledgerTable) expire() {
	l.t.Helper()
	ctx, meta := context.Background(), l.meta()
	keep, live := map[int64]bool{}, map[string]bool{}
	for _, r := range meta.Refs() {
		keep[r.SnapshotID] = true
	}
	var gone []int64
	var files []string
	for _, s := range meta.Snapshots() {
		fs, err := snapshot.Files(ctx, l.f.wh, &s, nil)
		l.must(err)
		for _, f := range fs {
			if keep[s.SnapshotID] {
				live[f.FilePath()] = true
			} else {
				files = append(files, f.FilePath())
			}
		}
		if !keep[s.SnapshotID] {
			gone = append(gone, s.SnapshotID)
		}
	}
	if len(gone) == 0 {
		return
	}
	_, err := l.f.Service().CommitTable(ctx, catalog.TableCommit{Identifier: l.id, Updates: table.Updates{table.NewRemoveSnapshotsUpdate(gone, false)}})
	l.must(err)
	for _, f := range files {
		if !live[f] {
			key, err := l.f.wh.Key(f)
			l.must(err)
			l.must(l.f.wh.Delete(ctx, key))
		}
	}
}

func (l *ledgerTable) history() []catalog.HistoryEntry {
	l.t.Helper()
	out, err := l.f.Service().(catalog.HistoryKeeper).ListHistory(context.Background(), l.id, catalog.HistoryRange{})
	l.must(err)
	return out
}

func (l *ledgerTable) path(at time.Time) string {
	return "/v1/namespaces/ns/tables/" + past.Name(l.id.Name(), at)
}

// rowsOf reads a table as an engine of the Iceberg spec does: data files, less the positions of delete files of their partition
// that are not older.
func (l *ledgerTable) rowsOf(meta table.Metadata) []row {
	l.t.Helper()
	snap := meta.CurrentSnapshot()
	if snap == nil {
		return nil
	}
	ctx := context.Background()
	manifests, err := snapshot.ReadManifests(ctx, l.f.wh, snap)
	l.must(err)
	type hidden struct {
		seq  int64
		kind any
	}
	var data []iceberg.ManifestEntry
	deleted := map[string]map[int64]hidden{}
	for _, m := range manifests {
		entries, err := snapshot.NewReader(l.f.wh, 0).Entries(ctx, m)
		l.must(err)
		for _, e := range entries {
			f := e.DataFile()
			if f.ContentType() == iceberg.EntryContentData {
				data = append(data, e)
				continue
			}
			l.scan(f.FilePath(), iceberg.NewSchema(0,
				iceberg.NestedField{ID: 2147483546, Name: "file_path", Type: iceberg.PrimitiveTypes.String, Required: true},
				iceberg.NestedField{ID: 2147483545, Name: "pos", Type: iceberg.PrimitiveTypes.Int64, Required: true}), func(b arrow.RecordBatch) {
				for i := range int(b.NumRows()) {
					path := b.Column(0).(*array.String).Value(i)
					if of := f.ReferencedDataFile(); of != nil && *of != path || string(f.LowerBoundValues()[2147483546]) != path || string(f.UpperBoundValues()[2147483546]) != path {
						l.t.Fatalf("the manifest says %v of a delete file with rows of %s", f, path)
					}
					if deleted[path] == nil {
						deleted[path] = map[int64]hidden{}
					}
					deleted[path][b.Column(1).(*array.Int64).Value(i)] = hidden{e.SequenceNum(), f.Partition()[1000]}
				}
			})
		}
	}
	var out []row
	for _, e := range data {
		at := int64(0)
		l.scan(e.DataFile().FilePath(), ledgerSchema(), func(b arrow.RecordBatch) {
			for i := range int(b.NumRows()) {
				if d, ok := deleted[e.DataFile().FilePath()][at]; !ok || d.seq < e.SequenceNum() || d.kind != e.DataFile().Partition()[1000] {
					r := row{kind: b.Column(0).(*array.String).Value(i), p: -1}
					if b.Column(1).IsValid(i) {
						r.p, r.o = b.Column(1).(*array.Int32).Value(i), b.Column(2).(*array.Int64).Value(i)
					}
					out = append(out, r)
				}
				at++
			}
		})
	}
	slices.SortFunc(out, byLedger)
	return out
}

// rowIDs holds the row ids that the snapshot of a table of today's files says it gave away against those that its list gave.
func (l *ledgerTable) rowIDs(meta table.Metadata) {
	l.t.Helper()
	snap := meta.CurrentSnapshot()
	if meta.Version() < 3 || meta.Properties()["firn.as-of.kind"] != string(past.ReadNow) {
		return
	}
	manifests, err := snapshot.ReadManifests(context.Background(), l.f.wh, snap)
	l.must(err)
	given := int64(0)
	for _, m := range manifests {
		if m.ManifestContent() == iceberg.ManifestContentData && *m.FirstRowID() >= *snap.FirstRowID {
			given += m.AddedRows() + m.ExistingRows()
		}
	}
	if *snap.AddedRows != given || meta.NextRowID() != *snap.FirstRowID+given {
		l.t.Fatalf("row ids from %d on, %d given, the next is %d; the list gave %d", *snap.FirstRowID, *snap.AddedRows, meta.NextRowID(), given)
	}
}

func byLedger(a, b row) int {
	return cmp.Or(cmp.Compare(a.p, b.p), cmp.Compare(a.o, b.o), strings.Compare(a.kind, b.kind))
}

func (l *ledgerTable) scan(location string, sc *iceberg.Schema, fn func(arrow.RecordBatch)) {
	l.t.Helper()
	key, err := l.f.wh.Key(location)
	l.must(err)
	r, err := datafile.Open(context.Background(), l.f.wh, key, datafile.ReadOptions{})
	l.must(err)
	defer r.Close()
	l.must(r.Scan(context.Background(), sc, func(b arrow.RecordBatch) error { fn(b); return nil }))
}

// asOf loads the table as of a time and checks what each such table must be.
func (l *ledgerTable) asOf(t *testing.T, at time.Time) table.Metadata {
	t.Helper()
	got := want[loaded](t, l.f.ask(t, "GET", l.path(at), ""), 200)
	l.f.wantFile(t, got)
	m, err := table.ParseMetadataBytes(got.Metadata)
	l.must(err)
	base := l.meta()
	if m.TableUUID() == base.TableUUID() || m.Location() != base.Location() || m.Properties()["owner"] != "somebody" || m.Properties()["firn.as-of.table-uuid"] != base.TableUUID().String() {
		t.Fatalf("table %s in %s with %v", m.TableUUID(), m.Location(), m.Properties())
	}
	if !strings.HasPrefix(got.Location, base.Location()+"/as-of/") || len(m.Snapshots()) > 1 {
		t.Fatalf("%s, %d snapshots", got.Location, len(m.Snapshots()))
	}
	return m
}

func (l *ledgerTable) stamp(id int64) time.Time {
	l.t.Helper()
	for _, e := range l.history() {
		if e.SnapshotID == id {
			return e.At
		}
	}
	l.t.Fatalf("no snapshot %d in the history", id)
	return time.Time{}
}

// files counts what lies under a key.
func (l *ledgerTable) files(under string) (n int) {
	l.t.Helper()
	l.must(l.f.wh.List(context.Background(), under, func(objstore.Info) error { n++; return nil }))
	return n
}

// expiredPast is a table with a time that only its ledger still tells of: what was committed then is compacted, and expired.
func expiredPast(t *testing.T) (*fixture, *ledgerTable, time.Time) {
	t.Helper()
	f := memory(t)
	l := f.ledgerTable(t, "2")
	at := l.stamp(l.add(0, 2, "a", "b"))
	l.add(0, 2, "a", "b")
	l.compact(byLedger)
	l.expire()
	return f, l, at
}
