package compaction

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/sleep"
	"github.com/firnlake/firn/internal/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var tableID = catalog.Identifier{"analytics", "events"}

func eventSchema() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "user", Type: p.String},
		iceberg.NestedField{ID: 2, Name: "region", Type: p.String},
		iceberg.NestedField{ID: 3, Name: "at", Type: p.TimestampTz},
		iceberg.NestedField{ID: 4, Name: ledger.ColPartition, Type: p.Int32},
		iceberg.NestedField{ID: 5, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 6, Name: ledger.ColTimestamp, Type: p.TimestampTz},
		iceberg.NestedField{ID: 7, Name: ledger.ColIngestedAt, Type: p.TimestampTz},
	)
}

// lake is a catalog and a warehouse in memory with one table, and a writer that appends as ingest does.
type lake struct {
	testing.TB
	cat    catalog.Catalog
	wh     *objstore.Warehouse
	mem    *memory.CheckedAllocator
	spec   iceberg.PartitionSpec
	sortBy []layout.SortKey // by which rows are sorted in files, order 1 of the table; nil: they are not

	timeMu sync.Mutex
	now    time.Time // of the test

	mu    sync.Mutex
	next  int64         // offset
	vec   offset.Vector // after the last append
	prev  int64
	wrote []string // rows, as rowsOf gives them
}

func newLake(t testing.TB, fields ...iceberg.PartitionField) *lake {
	t.Helper()
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	s, err := server.New(context.Background(), server.Config{Store: "sqlite::memory:"}, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	l := &lake{TB: t, wh: wh, vec: offset.Vector{}, now: time.Now().Truncate(time.Millisecond), spec: iceberg.NewPartitionSpec(fields...),
		mem: memory.NewCheckedAllocator(memory.NewGoAllocator())}
	l.cat = catalogtest.NewClocked(s.Service(), l.clock)
	t.Cleanup(func() { l.mem.AssertSize(t, 0) })
	l.ok(l.cat.CreateNamespace(context.Background(), tableID.Namespace(), nil))
	_, err = l.cat.CreateTable(context.Background(), tableID, catalog.CreateTable{Schema: eventSchema(), Partition: &l.spec})
	l.ok(err)
	return l
}

func byRegion() iceberg.PartitionField {
	return iceberg.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "region", Transform: iceberg.IdentityTransform{}}
}

func (l *lake) ok(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lake) clock() time.Time {
	l.timeMu.Lock()
	defer l.timeMu.Unlock()
	return l.now
}

func (l *lake) advance(d time.Duration) {
	l.timeMu.Lock()
	defer l.timeMu.Unlock()
	l.now = l.now.Add(d)
}

// compactor has the lake's clock and sleeps for a moment only.
func (l *lake) compactor(cfg Config, cat catalog.Catalog) *Compactor {
	l.Helper()
	if cat == nil {
		cat = l.cat
	}
	c, err := New(cfg, cat, l.wh, nil, nil)
	l.ok(err)
	c.now = l.clock
	c.pause = func(ctx context.Context, d time.Duration) error { return sleep.For(ctx, min(d, 2*time.Millisecond)) }
	return c
}

// once runs one round and wants no error.
func (l *lake) once(c *Compactor) Report {
	l.Helper()
	r, err := c.RunOnce(context.Background(), tableID, false)
	l.ok(err)
	return r
}

// rounds runs until nothing is rewritten any more.
func (l *lake) rounds(c *Compactor) (jobs int) {
	l.Helper()
	for range 50 {
		r := l.once(c)
		if r.SnapshotID == 0 {
			return jobs
		}
		jobs += len(r.Jobs)
	}
	l.Fatal("compaction does not come to an end")
	return 0
}

func (l *lake) load() table.Metadata {
	l.Helper()
	t, err := l.cat.LoadTable(context.Background(), tableID, catalog.LoadAll)
	l.ok(err)
	return t.Metadata
}

func (l *lake) files() []snapshot.File {
	l.Helper()
	fs, err := snapshot.Files(context.Background(), l.wh, l.load().CurrentSnapshot(), nil)
	l.ok(err)
	return fs
}

