package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// testSchema is a table with an event time and a user, and the ledger columns.
func testSchema() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "user", Type: p.String},
		iceberg.NestedField{ID: 2, Name: "meta", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 3, Name: "at", Type: p.TimestampTz}}}},
		iceberg.NestedField{ID: 4, Name: ledger.ColPartition, Type: p.Int32}, iceberg.NestedField{ID: 5, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 6, Name: ledger.ColTimestamp, Type: p.TimestampTz}, iceberg.NestedField{ID: 7, Name: ledger.ColIngestedAt, Type: p.TimestampTz})
}

func deadSchema() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "reason", Type: p.String},
		iceberg.NestedField{ID: 2, Name: ledger.ColPartition, Type: p.Int32}, iceberg.NestedField{ID: 3, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 4, Name: ledger.ColTimestamp, Type: p.TimestampTz}, iceberg.NestedField{ID: 5, Name: ledger.ColIngestedAt, Type: p.TimestampTz})
}

// lake is a catalog, a warehouse, and two tables of one pipeline in them.
type lake struct {
	testing.TB
	cat        catalog.Catalog // without faults
	wh         *objstore.Warehouse
	rows, dead catalog.Identifier
	topic      engine.Topic
	now        time.Time
	mem        memory.Allocator
	as         *arrow.Schema // of the rows
	reader     *snapshot.Reader
}

var lakes atomic.Int64

// openCatalog is Firn's catalog over SQLite in memory.
func openCatalog(t testing.TB, wh *objstore.Warehouse) catalog.Catalog {
	t.Helper()
	s := serverOver(t, wh)
	t.Cleanup(func() { closeCatalog(t, s) })
	return s.Service()
}

func serverOver(t testing.TB, wh *objstore.Warehouse) *server.Server {
	t.Helper()
	s, err := server.New(context.Background(), server.Config{Store: "sqlite::memory:"}, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeCatalog(t testing.TB, s *server.Server) {
	t.Helper()
	if s == nil {
		return
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("close the catalog: %v", err)
	}
}

func newLake(t testing.TB, partitionBy ...string) *lake {
	t.Helper()
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	return lakeIn(t, openCatalog(t, wh), wh, partitionBy...)
}

// lakeIn makes tables of their own in a catalog.
func lakeIn(t testing.TB, cat catalog.Catalog, wh *objstore.Warehouse, partitionBy ...string) *lake {
	t.Helper()
	ns := fmt.Sprintf("ns%d", lakes.Add(1))
	l := &lake{TB: t, cat: cat, wh: wh, rows: catalog.Identifier{ns, "events"}, dead: catalog.Identifier{ns, "events_dead"},
		topic: engine.Topic{Name: "events", ClusterID: "c1", TopicID: "t1"}, now: time.UnixMilli(1_780_000_000_000), mem: memory.DefaultAllocator,
		reader: snapshot.NewReader(wh, 1<<20)}
	made, err := EnsureTable(context.Background(), cat, l.rows, testSchema(), partitionBy, nil)
	l.must(err)
	l.as, err = datafile.ArrowSchema(made.Metadata.CurrentSchema())
	l.must(err)
	_, err = EnsureTable(context.Background(), cat, l.dead, deadSchema(), nil, nil)
	l.must(err)
	return l
}

func (l *lake) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lake) committer(cat catalog.Catalog) *Committer {
	l.Helper()
	w := datafile.WriteOptions{Mem: l.mem}
	c, err := New(Config{Pipeline: "events", Table: l.rows, DeadTable: l.dead, Lateness: time.Minute, Write: w, UnknownTimeout: 50 * time.Millisecond,
		Topic: func(context.Context) (engine.Topic, error) { return l.topic, nil }, Now: func() time.Time { return l.now }},
		cat, l.wh, l.encodeDead, slog.New(slog.DiscardHandler), nil)
	l.must(err)
	return c
}

func (l *lake) encodeDead(sc *iceberg.Schema, dead []engine.Dead) (arrow.RecordBatch, error) {
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	b := array.NewRecordBuilder(l.mem, as)
	defer b.Release()
	for _, d := range dead {
		b.Field(0).(*array.StringBuilder).Append(d.Reason)
		b.Field(1).(*array.Int32Builder).Append(d.Partition)
		b.Field(2).(*array.Int64Builder).Append(d.Offset)
		b.Field(3).(*array.TimestampBuilder).Append(arrow.Timestamp(d.TimestampMs * 1000))
		for i := 4; i < len(b.Fields()); i++ { // a redrive adds a column
			b.Field(i).AppendNull()
		}
	}
	return b.NewRecordBatch(), nil
}

func (l *lake) meta(id catalog.Identifier) table.Metadata {
	l.Helper()
	return l.load(id, catalog.LoadAll)
}

func (l *lake) load(id catalog.Identifier, how catalog.Load) table.Metadata {
	l.Helper()
	t, err := l.cat.LoadTable(context.Background(), id, how)
	l.must(err)
	return t.Metadata
}

// rowsOf builds a record batch of one Kafka partition. The event time moves by an hour each 10 offsets.
func (l *lake) rowsOf(p int32, offsets ...int64) arrow.RecordBatch {
	l.Helper()
	b := array.NewRecordBuilder(l.mem, l.as)
	defer b.Release()
	for _, o := range offsets {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("user-%d", o%7))
		st := b.Field(1).(*array.StructBuilder)
		st.Append(true)
		at := arrow.Timestamp(1_780_000_000_000_000 + o/10*3_600_000_000)
		st.FieldBuilder(0).(*array.TimestampBuilder).Append(at)
		b.Field(2).(*array.Int32Builder).Append(p)
		b.Field(3).(*array.Int64Builder).Append(o)
		b.Field(4).(*array.TimestampBuilder).Append(at)
		b.Field(5).(*array.TimestampBuilder).Append(at)
		for i := 6; i < b.Schema().NumFields(); i++ {
			b.Field(i).AppendNull()
		}
	}
	return b.NewRecordBatch()
}

