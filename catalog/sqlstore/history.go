package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/firnlake/firn/catalog"
)

// pruneHistoryBatch is how many rows of the history one transaction deletes: commits wait no longer than for these.
const pruneHistoryBatch = 5000

// HistoryRow is what one commit left for time travel.
type HistoryRow struct {
	Version, AtMS, SnapshotID int64
	Offsets                   string
}

// HistoryRange selects rows of the history: committed within [SinceMS, UntilMS], of versions below Before.
type HistoryRange struct {
	SinceMS, UntilMS, Before int64
	Limit                    int
}

// ListHistory returns rows of a table's commit history, the newest first.
func (s *Store) ListHistory(ctx context.Context, id catalog.Identifier, r HistoryRange) (out []HistoryRow, err error) {
	err = s.read(ctx, "history of table "+id.String(), func(t *tx) error {
		out = nil
		h, err := t.head(id)
		if err != nil {
			return err
		}
		return t.rows(`SELECT version, at_ms, snapshot_id, coalesce(offsets, '') FROM history
			WHERE table_id = ? AND version < ? AND at_ms >= ? AND at_ms <= ? ORDER BY version DESC LIMIT ?`,
			[]any{h.ID, r.Before, r.SinceMS, r.UntilMS, r.Limit}, func(rows *sql.Rows) error {
				var row HistoryRow
				err := rows.Scan(&row.Version, &row.AtMS, &row.SnapshotID, &row.Offsets)
				out = append(out, row)
				return err
			})
	})
	return out, err
}

// Changes reads what was committed to a table after a version: its head, and rows of its history, the oldest first. It
// is one consistent state: when fewer than limit rows come, there are no others up to the head's version.
func (s *Store) Changes(ctx context.Context, id catalog.Identifier, after int64, limit int) (h Head, out []HistoryRow, err error) {
	err = s.read(ctx, "commits to table "+id.String(), func(t *tx) error {
		out = nil
		if h, err = t.head(id); err != nil || h.Version <= after {
			return err
		}
		return t.rows("SELECT version, at_ms, snapshot_id, coalesce(offsets, '') FROM history WHERE table_id = ? AND version > ? ORDER BY version LIMIT ?",
			[]any{h.ID, after, limit}, func(rows *sql.Rows) error {
				var row HistoryRow
				err := rows.Scan(&row.Version, &row.AtMS, &row.SnapshotID, &row.Offsets)
				out = append(out, row)
				return err
			})
	})
	return h, out, err
}

// PruneHistory deletes the rows from before a time, but for the newest of them, which says what the table was then.
// It returns how many there are; dryRun deletes none.
func (s *Store) PruneHistory(ctx context.Context, id catalog.Identifier, beforeMS int64, dryRun bool) (total int64, err error) {
	for {
		var n int64
		count := func(t *tx) error {
			h, err := t.head(id)
			if err != nil {
				return err
			}
			var last int64
			err = t.row("SELECT version FROM history WHERE table_id = ? AND at_ms < ? ORDER BY version DESC LIMIT 1", []any{h.ID, beforeMS}, &last)
			if errors.Is(err, sql.ErrNoRows) {
				n = 0
				return nil
			}
			if err != nil {
				return err
			}
			if dryRun {
				return t.row("SELECT count(*) FROM history WHERE table_id = ? AND version < ?", []any{h.ID, last}, &n)
			}
			n, err = t.exec("DELETE FROM history WHERE table_id = ? AND version IN (SELECT version FROM history WHERE table_id = ? AND version < ? ORDER BY version LIMIT ?)",
				h.ID, h.ID, last, pruneHistoryBatch)
			return err
		}
		what := "prune the history of table " + id.String()
		if dryRun {
			err = s.read(ctx, what, count)
			return n, err
		}
		if err := s.change(ctx, what, count); err != nil {
			return total, err
		}
		if total += n; n < pruneHistoryBatch {
			return total, nil
		}
		ctx = WithoutReceipt(ctx) // the first batch has left it
	}
}

// HistoryAt returns the newest row of a table's commit history that was committed at or before atMS;
// catalog.ErrNoHistory when there is none. The clock of the host may step back, so it is the newest
// version, not the newest time, that counts.
func (s *Store) HistoryAt(ctx context.Context, id catalog.Identifier, atMS int64) (row HistoryRow, err error) {
	err = s.read(ctx, "history of table "+id.String(), func(t *tx) error {
		h, err := t.head(id)
		if err != nil {
			return err
		}
		err = t.row(`SELECT version, at_ms, snapshot_id, coalesce(offsets, '') FROM history
			WHERE table_id = ? AND at_ms <= ? ORDER BY version DESC LIMIT 1`, []any{h.ID, atMS},
			&row.Version, &row.AtMS, &row.SnapshotID, &row.Offsets)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: table %s at %s", catalog.ErrNoHistory, id, time.UnixMilli(atMS).UTC().Format(time.RFC3339Nano))
		}
		return err
	})
	return row, err
}
