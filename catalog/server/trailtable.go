package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	// maxTrailTries bounds the attempts to commit one batch of audit entries.
	maxTrailTries = 10
	// trailPause is what a second attempt waits, about; each further one twice as long, up to maxTrailPause. Not quite the
	// same for everybody: several catalogs append to one table, and those that lost together would lose together again.
	trailPause    = 100 * time.Millisecond
	maxTrailPause = 2 * time.Second
	// maxTrailSnapshots bounds the snapshots of the audit table.
	maxTrailSnapshots = 100
	// maxTrailManifests bounds the small manifests of the audit table: so many are made one, and a manifest is no longer small
	// with minTrailEntries files.
	maxTrailManifests = 50
	minTrailEntries   = 5000
	// trailBatchKey names a batch in the summary of its snapshot, so that an attempt whose answer was lost is found.
	trailBatchKey = "firn.audit-batch"
)

// trailTable keeps audit entries in an Iceberg table of the catalog itself. It goes round HTTP and so makes no entries.
// Several catalogs may write to one table.
type trailTable struct {
	s     *Service
	name  catalog.Identifier
	mem   memory.Allocator
	pause time.Duration
}

// AuditSchema is the schema of the audit table.
func AuditSchema() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "at", Type: p.TimestampTz, Required: true, Doc: "when the request was answered"},
		iceberg.NestedField{ID: 2, Name: "principal", Type: p.String, Doc: "null when nobody was recognised"},
		iceberg.NestedField{ID: 3, Name: "via", Type: p.String, Doc: "token, client, oidc, mtls or admin"},
		iceberg.NestedField{ID: 4, Name: "issuer", Type: p.String, Doc: "of oidc"},
		iceberg.NestedField{ID: 5, Name: "address", Type: p.String, Doc: "the other end of the connection"},
		iceberg.NestedField{ID: 6, Name: "action", Type: p.String, Required: true, Doc: "the endpoint; empty for a path that is none"},
		iceberg.NestedField{ID: 7, Name: "about", Type: p.String, Doc: "the names, quoted as in SQL and separated by a comma"},
		iceberg.NestedField{ID: 8, Name: "status", Type: p.Int32, Required: true, Doc: "of HTTP"},
		iceberg.NestedField{ID: 9, Name: "outcome", Type: p.String, Required: true, Doc: "done, refused or failed"})
}

// WriteAudit implements AuditSink: one data file and one snapshot.
func (w *trailTable) WriteAudit(ctx context.Context, batch []AuditEntry) error {
	id := uuid.NewString()
	a := trailAppend{id: id, snapshot: snapshot.NewID()}
	var err error
	pause := w.pause
	for range maxTrailTries {
		if err = w.append(ctx, &a, batch); err == nil {
			return nil
		}
		wait := time.NewTimer(pause/2 + rand.N(pause+1))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("audit table %s: %w: %w", w.name, ctx.Err(), err)
		}
		pause = min(2*pause, maxTrailPause)
	}
	return fmt.Errorf("audit table %s: %d attempts: %w", w.name, maxTrailTries, err)
}

// trailAppend is a batch under way; its data file is written once.
type trailAppend struct {
	id       string
	snapshot int64
	file     iceberg.DataFile
}

func (w *trailTable) append(ctx context.Context, a *trailAppend, batch []AuditEntry) error {
	t, err := w.open(ctx)
	if err != nil {
		return err
	}
	for _, sn := range t.Metadata.Snapshots() {
		if sn.Summary != nil && sn.Summary.Properties[trailBatchKey] == a.id {
			return nil // an attempt before this one took effect
		}
	}
	if a.file == nil {
		if a.file, err = w.store(ctx, t.Metadata, batch); err != nil {
			return err
		}
	}
	reader := snapshot.NewReader(&w.s.wh, 0)
	head, err := snapshot.LoadHead(ctx, reader, t.Metadata, table.MainBranch)
	if err != nil {
		return err
	}
	c := snapshot.Change{SnapshotID: a.snapshot, Operation: table.OpAppend, Added: []iceberg.DataFile{a.file}, Summary: map[string]string{trailBatchKey: a.id}}
	if err := w.manifests(ctx, reader, head, &c); err != nil {
		return err
	}
	sn, err := snapshot.Build(ctx, &w.s.wh, head, c, time.Now())
	if err != nil {
		return err
	}
	updates := head.Updates(sn, table.MainBranch, snapshot.Retention{})
	if old := oldSnapshots(t.Metadata, maxTrailSnapshots-1); len(old) > 0 {
		updates = append(updates, table.NewRemoveSnapshotsUpdate(old, false))
	}
	_, err = w.s.CommitTable(ctx, catalog.TableCommit{Identifier: w.name, Updates: updates, Requirements: table.Requirements{
		table.AssertTableUUID(t.Metadata.TableUUID()), table.AssertRefSnapshotID(table.MainBranch, head.ID())}})
	return err
}

