package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/firnlake/firn/catalog"
)

// ErrStale reports that a table was changed, renamed or dropped since the version that a Change starts from.
// Nothing was written: read it again and decide anew.
var ErrStale = errors.New("table changed since it was read")

// Change is one table's part of a commit. A new table has ID 0 and its Name set.
type Change struct {
	Head                    // the row after the commit; Version is set by the store
	Name catalog.Identifier // of the table; checked at creation, and at a commit, with NamespaceID, so that a rename is noticed
	From int64              // the version that the change was made from; 0 creates the table
	// Moved: the location may be another than before. It is looked at only then.
	Moved bool
	// Same: the table stays as it is, and only has to be at From while the others change. There is nothing else then.
	Same bool

	Skeleton        []byte // nil: as it is
	AddSnapshots    []Snapshot
	RemoveSnapshots []int64 // none that is added; the snapshot log loses what is at or before the last of them
	SetRefs         []Ref
	RemoveRefs      []string  // none that is set
	ClearLog        bool      // then there is no Log
	Log             *LogEntry // appended
	History         *History

	// Only for a table that is registered from its metadata file:
	Replaces       int64          // the table that has the name and goes; 0: none
	FirstVersion   int64          // of the table's row, so that the numbers of its metadata files go on; 0: 1
	EarlierLog     []LogEntry     // oldest first
	EarlierHistory []History      // oldest first, each with its time
	EarlierFiles   []MetadataFile // oldest first; their versions are assigned
}

// History is the row that a commit leaves for time travel.
type History struct {
	SnapshotID int64
	Offsets    string // empty: the snapshot carries none
	AtMS       int64  // only in Change.EarlierHistory: otherwise the time is the store's
}

// plain reports a commit of the usual kind: it adds snapshots to a table that exists, and moves refs.
func (c *Change) plain() bool {
	return c.From != 0 && !c.Moved && !c.Same && c.Skeleton == nil && !c.ClearLog && len(c.RemoveSnapshots) == 0 && len(c.RemoveRefs) == 0
}

// Commit applies all changes or none and returns the heads after it, in the order of changes. It fails
// with ErrStale when one was not made from the newest version, with catalog.ErrExists when a new table's
// name is taken, and with catalog.ErrInvalid when a new table's location overlaps another's or a snapshot id exists.
func (s *Store) Commit(ctx context.Context, changes []Change) (heads []Head, err error) {
	receipt := receiptOf(ctx)
	if len(changes) == 1 && changes[0].plain() {
		if h, done, err := s.swapAlone(ctx, &changes[0], receipt); done {
			return []Head{h}, err
		}
	}
	if len(changes) == 1 && changes[0].Same && receipt == nil { // as it was when it was read
		return []Head{changes[0].Head}, nil
	}
	err = s.write(ctx, "commit", func(t *tx) error {
		heads = make([]Head, len(changes))
		// Always in one order, and the lock for names and places before any row: two transactions never wait for each other.
		order := make([]int, len(changes))
		structural := false
		for i := range changes {
			order[i] = i
			structural = structural || changes[i].From == 0 || changes[i].Moved
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(changes[a].ID, changes[b].ID) })
		if structural {
			if err := t.alone(); err != nil {
				return err
			}
		}
		now := s.now()
		for _, i := range order {
			h, err := t.apply(&changes[i], now.UnixMilli())
			if err != nil {
				return changes[i].failed(err)
			}
			heads[i] = h
		}
		return t.leave(receipt, now)
	})
	return heads, err
}

func (c *Change) failed(err error) error { return fmt.Errorf("table %s: %w", c.Name, err) }

func (t *tx) apply(c *Change, nowMS int64) (Head, error) {
	h := c.Head
	if c.Same {
		err := t.hold(c, &h)
		return h, err
	}
	h.Version = c.From + 1
	var err error
	switch {
	case c.From == 0:
		h.Version = max(h.Version, c.FirstVersion)
		if err = t.insertHead(c, &h); err == nil {
			err = t.addRows(c, &h, nowMS)
		}
	case c.Moved:
		if err = t.freeMove(c); err == nil {
			err = t.swap(c, &h, nowMS)
		}
	default:
		err = t.swap(c, &h, nowMS)
	}
	if err != nil {
		return h, err
	}
	return h, t.applyRest(c, h.ID)
}

// hold makes sure that a table is what a commit took it for, and keeps it so until the transaction ends.
func (t *tx) hold(c *Change, h *Head) error {
	err := t.row("SELECT "+materializedColumns+" FROM tables WHERE id = ?"+headWas+t.d.forUpdate,
		[]any{h.ID, c.From, h.NamespaceID, c.Name.Name()}, &h.MaterializedVersion, &h.MaterializedLocation)
	return c.swapError(err, t.d)
}

// maxEarlier is how far behind the store's clock the time of a snapshot may be to be taken over. Iceberg's own clients
// take clocks to be that far apart.
const maxEarlier = int64(time.Minute / time.Millisecond)

