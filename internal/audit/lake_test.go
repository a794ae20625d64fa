package audit

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
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
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// lake is a catalog with a table and its dead letters, which a test fills commit by commit, rightly or wrongly.
type lake struct {
	t          *testing.T
	cat        catalog.Catalog
	wh         *objstore.Warehouse
	main, dead catalog.Identifier
	record     ledger.Record // of the last commit
}

// row is one offset of a partition.
type row struct {
	p  int32
	at int64
}

// rowsOf gives the offsets [from, to) of a partition.
func rowsOf(p int32, from, to int64) (out []row) {
	for ; from < to; from++ {
		out = append(out, row{p, from})
	}
	return out
}

func newLake(t *testing.T) *lake {
	t.Helper()
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://" + t.Name()}
	s, err := server.New(t.Context(), server.Config{Store: "sqlite::memory:"}, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	l := &lake{t: t, cat: s.Service(), wh: wh, main: catalog.Identifier{"analytics", "events"}, dead: catalog.Identifier{"analytics", "events_dead"},
		record: ledger.Record{Pipeline: "events", ClusterID: "c", TopicID: "n/a", Offsets: offset.Vector{}, LastRow: offset.Vector{}}}
	p := iceberg.PrimitiveTypes
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "text", Type: p.String}, iceberg.NestedField{ID: 2, Name: ledger.ColPartition, Type: p.Int32},
		iceberg.NestedField{ID: 3, Name: ledger.ColOffset, Type: p.Int64})
	l.must(l.cat.CreateNamespace(t.Context(), l.main.Namespace(), nil))
	for _, id := range []catalog.Identifier{l.main, l.dead} {
		_, err := l.cat.CreateTable(t.Context(), id, catalog.CreateTable{Schema: sc, Properties: map[string]string{table.PropertyFormatVersion: "2"}})
		l.must(err)
	}
	return l
}

func (l *lake) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lake) meta(id catalog.Identifier) table.Metadata {
	l.t.Helper()
	t, err := l.cat.LoadTable(l.t.Context(), id, catalog.LoadAll)
	l.must(err)
	return t.Metadata
}

// encode writes rows as a Parquet file; a row of partition -1 has no ledger.
func (l *lake) encode(id catalog.Identifier, rows []row) ([]byte, datafile.Stats) {
	l.t.Helper()
	sc := l.meta(id).CurrentSchema()
	as, err := datafile.ArrowSchema(sc)
	l.must(err)
	b := array.NewRecordBuilder(memory.DefaultAllocator, as)
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("value %d of %d", r.at, r.p))
		if r.p < 0 {
			b.Field(1).AppendNull()
			b.Field(2).AppendNull()
			continue
		}
		b.Field(1).(*array.Int32Builder).Append(r.p)
		b.Field(2).(*array.Int64Builder).Append(r.at)
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	var buf bytes.Buffer
	o := datafile.DefaultWriteOptions()
	o.RowGroupRows = 1000
	st, err := datafile.Write(&buf, sc, []arrow.RecordBatch{batch}, o)
	l.must(err)
	return buf.Bytes(), st
}

// file writes rows as a data file of the table.
func (l *lake) file(id catalog.Identifier, rows []row) iceberg.DataFile {
	l.t.Helper()
	data, st := l.encode(id, rows)
	return l.put(id, data, st)
}

func (l *lake) put(id catalog.Identifier, data []byte, st datafile.Stats) iceberg.DataFile {
	l.t.Helper()
	location := snapshot.DataLocation(l.meta(id), uuid.NewString()+".parquet")
	key, err := l.wh.Key(location)
	l.must(err)
	_, err = l.wh.Put(l.t.Context(), key, bytes.NewReader(data), objstore.IfAbsent)
	l.must(err)
	f, err := snapshot.DataFile(l.meta(id).PartitionSpec(), location, st, nil, nil)
	l.must(err)
	return f
}