// records are rows of one region from the next offset on.
func (l *lake) records(n int, region string) arrow.RecordBatch {
	l.Helper()
	as, err := datafile.ArrowSchema(eventSchema())
	l.ok(err)
	b := array.NewRecordBuilder(l.mem, as)
	defer b.Release()
	for i := range n {
		off := l.next + int64(i)
		ts := arrow.Timestamp(l.clock().Add(time.Duration(off) * time.Millisecond).UnixMicro())
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("user-%06d", off*7919%1000))
		b.Field(1).(*array.StringBuilder).Append(region)
		if off%5 == 0 {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.TimestampBuilder).Append(ts)
		}
		b.Field(3).(*array.Int32Builder).Append(int32(off % 3))
		b.Field(4).(*array.Int64Builder).Append(off)
		b.Field(5).(*array.TimestampBuilder).Append(ts)
		b.Field(6).(*array.TimestampBuilder).Append(ts)
	}
	l.next += int64(n)
	return b.NewRecordBatch()
}

// write stores a data file of n rows and tells its entry.
func (l *lake) write(ctx context.Context, meta table.Metadata, n int, region string) (iceberg.DataFile, error) {
	rec := l.records(n, region)
	defer func(rec arrow.RecordBatch) { rec.Release() }(rec)
	l.wrote = append(l.wrote, texts(rec)...)
	if l.sortBy != nil {
		sorted, err := layout.Sort(ctx, l.mem, []arrow.RecordBatch{rec}, l.sortBy)
		if err != nil {
			return nil, err
		}
		defer sorted.Release()
		rec = sorted
	}
	var buf bytes.Buffer
	st, err := datafile.Write(&buf, eventSchema(), []arrow.RecordBatch{rec}, datafile.DefaultWriteOptions())
	if err != nil {
		return nil, err
	}
	if l.sortBy != nil {
		st.SortOrderID = 1
	}
	loc := snapshot.DataLocation(meta, uuid.NewString()+".parquet")
	k, err := l.wh.Key(loc)
	if err != nil {
		return nil, err
	}
	if _, err := l.wh.Put(ctx, k, bytes.NewReader(buf.Bytes()), objstore.IfAbsent); err != nil {
		return nil, err
	}
	values := map[int]any{}
	for _, f := range l.spec.Fields() {
		values[f.FieldID] = region
	}
	return snapshot.DataFile(l.spec, loc, st, values, nil)
}

// append commits one snapshot with a file a region, as ingest does: with a record, moving the pipeline's tag, again on a
// conflict.
func (l *lake) append(n int, regions ...string) int64 {
	l.Helper()
	id, _, err := l.tryAppend(context.Background(), n, regions...)
	l.ok(err)
	return id
}

func (l *lake) tryAppend(ctx context.Context, n int, regions ...string) (id int64, conflicts int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.cat.LoadTable(ctx, tableID, catalog.LoadRefs)
	if err != nil {
		return 0, 0, err
	}
	meta := t.Metadata
	var added []iceberg.DataFile
	var entries []snapshot.Entry
	from := l.next
	for _, region := range regions {
		f, err := l.write(ctx, meta, n, region)
		if err != nil {
			return 0, 0, err
		}
		added, entries = append(added, f), append(entries, snapshot.Added(f))
	}
	rec := ledger.Record{Kind: ledger.KindIngest, Pipeline: "p", BatchID: uuid.NewString(), ClusterID: "c", TopicID: "n/a", Prev: l.prev,
		Offsets: offset.Vector{0: l.next}, LastRow: offset.Vector{0: l.next - 1}, Ranges: []offset.Range{{Partition: 0, Start: from, End: l.next, LeaderEpoch: 1}}}
	summary, err := rec.Summary()
	if err != nil {
		return 0, 0, err
	}
	id = snapshot.NewID()
	m, err := snapshot.WriteManifest(ctx, l.wh, meta, l.spec, id, entries)
	if err != nil {
		return 0, 0, err
	}
	for ; ; conflicts++ {
		h, err := snapshot.LoadHead(ctx, snapshot.NewReader(l.wh, 0), meta, table.MainBranch)
		if err != nil {
			return 0, conflicts, err
		}
		s, err := snapshot.Build(ctx, l.wh, h, snapshot.Change{SnapshotID: id, Operation: table.OpAppend, New: []iceberg.ManifestFile{m}, Added: added, Summary: summary}, l.clock())
		if err != nil {
			return 0, conflicts, err
		}
		_, err = l.cat.CommitTable(ctx, catalog.TableCommit{Identifier: tableID,
			Requirements: table.Requirements{table.AssertTableUUID(meta.TableUUID()), table.AssertRefSnapshotID(table.MainBranch, h.ID())},
			Updates:      append(snapshot.Updates(s, table.MainBranch), snapshot.SetTag(ledger.TagName("p"), id, 0))})
		if err == nil {
			l.prev, l.vec = id, rec.Offsets
			return id, conflicts, nil
		}
		if !errors.Is(err, catalog.ErrConflict) || conflicts == 10_000 {
			return 0, conflicts, err
		}
		if t, err = l.cat.LoadTable(ctx, tableID, catalog.LoadRefs); err != nil {
			return 0, conflicts, err
		}
		meta = t.Metadata
	}
}

