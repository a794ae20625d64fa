package query_test

import (
	"bytes"
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
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/engine/tail"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eventSchema() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "kind", Type: p.String},
		iceberg.NestedField{ID: 2, Name: "amount", Type: p.Int64},
		iceberg.NestedField{ID: 3, Name: ledger.ColPartition, Type: p.Int32},
		iceberg.NestedField{ID: 4, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 5, Name: ledger.ColTimestamp, Type: p.TimestampTz},
		iceberg.NestedField{ID: 6, Name: ledger.ColIngestedAt, Type: p.TimestampTz})
}

// lake is a catalog and a warehouse, and the tails of the tables in it.
type lake struct {
	testing.TB
	cat   catalog.Catalog
	wh    *objstore.Warehouse
	mem   *memory.CheckedAllocator
	tails tails
}

// newLake is a lake on disk.
func newLake(t testing.TB) *lake {
	t.Helper()
	wh, err := objstore.Open(t.Context(), "file://"+t.TempDir()+"/warehouse", objstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wh.Close() })
	return lakeIn(t, wh)
}

func lakeIn(t testing.TB, wh *objstore.Warehouse) *lake {
	t.Helper()
	s, err := server.New(t.Context(), server.Config{Store: "sqlite::memory:"}, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close the catalog: %v", err)
		}
	})
	l := &lake{TB: t, cat: s.Service(), wh: wh, mem: memory.NewCheckedAllocator(memory.NewGoAllocator())}
	t.Cleanup(func() {
		l.tails.close()
		l.mem.AssertSize(t, 0) // every hot row and every batch was given back
	})
	return l
}

func (l *lake) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// service answers queries over the lake; edit may change its parts. The SQL engine is there when it is built in.
func (l *lake) service(edit ...func(*parts)) *query.Service {
	l.Helper()
	p := parts{cfg: query.Config{CacheDir: l.TempDir(), Threads: 2}, cat: l.cat, wh: l.wh, tail: &l.tails}
	for _, f := range edit {
		f(&p)
	}
	if p.sql == nil && !p.noSQL {
		p.sql = openSQL(l, p.cfg)
	}
	s, err := query.NewService(p.cfg, p.cat, p.wh, p.tail, p.sql, nil, nil)
	l.must(err)
	s.UseAllocator(l.mem)
	l.Cleanup(func() { l.must(s.Close()) })
	return s
}

// parts are what a service is made of.
type parts struct {
	cfg  query.Config
	cat  catalog.Catalog
	wh   *objstore.Warehouse
	tail query.TailSource
	sql  query.SQLEngine

	noSQL bool
}

// tails is the tails of the tables, by name.
type tails struct {
	mu   sync.Mutex
	all  map[string]*tail.Tail
	fail func(table string, n int) error // nil, or what the n-th cut answers instead
	cuts int
	held int // cuts that were not released
}

// Cut implements query.TailSource.
func (s *tails) Cut(ctx context.Context, id catalog.Identifier, from offset.Vector, epoch int64) (*hot.Cut, error) {
	s.mu.Lock()
	s.cuts++
	t, fail, n := s.all[id.String()], s.fail, s.cuts
	s.mu.Unlock()
	if fail != nil {
		if err := fail(id.String(), n); err != nil {
			return nil, err
		}
	}
	if t == nil {
		return nil, hot.ErrNoTail
	}
	c, err := t.Cut(ctx, from, epoch)
	if err != nil {
		return nil, err
	}
	s.count(1)
	return hot.NewCut(c.Rows, c.From, c.End, c.Epoch, func() { s.count(-1); c.Release() }), nil
}

func (s *tails) count(d int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += d
}

func (s *tails) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

