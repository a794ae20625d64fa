package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/firnlake/firn/catalog"
)

// View is a view's row. Its metadata file is written before the row names it.
type View struct {
	ID               int64
	UUID             string
	Version          int64  // 1 at creation, one more at each commit
	MetadataDir      string // clean, in the warehouse's form
	MetadataLocation string
	Body             []byte // the metadata document
}

func (t *tx) view(id catalog.Identifier) (v View, err error) {
	ns, err := t.namespaceID(id.Namespace())
	switch {
	case errors.Is(err, catalog.ErrNoSuchNamespace) || err == nil && ns == 0:
		return v, fmt.Errorf("%w: %s", catalog.ErrNoSuchView, id)
	case err != nil:
		return v, err
	}
	err = t.row("SELECT id, uuid, version, metadata_dir, metadata_location, body FROM views WHERE namespace_id = ? AND name = ?",
		[]any{ns, id.Name()}, &v.ID, &v.UUID, &v.Version, &v.MetadataDir, &v.MetadataLocation, &v.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return v, fmt.Errorf("%w: %s", catalog.ErrNoSuchView, id)
	}
	return v, err
}

// taken tells whether a table or a view of the namespace has the name: "table", "view" or neither.
func (t *tx) taken(ns int64, name string) (kind string, err error) {
	err = t.row(`SELECT 'table' FROM tables WHERE namespace_id = ? AND name = ?
		UNION ALL SELECT 'view' FROM views WHERE namespace_id = ? AND name = ? LIMIT 1`, []any{ns, name, ns, name}, &kind)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return kind, err
}

// namespaceOf finds the namespace that a new table or view goes to.
func (t *tx) namespaceOf(id catalog.Identifier) (int64, error) {
	ns, err := t.namespaceID(id.Namespace())
	if err == nil && ns == 0 {
		err = fmt.Errorf("%w: the empty namespace", catalog.ErrNoSuchNamespace)
	}
	return ns, err
}

// free gives ErrExists when the name of a new table or view, as want says, is taken by either.
func (t *tx) free(ns int64, id catalog.Identifier, want string) error {
	kind, err := t.taken(ns, id.Name())
	switch {
	case err != nil || kind == "":
		return err
	case kind == want:
		return fmt.Errorf("%w: %s %s", catalog.ErrExists, kind, id)
	}
	return fmt.Errorf("%w: a %s of the name %s", catalog.ErrExists, kind, id)
}

// Free gives ErrExists when a table or a view has the name, and ErrNoSuchNamespace when its namespace is missing.
func (s *Store) Free(ctx context.Context, id catalog.Identifier, want string) error {
	return s.read(ctx, want+" "+id.String(), func(t *tx) error {
		ns, err := t.namespaceOf(id)
		if err != nil {
			return err
		}
		return t.free(ns, id, want)
	})
}

// rename gives a row of tables or views another name, which must be free or its own.
func (t *tx) rename(table string, row int64, from, to catalog.Identifier) error {
	ns, err := t.namespaceOf(to)
	if err != nil {
		return err
	}
	if !slices.Equal(from, to) {
		kind, err := t.taken(ns, to.Name())
		if err != nil {
			return err
		}
		if kind != "" {
			return fmt.Errorf("%w: cannot rename %s to %s, which is a %s", catalog.ErrExists, from, to, kind)
		}
	}
	_, err = t.exec("UPDATE "+table+" SET namespace_id = ?, name = ? WHERE id = ?", ns, to.Name(), row)
	return err
}

// CreateView adds a view. No table's location may overlap its metadata directory.
func (s *Store) CreateView(ctx context.Context, id catalog.Identifier, v View) (View, error) {
	v.Version = 1
	err := s.change(ctx, "create view "+id.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		ns, err := t.namespaceOf(id)
		if err != nil {
			return err
		}
		if err := t.free(ns, id, "view"); err != nil {
			return err
		}
		if err := t.freeOfTables(v.MetadataDir); err != nil {
			return err
		}
		err = t.row("INSERT INTO views (namespace_id, name, uuid, version, metadata_dir, metadata_location, body) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
			[]any{ns, id.Name(), v.UUID, v.Version, v.MetadataDir, v.MetadataLocation, v.Body}, &v.ID)
		if t.isUnique(err) {
			return fmt.Errorf("%w: the view UUID %s is another view's", catalog.ErrInvalid, v.UUID)
		}
		return err
	})
	return v, err
}

func (t *tx) freeOfTables(dir string) error {
	owner, err := t.tableAt(dir, 0)
	if err == nil {
		return fmt.Errorf("%w: location %s overlaps that of table %s", catalog.ErrInvalid, dir, owner)
	}
	if errors.Is(err, catalog.ErrNoSuchTable) {
		return nil
	}
	return err
}

// LoadView reads a view.
func (s *Store) LoadView(ctx context.Context, id catalog.Identifier) (v View, err error) {
	err = s.read(ctx, "view "+id.String(), func(t *tx) error {
		v, err = t.view(id)
		return err
	})
	return v, err
}

// ReplaceView swaps a view's row for v, which was made from version v.Version; ErrStale when that is not the
// newest, or when another view has the name now.
func (s *Store) ReplaceView(ctx context.Context, id catalog.Identifier, v View) (View, error) {
	err := s.change(ctx, "replace view "+id.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		now, err := t.view(id)
		if err != nil {
			return err
		}
		if now.ID != v.ID || now.Version != v.Version {
			return fmt.Errorf("%w: view version %d", ErrStale, v.Version)
		}
		if now.MetadataDir != v.MetadataDir {
			if err := t.freeOfTables(v.MetadataDir); err != nil {
				return err
			}
		}
		v.Version++
		_, err = t.exec("UPDATE views SET version = ?, metadata_dir = ?, metadata_location = ?, body = ? WHERE id = ?",
			v.Version, v.MetadataDir, v.MetadataLocation, v.Body, v.ID)
		return err
	})
	return v, err
}

// ListViews lists the views of a namespace.
func (s *Store) ListViews(ctx context.Context, ns catalog.Identifier, page Page) (names []string, more bool, err error) {
	err = s.read(ctx, "list views of "+ns.String(), func(t *tx) error {
		id, err := t.namespaceID(ns)
		if err != nil {
			return err
		}
		names, err = t.names("SELECT name FROM views WHERE namespace_id = ? AND name > ? ORDER BY name LIMIT ?", id, page)
		return err
	})
	names, more = cut(names, page)
	return names, more, err
}

// RenameView moves a view to another name. A commit that was prepared under the old name finds no view.
func (s *Store) RenameView(ctx context.Context, from, to catalog.Identifier) error {
	return s.change(ctx, "rename view "+from.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		v, err := t.view(from)
		if err != nil {
			return err
		}
		return t.rename("views", v.ID, from, to)
	})
}

// DropView removes a view's row. Its metadata files stay.
func (s *Store) DropView(ctx context.Context, id catalog.Identifier) error {
	return s.change(ctx, "drop view "+id.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		v, err := t.view(id)
		if err != nil {
			return err
		}
		_, err = t.exec("DELETE FROM views WHERE id = ?", v.ID)
		return err
	})
}
