package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/firnlake/firn/catalog"
)

// Materialized records that a version has a metadata file and returns the one that counts: when another
// process recorded a file of the same version first, that one. ErrNoSuchTable when the table is gone.
func (s *Store) Materialized(ctx context.Context, tableID int64, f MetadataFile) (location string, err error) {
	err = s.write(ctx, fmt.Sprintf("record metadata file of table %d", tableID), func(t *tx) error {
		var newest int64
		err := t.row("SELECT materialized_version FROM tables WHERE id = ?", []any{tableID}, &newest)
		if errors.Is(err, sql.ErrNoRows) {
			return catalog.ErrNoSuchTable
		}
		if err != nil {
			return err
		}
		if _, err := t.exec("INSERT INTO metadata_files (table_id, version, at_ms, location) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			tableID, f.Version, f.AtMS, f.Location); err != nil {
			return err
		}
		if err := t.row("SELECT location FROM metadata_files WHERE table_id = ? AND version = ?", []any{tableID, f.Version}, &location); err != nil {
			return err
		}
		if newest >= f.Version {
			return nil
		}
		_, err = t.exec("UPDATE tables SET materialized_version = ?, materialized_location = ? WHERE id = ? AND materialized_version < ?",
			f.Version, location, tableID, f.Version)
		return err
	})
	return location, err
}

// Unmaterialized lists the tables whose newest version has no metadata file.
func (s *Store) Unmaterialized(ctx context.Context) (ids []int64, err error) {
	err = s.read(ctx, "tables without a metadata file", func(t *tx) error {
		return t.rows("SELECT id FROM tables WHERE version > materialized_version ORDER BY id", nil, func(r *sql.Rows) error {
			var id int64
			err := r.Scan(&id)
			ids = append(ids, id)
			return err
		})
	})
	return ids, err
}

// HistoryRow is what one commit left for time travel.
type HistoryRow struct {
	Version, AtMS, SnapshotID int64
	Offsets                   string
}

// ListHistory returns the newest rows of a table's commit history.
func (s *Store) ListHistory(ctx context.Context, id catalog.Identifier, limit int) (out []HistoryRow, err error) {
	err = s.read(ctx, "history of table "+id.String(), func(t *tx) error {
		h, err := t.head(id)
		if err != nil {
			return err
		}
		return t.rows("SELECT version, at_ms, snapshot_id, coalesce(offsets, '') FROM history WHERE table_id = ? ORDER BY version DESC LIMIT ?",
			[]any{h.ID, limit}, func(r *sql.Rows) error {
				var row HistoryRow
				err := r.Scan(&row.Version, &row.AtMS, &row.SnapshotID, &row.Offsets)
				out = append(out, row)
				return err
			})
	})
	return out, err
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
