package commit

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/apache/iceberg-go"
	icebergio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver that Firn's catalog uses, too
)

// reference is a table of iceberg-go whose catalog is a row of SQLite with the location of the newest metadata.json.
type reference struct {
	db   *sql.DB
	id   table.Identifier
	file iceberg.DataFile
}

func newReference(ctx context.Context, l *lake) (*reference, error) {
	db, err := sql.Open("sqlite", filepath.Join(l.dir, "reference.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return nil, err
	}
	r := &reference{db: db, id: table.Identifier(l.id), file: l.file}
	for _, stmt := range []string{"CREATE TABLE iceberg_tables (metadata_location TEXT NOT NULL, previous_metadata_location TEXT)",
		"INSERT INTO iceberg_tables VALUES ('" + l.seed + "', NULL)"} {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return r, nil
}

func (r *reference) close() error { return r.db.Close() }

// LoadTable implements table.CatalogIO.
func (r *reference) LoadTable(ctx context.Context, id table.Identifier) (*table.Table, error) {
	var location string
	if err := r.db.QueryRowContext(ctx, "SELECT metadata_location FROM iceberg_tables").Scan(&location); err != nil {
		return nil, err
	}
	return table.NewFromLocation(ctx, id, location, icebergio.LoadFSFunc(nil, location), r)
}

// CommitTable implements table.CatalogIO as iceberg-go's SQL catalog does.
func (r *reference) CommitTable(ctx context.Context, id table.Identifier, reqs []table.Requirement, updates []table.Update) (table.Metadata, string, error) {
	current, err := r.LoadTable(ctx, id)
	if err != nil {
		return nil, "", err
	}
	for _, q := range reqs {
		if err := q.Validate(current.Metadata()); err != nil {
			return nil, "", err
		}
	}
	meta, err := table.UpdateTableMetadata(current.Metadata(), updates, current.MetadataLocation())
	if err != nil {
		return nil, "", err
	}
	next := meta.Location() + "/metadata/" + fmt.Sprintf("00001-%s.metadata.json", uuid.NewString())
	if err := r.write(ctx, current, meta, next); err != nil {
		return nil, "", err
	}
	res, err := r.db.ExecContext(ctx, "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? WHERE metadata_location = ?", next, current.MetadataLocation(), current.MetadataLocation())
	if err != nil {
		return nil, "", err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return nil, "", errors.Join(table.ErrCommitFailed, err)
	}
	return meta, next, nil
}

func (r *reference) write(ctx context.Context, t *table.Table, meta table.Metadata, location string) error {
	fs, err := t.FS(ctx)
	if err != nil {
		return err
	}
	w, ok := fs.(icebergio.WriteFileIO)
	if !ok {
		return errors.New("the file system cannot be written")
	}
	out, err := w.Create(location)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(out).Encode(meta), out.Close())
}

func (r *reference) append(ctx context.Context) error {
	t, err := r.LoadTable(ctx, r.id)
	if err != nil {
		return err
	}
	tx := t.NewTransaction()
	if err := tx.AddDataFiles(ctx, []iceberg.DataFile{r.file}, nil, table.WithoutDuplicateCheck()); err != nil {
		return err
	}
	_, err = tx.Commit(ctx)
	return err
}

func (r *reference) verify(ctx context.Context) (int, int64, int64, error) {
	t, err := r.LoadTable(ctx, r.id)
	if err != nil {
		return 0, 0, 0, err
	}
	return totals(t.Metadata())
}
