package server

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/objstore"
)

// deleteBatch is how many objects a purge deletes in one call of the object store.
const deleteBatch = 500

// ListNamespaces implements catalog.Catalog.
func (s *Service) ListNamespaces(ctx context.Context, parent catalog.Identifier) ([]catalog.Identifier, error) {
	ids, _, err := s.listNamespaces(ctx, parent, sqlstore.Page{})
	return ids, err
}

func (s *Service) listNamespaces(ctx context.Context, parent catalog.Identifier, page sqlstore.Page) ([]catalog.Identifier, bool, error) {
	if len(parent) > 0 {
		if err := checkNamespace(parent); err != nil {
			return nil, false, fmt.Errorf("list namespaces: %w", err)
		}
	}
	names, more, err := s.store.ListNamespaces(ctx, parent, page)
	return children(parent, names), more, err
}

// ListTables implements catalog.Catalog.
func (s *Service) ListTables(ctx context.Context, ns catalog.Identifier) ([]catalog.Identifier, error) {
	ids, _, err := s.listTables(ctx, ns, sqlstore.Page{})
	return ids, err
}

func (s *Service) listTables(ctx context.Context, ns catalog.Identifier, page sqlstore.Page) ([]catalog.Identifier, bool, error) {
	if err := checkNamespace(ns); err != nil {
		return nil, false, fmt.Errorf("list tables: %w", err)
	}
	names, more, err := s.store.ListTables(ctx, ns, page)
	return children(ns, names), more, err
}

func children(parent catalog.Identifier, names []string) []catalog.Identifier {
	out := make([]catalog.Identifier, len(names))
	for i, n := range names {
		out[i] = append(append(make(catalog.Identifier, 0, len(parent)+1), parent...), n)
	}
	return out
}

// CreateNamespace implements catalog.Catalog.
func (s *Service) CreateNamespace(ctx context.Context, ns catalog.Identifier, props map[string]string) error {
	if err := checkNamespace(ns); err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	return s.store.CreateNamespace(ctx, ns, props)
}

// LoadNamespace returns a namespace's properties, among them where engines may place its tables.
func (s *Service) LoadNamespace(ctx context.Context, ns catalog.Identifier) (map[string]string, error) {
	if err := checkNamespace(ns); err != nil {
		return nil, fmt.Errorf("load namespace: %w", err)
	}
	props, err := s.store.LoadNamespace(ctx, ns)
	if err != nil {
		return nil, err
	}
	return s.placed(ns, props), nil
}

// propLocation is the property of a namespace below which an engine that chooses itself places a new table.
const propLocation = "location"

// namespaceSpace is what the UUIDs of placed are made in.
var namespaceSpace = uuid.MustParse("5b1d3f0e-6f0c-4d0a-9d43-7c1a2b6f8e21")

// placed adds a location to a namespace's properties when nobody set one, as Iceberg's JDBC catalog does. Trino stages a new
// table below it; without one Trino has the catalog make the table at once, and then refuses the table's directory because
// its first metadata file is there (trinodb/trino#26742). It is answered and never kept, and it is a hash: what is in a
// name becomes no path.
func (s *Service) placed(ns catalog.Identifier, props map[string]string) map[string]string {
	if props[propLocation] != "" {
		return props
	}
	out := maps.Clone(props)
	if out == nil {
		out = map[string]string{}
	}
	out[propLocation] = s.wh.Location(uuid.NewSHA1(namespaceSpace, []byte(strings.Join(ns, wire.Separator))).String())
	return out
}

// UpdateNamespace removes and sets properties of a namespace. A key may stand in one of the two only.
func (s *Service) UpdateNamespace(ctx context.Context, ns catalog.Identifier, removals []string, updates map[string]string) (sqlstore.PropertiesChange, error) {
	if err := checkNamespace(ns); err != nil {
		return sqlstore.PropertiesChange{}, fmt.Errorf("update namespace: %w", err)
	}
	for _, k := range removals {
		if _, ok := updates[k]; ok {
			return sqlstore.PropertiesChange{}, fmt.Errorf("update namespace %s: %w: property %q is both set and removed", ns, errUnprocessable, k)
		}
	}
	return s.store.UpdateNamespace(ctx, ns, removals, updates)
}

// DropNamespace removes an empty namespace.
func (s *Service) DropNamespace(ctx context.Context, ns catalog.Identifier) error {
	if err := checkNamespace(ns); err != nil {
		return fmt.Errorf("drop namespace: %w", err)
	}
	return s.store.DropNamespace(ctx, ns)
}

// RenameTable gives a table another name, perhaps in another namespace. Its files stay where they are.
func (s *Service) RenameTable(ctx context.Context, from, to catalog.Identifier) error {
	for _, id := range []catalog.Identifier{from, to} {
		if err := checkTableName(id); err != nil {
			return fmt.Errorf("rename table: %w", err)
		}
	}
	if err := checkNewName(to); err != nil {
		return fmt.Errorf("rename table: %w", err)
	}
	unlock, err := s.lock(ctx, []catalog.Identifier{from, to})
	if err != nil {
		return fmt.Errorf("rename table: %w", err)
	}
	defer unlock()
	return s.store.Rename(ctx, from, to)
}

// DropTable implements catalog.Catalog. A purge deletes everything under the table's location, which no
// other table shares; when it fails half-way the table is gone and the error says what is left.
func (s *Service) DropTable(ctx context.Context, id catalog.Identifier, purge bool) error {
	if err := checkTableName(id); err != nil {
		return fmt.Errorf("drop table: %w", err)
	}
	unlock, err := s.lock(ctx, []catalog.Identifier{id})
	if err != nil {
		return fmt.Errorf("drop table: %w", err)
	}
	defer unlock()
	h, err := s.store.Drop(ctx, id)
	if err != nil {
		return err
	}
	s.leans.Drop(h.ID)
	s.exposed.Drop(h.ID)
	if !purge {
		return nil
	}
	if err := s.purge(ctx, h.Location); err != nil {
		return fmt.Errorf("drop table %s: it is dropped, but files under %s are left; delete them by hand: %w", id, h.Location, err)
	}
	return nil
}

func (s *Service) purge(ctx context.Context, location string) error {
	loc, err := cleanLocation(s.wh.URI, location)
	if err != nil {
		return err
	}
	var keys []string
	err = s.wh.List(ctx, keyOf(s.wh.URI, loc), func(i objstore.Info) error {
		keys = append(keys, i.Key)
		return nil
	})
	if err != nil {
		return storageError("list "+loc, err)
	}
	for len(keys) > 0 {
		n := min(deleteBatch, len(keys))
		if err := s.wh.Delete(ctx, keys[:n]...); err != nil {
			return storageError("delete under "+loc, err)
		}
		keys = keys[n:]
	}
	return nil
}