func (s *tails) failing(f func(table string, n int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.cuts = f, 0
}

func (s *tails) close() {
	for _, t := range s.all {
		t.Close()
	}
}

// stream is a table and the pipeline that feeds it.
type stream struct {
	*lake
	id    catalog.Identifier
	tail  *tail.Tail
	vec   offset.Vector // committed
	end   offset.Vector // appended to the tail
	epoch int64
	prev  int64
}

// table makes a table with a tail that keeps committed rows for grace.
func (l *lake) table(grace time.Duration, name ...string) *stream {
	l.Helper()
	return l.tableOf(eventSchema(), grace, name...)
}

func (l *lake) tableOf(sc *iceberg.Schema, grace time.Duration, name ...string) *stream {
	l.Helper()
	id := catalog.Identifier(name)
	for i := 1; i < len(id); i++ {
		if err := l.cat.CreateNamespace(context.Background(), id[:i], nil); err != nil && !errors.Is(err, catalog.ErrExists) {
			l.Fatal(err)
		}
	}
	_, err := l.cat.CreateTable(context.Background(), id, catalog.CreateTable{Schema: sc})
	l.must(err)
	s := &stream{lake: l, id: id, tail: tail.New(grace, 1<<30, time.Now), vec: offset.Vector{}, end: offset.Vector{}}
	s.tail.Reset(0, offset.Vector{})
	if l.tails.all == nil {
		l.tails.all = map[string]*tail.Tail{}
	}
	l.tails.all[id.String()] = s.tail
	return s
}

func (s *stream) meta() table.Metadata {
	s.Helper()
	t, err := s.cat.LoadTable(context.Background(), s.id, catalog.LoadAll)
	s.must(err)
	return t.Metadata
}

// batch is rows of one partition in a schema: kind is "k" and the offset modulo 3, amount the offset; other columns
// are null.
func (l *lake) batch(sc *iceberg.Schema, p int32, from, to int64) (arrow.RecordBatch, error) {
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	b := array.NewRecordBuilder(l.mem, as)
	defer b.Release()
	for o := from; o < to; o++ {
		for i, f := range as.Fields() {
			switch f.Name {
			case "kind":
				b.Field(i).(*array.StringBuilder).Append(fmt.Sprintf("k%d", o%3))
			case "amount":
				b.Field(i).(*array.Int64Builder).Append(o)
			case ledger.ColPartition:
				b.Field(i).(*array.Int32Builder).Append(p)
			case ledger.ColOffset:
				b.Field(i).(*array.Int64Builder).Append(o)
			default:
				b.Field(i).AppendNull()
			}
		}
	}
	return b.NewRecordBatch(), nil
}

// ingest gives the tail n more rows of a partition.
func (s *stream) ingest(p int32, n int64) {
	s.Helper()
	s.must(s.tryIngest(p, n))
}

func (s *stream) tryIngest(p int32, n int64) error {
	from := s.end[p]
	b, err := s.batch(s.schemaNow(), p, from, from+n)
	if err != nil {
		return err
	}
	defer b.Release()
	s.tail.Append(b, offset.Range{Partition: p, Start: from, End: from + n})
	s.end[p] = from + n
	return nil
}

func (s *stream) schemaNow() *iceberg.Schema {
	t, err := s.cat.LoadTable(context.Background(), s.id, catalog.LoadRefs)
	if err != nil {
		panic(err) // the catalog lies in this process
	}
	return t.Metadata.CurrentSchema()
}

// commit makes a snapshot of what the tail has, with a data file a partition, and tells the tail.
func (s *stream) commit() int64 {
	s.Helper()
	id, err := s.tryCommit()
	s.must(err)
	return id
}

// add ingests and commits n rows of partition 0.
func (s *stream) add(n int64) int64 {
	s.Helper()
	s.ingest(0, n)
	return s.commit()
}

func (s *stream) tryCommit() (int64, error) {
	t, err := s.cat.LoadTable(context.Background(), s.id, catalog.LoadRefs)
	if err != nil {
		return 0, err
	}
	var files []iceberg.DataFile
	var ranges []offset.Range
	last := offset.Vector{}
	for _, p := range s.end.Partitions() {
		if s.end[p] == s.vec[p] {
			continue
		}
		f, err := s.write(t.Metadata, p, s.vec[p], s.end[p])
		if err != nil {
			return 0, err
		}
		files = append(files, f)
		ranges = append(ranges, offset.Range{Partition: p, Start: s.vec[p], End: s.end[p], LeaderEpoch: 1})
		last[p] = s.end[p] - 1
	}
	rec := ledger.Record{Kind: ledger.KindIngest, Pipeline: "p", BatchID: uuid.Must(uuid.NewV7()).String(), ClusterID: "c", TopicID: "n/a",
		Prev: s.prev, Epoch: s.epoch, Offsets: s.end.Clone(), LastRow: last, Ranges: ranges}
	summary, err := rec.Summary()
	if err != nil {
		return 0, err
	}
	id, err := s.publish(t.Metadata, table.OpAppend, files, summary)
	if err != nil {
		return 0, err
	}
	s.vec, s.prev = s.end.Clone(), id
	s.tail.Committed(s.vec)
	return id, nil
}

// foreign commits files as another engine would, without a record.
func (s *stream) foreign(files ...iceberg.DataFile) int64 {
	s.Helper()
	id, err := s.publish(s.meta(), table.OpAppend, files, nil)
	s.must(err)
	return id
}

func (s *stream) publish(meta table.Metadata, op table.Operation, files []iceberg.DataFile, summary map[string]string) (int64, error) {
	ctx := context.Background()
	var entries []snapshot.Entry
	for _, f := range files {
		entries = append(entries, snapshot.Added(f))
	}
	id := snapshot.NewID()
	m, err := snapshot.WriteManifest(ctx, s.wh, meta, meta.PartitionSpec(), id, entries)
	if err != nil {
		return 0, err
	}
	h, err := snapshot.LoadHead(ctx, snapshot.NewReader(s.wh, 0), meta, table.MainBranch)
	if err != nil {
		return 0, err
	}
	snap, err := snapshot.Build(ctx, s.wh, h, snapshot.Change{SnapshotID: id, Operation: op, New: []iceberg.ManifestFile{m}, Added: files, Summary: summary}, time.Now())
	if err != nil {
		return 0, err
	}
	_, err = s.cat.CommitTable(ctx, catalog.TableCommit{Identifier: s.id, Updates: snapshot.Updates(snap, table.MainBranch),
		Requirements: table.Requirements{table.AssertRefSnapshotID(table.MainBranch, h.ID())}})
	return id, err
}

// write stores rows as a data file and tells its manifest entry.
func (s *stream) write(meta table.Metadata, p int32, from, to int64) (iceberg.DataFile, error) {
	sc := meta.CurrentSchema()
	rows, err := s.batch(sc, p, from, to)
	if err != nil {
		return nil, err
	}
	defer rows.Release()
	var buf bytes.Buffer
	st, err := datafile.Write(&buf, sc, []arrow.RecordBatch{rows}, datafile.DefaultWriteOptions())
	if err != nil {
		return nil, err
	}
	loc := snapshot.DataLocation(meta, uuid.NewString()+".parquet")
	key, err := s.wh.Key(loc)
	if err != nil {
		return nil, err
	}
	if _, err := s.wh.Put(context.Background(), key, bytes.NewReader(buf.Bytes()), objstore.IfAbsent); err != nil {
		return nil, err
	}
	return snapshot.DataFile(meta.PartitionSpec(), loc, st, nil, nil)
}

// update commits updates of the metadata alone.
func (s *stream) update(updates ...table.Update) {
	s.Helper()
	_, err := s.cat.CommitTable(context.Background(), catalog.TableCommit{Identifier: s.id, Updates: updates})
	s.must(err)
}

// expire removes every snapshot that no ref names.
func (s *stream) expire() {
	s.Helper()
	meta := s.meta()
	keep := map[int64]bool{}
	for _, r := range meta.Refs() {
		keep[r.SnapshotID] = true
	}
	var gone []int64
	for _, snap := range meta.Snapshots() {
		if !keep[snap.SnapshotID] {
			gone = append(gone, snap.SnapshotID)
		}
	}
	s.update(table.NewRemoveSnapshotsUpdate(gone, false))
}

// files of the head, by path.
func (s *stream) files() []snapshot.File {
	s.Helper()
	fs, err := snapshot.Files(context.Background(), s.wh, s.meta().CurrentSnapshot(), nil)
	s.must(err)
	return fs
}

// rows reads a result to its end and releases it: a line a row, sorted, the columns separated by |.
func rows(ctx context.Context, r query.Result, err error) ([]string, []query.Pin, error) {
	if err != nil {
		return nil, nil, err
	}
	defer r.Release()
	out := []string{}
	for r.Next(ctx) {
		b := r.RecordBatch()
		if b.NumRows() == 0 || int(b.NumCols()) != r.Schema().NumFields() {
			return nil, nil, fmt.Errorf("a batch of %d rows and %d columns, the schema has %d", b.NumRows(), b.NumCols(), r.Schema().NumFields())
		}
		for i := range int(b.NumRows()) {
			cells := make([]string, b.NumCols())
			for c := range cells {
				cells[c] = b.Column(c).ValueStr(i)
			}
			out = append(out, strings.Join(cells, "|"))
		}
	}
	slices.Sort(out)
	return out, r.Pins(), r.Err()
}

var ledgerOnly = []string{ledger.ColPartition, ledger.ColOffset}

// scan reads the ledger columns of a table.
func (s *stream) scan(q *query.Service, o query.Options) ([]string, query.Pin) {
	s.Helper()
	res, err := q.Scan(s.Context(), query.ScanRequest{Table: s.id, Columns: ledgerOnly}, o)
	got, pins, err := rows(s.Context(), res, err)
	s.must(err)
	return got, pins[0]
}

// upTo is the rows of a vector as scan gives them.
func upTo(v offset.Vector) []string {
	out := []string{}
	for p, end := range v {
		for o := range end {
			out = append(out, fmt.Sprintf("%d|%d", p, o))
		}
	}
	slices.Sort(out)
	return out
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %d rows %.300q, want %d %.300q", what, len(got), got, len(want), want)
	}
}

// fails holds an error against its sentinel and the words that it must have.
func fails(t testing.TB, err, is error, words ...string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Fatalf("got error %v, want %v", err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("%q does not say %q", err, w)
		}
	}
}
