package snapshot

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
)

// NewID returns a random snapshot id: positive, as the spec wants.
func NewID() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return int64(binary.BigEndian.Uint64(b[:])&(1<<63-1)) | 1
}

// Head is the state of a branch that a new snapshot is built on.
type Head struct {
	Meta      table.Metadata
	Snapshot  *table.Snapshot // nil: the branch has none yet
	Manifests []iceberg.ManifestFile
}

// LoadHead reads the manifests of the branch's head.
func LoadHead(ctx context.Context, r *Reader, meta table.Metadata, branch string) (Head, error) {
	h := Head{Meta: meta, Snapshot: meta.SnapshotByName(branch)}
	var err error
	h.Manifests, err = r.Manifests(ctx, h.Snapshot)
	return h, err
}

// ID returns the head's snapshot id, nil when there is none.
func (h Head) ID() *int64 {
	if h.Snapshot == nil {
		return nil
	}
	id := h.Snapshot.SnapshotID
	return &id
}

// DataFile describes a written file for a manifest. partition holds the values by partition field id.
func DataFile(spec iceberg.PartitionSpec, location string, st datafile.Stats, partition map[int]any, logical map[int]string) (iceberg.DataFile, error) {
	b, err := iceberg.NewDataFileBuilder(spec, iceberg.EntryContentData, location, iceberg.ParquetFile, partition, logical, nil, st.Rows, st.Bytes)
	if err != nil {
		return nil, fmt.Errorf("data file %s: %w", location, err)
	}
	return b.ColumnSizes(st.ColumnSizes).ValueCounts(st.ValueCounts).NullValueCounts(st.NullCounts).NaNValueCounts(st.NaNCounts).
		LowerBoundValues(st.Lower).UpperBoundValues(st.Upper).SplitOffsets(st.SplitOffsets).SortOrderID(st.SortOrderID).Build(), nil
}

