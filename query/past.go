package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// pinPast pins an earlier state: a snapshot that the metadata still has, "as it stood then", or today's files cut by
// the offsets of that time, "as we read it today".
func (s *Service) pinPast(ctx context.Context, id catalog.Identifier, want asOf) (*pinned, error) {
	t, err := s.catalog.LoadTable(ctx, id, catalog.LoadAll)
	if err != nil {
		return nil, fmt.Errorf("pin %s: %w", id, err)
	}
	meta := t.Metadata
	switch {
	case want.snapshot != 0:
		snap := meta.SnapshotByID(want.snapshot)
		if snap == nil {
			return nil, fmt.Errorf("%w: %s has no snapshot %d (any more): ask for a time instead, which needs no snapshot", ErrInvalidSQL, id, want.snapshot)
		}
		return stood(id, meta, snap, schemaOf(meta, snap)), nil
	case want.ref != "":
		snap := meta.SnapshotByName(want.ref)
		if snap == nil {
			return nil, fmt.Errorf("%w: %s has no tag or branch %q", ErrInvalidSQL, id, want.ref)
		}
		return stood(id, meta, snap, schemaOf(meta, snap)), nil
	case want.offsets != "":
		return s.pinOffsets(ctx, t, want.offsets)
	}
	p, err := s.pinTime(ctx, id, meta, want.at)
	if err != nil {
		return nil, err
	}
	p.AsOf = want.at
	return p, nil
}

func (s *Service) pinTime(ctx context.Context, id catalog.Identifier, meta table.Metadata, at time.Time) (*pinned, error) {
	snap, certain := snapshotAt(meta, at)
	if certain && snap != nil {
		return stood(id, meta, snap, schemaOf(meta, snap)), nil
	}
	h, ok := s.catalog.(catalog.Historian)
	if !ok {
		return nil, fmt.Errorf("%w: %s at %s: its metadata goes back to %s, and this catalog keeps no further history", ErrInvalidSQL, id, stamp(at), oldest(meta))
	}
	e, err := h.HistoryAt(ctx, id, at)
	switch {
	case errors.Is(err, catalog.ErrNoHistory):
		return nil, fmt.Errorf("%w: %s had no commit yet at %s: %w", ErrInvalidSQL, id, stamp(at), err)
	case errors.Is(err, catalog.ErrUnsupported):
		return nil, fmt.Errorf("%w: %s at %s: its metadata goes back to %s, and this catalog keeps no further history", ErrInvalidSQL, id, stamp(at), oldest(meta))
	case err != nil:
		return nil, fmt.Errorf("pin %s: history at %s: %w", id, stamp(at), err)
	}
	if e.SnapshotID == 0 { // created, and nothing written yet
		return stood(id, meta, nil, meta.CurrentSchema()), nil
	}
	if snap := meta.SnapshotByID(e.SnapshotID); snap != nil { // a tag kept it
		return stood(id, meta, snap, schemaOf(meta, snap)), nil
	}
	if e.Offsets == "" {
		return nil, fmt.Errorf("%w: %s at %s: snapshot %d of that time has expired and carried no Kafka offsets", ErrInvalidSQL, id, stamp(at), e.SnapshotID)
	}
	below, err := offset.DecodeVector(e.Offsets)
	if err != nil {
		return nil, fmt.Errorf("pin %s: history of %s: %w", id, stamp(e.At), err)
	}
	return readNow(id, meta, below, "its snapshot has expired, and")
}

// pinOffsets pins today's files below a vector. What lies beyond the head is refused: the answer would be another once it
// is committed.
func (s *Service) pinOffsets(ctx context.Context, t *catalog.Table, text string) (*pinned, error) {
	below, err := offset.ParseVector(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidSQL, t.Identifier, err)
	}
	head, err := s.vector(ctx, t, t.Metadata.CurrentSnapshot())
	if err != nil {
		return nil, fmt.Errorf("pin %s: %w", t.Identifier, err)
	}
	if !head.known {
		return nil, fmt.Errorf("%w: %s: which offsets its newest snapshot holds is not known", ErrInvalidSQL, t.Identifier)
	}
	if missing := lacking(head.offsets, below); missing != "" {
		return nil, fmt.Errorf("%w: %s as of offsets %s: not all of that is committed yet, it lacks %s", ErrInvalidSQL, t.Identifier, below, missing)
	}
	return readNow(t.Identifier, t.Metadata, below, "")
}

// readNow is today's files cut by offsets.
func readNow(id catalog.Identifier, meta table.Metadata, below offset.Vector, why string) (*pinned, error) {
	schema := meta.CurrentSchema()
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset} {
		if _, ok := schema.FindFieldByName(name); !ok {
			return nil, fmt.Errorf("%w: %s: %s without the column %s its rows cannot be cut by offset", ErrInvalidSQL, id, why, name)
		}
	}
	p := stood(id, meta, meta.CurrentSnapshot(), schema)
	p.Kind, p.below, p.Committed, p.End = KindReadNow, below, below, below
	return p, nil
}

// stood is the table at a snapshot; nil: before its first one.
func stood(id catalog.Identifier, meta table.Metadata, snap *table.Snapshot, schema *iceberg.Schema) *pinned {
	p := &pinned{Pin: Pin{Table: id, Level: LevelCommitted, Kind: KindStood}, meta: meta, schema: schema, snap: snap}
	if snap != nil {
		p.SnapshotID = snap.SnapshotID
		if v, found, err := recordOf(snap); found && err == nil {
			p.Committed, p.End = v.offsets, v.offsets
		}
	}
	return p
}

// schemaOf is the schema that a snapshot was written with.
func schemaOf(meta table.Metadata, snap *table.Snapshot) *iceberg.Schema {
	if snap.SchemaID != nil {
		for _, sc := range meta.Schemas() {
			if sc.ID == *snap.SchemaID {
				return sc
			}
		}
	}
	return meta.CurrentSchema()
}

// snapshotAt finds what main pointed at. The log is contiguous from its first entry on, so an entry at or before the
// time is certain; certain is false when the log begins later.
func snapshotAt(meta table.Metadata, at time.Time) (snap *table.Snapshot, certain bool) {
	var id int64
	ms := at.UnixMilli()
	for e := range meta.SnapshotLogs() {
		if e.TimestampMs > ms {
			break
		}
		id, certain = e.SnapshotID, true
	}
	if !certain {
		return nil, false
	}
	snap = meta.SnapshotByID(id)
	return snap, snap != nil
}

func oldest(meta table.Metadata) string {
	for e := range meta.SnapshotLogs() {
		return stamp(time.UnixMilli(e.TimestampMs))
	}
	return "no snapshot"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 MST") }