// batchOf is a batch that moves ranges; kind says of each offset what it gives.
func (l *lake) batchOf(kind func(p int32, o int64) byte, ranges ...offset.Range) *engine.Batch {
	l.Helper()
	b := &engine.Batch{ID: uuid.Must(uuid.NewV7()).String(), Ranges: ranges, LastRow: offset.Vector{}, Opened: l.now}
	for _, g := range ranges {
		var rows []int64
		for o := g.Start; o < g.End; o++ {
			switch kind(g.Partition, o) {
			case 'r':
				rows = append(rows, o)
				b.LastRow[g.Partition] = o
				b.MaxEvent = time.UnixMilli(1_780_000_000_000 + o/10*3_600_000)
			case 'd':
				b.Dead = append(b.Dead, engine.Dead{Partition: g.Partition, DeadLetter: engine.DeadLetter{Reason: "bad", Offset: o, TimestampMs: 1}})
			}
		}
		if len(rows) > 0 {
			b.Rows = append(b.Rows, l.rowsOf(g.Partition, rows...))
			b.RowCount += int64(len(rows))
		}
	}
	return b
}

func release(b *engine.Batch) {
	for _, r := range b.Rows {
		r.Release()
	}
}

func rng(p int32, from, to int64) offset.Range {
	return offset.Range{Partition: p, Start: from, End: to, LeaderEpoch: 3}
}

func allRows(int32, int64) byte { return 'r' }
func skips(int32, int64) byte   { return '-' }

// commit commits a batch of nothing but rows.
func (l *lake) commit(c *Committer, ranges ...offset.Range) engine.Committed {
	l.Helper()
	b := l.batchOf(allRows, ranges...)
	defer release(b)
	got, err := c.Commit(context.Background(), b)
	l.must(err)
	return got
}

