package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/firnlake/firn/catalog"
)

// Page asks for at most Limit names after After, in byte order; Limit 0 is all of them.
type Page struct {
	After string
	Limit int
}

// noLimit is more rows than there are.
const noLimit = math.MaxInt32

// limit gives SQL's LIMIT: one more than asked, so that the caller sees whether there is a next page.
func (p Page) limit() int {
	if p.Limit <= 0 {
		return noLimit
	}
	return p.Limit + 1
}

// namespaceID finds a namespace by its parts; the empty namespace is the root, 0.
func (t *tx) namespaceID(ns catalog.Identifier) (int64, error) {
	var id int64
	for _, part := range ns {
		err := t.row("SELECT id FROM namespaces WHERE parent_id = ? AND name = ?", []any{id, part}, &id)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, fmt.Errorf("%w: %s", catalog.ErrNoSuchNamespace, ns)
		}
		if err != nil {
			return 0, err
		}
	}
	return id, nil
}

// CreateNamespace adds one namespace; its parent must exist.
func (s *Store) CreateNamespace(ctx context.Context, ns catalog.Identifier, props map[string]string) error {
	body, err := encodeProps(props)
	if err != nil {
		return err
	}
	return s.change(ctx, "create namespace "+ns.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		parent, err := t.namespaceID(ns.Namespace())
		if err != nil {
			return err
		}
		_, err = t.exec("INSERT INTO namespaces (parent_id, name, properties) VALUES (?, ?, ?)", parent, ns.Name(), body)
		if t.isUnique(err) {
			return fmt.Errorf("%w: namespace %s", catalog.ErrExists, ns)
		}
		return err
	})
}

// ListNamespaces lists the children of parent; an empty parent is the top level.
func (s *Store) ListNamespaces(ctx context.Context, parent catalog.Identifier, page Page) (names []string, more bool, err error) {
	err = s.read(ctx, "list namespaces", func(t *tx) error {
		id, err := t.namespaceID(parent)
		if err != nil {
			return err
		}
		names, err = t.names("SELECT name FROM namespaces WHERE parent_id = ? AND name > ? ORDER BY name LIMIT ?", id, page)
		return err
	})
	names, more = cut(names, page)
	return names, more, err
}

// ListTables lists the tables of a namespace.
func (s *Store) ListTables(ctx context.Context, ns catalog.Identifier, page Page) (names []string, more bool, err error) {
	err = s.read(ctx, "list tables of "+ns.String(), func(t *tx) error {
		id, err := t.namespaceID(ns)
		if err != nil {
			return err
		}
		names, err = t.names("SELECT name FROM tables WHERE namespace_id = ? AND name > ? ORDER BY name LIMIT ?", id, page)
		return err
	})
	names, more = cut(names, page)
	return names, more, err
}

func (t *tx) names(query string, parent int64, page Page) (names []string, err error) {
	err = t.rows(query, []any{parent, page.After, page.limit()}, func(r *sql.Rows) error {
		var n string
		if err := r.Scan(&n); err != nil {
			return err
		}
		names = append(names, n)
		return nil
	})
	return names, err
}

func cut(names []string, page Page) ([]string, bool) {
	if page.Limit > 0 && len(names) > page.Limit {
		return names[:page.Limit], true
	}
	return names, false
}

// LoadNamespace returns a namespace's properties.
func (s *Store) LoadNamespace(ctx context.Context, ns catalog.Identifier) (props map[string]string, err error) {
	err = s.read(ctx, "load namespace "+ns.String(), func(t *tx) error {
		_, props, err = t.namespaceProps(ns)
		return err
	})
	return props, err
}

func (t *tx) namespaceProps(ns catalog.Identifier) (int64, map[string]string, error) {
	id, err := t.namespaceID(ns)
	if err != nil {
		return 0, nil, err
	}
	if id == 0 {
		return 0, nil, fmt.Errorf("%w: the empty namespace", catalog.ErrNoSuchNamespace)
	}
	var body string
	if err := t.row("SELECT properties FROM namespaces WHERE id = ?", []any{id}, &body); err != nil {
		return 0, nil, err
	}
	props := map[string]string{}
	if err := json.Unmarshal([]byte(body), &props); err != nil {
		return 0, nil, fmt.Errorf("properties of namespace %s: %w", ns, err)
	}
	return id, props, nil
}

// PropertiesChange is the outcome of UpdateNamespace: keys, each sorted.
type PropertiesChange struct{ Updated, Removed, Missing []string }

// UpdateNamespace removes and sets properties.
func (s *Store) UpdateNamespace(ctx context.Context, ns catalog.Identifier, removals []string, updates map[string]string) (change PropertiesChange, err error) {
	err = s.change(ctx, "update namespace "+ns.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		id, props, err := t.namespaceProps(ns)
		if err != nil {
			return err
		}
		for _, k := range removals {
			if _, ok := props[k]; ok {
				delete(props, k)
				change.Removed = append(change.Removed, k)
			} else {
				change.Missing = append(change.Missing, k)
			}
		}
		maps.Copy(props, updates)
		change.Updated = slices.Sorted(maps.Keys(updates))
		body, err := encodeProps(props)
		if err != nil {
			return err
		}
		_, err = t.exec("UPDATE namespaces SET properties = ? WHERE id = ?", body, id)
		return err
	})
	slices.Sort(change.Removed)
	slices.Sort(change.Missing)
	return change, err
}

// DropNamespace removes an empty namespace.
func (s *Store) DropNamespace(ctx context.Context, ns catalog.Identifier) error {
	return s.change(ctx, "drop namespace "+ns.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		id, err := t.namespaceID(ns)
		if err != nil {
			return err
		}
		if id == 0 {
			return fmt.Errorf("%w: the empty namespace", catalog.ErrNoSuchNamespace)
		}
		var n int
		if err := t.row(`SELECT (SELECT count(*) FROM (SELECT 1 FROM tables WHERE namespace_id = ? LIMIT 1) AS a)
			+ (SELECT count(*) FROM (SELECT 1 FROM views WHERE namespace_id = ? LIMIT 1) AS b)
			+ (SELECT count(*) FROM (SELECT 1 FROM namespaces WHERE parent_id = ? LIMIT 1) AS c)`, []any{id, id, id}, &n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%w: %s", catalog.ErrNotEmpty, ns)
		}
		_, err = t.exec("DELETE FROM namespaces WHERE id = ?", id)
		return err
	})
}

func encodeProps(props map[string]string) (string, error) {
	if props == nil {
		props = map[string]string{}
	}
	b, err := json.Marshal(props)
	return string(b), err
}
