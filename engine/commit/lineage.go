package commit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

const (
	// maxAncestors bounds a walk from a head towards the root.
	maxAncestors = 100_000
	// maxHistorySteps bounds how many commits the catalog's history is asked back for.
	maxHistorySteps = 2_000
)

// lineage finds snapshots of one table by id: those at hand first, then all that the catalog still has.
type lineage struct {
	cat  catalog.Catalog
	id   catalog.Identifier
	meta table.Metadata
	at   map[int64]*table.Snapshot // known besides
	all  table.Metadata            // loaded when first needed
}

// snapshot returns nil when the catalog has it no longer.
func (l *lineage) snapshot(ctx context.Context, id int64) (*table.Snapshot, error) {
	if s := l.meta.SnapshotByID(id); s != nil {
		return s, nil
	}
	if s := l.at[id]; s != nil {
		return s, nil
	}
	all, err := l.everything(ctx)
	if err != nil {
		return nil, err
	}
	return all.SnapshotByID(id), nil
}

func (l *lineage) everything(ctx context.Context) (table.Metadata, error) {
	if l.all != nil {
		return l.all, nil
	}
	t, err := l.cat.LoadTable(ctx, l.id, catalog.LoadAll)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", l.id, err)
	}
	if t.Metadata.TableUUID() != l.meta.TableUUID() {
		return nil, fmt.Errorf("%w: table %s was dropped and created again while its snapshots were read: %w", engine.ErrRewound, l.id, catalog.ErrUnavailable)
	}
	l.all = t.Metadata
	return l.all, nil
}

// record reads a snapshot's record; ledger.ErrNoRecord when another engine made it.
func record(s *table.Snapshot) (ledger.Record, error) {
	if s.Summary == nil {
		return ledger.Record{}, ledger.ErrNoRecord
	}
	return ledger.ParseSummary(s.Summary.Properties)
}

// walked is what the walk from a head towards the root found.
type walked struct {
	record   ledger.Record
	found    *table.Snapshot   // carries record; nil when none was met
	foreign  []*table.Snapshot // before it, the newest first
	complete bool              // the walk ended at found or at a root; otherwise missing is the parent that is gone
	missing  int64
}

// walk goes from the head to the first snapshot with a record.
func (l *lineage) walk(ctx context.Context, head *table.Snapshot) (w walked, err error) {
	seen := map[int64]bool{}
	for s := head; ; {
		if seen[s.SnapshotID] || len(seen) == maxAncestors {
			return w, fmt.Errorf("%w: the ancestors of snapshot %d form a loop or are more than %d", engine.ErrNeedsDecision, head.SnapshotID, maxAncestors)
		}
		seen[s.SnapshotID] = true
		r, err := record(s)
		switch {
		case err == nil:
			w.record, w.found, w.complete = r, s, true
			return w, nil
		case !errors.Is(err, ledger.ErrNoRecord):
			return w, fmt.Errorf("%w: snapshot %d: %w", engine.ErrNeedsDecision, s.SnapshotID, err)
		}
		w.foreign = append(w.foreign, s)
		if s.ParentSnapshotID == nil {
			w.complete = true
			return w, nil
		}
		next, err := l.snapshot(ctx, *s.ParentSnapshotID)
		if err != nil {
			return w, err
		}
		if next == nil {
			w.missing = *s.ParentSnapshotID
			return w, nil
		}
		s = next
	}
}

// descent is whether one snapshot descends from another.
type descent int

const (
	descends descent = iota
	apart
	cannotTell
)

// descent tells whether head descends from s. Sequence numbers fall towards the root, so the walk ends where they are
// below that of s.
func (l *lineage) descent(ctx context.Context, head, s *table.Snapshot) (descent, error) {
	at := head
	for range maxAncestors {
		switch {
		case at.SnapshotID == s.SnapshotID:
			return descends, nil
		case at.SequenceNumber < s.SequenceNumber || at.ParentSnapshotID == nil:
			return apart, nil
		}
		next, err := l.snapshot(ctx, *at.ParentSnapshotID)
		if err != nil {
			return cannotTell, err
		}
		if next == nil {
			return cannotTell, nil
		}
		at = next
	}
	return cannotTell, nil
}

// sourceKey is what a cherry-pick notes in the summary: which snapshot's changes it applied again.
const sourceKey = "source-snapshot-id"

