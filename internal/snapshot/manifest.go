package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
)

// Entry is one line of a manifest to be written.
type Entry struct {
	Status iceberg.ManifestEntryStatus
	File   iceberg.DataFile
	// SnapshotID, SequenceNumber and FileSequenceNumber are those of the entry's origin, for existing and deleted
	// files; an added file takes the new snapshot's.
	SnapshotID, SequenceNumber, FileSequenceNumber int64
}

// Added returns an entry for a new file.
func Added(f iceberg.DataFile) Entry { return Entry{Status: iceberg.EntryStatusADDED, File: f} }

// Kept returns an entry for a file that lives on.
func Kept(f File) Entry {
	return Entry{iceberg.EntryStatusEXISTING, f.DataFile, f.SnapshotID, f.SequenceNumber, f.FileSequenceNumber}
}

// Removed returns an entry for a file that the new snapshot takes out.
func Removed(f File) Entry {
	return Entry{iceberg.EntryStatusDELETED, f.DataFile, f.SnapshotID, f.SequenceNumber, f.FileSequenceNumber}
}

// WriteManifest writes one manifest of data files for the snapshot to come and returns it for a manifest list. All
// files must be of spec. It may be used in several attempts to commit, as long as the snapshot id stays the same.
func WriteManifest(ctx context.Context, wh *objstore.Warehouse, meta table.Metadata, spec iceberg.PartitionSpec, snapshotID int64, entries []Entry) (m iceberg.ManifestFile, err error) {
	return writeManifest(ctx, wh, meta, spec, snapshotID, entries, iceberg.ManifestContentData)
}

// WriteDeleteManifest is WriteManifest for delete files.
func WriteDeleteManifest(ctx context.Context, wh *objstore.Warehouse, meta table.Metadata, spec iceberg.PartitionSpec, snapshotID int64, entries []Entry) (m iceberg.ManifestFile, err error) {
	return writeManifest(ctx, wh, meta, spec, snapshotID, entries, iceberg.ManifestContentDeletes)
}

func writeManifest(ctx context.Context, wh *objstore.Warehouse, meta table.Metadata, spec iceberg.PartitionSpec, snapshotID int64, entries []Entry, content iceberg.ManifestContent) (m iceberg.ManifestFile, err error) {
	w, err := newManifestWriter(meta, spec, snapshotID, content)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		seq, fileSeq := &e.SequenceNumber, &e.FileSequenceNumber
		if e.Status == iceberg.EntryStatusADDED {
			e.SnapshotID, seq, fileSeq = snapshotID, nil, nil
		}
		if err := w.add(e.Status, e.SnapshotID, seq, fileSeq, e.File); err != nil {
			return nil, fmt.Errorf("manifest entry %s: %w", e.File.FilePath(), err)
		}
	}
	return w.put(ctx, wh)
}

// manifestWriter encodes a manifest. What a file says of itself is encoded by iceberg-go, which keeps the compiled schemas
// for that; the entry around it, the container and the sums for the manifest list are written here.
type manifestWriter struct {
	*manifestShape
	c          *container
	location   string
	version    int
	content    iceberg.ManifestContent
	snapshotID int64

	files      [3]int32 // by status
	rows       [3]int64
	minSeq     int64 // -1: no entry has one of its own
	partitions []fieldRange
}

// newManifestWriter begins a manifest of files of spec for the snapshot to come.
func newManifestWriter(meta table.Metadata, spec iceberg.PartitionSpec, snapshotID int64, content iceberg.ManifestContent) (*manifestWriter, error) {
	shape, err := shapeOf(meta, spec, content)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &manifestWriter{manifestShape: shape, c: newContainer(shape.header), version: meta.Version(), content: content, snapshotID: snapshotID,
		location: MetadataLocation(meta, uuid.NewString()+"-m0.avro"), minSeq: -1, partitions: make([]fieldRange, len(shape.fields))}, nil
}

