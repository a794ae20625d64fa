package commit

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

const rowsOfFile = 100

// lake is Firn's catalog on SQLite and a warehouse, both in a directory, with one table whose head is kept as the
// committer keeps it.
type lake struct {
	dir       string
	server    *server.Server // nil once the catalog is a process of its own
	cat       catalog.Catalog
	wh        *objstore.Warehouse
	id        catalog.Identifier
	seed      string // location of the metadata file that both contestants begin with
	file      iceberg.DataFile
	head      snapshot.Head
	record    ledger.Record
	manifests int
	written   atomic.Int64
	stats     datafile.Stats // of file
	apart     bool           // each commit adds a file of its own, of full size by what its entry says; nobody opens it
}

// counted counts the bytes that are put.
type counted struct {
	objstore.Store
	n *atomic.Int64
}

func (c counted) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	info, err := c.Store.Put(ctx, key, body, mode)
	c.n.Add(info.Size)
	return info, err
}

// newLake makes a table with a history.
func newLake(ctx context.Context, dir string, history int) (*lake, error) {
	wh, err := objstore.Open(ctx, "file://"+filepath.ToSlash(dir)+"/warehouse", objstore.Options{})
	if err != nil {
		return nil, err
	}
	l := &lake{dir: dir, wh: wh, id: catalog.Identifier{"bench", "events"},
		record: ledger.Record{Kind: ledger.KindIngest, Pipeline: "bench", BatchID: "0197a0f0-0000-7000-8000-000000000000", TopicID: "n/a", Offsets: offset.Vector{}, LastRow: offset.Vector{}}}
	wh.Store = counted{wh.Store, &l.written}
	if l.server, err = server.New(ctx, server.Config{Store: l.store()}, wh, nil, nil); err != nil {
		return nil, errors.Join(err, wh.Close())
	}
	l.cat = l.server.Service()
	if err := l.fill(ctx, history); err != nil {
		return nil, errors.Join(err, l.close(ctx))
	}
	return l, nil
}

func (l *lake) close(ctx context.Context) error {
	var err error
	if l.server != nil {
		err = l.server.Close(ctx)
	}
	return errors.Join(err, l.wh.Close())
}

// handOver closes the catalog and starts it again in a process of its own, over the same database and files. profile is a file
// for its CPU profile; "": none.
func (l *lake) handOver(ctx context.Context, profile string) (*process, error) {
	err := l.server.Close(ctx)
	l.server = nil
	if err != nil {
		return nil, err
	}
	p, err := startCatalog(ctx, l.dir, l.store(), profile)
	if err != nil {
		return nil, err
	}
	p.namespace = l.id[0]
	c, err := client.New(ctx, client.Config{URI: p.uri, Timeout: units.Duration(commitTimeout)}, nil, nil)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.client, l.cat = c, c
	return p, nil
}

func (l *lake) store() string { return "sqlite://" + filepath.ToSlash(l.dir) + "/catalog.db" }

// fill makes the table with at most one snapshot in a catalog of its own, writes its metadata with so many, and registers
// that file as the table.
func (l *lake) fill(ctx context.Context, history int) (err error) {
	template, err := server.New(ctx, server.Config{Store: "sqlite::memory:"}, l.wh, nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, template.Close(ctx)) }()
	p := iceberg.PrimitiveTypes
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: ledger.ColPartition, Type: p.Int32}, iceberg.NestedField{ID: 2, Name: ledger.ColOffset, Type: p.Int64})
	if err := template.Service().CreateNamespace(ctx, l.id.Namespace(), nil); err != nil {
		return err
	}
	t, err := template.Service().CreateTable(ctx, l.id, catalog.CreateTable{Schema: sc, Properties: map[string]string{table.PropertyFormatVersion: "2"}})
	if err != nil {
		return err
	}
	if l.file, err = l.write(ctx, t.Metadata); err != nil {
		return err
	}
	l.head = snapshot.Head{Meta: t.Metadata}
	if history > 0 {
		if err := l.commit(ctx, template.Service()); err != nil {
			return err
		}
	}
	if t, err = template.Service().LoadTable(ctx, l.id, catalog.LoadAll); err != nil {
		return err
	}
	if l.seed, err = l.writeSeed(ctx, t.Metadata, history); err != nil {
		return err
	}
	return l.register(ctx)
}

