package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/firnlake/firn/catalog"
)

// Inventory is what the database alone knows: which names there are, and which table or view each stands for.
type Inventory struct {
	Namespaces []InventoryNamespace // parents before their children
	Tables     []InventoryEntry     // by name
	Views      []InventoryEntry     // by name
}

// InventoryNamespace is a namespace with its properties.
type InventoryNamespace struct {
	Name       catalog.Identifier
	Properties map[string]string
}

// InventoryEntry is a table or a view. MetadataLocation is that of the newest metadata file; empty where there is none yet.
type InventoryEntry struct {
	Name                             catalog.Identifier
	UUID, Location, MetadataLocation string
}

// Inventory reads all names on one consistent state of the database.
func (s *Store) Inventory(ctx context.Context) (inv Inventory, err error) {
	err = s.read(ctx, "inventory", func(t *tx) error {
		inv = Inventory{}
		paths, err := t.namespacePaths(&inv)
		if err != nil {
			return err
		}
		for _, kind := range []struct {
			into  *[]InventoryEntry
			query string
		}{
			{&inv.Tables, "SELECT namespace_id, name, uuid, location, materialized_location FROM tables ORDER BY namespace_id, name"},
			{&inv.Views, "SELECT namespace_id, name, uuid, metadata_dir, metadata_location FROM views ORDER BY namespace_id, name"},
		} {
			if err := t.rows(kind.query, nil, func(r *sql.Rows) error {
				var ns int64
				var name string
				var e InventoryEntry
				if err := r.Scan(&ns, &name, &e.UUID, &e.Location, &e.MetadataLocation); err != nil {
					return err
				}
				e.Name = append(slices.Clone(paths[ns]), name)
				*kind.into = append(*kind.into, e)
				return nil
			}); err != nil {
				return err
			}
			slices.SortFunc(*kind.into, func(a, b InventoryEntry) int { return slices.Compare(a.Name, b.Name) })
		}
		return nil
	})
	return inv, err
}

// namespacePaths fills inv.Namespaces and gives each row's whole name. A parent is older than its children, so its id
// is smaller.
func (t *tx) namespacePaths(inv *Inventory) (map[int64]catalog.Identifier, error) {
	paths := map[int64]catalog.Identifier{0: nil}
	err := t.rows("SELECT id, parent_id, name, properties FROM namespaces ORDER BY id", nil, func(r *sql.Rows) error {
		var id, parent int64
		var name, props string
		if err := r.Scan(&id, &parent, &name, &props); err != nil {
			return err
		}
		path, ok := paths[parent]
		if !ok {
			return fmt.Errorf("namespace %d has a parent that is not there: %d", id, parent)
		}
		n := InventoryNamespace{Name: append(slices.Clone(path), name)}
		if err := json.Unmarshal([]byte(props), &n.Properties); err != nil {
			return fmt.Errorf("properties of namespace %s: %w", n.Name, err)
		}
		paths[id] = n.Name
		inv.Namespaces = append(inv.Namespaces, n)
		return nil
	})
	return paths, err
}
