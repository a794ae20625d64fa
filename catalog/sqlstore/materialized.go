package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

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
	err = s.readOne(ctx, "tables without a metadata file", func(t *tx) error {
		return t.rows("SELECT id FROM tables WHERE version > materialized_version ORDER BY id", nil, func(r *sql.Rows) error {
			var id int64
			err := r.Scan(&id)
			ids = append(ids, id)
			return err
		})
	})
	return ids, err
}
