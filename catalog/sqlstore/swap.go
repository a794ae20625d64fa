package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/firnlake/firn/catalog"
)

// What a commit compares and swaps is (id, version, namespace, name): whoever prepared it may have had all of it from
// memory, and learns here whether that was still so. So a commit needs no look at the table before it.
const (
	setHead = setHeadOf + "?" + setHeadWas
	// setFreeHead passes over a row that another transaction holds, where setHead waits for it.
	setFreeHead = setHeadOf + "(SELECT id FROM tables WHERE id = ? FOR NO KEY UPDATE SKIP LOCKED)" + setHeadWas
	setHeadOf   = `UPDATE tables SET version = ?, format_version = ?, location = ?, uuid = ?, last_updated_ms = ?,
		last_sequence_number = ?, next_row_id = ? WHERE id = `
	setHeadWas = headWas + " RETURNING "
	headWas    = " AND version = ? AND namespace_id = ? AND name = ?"

	materializedColumns = "materialized_version, materialized_location"
)

func (c *Change) setHeadArgs(h *Head) []any {
	return []any{h.Version, h.FormatVersion, h.Location, h.UUID, h.LastUpdatedMS, h.LastSequenceNumber, h.NextRowID,
		h.ID, c.From, h.NamespaceID, c.Name.Name()}
}

// postgresSwap is a plain commit in one statement, which is one round trip: its inserts take their rows from the head that
// was swapped, so that nothing is written where none was. All parts see the state before it; none touches another's rows.
// Arrays are rows, of which there may be none.
const (
	postgresSwap     = "WITH head AS (" + setHead + postgresSwapRest
	postgresSwapFree = "WITH head AS (" + setFreeHead + postgresSwapRest
	postgresSwapRest = `id, version, ` + materializedColumns + `),
	added AS (INSERT INTO snapshots (table_id, snapshot_id, body)
		SELECT head.id, a.id, a.body FROM head, unnest(?::bigint[], ?::bytea[]) WITH ORDINALITY AS a (id, body, n) ORDER BY a.n),
	logged AS (INSERT INTO snapshot_log (table_id, version, at_ms, snapshot_id)
		SELECT head.id, head.version, a.at_ms, a.id FROM head, unnest(?::bigint[], ?::bigint[]) AS a (at_ms, id)),
	moved AS (INSERT INTO refs (table_id, name, snapshot_id, body)
		SELECT head.id, a.name, a.id, a.body FROM head, unnest(?::text[], ?::bigint[], ?::bytea[]) AS a (name, id, body)
		ON CONFLICT (table_id, name) DO UPDATE SET snapshot_id = excluded.snapshot_id, body = excluded.body),
	past AS (INSERT INTO history (table_id, version, at_ms, snapshot_id, offsets)
		SELECT head.id, head.version, a.at_ms, a.id, nullif(a.offsets, '') FROM head, unnest(?::bigint[], ?::bigint[], ?::text[]) AS a (at_ms, id, offsets)),
	kept AS (INSERT INTO receipts (key, at_ms, request, status, body)
		SELECT a.key, a.at_ms, a.request, a.status, a.body FROM head, unnest(?::text[], ?::bigint[], ?::text[], ?::integer[], ?::bytea[]) AS a (key, at_ms, request, status, body))
	SELECT ` + materializedColumns + " FROM head"
)

func (c *Change) postgresSwapArgs(h *Head, r *Receipt, nowMS int64) []any {
	var ids, logAt, logIDs, refIDs, pastAt, pastIDs, keptAt []int64
	var bodies, refBodies, keptBodies [][]byte
	var names, offsets, keys, requests []string
	var statuses []int32
	for _, s := range c.AddSnapshots {
		ids, bodies = append(ids, s.ID), append(bodies, s.Body)
	}
	if c.Log != nil {
		logAt, logIDs = []int64{c.Log.AtMS}, []int64{c.Log.SnapshotID}
	}
	for _, r := range c.SetRefs {
		names, refIDs, refBodies = append(names, r.Name), append(refIDs, r.SnapshotID), append(refBodies, r.Body)
	}
	if c.History != nil {
		pastAt, pastIDs, offsets = []int64{c.historyTime(nowMS)}, []int64{c.History.SnapshotID}, []string{c.History.Offsets}
	}
	if r != nil {
		keys, keptAt, requests = []string{r.Key}, []int64{nowMS}, []string{r.Request}
		statuses, keptBodies = []int32{int32(r.Status)}, [][]byte{r.Body} //nolint:gosec // an HTTP status
	}
	return append(c.setHeadArgs(h), ids, bodies, logAt, logIDs, names, refIDs, refBodies, pastAt, pastIDs, offsets,
		keys, keptAt, requests, statuses, keptBodies)
}