// Count reads a number of a snapshot's summary, as total-records; -1 where the engine that wrote it left it out.
func Count(s *table.Snapshot, key string) int64 {
	if s.Summary == nil {
		return -1
	}
	n, err := strconv.ParseInt(s.Summary.Properties[key], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// MetadataLocation names a file in the table's metadata folder.
func MetadataLocation(meta table.Metadata, name string) string {
	dir := meta.Properties().Get(table.WriteMetadataPathKey, meta.Location()+"/metadata")
	return dir + "/" + name
}

// DataLocation names a file in the table's data folder.
func DataLocation(meta table.Metadata, name string) string {
	dir := meta.Properties().Get(table.WriteDataPathKey, meta.Location()+"/data")
	return dir + "/" + name
}

func put(ctx context.Context, wh *objstore.Warehouse, location string, data []byte) error {
	key, err := wh.Key(location)
	if err != nil {
		return err
	}
	// The name is new for every try, so writing it twice after a lost answer does no harm.
	_, err = wh.Put(ctx, key, bytes.NewReader(data), objstore.Overwrite)
	return err
}

// Change is what a new snapshot does to its head.
type Change struct {
	SnapshotID int64
	Operation  table.Operation
	New        []iceberg.ManifestFile          // written for this snapshot by WriteManifest
	Drop       map[string]bool                 // locations of the head's manifests that New replaces
	Added      []iceberg.DataFile              // for the summary
	Removed    []File                          // for the summary
	Summary    map[string]string               // further properties
	Keep       func(iceberg.ManifestFile) bool // nil: all but Drop
}

// Build writes the manifest list of a snapshot on the head and returns the snapshot. Nothing of the head is read but
// what Head holds, so a retry on a newer head costs one small object.
func Build(ctx context.Context, wh *objstore.Warehouse, h Head, c Change, now time.Time) (table.Snapshot, error) {
	manifests := h.list(c)
	seq := h.Meta.LastSequenceNumber() + 1
	location := MetadataLocation(h.Meta, fmt.Sprintf("snap-%d-0-%s.avro", c.SnapshotID, uuid.NewString()))
	firstRow := int64(0)
	if h.Meta.Version() >= 3 {
		firstRow = h.Meta.NextRowID()
	}
	list, nextRow, err := manifestList(h.Meta.Version(), c.SnapshotID, h.ID(), seq, firstRow, manifests)
	if err != nil {
		return table.Snapshot{}, fmt.Errorf("manifest list: %w", err)
	}
	if err := put(ctx, wh, location, list); err != nil {
		return table.Snapshot{}, fmt.Errorf("manifest list: %w", err)
	}
	// Time in a table never runs backwards, though our clock may be behind the catalog's: it refuses such a snapshot.
	at := max(now.UnixMilli(), h.Meta.LastUpdatedMillis())
	if h.Snapshot != nil {
		at = max(at, h.Snapshot.TimestampMs)
	}
	schemaID := h.Meta.CurrentSchema().ID
	s := table.Snapshot{SnapshotID: c.SnapshotID, ParentSnapshotID: h.ID(), SequenceNumber: seq, TimestampMs: at,
		ManifestList: location, SchemaID: &schemaID, Summary: &table.Summary{Operation: c.Operation, Properties: h.summary(c)}}
	if h.Meta.Version() >= 3 {
		rows := nextRow - firstRow
		s.FirstRowID, s.AddedRows = &firstRow, &rows
	}
	return s, nil
}

// list is the manifests of the snapshot that c makes of h.
func (h Head) list(c Change) []iceberg.ManifestFile {
	manifests := make([]iceberg.ManifestFile, 0, len(h.Manifests)+len(c.New))
	manifests = append(manifests, c.New...)
	for _, m := range h.Manifests {
		// A manifest without live files only tells what an earlier snapshot took out.
		if c.Drop[m.FilePath()] || (m.AddedDataFiles() == 0 && m.ExistingDataFiles() == 0) || (c.Keep != nil && !c.Keep(m)) {
			continue
		}
		manifests = append(manifests, m)
	}
	return manifests
}

// After returns the head that s, which Build made of h and c, became with a commit that gave meta. It reads nothing:
// what the list holds is known, but for format version 3, whose lists assign row ids; there it is read.
func (h Head) After(ctx context.Context, r *Reader, meta table.Metadata, s table.Snapshot, c Change) (Head, error) {
	next := Head{Meta: meta, Snapshot: &s}
	if meta.Version() >= 3 {
		var err error
		next.Manifests, err = r.Manifests(ctx, &s)
		return next, err
	}
	next.Manifests = h.list(c)
	for i, m := range next.Manifests {
		if m.SequenceNum() >= 0 {
			continue
		}
		own, low := sequenceOf(m, s.SequenceNumber)
		next.Manifests[i] = iceberg.NewManifestFile(m.Version(), m.FilePath(), m.Length(), m.PartitionSpecID(), m.SnapshotID()).
			SequenceNum(own, low).Content(m.ManifestContent()).AddedFiles(m.AddedDataFiles()).ExistingFiles(m.ExistingDataFiles()).
			DeletedFiles(m.DeletedDataFiles()).AddedRows(m.AddedRows()).ExistingRows(m.ExistingRows()).DeletedRows(m.DeletedRows()).
			Partitions(m.Partitions()).KeyMetadata(m.KeyMetadata()).Build()
	}
	return next, nil
}

// totals are the running sums that every snapshot's summary carries, and how a change moves them.
var totals = []struct {
	name         string
	added, taken string
	of           func(iceberg.DataFile) int64
}{
	{"total-data-files", "added-data-files", "deleted-data-files", func(iceberg.DataFile) int64 { return 1 }},
	{"total-records", "added-records", "deleted-records", func(f iceberg.DataFile) int64 { return f.Count() }},
	{"total-files-size", "added-files-size", "removed-files-size", func(f iceberg.DataFile) int64 { return f.FileSizeBytes() }},
}

func (h Head) summary(c Change) iceberg.Properties {
	p := iceberg.Properties{}
	maps.Copy(p, c.Summary)
	var before iceberg.Properties
	if h.Snapshot != nil && h.Snapshot.Summary != nil {
		before = h.Snapshot.Summary.Properties
	}
	for _, key := range []string{"total-delete-files", "total-position-deletes", "total-equality-deletes"} {
		if v, ok := before[key]; ok {
			p[key] = v
		} else if h.Snapshot == nil {
			p[key] = "0"
		}
	}
	for _, t := range totals {
		var added, taken int64
		for _, f := range c.Added {
			added += t.of(f)
		}
		for _, f := range c.Removed {
			taken += t.of(f)
		}
		if added > 0 {
			p[t.added] = strconv.FormatInt(added, 10)
		}
		if taken > 0 {
			p[t.taken] = strconv.FormatInt(taken, 10)
		}
		was, err := strconv.ParseInt(before[t.name], 10, 64)
		if h.Snapshot != nil && err != nil {
			continue // an engine before us left the total out; a wrong one would be worse than none
		}
		p[t.name] = strconv.FormatInt(was+added-taken, 10)
	}
	return p
}

// Retention is what an expiry must leave of a branch; zero fields leave it to the table's properties.
type Retention struct {
	MinSnapshots int
	MaxAge       time.Duration
}

// What Firn says of main, in the ref and in the table's properties, where nobody else has said anything, so that the
// expiry of other engines leaves enough for recovery and for queries.
const (
	MainMinSnapshots = 120
	MainSnapshotAge  = 15 * time.Minute
)

// Updates makes s the head of a branch that goes on from h. A set-snapshot-ref replaces a ref whole, so the branch's
// own retention is said again; where it has none it gets that of otherwise.
func (h Head) Updates(s table.Snapshot, branch string, otherwise Retention) table.Updates {
	keep, maxAge, refAge := otherwise.MinSnapshots, otherwise.MaxAge.Milliseconds(), int64(0)
	for name, ref := range h.Meta.Refs() {
		if name != branch {
			continue
		}
		if ref.MinSnapshotsToKeep != nil {
			keep = *ref.MinSnapshotsToKeep
		}
		if ref.MaxSnapshotAgeMs != nil {
			maxAge = *ref.MaxSnapshotAgeMs
		}
		if ref.MaxRefAgeMs != nil && branch != table.MainBranch {
			refAge = *ref.MaxRefAgeMs
		}
	}
	return table.Updates{table.NewAddSnapshotUpdate(&s),
		table.NewSetSnapshotRefUpdate(branch, s.SnapshotID, table.BranchRef, refAge, maxAge, keep)}
}

// Updates makes s the head of a branch without retention of its own; Head.Updates is for one that may have it.
func Updates(s table.Snapshot, branch string) table.Updates {
	return table.Updates{table.NewAddSnapshotUpdate(&s), SetBranch(branch, s.SnapshotID)}
}

// SetBranch points a branch at a snapshot; its retention is left to the table's.
func SetBranch(branch string, id int64) table.Update {
	return table.NewSetSnapshotRefUpdate(branch, id, table.BranchRef, 0, 0, 0)
}

// SetTag points a tag at a snapshot and keeps it as long as maxAge; 0: for ever.
func SetTag(tag string, id int64, maxAge time.Duration) table.Update {
	return table.NewSetSnapshotRefUpdate(tag, id, table.TagRef, maxAge.Milliseconds(), 0, 0)
}

// ErrMoved reports that a file to be replaced is not live in the head any more.
var ErrMoved = errors.New("a file is no longer part of the table")