// commit appends files, in a manifest each, with a summary.
func (l *lake) commit(id catalog.Identifier, summary map[string]string, files ...iceberg.DataFile) int64 {
	l.t.Helper()
	ctx := l.t.Context()
	meta := l.meta(id)
	head, err := snapshot.LoadHead(ctx, snapshot.NewReader(l.wh, 0), meta, table.MainBranch)
	l.must(err)
	c := snapshot.Change{SnapshotID: snapshot.NewID(), Operation: table.OpAppend, Summary: summary, Added: files}
	for _, f := range files {
		m, err := snapshot.WriteManifest(ctx, l.wh, meta, meta.PartitionSpec(), c.SnapshotID, []snapshot.Entry{snapshot.Added(f)})
		l.must(err)
		c.New = append(c.New, m)
	}
	s, err := snapshot.Build(ctx, l.wh, head, c, time.Now())
	l.must(err)
	_, err = l.cat.CommitTable(ctx, catalog.TableCommit{Identifier: id, Updates: snapshot.Updates(s, table.MainBranch),
		Requirements: table.Requirements{table.AssertRefSnapshotID(table.MainBranch, head.ID())}})
	l.must(err)
	return s.SnapshotID
}

// ingest commits what a batch that moved ranges leaves behind: the rows of every offset that is not dead or without a
// record, in the given number of files. change may spoil the record.
func (l *lake) ingest(ranges []offset.Range, dead, skipped []row, change func(*ledger.Record)) {
	l.t.Helper()
	var rows []row
	for _, g := range ranges {
		for _, r := range rowsOf(g.Partition, g.Start, g.End) {
			if !slices.Contains(dead, r) && !slices.Contains(skipped, r) {
				rows = append(rows, r)
			}
		}
	}
	l.ingestRows(ranges, rows, change)
	if len(dead) > 0 {
		l.commit(l.dead, nil, l.file(l.dead, dead))
	}
}

func (l *lake) ingestRows(ranges []offset.Range, rows []row, change func(*ledger.Record)) int64 {
	l.t.Helper()
	var files []iceberg.DataFile
	if len(rows) > 0 {
		files = append(files, l.file(l.main, rows))
	}
	return l.ingestFiles(ranges, rows, change, files...)
}

func (l *lake) ingestFiles(ranges []offset.Range, rows []row, change func(*ledger.Record), files ...iceberg.DataFile) int64 {
	l.t.Helper()
	r := l.record
	r.Kind, r.BatchID, r.Ranges = ledger.KindIngest, uuid.NewString(), ranges
	r.LastRow = maps.Clone(r.LastRow)
	var err error
	r.Offsets, err = r.Offsets.Advance(ranges)
	l.must(err)
	for _, x := range rows {
		if last, ok := r.LastRow[x.p]; x.p >= 0 && (!ok || x.at > last) {
			r.LastRow[x.p] = x.at
		}
	}
	if change != nil {
		change(&r)
	}
	summary, err := r.Summary()
	l.must(err)
	id := l.commit(l.main, summary, files...)
	r.Prev = id
	l.record = r
	return id
}

func moved(p int32, start, end int64) []offset.Range {
	return []offset.Range{{Partition: p, Start: start, End: end, LeaderEpoch: 1}}
}

// audit runs and checks that the report prints.
func (l *lake) audit(o Options) *Report {
	l.t.Helper()
	r, err := Table(l.t.Context(), l.cat, l.wh, l.main, o)
	l.must(err)
	return r
}

// kinds are the problems of a report, each once.
func kinds(r *Report) []Kind {
	var out []Kind
	for _, p := range r.Problems {
		if !slices.Contains(out, p.Kind) {
			out = append(out, p.Kind)
		}
	}
	return out
}

func (l *lake) expect(r *Report, v Verdict, want ...Kind) {
	l.t.Helper()
	got := kinds(r)
	slices.Sort(got)
	slices.Sort(want)
	if r.Verdict != v || !slices.Equal(got, want) {
		l.t.Errorf("verdict %s with %v, want %s with %v\n%s", r.Verdict, got, v, want, r)
	}
	if r.Clean() != (v == Clean) {
		l.t.Errorf("Clean() = %t for %s", r.Clean(), r.Verdict)
	}
}
