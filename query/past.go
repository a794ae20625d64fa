package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
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
		return stood(id, meta, snap, past.SchemaOf(meta, snap)), nil
	case want.ref != "":
		snap := meta.SnapshotByName(want.ref)
		if snap == nil {
			return nil, fmt.Errorf("%w: %s has no tag or branch %q", ErrInvalidSQL, id, want.ref)
		}
		return stood(id, meta, snap, past.SchemaOf(meta, snap)), nil
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
	history, _ := s.catalog.(catalog.Historian)
	st, err := past.At(ctx, id, meta, history, at)
	switch {
	case errors.Is(err, past.ErrTooEarly):
		return nil, fmt.Errorf("%w: %s had no commit yet at %s, or none that its history still knows: firn history %s -n 0 lists them", ErrInvalidSQL, id, stamp(at), id)
	case errors.Is(err, past.ErrNoHistory):
		return nil, fmt.Errorf("%w: %s at %s: its metadata goes back to %s, and this catalog keeps no further history", ErrInvalidSQL, id, stamp(at), oldest(meta))
	case errors.Is(err, past.ErrExpired):
		return nil, fmt.Errorf("%w: %s at %s: %w", ErrInvalidSQL, id, stamp(at), err)
	case errors.Is(err, past.ErrNoLedger):
		return nil, fmt.Errorf("%w: %s: its snapshot has expired, and %w", ErrInvalidSQL, id, err)
	case err != nil:
		return nil, fmt.Errorf("pin %s: history at %s: %w", id, stamp(at), err)
	}
	return pinState(id, meta, st), nil
}

// pinState pins what a time or a vector is.
func pinState(id catalog.Identifier, meta table.Metadata, st past.State) *pinned {
	if st.Kind == past.Stood {
		return stood(id, meta, st.Snapshot, st.Schema)
	}
	p := stood(id, meta, meta.CurrentSnapshot(), st.Schema)
	p.Kind, p.below, p.Committed, p.End = KindReadNow, st.Below, st.Below, st.Below
	return p
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
	st, err := past.Below(t.Metadata, below)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidSQL, t.Identifier, err)
	}
	return pinState(t.Identifier, t.Metadata, st), nil
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

func oldest(meta table.Metadata) string {
	for e := range meta.SnapshotLogs() {
		return stamp(time.UnixMilli(e.TimestampMs))
	}
	return "no snapshot"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 MST") }