// swapAlone makes a plain commit of one table without a transaction around it; done is false where the database cannot.
func (s *Store) swapAlone(ctx context.Context, c *Change, r *Receipt) (h Head, done bool, err error) {
	d := s.speaks()
	if d.swap == "" {
		return h, false, nil
	}
	if r == nil && c.shareable() {
		if h, err = s.swaps.commit(ctx, c); !errors.Is(err, errAlone) {
			return h, true, err
		}
	}
	h = c.Head
	h.Version = c.From + 1
	err = s.writeOne(ctx, "commit", func(t *tx) error {
		return t.row(d.swap, c.postgresSwapArgs(&h, r, s.now().UnixMilli()), &h.MaterializedVersion, &h.MaterializedLocation)
	})
	if err = c.swapError(err, d); err != nil {
		return h, true, fmt.Errorf("commit: %w", c.failed(err))
	}
	return h, true, nil
}

// swap makes what a plain commit is about.
func (t *tx) swap(c *Change, h *Head, nowMS int64) error {
	dest := []any{&h.MaterializedVersion, &h.MaterializedLocation}
	if t.d.swap != "" {
		return c.swapError(t.row(t.d.swap, c.postgresSwapArgs(h, nil, nowMS), dest...), t.d)
	}
	if err := c.swapError(t.row(setHead+materializedColumns, c.setHeadArgs(h), dest...), t.d); err != nil {
		return err
	}
	return t.addRows(c, h, nowMS)
}

// swapError says what the refusal of a swap means. Postgres names the table whose constraint is violated; SQLite is asked
// for one table at a time.
func (c *Change) swapError(err error, d *dialect) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%w: it has not version %d any more, or another name", ErrStale, c.From)
	case !d.unique(err):
		return err
	}
	switch d.violated(err) {
	case "receipts":
		return ErrRepeated
	case "snapshots":
		return c.repeatedSnapshot()
	case "tables", "":
		return fmt.Errorf("%w: the table UUID %s is another table's", catalog.ErrInvalid, c.UUID)
	}
	return err
}

func (c *Change) repeatedSnapshot() error {
	var ids []string
	for _, s := range c.AddSnapshots {
		ids = append(ids, fmt.Sprint(s.ID))
	}
	return fmt.Errorf("%w: snapshot %s already exists", catalog.ErrInvalid, strings.Join(ids, " or "))
}

// maxRowsAtOnce bounds the rows of one INSERT: each number of rows is a statement of its own, which is kept prepared.
const maxRowsAtOnce = 8

// addRows writes the rows of a plain commit behind its head.
func (t *tx) addRows(c *Change, h *Head, nowMS int64) error {
	args := make([]any, 0, 4*max(len(c.AddSnapshots), len(c.SetRefs)))
	for _, s := range c.AddSnapshots {
		args = append(args, h.ID, s.ID, []byte(s.Body))
	}
	err := t.insert("INSERT INTO snapshots (table_id, snapshot_id, body) VALUES ", "(?, ?, ?)", "", 3, args)
	if t.isUnique(err) {
		return c.repeatedSnapshot()
	}
	if err != nil {
		return err
	}
	if c.Log != nil {
		if _, err := t.exec("INSERT INTO snapshot_log (table_id, version, at_ms, snapshot_id) VALUES (?, ?, ?, ?)",
			h.ID, h.Version, c.Log.AtMS, c.Log.SnapshotID); err != nil {
			return err
		}
	}
	args = args[:0]
	for _, r := range c.SetRefs {
		args = append(args, h.ID, r.Name, r.SnapshotID, []byte(r.Body))
	}
	if err := t.insert("INSERT INTO refs (table_id, name, snapshot_id, body) VALUES ", "(?, ?, ?, ?)",
		" ON CONFLICT (table_id, name) DO UPDATE SET snapshot_id = excluded.snapshot_id, body = excluded.body", 4, args); err != nil {
		return err
	}
	if c.History == nil {
		return nil
	}
	_, err = t.exec("INSERT INTO history (table_id, version, at_ms, snapshot_id, offsets) VALUES (?, ?, ?, ?, nullif(?, ''))",
		h.ID, h.Version, c.historyTime(nowMS), c.History.SnapshotID, c.History.Offsets)
	return err
}

// insert adds rows of width columns each, whose values follow each other in args.
func (t *tx) insert(into, row, then string, width int, args []any) error {
	for len(args) > 0 {
		n := min(len(args)/width, maxRowsAtOnce)
		if _, err := t.exec(into+strings.Repeat(row+", ", n-1)+row+then, args[:n*width]...); err != nil {
			return err
		}
		args = args[n*width:]
	}
	return nil
}