func (l *lake) register(ctx context.Context) error {
	registrar, ok := l.cat.(interface {
		RegisterTable(ctx context.Context, id catalog.Identifier, location string) (*catalog.Table, error)
	})
	if !ok {
		return errors.New("the catalog registers no tables")
	}
	if err := l.cat.CreateNamespace(ctx, l.id.Namespace(), nil); err != nil {
		return err
	}
	if _, err := registrar.RegisterTable(ctx, l.id, l.seed); err != nil {
		return err
	}
	return l.reload(ctx)
}

// reload reads where the table stands.
func (l *lake) reload(ctx context.Context) error {
	t, err := l.cat.LoadTable(ctx, l.id, catalog.LoadRefs)
	if err != nil {
		return err
	}
	l.head, err = snapshot.LoadHead(ctx, snapshot.NewReader(l.wh, 0), t.Metadata, table.MainBranch)
	return err
}

// write puts the data file that every commit adds.
func (l *lake) write(ctx context.Context, meta table.Metadata) (iceberg.DataFile, error) {
	as, err := datafile.ArrowSchema(meta.CurrentSchema())
	if err != nil {
		return nil, err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, as)
	defer b.Release()
	for i := range rowsOfFile {
		b.Field(0).(*array.Int32Builder).Append(0)
		b.Field(1).(*array.Int64Builder).Append(int64(i))
	}
	rows := b.NewRecordBatch()
	defer rows.Release()
	var buf bytes.Buffer
	st, err := datafile.Write(&buf, meta.CurrentSchema(), []arrow.RecordBatch{rows}, datafile.DefaultWriteOptions())
	if err != nil {
		return nil, err
	}
	location := snapshot.DataLocation(meta, "rows.parquet")
	key, err := l.wh.Key(location)
	if err != nil {
		return nil, err
	}
	if _, err := l.wh.Put(ctx, key, bytes.NewReader(buf.Bytes()), objstore.IfAbsent); err != nil {
		return nil, err
	}
	l.stats = st
	return snapshot.DataFile(meta.PartitionSpec(), location, st, nil, nil)
}

// writeSeed writes the template's metadata with its one snapshot repeated under ids and times of their own.
func (l *lake) writeSeed(ctx context.Context, meta table.Metadata, history int) (string, error) {
	raw, err := json.Marshal(meta)
	if err != nil {
		return "", err
	}
	doc := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return "", err
	}
	if history > 0 {
		first := doc["snapshots"].([]any)[0].(map[string]any)
		at, err := first["timestamp-ms"].(json.Number).Int64()
		if err != nil {
			return "", err
		}
		var snapshots, log []any
		for i := range history {
			s := map[string]any{}
			for k, v := range first {
				s[k] = v
			}
			summary := map[string]any{}
			for k, v := range first["summary"].(map[string]any) {
				summary[k] = v
			}
			summary["total-records"] = strconv.Itoa((i + 1) * rowsOfFile)
			s["summary"], s["snapshot-id"], s["sequence-number"], s["timestamp-ms"] = summary, 1000+i, i+1, at+int64(i)-int64(history)
			if i > 0 {
				s["parent-snapshot-id"] = 999 + i
			}
			snapshots = append(snapshots, s)
			log = append(log, map[string]any{"snapshot-id": s["snapshot-id"], "timestamp-ms": s["timestamp-ms"]})
		}
		doc["snapshots"], doc["snapshot-log"], doc["current-snapshot-id"], doc["last-sequence-number"] = snapshots, log, 999+history, history
		doc["refs"] = map[string]any{table.MainBranch: map[string]any{"type": "branch", "snapshot-id": 999 + history}}
		doc["metadata-log"], doc["last-updated-ms"] = []any{}, at
	}
	if raw, err = json.Marshal(doc); err != nil {
		return "", err
	}
	location := meta.Location() + "/metadata/00000-00000000-0000-4000-8000-000000000000.metadata.json"
	key, err := l.wh.Key(location)
	if err != nil {
		return "", err
	}
	_, err = l.wh.Put(ctx, key, bytes.NewReader(raw), objstore.IfAbsent)
	return location, err
}