// add writes one entry. seq and fileSeq are nil where the file takes those of the snapshot to come.
func (w *manifestWriter) add(status iceberg.ManifestEntryStatus, snapshotID int64, seq, fileSeq *int64, f iceberg.DataFile) error {
	switch {
	case status < 0 || int(status) >= len(w.files):
		return fmt.Errorf("status %d is not one of an entry", status)
	case seq == nil && (status != iceberg.EntryStatusADDED || snapshotID != w.snapshotID):
		return errors.New("only a file that the snapshot to come adds may be without a sequence number")
	case (f.ContentType() == iceberg.EntryContentData) != (w.content == iceberg.ManifestContentData):
		return fmt.Errorf("a file of %s does not belong into a manifest of %s", f.ContentType(), w.content)
	}
	coded, ok := f.(iceberg.AvroEntryMarshaler)
	if !ok {
		return fmt.Errorf("%T does not encode itself", f)
	}
	body, err := coded.MarshalAvroEntry(w.spec, w.schema, w.version)
	if err != nil {
		return err
	}
	// What comes is an entry of an added file that belongs to no snapshot yet; the file is what follows those fields.
	unassigned := []byte{2, 0, 0, 0} // added, and three unions that are null
	if w.version == 1 {
		unassigned = unassigned[:2] // added, of snapshot 0
	}
	body, ok = bytes.CutPrefix(body, unassigned)
	if !ok {
		return errors.New("iceberg-go encodes an entry in another way than is expected here")
	}
	w.c.block = binary.AppendVarint(w.c.block, int64(status))
	if w.version == 1 {
		w.c.block = binary.AppendVarint(w.c.block, snapshotID)
	} else {
		for _, n := range []*int64{&snapshotID, seq, fileSeq} {
			w.c.block = appendOptional(w.c.block, n, binary.AppendVarint)
		}
	}
	w.c.block = append(w.c.block, body...)
	if err := w.count(status, seq, f); err != nil {
		return err
	}
	return w.c.wrote()
}

// count adds a file to what the manifest list will say of this manifest.
func (w *manifestWriter) count(status iceberg.ManifestEntryStatus, seq *int64, f iceberg.DataFile) error {
	w.files[status]++
	w.rows[status] += f.Count()
	if status != iceberg.EntryStatusDELETED && seq != nil && *seq >= 0 && (w.minSeq < 0 || *seq < w.minSeq) {
		w.minSeq = *seq
	}
	if len(w.fields) == 0 {
		return nil
	}
	values := f.Partition()
	for i, field := range w.fields {
		if err := w.partitions[i].add(field.Type, values[field.ID]); err != nil {
			return fmt.Errorf("partition %s: %w", field.Name, err)
		}
	}
	return nil
}

// put ends the manifest, writes it to the warehouse and returns it for a manifest list.
func (w *manifestWriter) put(ctx context.Context, wh *objstore.Warehouse) (iceberg.ManifestFile, error) {
	if w.files == [3]int32{} {
		return nil, fmt.Errorf("manifest: %w", iceberg.ErrEmptyManifest)
	}
	data, err := w.c.close()
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	ranges := make([]iceberg.FieldSummary, len(w.partitions))
	for i, p := range w.partitions {
		if ranges[i], err = p.summary(); err != nil {
			return nil, fmt.Errorf("manifest: partition %s: %w", w.fields[i].Name, err)
		}
	}
	const added, kept, removed = iceberg.EntryStatusADDED, iceberg.EntryStatusEXISTING, iceberg.EntryStatusDELETED
	m := iceberg.NewManifestFile(w.version, w.location, int64(len(data)), int32(w.spec.ID()), w.snapshotID).Content(w.content).SequenceNum(-1, w.minSeq).
		AddedFiles(w.files[added]).ExistingFiles(w.files[kept]).DeletedFiles(w.files[removed]).
		AddedRows(w.rows[added]).ExistingRows(w.rows[kept]).DeletedRows(w.rows[removed]).Partitions(ranges).Build()
	return m, put(ctx, wh, w.location, data)
}

// manifestShape is what manifests of one partition spec, one schema and one content have in common.
type manifestShape struct {
	schema *iceberg.Schema
	spec   iceberg.PartitionSpec
	header []byte                // of the container, up to the sync marker
	fields []iceberg.NestedField // of a partition
}

type shapeKey struct {
	table                 uuid.UUID
	version, schema, spec int
	content               iceberg.ManifestContent
}

// shapes keeps the shapes of manifests that were written lately. A header is some kilobytes.
var shapes = lru.New[shapeKey, *manifestShape](8 << 20)

// shapeOf returns the shape of a table's manifests. A schema and a spec never change under their id within a table; where a
// catalog has it otherwise, the shape is made anew.
func shapeOf(meta table.Metadata, spec iceberg.PartitionSpec, content iceberg.ManifestContent) (s *manifestShape, err error) {
	schema := meta.CurrentSchema()
	spec = avroSpec(spec)
	key := shapeKey{meta.TableUUID(), meta.Version(), schema.ID, spec.ID(), content}
	if s, ok := shapes.Get(key); ok && s.schema.Equals(schema) && s.spec.Equals(spec) {
		return s, nil
	}
	var buf bytes.Buffer
	if _, err := iceberg.NewManifestWriter(meta.Version(), &buf, spec, schema, 0, iceberg.WithManifestWriterContent(content)); err != nil {
		return nil, err
	}
	// The library has written the header and its sync marker.
	header := buf.Bytes()
	s = &manifestShape{schema: schema, spec: spec, header: header[:len(header)-16], fields: spec.PartitionType(schema).FieldList}
	shapes.Put(key, int64(len(header)), s)
	return s, nil
}