// historyTime is when the history says that the commit was made: as the table's own log says, so that a time has one answer
// whether it is looked up there, by any engine, or here, when the log no longer goes back so far. The store's time counts
// where there is no entry of the log, or one by a clock that is off.
func (c *Change) historyTime(nowMS int64) int64 {
	if c.Log == nil || c.Log.SnapshotID != c.History.SnapshotID || c.Log.AtMS > nowMS || c.Log.AtMS < nowMS-maxEarlier {
		return nowMS
	}
	return c.Log.AtMS
}

// freeMove checks the place that a table moves to.
func (t *tx) freeMove(c *Change) error {
	var was string
	if err := t.row("SELECT location FROM tables WHERE id = ?", []any{c.ID}, &was); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if was == c.Location {
		return nil
	}
	return t.freeLocation(c.Location, c.ID)
}

func (t *tx) insertHead(c *Change, h *Head) error {
	ns, err := t.namespaceOf(c.Name)
	if err != nil {
		return err
	}
	if c.Replaces != 0 {
		old, err := t.head(c.Name)
		if errors.Is(err, catalog.ErrNoSuchTable) || err == nil && old.ID != c.Replaces {
			return fmt.Errorf("%w: it is another table now", ErrStale)
		}
		if err != nil {
			return err
		}
		if err := t.drop(old.ID); err != nil {
			return err
		}
	}
	if err := t.free(ns, c.Name, "table"); err != nil {
		return err
	}
	if err := t.freeLocation(h.Location, 0); err != nil {
		return err
	}
	h.NamespaceID = ns
	if h.MaterializedLocation != "" {
		h.MaterializedVersion = h.Version
	}
	err = t.row(`INSERT INTO tables (namespace_id, name, uuid, location, format_version, version, last_updated_ms,
		last_sequence_number, next_row_id, materialized_version, materialized_location)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		[]any{ns, c.Name.Name(), h.UUID, h.Location, h.FormatVersion, h.Version, h.LastUpdatedMS,
			h.LastSequenceNumber, h.NextRowID, h.MaterializedVersion, h.MaterializedLocation}, &h.ID)
	if t.isUnique(err) {
		return fmt.Errorf("%w: the table UUID %s is another table's", catalog.ErrExists, h.UUID)
	}
	if err != nil {
		return err
	}
	for i, f := range c.EarlierFiles {
		if _, err := t.exec("INSERT INTO metadata_files (table_id, version, at_ms, location) VALUES (?, ?, ?, ?)",
			h.ID, int64(i-len(c.EarlierFiles)+1), f.AtMS, f.Location); err != nil {
			return err
		}
	}
	for i, e := range c.EarlierLog {
		if _, err := t.exec("INSERT INTO snapshot_log (table_id, version, at_ms, snapshot_id) VALUES (?, ?, ?, ?)",
			h.ID, int64(i-len(c.EarlierLog)+1), e.AtMS, e.SnapshotID); err != nil {
			return err
		}
	}
	for i, e := range c.EarlierHistory {
		if _, err := t.exec("INSERT INTO history (table_id, version, at_ms, snapshot_id, offsets) VALUES (?, ?, ?, ?, nullif(?, ''))",
			h.ID, int64(i-len(c.EarlierHistory)), e.AtMS, e.SnapshotID, e.Offsets); err != nil {
			return err
		}
	}
	if h.MaterializedLocation == "" {
		return nil
	}
	_, err = t.exec("INSERT INTO metadata_files (table_id, version, at_ms, location) VALUES (?, ?, ?, ?)",
		h.ID, h.Version, h.LastUpdatedMS, h.MaterializedLocation)
	return err
}

func (t *tx) freeLocation(loc string, except int64) error {
	owner, err := t.locationOwner(loc, except)
	if err == nil {
		return fmt.Errorf("%w: location %s overlaps that of %s", catalog.ErrInvalid, loc, owner)
	}
	if errors.Is(err, catalog.ErrNoSuchTable) {
		return nil
	}
	return err
}

// applyRest writes what a plain commit has not.
func (t *tx) applyRest(c *Change, id int64) error {
	if c.Skeleton != nil {
		if _, err := t.exec("INSERT INTO skeletons (table_id, body) VALUES (?, ?) ON CONFLICT (table_id) DO UPDATE SET body = excluded.body", id, c.Skeleton); err != nil {
			return err
		}
	}
	switch {
	case c.ClearLog:
		if _, err := t.exec("DELETE FROM snapshot_log WHERE table_id = ?", id); err != nil {
			return err
		}
	case len(c.RemoveSnapshots) > 0:
		if _, err := t.exec(`DELETE FROM snapshot_log WHERE table_id = ? AND version <= (SELECT max(version) FROM snapshot_log
			WHERE table_id = ? AND snapshot_id IN (`+t.d.ids+`))`, id, id, jsonIDs(c.RemoveSnapshots)); err != nil {
			return err
		}
	}
	if len(c.RemoveSnapshots) > 0 {
		if _, err := t.exec("DELETE FROM snapshots WHERE table_id = ? AND snapshot_id IN ("+t.d.ids+")", id, jsonIDs(c.RemoveSnapshots)); err != nil {
			return err
		}
	}
	for _, name := range c.RemoveRefs {
		if _, err := t.exec("DELETE FROM refs WHERE table_id = ? AND name = ?", id, name); err != nil {
			return err
		}
	}
	return nil
}