func (l *lake) recover(c *Committer) engine.State {
	l.Helper()
	st, err := c.Recover(context.Background())
	l.must(err)
	return st
}

// offsetsIn counts the rows of a table's head by where they came from.
func (l *lake) offsetsIn(id catalog.Identifier) map[int32]map[int64]int {
	l.Helper()
	meta := l.load(id, catalog.LoadRefs)
	files, err := l.reader.Files(context.Background(), meta.CurrentSnapshot(), nil)
	l.must(err)
	scan, err := newLedgerScan(l.wh, meta)
	l.must(err)
	out := map[int32]map[int64]int{}
	for _, f := range files {
		l.must(scan.read(context.Background(), f, func(p int32, o int64) error {
			if out[p] == nil {
				out[p] = map[int64]int{}
			}
			out[p][o]++
			return nil
		}))
	}
	return out
}

// wantRows holds a table's rows against the kinds of the log below v.
func (l *lake) wantRows(id catalog.Identifier, v offset.Vector, want func(p int32, o int64) bool) {
	l.Helper()
	if err := l.checkRows(id, v, want); err != nil {
		l.Fatal(err)
	}
}

func (l *lake) checkRows(id catalog.Identifier, v offset.Vector, want func(p int32, o int64) bool) error {
	l.Helper()
	got := l.offsetsIn(id)
	for p, end := range v {
		for o := range end {
			n := got[p][o]
			switch {
			case n > 1:
				return fmt.Errorf("table %s: partition %d offset %d stands there %d times", id, p, o, n)
			case n == 1 && !want(p, o):
				return fmt.Errorf("table %s: partition %d offset %d does not belong there", id, p, o)
			case n == 0 && want(p, o):
				return fmt.Errorf("table %s: partition %d offset %d is missing", id, p, o)
			}
			delete(got[p], o)
		}
	}
	for p, rest := range got {
		for o := range maps.Keys(rest) {
			return fmt.Errorf("table %s: partition %d offset %d lies beyond %s", id, p, o, v)
		}
	}
	return nil
}

// foreign commits a change as another engine would: on the head as it is, without Firn's record unless summary has it.
func (l *lake) foreign(id catalog.Identifier, op table.Operation, summary map[string]string, change func(snapshot.Head, int64) snapshot.Change) int64 {
	l.Helper()
	ctx := context.Background()
	h, err := snapshot.LoadHead(ctx, l.reader, l.load(id, catalog.LoadRefs), table.MainBranch)
	l.must(err)
	sid := snapshot.NewID()
	c := change(h, sid)
	c.SnapshotID, c.Operation, c.Summary = sid, op, summary
	s, err := snapshot.Build(ctx, l.wh, h, c, l.now)
	l.must(err)
	_, err = l.cat.CommitTable(ctx, catalog.TableCommit{Identifier: id, Updates: snapshot.Updates(s, table.MainBranch),
		Requirements: table.Requirements{table.AssertRefSnapshotID(table.MainBranch, h.ID())}})
	l.must(err)
	return sid
}

// foreignAppend adds rows; with p < 0 they have no ledger.
func (l *lake) foreignAppend(id catalog.Identifier, p int32, offsets ...int64) int64 {
	l.Helper()
	return l.foreign(id, table.OpAppend, nil, func(h snapshot.Head, sid int64) snapshot.Change {
		var cols []arrow.RecordBatch
		r := l.rowsOf(p, offsets...)
		if p < 0 {
			r = l.withoutLedger(r)
		}
		defer r.Release()
		cols = append(cols, r)
		outs, err := encodeFiles(context.Background(), h.Meta, h.Meta.CurrentSchema(), layoutOf(h.Meta, h.Meta.CurrentSchema(), datafile.DefaultWriteOptions()), cols)
		l.must(err)
		return l.change(h, sid, outs)
	})
}

