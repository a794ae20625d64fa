package commit

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// Seen reads back which rows a pipeline's table has, for deduplication. It looks at nothing that a commit of the pipeline
// could be built without: the head that was recovered, until the pipeline's tag moves, and from then on the snapshot of the tag.
// Whoever else moves the tag fences the pipeline, and what was concluded from such rows is never committed. A head that somebody
// sets and takes back meanwhile is not looked at. Not safe for concurrent use.
type Seen struct {
	cat      catalog.Catalog
	wh       *objstore.Warehouse
	id       catalog.Identifier
	pipeline string
	column   string
	reader   *snapshot.Reader

	head int64  // that was recovered; 0: none
	tag  *int64 // where the tag stood then
}

// NewSeen reads the column, which is one of the table's own, of a pipeline's table.
func NewSeen(cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, pipeline, column string) *Seen {
	return &Seen{cat: cat, wh: wh, id: id, pipeline: pipeline, column: column, reader: snapshot.NewReader(wh, manifestCacheBytes)}
}

// Resume stands on a position that was recovered.
func (s *Seen) Resume(ctx context.Context, st engine.State) error {
	t, err := s.cat.LoadTable(ctx, s.id, catalog.LoadRefs)
	if err != nil {
		return fmt.Errorf("table %s: %w", s.id, err)
	}
	s.head, s.tag = st.SnapshotID, refID(t.Metadata, ledger.TagName(s.pipeline))
	return nil
}

// Read calls fn with rows whose Kafka timestamp lies between from and to, in microseconds and both included, and with others: the column, the Kafka
// timestamp, partition and offset, in this order. It opens the files, and of them the row groups, whose statistics leave open that
// they hold such rows. Rows that another engine hid by row deletes are among them: who deletes a row does not want it back. top is
// the greatest timestamp that the table has, or a greater one.
func (s *Seen) Read(ctx context.Context, from, to int64, fn func(arrow.RecordBatch) error) (top int64, err error) {
	meta, snap, err := s.snapshot(ctx)
	if err != nil || snap == nil {
		return math.MinInt64, err
	}
	want, at, err := s.columns(meta)
	if err != nil {
		return 0, err
	}
	manifests, err := s.reader.Manifests(ctx, snap)
	if err != nil {
		return 0, fmt.Errorf("table %s: %w", s.id, err)
	}
	files, err := s.reader.FilesOf(ctx, snapshot.DataManifests(manifests), nil)
	if err != nil {
		return 0, fmt.Errorf("table %s: %w", s.id, err)
	}
	in := &datafile.Within{FieldID: at, From: from, To: to}
	top = math.MinInt64
	for _, f := range files {
		low, high := timesOf(f, at)
		top = max(top, high)
		if f.Count() == 0 || low > in.To || high < in.From {
			continue
		}
		if err := scanWithin(ctx, s.wh, f, want, in, fn); err != nil {
			return 0, fmt.Errorf("table %s: the ids of rows from %s to %s: %w", s.id, micros(from), micros(to), err)
		}
	}
	return top, nil
}

// snapshot is the one to be read; nil without rows.
func (s *Seen) snapshot(ctx context.Context) (table.Metadata, *table.Snapshot, error) {
	t, err := s.cat.LoadTable(ctx, s.id, catalog.LoadRefs)
	if err != nil {
		return nil, nil, fmt.Errorf("table %s: %w", s.id, err)
	}
	at := s.head
	if tag := refID(t.Metadata, ledger.TagName(s.pipeline)); !sameID(tag, s.tag) && tag != nil {
		at = *tag
	}
	if at == 0 {
		return t.Metadata, nil, nil
	}
	snap := t.Metadata.SnapshotByID(at)
	if snap == nil { // no ref names it any more: somebody else committed since
		if t, err = s.cat.LoadTable(ctx, s.id, catalog.LoadAll); err != nil {
			return nil, nil, fmt.Errorf("table %s: %w", s.id, err)
		}
		if snap = t.Metadata.SnapshotByID(at); snap == nil {
			return nil, nil, fmt.Errorf("table %s: snapshot %d, which the pipeline reads on from, has expired: it recovers from the head again", s.id, at)
		}
	}
	return t.Metadata, snap, nil
}

// columns is the schema to be read, and the field id of the Kafka timestamp.
func (s *Seen) columns(meta table.Metadata) (want *iceberg.Schema, timestamp int, err error) {
	var fields []iceberg.NestedField
	for _, name := range []string{s.column, ledger.ColTimestamp, ledger.ColPartition, ledger.ColOffset} {
		f, ok := topLevel(meta.CurrentSchema().Fields(), name)
		if !ok {
			return nil, 0, fmt.Errorf("%w: %s has no column %s, which deduplication goes by", ErrTable, s.id, name)
		}
		f.Required = false
		fields = append(fields, f)
	}
	return iceberg.NewSchema(0, fields...), fields[1].ID, nil
}

func micros(at int64) string { return time.UnixMicro(at).UTC().Format(time.RFC3339) }

// timesOf are the bounds of a file's Kafka timestamps, in microseconds; as wide as can be where the manifest says nothing.
func timesOf(f iceberg.DataFile, id int) (low, high int64) {
	lower, upper := f.LowerBoundValues()[id], f.UpperBoundValues()[id]
	if len(lower) != 8 || len(upper) != 8 {
		return math.MinInt64, math.MaxInt64
	}
	return int64(binary.LittleEndian.Uint64(lower)), int64(binary.LittleEndian.Uint64(upper))
}