// cherryPicks moves the vector of w over the snapshots between found and head that other engines cherry-picked. One
// that picked a batch of Firn continues the vector if it starts where the vector stands; any other would double or
// lose rows, and then nothing but a person can say what the table holds.
func (l *lineage) cherryPicks(ctx context.Context, w *walked) error {
	for i := len(w.foreign) - 1; i >= 0; i-- {
		s := w.foreign[i]
		if s.Summary == nil || s.Summary.Properties[sourceKey] == "" {
			continue
		}
		text := s.Summary.Properties[sourceKey]
		stop := func(format string, args ...any) error {
			return fmt.Errorf("%w: snapshot %d is a cherry-pick of %s: %s", engine.ErrNeedsDecision, s.SnapshotID, text, fmt.Sprintf(format, args...))
		}
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return stop("that is no snapshot id")
		}
		src, err := l.snapshot(ctx, id)
		if err != nil {
			return err
		}
		if src == nil {
			return stop("which has expired, so what it added is not known")
		}
		r, err := record(src)
		if errors.Is(err, ledger.ErrNoRecord) {
			continue // rows of another engine
		}
		if err != nil {
			return stop("%v", err)
		}
		next, err := w.record.Offsets.Advance(r.Ranges)
		if err != nil {
			return stop("its rows are not those that come next (%v)", err)
		}
		if !next.Equal(r.Offsets) {
			return stop("its record knows other partitions than the table did")
		}
		r.Epoch = max(r.Epoch, w.record.Epoch)
		w.record = r
	}
	return nil
}

// history asks the catalog for the offsets that snapshot id carried, for a snapshot that has expired. ok is false when
// the catalog keeps no history, or none that names the snapshot with offsets.
func (l *lineage) history(ctx context.Context, id int64) (v offset.Vector, ok bool, saw string, err error) {
	next, is := l.backwards()
	if !is {
		return nil, false, "this catalog keeps no history of offsets", nil
	}
	for step := range maxHistorySteps {
		e, err := next(ctx)
		switch {
		case errors.Is(err, catalog.ErrUnsupported):
			return nil, false, "this catalog keeps no history of offsets", nil
		case errors.Is(err, catalog.ErrNoHistory):
			return nil, false, fmt.Sprintf("the catalog's history of %d commits does not name snapshot %d", step, id), nil
		case err != nil:
			return nil, false, "", fmt.Errorf("history of table %s: %w", l.id, err)
		}
		if e.SnapshotID == id {
			if e.Offsets == "" {
				return nil, false, fmt.Sprintf("the catalog's history names snapshot %d without offsets: another engine made it", id), nil
			}
			v, err := offset.DecodeVector(e.Offsets)
			if err != nil {
				return nil, false, fmt.Sprintf("the catalog's history of snapshot %d cannot be read: %v", id, err), nil
			}
			return v, true, fmt.Sprintf("the catalog's history has the offsets of snapshot %d", id), nil
		}
	}
	return nil, false, fmt.Sprintf("the last %d commits of the catalog's history do not name snapshot %d", maxHistorySteps, id), nil
}

// backwards returns what gives the commits of the table, the newest first, and ErrNoHistory after the last. A history that can
// be listed is read by version: two commits may have one time, and clocks may step back.
func (l *lineage) backwards() (next func(context.Context) (catalog.HistoryEntry, error), ok bool) {
	if k, is := l.cat.(catalog.HistoryKeeper); is {
		var page []catalog.HistoryEntry
		before := int64(0)
		return func(ctx context.Context) (e catalog.HistoryEntry, err error) {
			if len(page) == 0 {
				if page, err = k.ListHistory(ctx, l.id, catalog.HistoryRange{Before: before}); err != nil {
					return e, err
				}
				if len(page) == 0 {
					return e, catalog.ErrNoHistory
				}
			}
			e, page = page[0], page[1:]
			before = e.Version
			return e, nil
		}, true
	}
	h, ok := l.cat.(catalog.Historian)
	at := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) // the newest, whatever the catalog's clock says
	return func(ctx context.Context) (catalog.HistoryEntry, error) {
		e, err := h.HistoryAt(ctx, l.id, at)
		at = e.At.Add(-time.Millisecond)
		return e, err
	}, ok
}