// texts are the rows of a batch, one text each.
func texts(rec arrow.RecordBatch) []string {
	out := make([]string, rec.NumRows())
	var b strings.Builder
	for i := range out {
		b.Reset()
		for _, col := range rec.Columns() {
			b.WriteString(col.ValueStr(i))
			b.WriteByte('|')
		}
		out[i] = b.String()
	}
	return out
}

// rowsOf reads all rows of a snapshot, sorted.
func (l *lake) rowsOf(s *table.Snapshot) []string {
	l.Helper()
	files, err := snapshot.Files(context.Background(), l.wh, s, nil)
	l.ok(err)
	var out []string
	for _, f := range files {
		k, err := l.wh.Key(f.FilePath())
		l.ok(err)
		r, err := datafile.Open(context.Background(), l.wh, k, datafile.ReadOptions{})
		l.ok(err)
		if r.Rows() != f.Count() {
			l.Fatalf("%s: %d rows, the manifest says %d", f.FilePath(), r.Rows(), f.Count())
		}
		l.ok(r.Scan(context.Background(), eventSchema(), func(b arrow.RecordBatch) error { out = append(out, texts(b)...); return nil }))
		l.ok(r.Close())
	}
	slices.Sort(out)
	return out
}

// sound holds the table's head against everything that was written, and the table against itself.
func (l *lake) sound() {
	l.Helper()
	l.mu.Lock()
	want := slices.Clone(l.wrote)
	l.mu.Unlock()
	slices.Sort(want)
	meta := l.load()
	if got := l.rowsOf(meta.CurrentSnapshot()); !slices.Equal(got, want) {
		l.Fatalf("the table holds %d rows, %d were written%s", len(got), len(want), diff(got, want))
	}
	l.complete(meta)
	s := meta.CurrentSnapshot()
	if got := s.Summary.Properties["total-records"]; got != fmt.Sprint(len(want)) {
		l.Errorf("total-records is %s, there are %d", got, len(want))
	}
	if got := s.Summary.Properties["total-data-files"]; got != fmt.Sprint(len(l.files())) {
		l.Errorf("total-data-files is %s, there are %d", got, len(l.files()))
	}
}

// complete checks that every file of every snapshot is there.
func (l *lake) complete(meta table.Metadata) {
	l.Helper()
	r := snapshot.NewReader(l.wh, 64<<20)
	seen := map[string]bool{}
	for _, s := range meta.Snapshots() {
		files, err := r.Files(context.Background(), &s, nil)
		l.ok(err)
		for _, f := range files {
			if k, err := l.wh.Key(f.FilePath()); !seen[k] {
				l.ok(err)
				seen[k] = true
				_, err = l.wh.Stat(context.Background(), k)
				l.ok(err)
			}
		}
	}
}

func diff(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if c := cmp.Compare(got[i], want[i]); c != 0 {
			return fmt.Sprintf("; row %d is\n%s\ninstead of\n%s", i, got[i], want[i])
		}
	}
	return ""
}

// keys lists all objects of the table.
func (l *lake) keys() []string {
	l.Helper()
	root, err := l.wh.Key(l.load().Location())
	l.ok(err)
	var out []string
	l.ok(l.wh.List(context.Background(), root, func(i objstore.Info) error { out = append(out, i.Key); return nil }))
	return out
}

// faults is a catalog whose CommitTable can be made to misbehave.
type faults struct {
	catalog.Catalog
	before func(n int, c catalog.TableCommit) error // nil or an error instead of the commit; n counts from 1
	after  func(n int, err error) error             // replaces the answer
	n      int
}

func (f *faults) CommitTable(ctx context.Context, c catalog.TableCommit) (*catalog.Table, error) {
	f.n++
	if f.before != nil {
		if err := f.before(f.n, c); err != nil {
			return nil, err
		}
	}
	t, err := f.Catalog.CommitTable(ctx, c)
	if f.after != nil {
		if err = f.after(f.n, err); err != nil {
			return nil, err
		}
	}
	return t, err
}

func extension(key string) string { return key[strings.LastIndexByte(key, '.'):] }
