package compaction

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// BenchmarkCompact merges files of the demo's events, one commit each, into one. MB are those of the input files.
func BenchmarkCompact(b *testing.B) {
	for _, size := range []struct{ files, rows int }{{8, 2_000}, {64, 2_000}, {8, 128_000}} {
		b.Run(fmt.Sprintf("files=%d/rows=%d", size.files, size.rows), func(b *testing.B) { benchCompact(b, size.files, size.rows) })
	}
}

func benchCompact(b *testing.B, files, rows int) {
	ctx := b.Context()
	contract, err := decode.LoadContract(events.Contract())
	if err != nil {
		b.Fatal(err)
	}
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	srv, err := server.New(ctx, server.Config{Store: "sqlite::memory:"}, wh, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Close(context.Background())
	cat := srv.Service()
	if err := cat.CreateNamespace(ctx, tableID.Namespace(), nil); err != nil {
		b.Fatal(err)
	}
	spec := iceberg.NewPartitionSpec()
	t, err := cat.CreateTable(ctx, tableID, catalog.CreateTable{Schema: contract.IcebergSchema(), Partition: &spec})
	if err != nil {
		b.Fatal(err)
	}
	sc := t.Metadata.CurrentSchema() // the catalog has given the columns ids of its own
	data, stats := benchFiles(b, contract, sc, files, rows)
	c, err := New(Config{}, cat, wh, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	var in, out int64
	var cpu time.Duration
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		benchTable(b, cat, wh, sc, data, stats)
		b.StartTimer()
		before := report.CPUTime()
		r, err := c.RunOnce(ctx, tableID, false)
		cpu += report.CPUTime() - before
		if err != nil || len(r.Jobs) != 1 || !r.Jobs[0].Committed || r.Jobs[0].Rows != int64(files*rows) {
			b.Fatalf("%v, %+v", err, r)
		}
		in, out = in+r.Jobs[0].BytesIn, out+r.Jobs[0].BytesOut
	}
	b.ReportMetric(float64(in)/1e6/cpu.Seconds(), "input_MB/cpu-s")
	b.ReportMetric(float64(files*rows*b.N)/cpu.Seconds()/1e6, "Mrows/cpu-s")
	b.ReportMetric(cpu.Seconds()*1e3/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(out)/float64(in), "out/in")
}

func benchFiles(b *testing.B, contract *decode.Contract, sc *iceberg.Schema, files, rows int) (data [][]byte, stats []datafile.Stats) {
	d, err := decode.NewJSON(contract, sc, decode.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range events.New(1, files*rows, rows).Fetches {
		out, err := d.Decode(f)
		if err != nil || len(out.Dead) > 0 {
			b.Fatalf("%v, %d dead letters", err, len(out.Dead))
		}
		var buf bytes.Buffer
		st, err := datafile.Write(&buf, sc, []arrow.RecordBatch{out.Rows}, datafile.DefaultWriteOptions())
		if err != nil {
			b.Fatal(err)
		}
		out.Rows.Release()
		data, stats = append(data, buf.Bytes()), append(stats, st)
	}
	return data, stats
}

// benchTable makes the table anew, a commit for each file.
func benchTable(b *testing.B, cat catalog.Catalog, wh *objstore.Warehouse, sc *iceberg.Schema, data [][]byte, stats []datafile.Stats) {
	ctx := context.Background()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	check(cat.DropTable(ctx, tableID, true))
	spec := iceberg.NewPartitionSpec()
	t, err := cat.CreateTable(ctx, tableID, catalog.CreateTable{Schema: sc, Partition: &spec})
	check(err)
	for i := range data {
		meta := t.Metadata
		loc := snapshot.DataLocation(meta, uuid.NewString()+".parquet")
		k, err := wh.Key(loc)
		check(err)
		_, err = wh.Put(ctx, k, bytes.NewReader(data[i]), objstore.IfAbsent)
		check(err)
		f, err := snapshot.DataFile(spec, loc, stats[i], nil, nil)
		check(err)
		id := snapshot.NewID()
		m, err := snapshot.WriteManifest(ctx, wh, meta, spec, id, []snapshot.Entry{snapshot.Added(f)})
		check(err)
		h, err := snapshot.LoadHead(ctx, snapshot.NewReader(wh, 0), meta, table.MainBranch)
		check(err)
		s, err := snapshot.Build(ctx, wh, h, snapshot.Change{SnapshotID: id, Operation: table.OpAppend, New: []iceberg.ManifestFile{m}, Added: []iceberg.DataFile{f}}, time.Now())
		check(err)
		t, err = cat.CommitTable(ctx, catalog.TableCommit{Identifier: tableID, Updates: snapshot.Updates(s, table.MainBranch)})
		check(err)
	}
}
