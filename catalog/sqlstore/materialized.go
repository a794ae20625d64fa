package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/firnlake/firn/catalog"
)

// postgresName records a file where its version has none yet, and gives no row otherwise.
const postgresName = `WITH named AS (INSERT INTO metadata_files (table_id, version, at_ms, location)
		SELECT id, ?::bigint, ?::bigint, ?::text FROM tables WHERE id = ? ON CONFLICT DO NOTHING RETURNING table_id, version, location),
	newest AS (UPDATE tables SET materialized_version = named.version, materialized_location = named.location
		FROM named WHERE tables.id = named.table_id AND materialized_version < named.version)
	SELECT location FROM named`

// Materialized records that a version has a metadata file and returns the one that counts: when another
// process recorded a file of the same version first, that one. ErrNoSuchTable when the table is gone.
func (s *Store) Materialized(ctx context.Context, tableID int64, f MetadataFile) (location string, err error) {
	if q := s.speaks().name; q != "" {
		err = s.writeOne(ctx, fmt.Sprintf("record metadata file of table %d", tableID), func(t *tx) error {
			return t.row(q, []any{f.Version, f.AtMS, f.Location, tableID}, &location)
		})
		if err == nil { // else another was first, or the table is gone
			return location, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
	}
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

// Due is a table whose newest version has no metadata file.
type Due struct{ ID, Version int64 }

// Unmaterialized lists the tables whose newest version has no metadata file.
func (s *Store) Unmaterialized(ctx context.Context) (due []Due, err error) {
	err = s.readOne(ctx, "tables without a metadata file", func(t *tx) error {
		due = nil
		return t.rows("SELECT id, version FROM tables WHERE version > materialized_version ORDER BY id", nil, func(r *sql.Rows) error {
			var d Due
			err := r.Scan(&d.ID, &d.Version)
			due = append(due, d)
			return err
		})
	})
	return due, err
}
