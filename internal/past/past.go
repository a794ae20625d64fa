package past

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

var (
	// ErrTooEarly: the table had no commit yet.
	ErrTooEarly = errors.New("the table had no commit yet")
	// ErrNoHistory: the metadata does not go back so far, and the catalog keeps no history.
	ErrNoHistory = errors.New("the metadata does not go back so far, and this catalog keeps no further history")
	// ErrExpired: the snapshot of the time has expired and carried no offsets.
	ErrExpired = errors.New("the snapshot has expired and carried no Kafka offsets")
	// ErrNoLedger: the table has no columns to cut its rows by.
	ErrNoLedger = errors.New("the rows cannot be cut by offset")
)

// Kind says what a state answers.
type Kind string

const (
	Stood   Kind = "snapshot" // the table as it stood then
	ReadNow Kind = "ledger"   // what had arrived by then, as it is read today
)

// State is a table at a time.
type State struct {
	Kind     Kind
	Snapshot *table.Snapshot // of Stood; nil: before the first one
	Schema   *iceberg.Schema // of Stood: that which the snapshot was written with; of ReadNow: today's
	Below    offset.Vector   // of ReadNow: of each partition the first offset that is not part of it
	// Entry is the commit that made the state; zero where the metadata alone told it.
	Entry catalog.HistoryEntry
}

// At finds the state of a table at a time: in its metadata, which must have every snapshot and the whole log, or else in the
// catalog's history, which may be nil.
func At(ctx context.Context, id catalog.Identifier, meta table.Metadata, history catalog.Historian, at time.Time) (State, error) {
	if e, snap := logged(meta, at); snap != nil {
		return State{Kind: Stood, Snapshot: snap, Schema: SchemaOf(meta, snap), Entry: e}, nil
	}
	if history == nil {
		return State{}, ErrNoHistory
	}
	e, err := history.HistoryAt(ctx, id, at)
	switch {
	case errors.Is(err, catalog.ErrNoHistory):
		return State{}, fmt.Errorf("%w: %w", ErrTooEarly, err)
	case errors.Is(err, catalog.ErrUnsupported):
		return State{}, fmt.Errorf("%w: %w", ErrNoHistory, err)
	case err != nil:
		return State{}, err
	}
	if e.SnapshotID == 0 { // created, and nothing written yet
		return State{Kind: Stood, Schema: meta.CurrentSchema(), Entry: e}, nil
	}
	if snap := meta.SnapshotByID(e.SnapshotID); snap != nil { // a tag kept it
		return State{Kind: Stood, Snapshot: snap, Schema: SchemaOf(meta, snap), Entry: e}, nil
	}
	if e.Offsets == "" {
		return State{}, fmt.Errorf("%w: snapshot %d", ErrExpired, e.SnapshotID)
	}
	below, err := offset.DecodeVector(e.Offsets)
	if err != nil {
		return State{}, fmt.Errorf("history of %s: %w", e.At.Format(time.RFC3339Nano), err)
	}
	s, err := Below(meta, below)
	s.Entry = e
	return s, err
}

// Below is today's rows below a vector.
func Below(meta table.Metadata, below offset.Vector) (State, error) {
	schema := meta.CurrentSchema()
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset} {
		if _, ok := schema.FindFieldByName(name); !ok {
			return State{}, fmt.Errorf("%w without the column %s", ErrNoLedger, name)
		}
	}
	return State{Kind: ReadNow, Schema: schema, Below: below}, nil
}

// SchemaOf is the schema that a snapshot was written with.
func SchemaOf(meta table.Metadata, snap *table.Snapshot) *iceberg.Schema {
	if snap.SchemaID != nil {
		for _, sc := range meta.Schemas() {
			if sc.ID == *snap.SchemaID {
				return sc
			}
		}
	}
	return meta.CurrentSchema()
}

// logged finds what main pointed at in the table's own log. The log is contiguous from its first entry on, so an entry at or
// before the time is certain; nil where it begins later or its snapshot is gone.
func logged(meta table.Metadata, at time.Time) (catalog.HistoryEntry, *table.Snapshot) {
	var last table.SnapshotLogEntry
	ms := at.UnixMilli()
	for e := range meta.SnapshotLogs() {
		if e.TimestampMs > ms {
			break
		}
		last = e
	}
	if last.SnapshotID == 0 {
		return catalog.HistoryEntry{}, nil
	}
	return catalog.HistoryEntry{At: time.UnixMilli(last.TimestampMs).UTC(), SnapshotID: last.SnapshotID}, meta.SnapshotByID(last.SnapshotID)
}