func (l *lake) append(ctx context.Context) error { return l.commit(ctx, l.cat) }

// commit is what engine/commit does for a batch whose data file is written: a manifest, a list, and main and the tag
// moved together on pinned heads.
func (l *lake) commit(ctx context.Context, cat catalog.Catalog) error {
	h := l.head
	v := l.record.Offsets[0]
	l.record.Offsets[0], l.record.LastRow[0] = v+rowsOfFile, v+rowsOfFile-1
	l.record.Ranges = []offset.Range{{Partition: 0, Start: v, End: v + rowsOfFile, LeaderEpoch: 1}}
	summary, err := l.record.Summary()
	if err != nil {
		return err
	}
	file, err := l.next()
	if err != nil {
		return err
	}
	c := snapshot.Change{SnapshotID: snapshot.NewID(), Operation: table.OpAppend, Added: []iceberg.DataFile{file}, Summary: summary}
	m, err := snapshot.WriteManifest(ctx, l.wh, h.Meta, h.Meta.PartitionSpec(), c.SnapshotID, []snapshot.Entry{snapshot.Added(file)})
	if err != nil {
		return err
	}
	c.New = []iceberg.ManifestFile{m}
	s, err := snapshot.Build(ctx, l.wh, h, c, time.Now())
	if err != nil {
		return err
	}
	tag := ledger.TagName("bench")
	var tagged *int64
	if t := h.Meta.SnapshotByName(tag); t != nil {
		tagged = &t.SnapshotID
	}
	t, err := cat.CommitTable(ctx, catalog.TableCommit{Identifier: l.id,
		Requirements: table.Requirements{table.AssertTableUUID(h.Meta.TableUUID()), table.AssertRefSnapshotID(table.MainBranch, h.ID()), table.AssertRefSnapshotID(tag, tagged)},
		Updates:      append(snapshot.Updates(s, table.MainBranch), snapshot.SetTag(tag, s.SnapshotID, 0))})
	if err != nil {
		return err
	}
	l.head, err = h.After(ctx, snapshot.NewReader(l.wh, 0), t.Metadata, s, c)
	l.manifests = len(l.head.Manifests)
	return err
}

func (l *lake) verify(ctx context.Context) (int, int64, int64, error) {
	t, err := l.cat.LoadTable(ctx, l.id, catalog.LoadAll)
	if err != nil {
		return 0, 0, 0, err
	}
	return totals(t.Metadata)
}

func totals(meta table.Metadata) (snapshots int, rows, size int64, err error) {
	raw, err := json.Marshal(meta)
	if err != nil {
		return 0, 0, 0, err
	}
	head := meta.CurrentSnapshot()
	if head == nil || head.Summary == nil {
		return 0, 0, 0, errors.New("no snapshot")
	}
	rows, err = strconv.ParseInt(head.Summary.Properties["total-records"], 10, 64)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("total-records: %w", err)
	}
	return len(meta.Snapshots()), rows, int64(len(raw)), nil
}

// dbBytes is the size of the database once its write-ahead log has been folded in.
func (l *lake) dbBytes(ctx context.Context) (n int64, err error) {
	path := filepath.Join(l.dir, "catalog.db")
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(30000)") // the catalog reads it from time to time, to write metadata files
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var busy, pages, moved int64
	if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return 0, err
	}
	if busy != 0 {
		return 0, errors.New("the database is in use: its log cannot be folded in")
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