func (l *lake) change(h snapshot.Head, sid int64, outs []*output) snapshot.Change {
	l.Helper()
	var c snapshot.Change
	var entries []snapshot.Entry
	ctx := context.Background()
	uploader := l.committer(l.cat)
	for _, o := range outs {
		l.must(uploader.put(ctx, o))
		df, err := snapshot.DataFile(h.Meta.PartitionSpec(), o.location, o.stats, o.partition, nil)
		l.must(err)
		c.Added = append(c.Added, df)
		entries = append(entries, snapshot.Added(df))
	}
	m, err := snapshot.WriteManifest(ctx, l.wh, h.Meta, h.Meta.PartitionSpec(), sid, entries)
	l.must(err)
	c.New = []iceberg.ManifestFile{m}
	return c
}

func (l *lake) withoutLedger(r arrow.RecordBatch) arrow.RecordBatch {
	defer r.Release()
	cols := append([]arrow.Array{}, r.Columns()...)
	for _, i := range []int{2, 3} {
		cols[i] = array.MakeArrayOfNull(l.mem, r.Column(i).DataType(), int(r.NumRows()))
		defer cols[i].Release()
	}
	return array.NewRecordBatch(r.Schema(), cols, r.NumRows())
}

// rewrite puts all files of the head into one manifest: the rows stay, every manifest is new. With the record carried on
// it is Firn's compaction, without it somebody else's.
func (l *lake) rewrite(id catalog.Identifier, carry bool) int64 {
	l.Helper()
	var summary map[string]string
	if head := l.load(id, catalog.LoadRefs).CurrentSnapshot(); carry && head != nil {
		if r, err := record(head); err == nil {
			r.Kind, r.Ranges, r.Prev = ledger.KindCompact, nil, head.SnapshotID
			summary, err = r.Summary()
			l.must(err)
		}
	}
	return l.foreign(id, table.OpReplace, summary, func(h snapshot.Head, sid int64) snapshot.Change {
		files, err := l.reader.FilesOf(context.Background(), h.Manifests, nil)
		l.must(err)
		c := snapshot.Change{Drop: map[string]bool{}}
		if len(files) == 0 {
			return c
		}
		var entries []snapshot.Entry
		for _, f := range files {
			entries = append(entries, snapshot.Kept(f))
			c.Drop[f.Manifest] = true
		}
		m, err := snapshot.WriteManifest(context.Background(), l.wh, h.Meta, h.Meta.PartitionSpec(), sid, entries)
		l.must(err)
		c.New = []iceberg.ManifestFile{m}
		return c
	})
}

func (l *lake) update(id catalog.Identifier, updates ...table.Update) {
	l.Helper()
	_, err := l.cat.CommitTable(context.Background(), catalog.TableCommit{Identifier: id, Updates: updates})
	l.must(err)
}

// rollback sets main to a snapshot.
func (l *lake) rollback(id catalog.Identifier, snap int64) {
	l.Helper()
	l.update(id, snapshot.SetBranch(table.MainBranch, snap))
}

// expire removes every snapshot that no ref names.
func (l *lake) expire(id catalog.Identifier) {
	l.Helper()
	meta := l.meta(id)
	keep := map[int64]bool{}
	for _, r := range meta.Refs() {
		keep[r.SnapshotID] = true
	}
	var gone []int64
	for _, s := range meta.Snapshots() {
		if !keep[s.SnapshotID] {
			gone = append(gone, s.SnapshotID)
		}
	}
	if len(gone) > 0 {
		l.update(id, table.NewRemoveSnapshotsUpdate(gone, false))
	}
}

func isErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// readState is Explain's answer, with its stop as the error.
func readState(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, pipeline string) (engine.State, ledger.Record, error) {
	e, err := Explain(ctx, cat, wh, id, pipeline)
	return e.State, e.Record, errors.Join(e.Stop, err)
}