// open loads the table, and makes it with its namespaces where it is missing.
func (w *trailTable) open(ctx context.Context) (*catalog.Table, error) {
	t, err := w.s.LoadTable(ctx, w.name, catalog.LoadAll)
	if !errors.Is(err, catalog.ErrNoSuchTable) && !errors.Is(err, catalog.ErrNoSuchNamespace) {
		return t, err
	}
	ns := w.name.Namespace()
	for n := 1; n <= len(ns); n++ {
		if err := w.s.CreateNamespace(ctx, ns[:n], map[string]string{}); err != nil && !errors.Is(err, catalog.ErrExists) {
			return nil, err
		}
	}
	t, err = w.s.CreateTable(ctx, w.name, catalog.CreateTable{Schema: AuditSchema()})
	if errors.Is(err, catalog.ErrExists) { // another catalog was first
		return w.s.LoadTable(ctx, w.name, catalog.LoadAll)
	}
	return t, err
}

// store writes the batch as a data file.
func (w *trailTable) store(ctx context.Context, meta table.Metadata, batch []AuditEntry) (iceberg.DataFile, error) {
	rec, err := w.rows(batch)
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	var buf bytes.Buffer
	stats, err := datafile.Write(&buf, AuditSchema(), []arrow.RecordBatch{rec}, datafile.DefaultWriteOptions())
	if err != nil {
		return nil, err
	}
	location := snapshot.DataLocation(meta, uuid.NewString()+".parquet")
	key, err := w.s.key(location)
	if err != nil {
		return nil, err
	}
	if _, err := w.s.wh.Put(ctx, key, bytes.NewReader(buf.Bytes()), objstore.IfAbsent); err != nil {
		return nil, storageError("write "+location, err)
	}
	return snapshot.DataFile(meta.PartitionSpec(), location, stats, nil, nil)
}

// rows turns entries into a record batch; the caller releases it.
func (w *trailTable) rows(batch []AuditEntry) (arrow.RecordBatch, error) {
	sc, err := datafile.ArrowSchema(AuditSchema())
	if err != nil {
		return nil, err
	}
	b := array.NewRecordBuilder(w.mem, sc)
	defer b.Release()
	text := func(i int, s string) {
		if f := b.Field(i).(*array.StringBuilder); s != "" || !sc.Field(i).Nullable {
			f.Append(s)
		} else {
			f.AppendNull()
		}
	}
	for _, e := range batch {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(e.At.UnixMicro()))
		for i, s := range map[int]string{1: e.Principal, 2: e.Via, 3: e.Issuer, 4: e.From, 5: e.Action, 6: strings.Join(e.About, ", "), 8: e.Outcome} {
			text(i, s)
		}
		b.Field(7).(*array.Int32Builder).Append(int32(e.Status))
	}
	return b.NewRecordBatch(), nil
}

// manifests writes the manifest of the new file, and makes one of the head's small manifests where they have become many.
func (w *trailTable) manifests(ctx context.Context, r *snapshot.Reader, head snapshot.Head, c *snapshot.Change) error {
	spec := head.Meta.PartitionSpec()
	m, err := snapshot.WriteManifest(ctx, &w.s.wh, head.Meta, spec, c.SnapshotID, []snapshot.Entry{snapshot.Added(c.Added[0])})
	if err != nil {
		return err
	}
	c.New = []iceberg.ManifestFile{m}
	var small []iceberg.ManifestFile
	for _, m := range head.Manifests {
		// Those of other engines, with another spec or with deletes, stay as they are.
		if m.ManifestContent() == iceberg.ManifestContentData && int(m.PartitionSpecID()) == spec.ID() && m.AddedDataFiles()+m.ExistingDataFiles() < minTrailEntries {
			small = append(small, m)
		}
	}
	if len(small) < maxTrailManifests {
		return nil
	}
	var kept []snapshot.Entry
	c.Drop = map[string]bool{}
	for _, m := range small {
		entries, err := r.Entries(ctx, m)
		if err != nil {
			return err
		}
		for _, e := range entries {
			f := snapshot.File{DataFile: e.DataFile(), SequenceNumber: e.SequenceNum(), SnapshotID: e.SnapshotID(), Manifest: m.FilePath()}
			if n := e.FileSequenceNum(); n != nil {
				f.FileSequenceNumber = *n
			}
			kept = append(kept, snapshot.Kept(f))
		}
		c.Drop[m.FilePath()] = true
	}
	merged, err := snapshot.WriteManifest(ctx, &w.s.wh, head.Meta, spec, c.SnapshotID, kept)
	if err != nil {
		return err
	}
	c.New = append(c.New, merged)
	return nil
}

// oldSnapshots are those beyond the newest keep, but for those that a ref names.
func oldSnapshots(m table.Metadata, keep int) (old []int64) {
	named := map[int64]bool{}
	for _, ref := range m.Refs() {
		named[ref.SnapshotID] = true
	}
	all := m.Snapshots() // in the order of commits
	for _, sn := range all[:max(0, len(all)-keep)] {
		if !named[sn.SnapshotID] {
			old = append(old, sn.SnapshotID)
		}
	}
	return old
}
