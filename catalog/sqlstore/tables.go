package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/firnlake/firn/catalog"
)

// Head is a table's row: what changes with every commit, and where its newest metadata file lies.
type Head struct {
	ID                   int64
	NamespaceID          int64 // with the name, what the table is called: no namespace is ever renamed, or goes before its tables
	UUID                 string
	Location             string
	FormatVersion        int
	Version              int64
	LastUpdatedMS        int64
	LastSequenceNumber   int64
	NextRowID            int64
	MaterializedVersion  int64  // 0: no metadata file yet
	MaterializedLocation string // empty with it
}

// Snapshot, Ref, LogEntry and MetadataFile are rows of a table. Body is Iceberg's JSON, kept as it is.
type (
	Snapshot struct {
		ID   int64
		Body json.RawMessage
	}
	Ref struct {
		Name       string
		SnapshotID int64
		Body       json.RawMessage
	}
	LogEntry struct {
		AtMS, SnapshotID int64
	}
	MetadataFile struct {
		Version, AtMS int64
		Location      string
	}
)

// State is a table as it was at one version.
type State struct {
	Head
	Skeleton      json.RawMessage
	Snapshots     []Snapshot
	Refs          []Ref          // by name
	Log           []LogEntry     // oldest first; only the last where Scope asks for refs
	MetadataFiles []MetadataFile // of versions before this one, oldest first, bounded
}

// Scope says which rows of a table are wanted.
type Scope struct {
	AllSnapshots bool                                   // otherwise those that a ref names, and Also
	FullLog      bool                                   // otherwise the last entry
	Also         func(skeleton []byte) ([]int64, error) // further snapshots; nil: none
	MetadataLog  int                                    // how many metadata files before this version
	// SkipFrom and SkipTo leave out the refs with names from the one up to but not the other, and their snapshots unless
	// they are wanted otherwise; empty: none.
	SkipFrom, SkipTo string
}

const headColumns = `t.id, t.namespace_id, t.uuid, t.location, t.format_version, t.version, t.last_updated_ms, t.last_sequence_number,
	t.next_row_id, t.materialized_version, t.materialized_location`

func (h *Head) dest() []any {
	return []any{&h.ID, &h.NamespaceID, &h.UUID, &h.Location, &h.FormatVersion, &h.Version, &h.LastUpdatedMS, &h.LastSequenceNumber,
		&h.NextRowID, &h.MaterializedVersion, &h.MaterializedLocation}
}

func (t *tx) head(id catalog.Identifier) (h Head, err error) {
	query, args := headQuery(id)
	err = t.row(query, args, h.dest()...)
	if errors.Is(err, sql.ErrNoRows) {
		return h, fmt.Errorf("%w: %s", catalog.ErrNoSuchTable, id)
	}
	return h, err
}

// headQuery finds a table by its name at any depth in one statement. There are as many texts as there are depths, which
// catalog/server bounds.
func headQuery(id catalog.Identifier) (query string, args []any) {
	var b strings.Builder
	b.WriteString("SELECT " + headColumns + " FROM tables t")
	child, args := "t.namespace_id", []any{id.Name()}
	where := " WHERE t.name = ?"
	ns := id.Namespace()
	for i := len(ns) - 1; i >= 0; i-- {
		alias := "n" + strconv.Itoa(i)
		b.WriteString(" JOIN namespaces " + alias + " ON " + alias + ".id = " + child)
		child = alias + ".parent_id"
		where += " AND " + alias + ".name = ?"
		args = append(args, ns[i])
	}
	return b.String() + where + " AND " + child + " = 0", args
}

// Head reads a table's row.
func (s *Store) Head(ctx context.Context, id catalog.Identifier) (h Head, err error) {
	err = s.readOne(ctx, "table "+id.String(), func(t *tx) error {
		h, err = t.head(id)
		return err
	})
	return h, err
}

// Load reads a table's state at its newest version.
func (s *Store) Load(ctx context.Context, id catalog.Identifier, scope Scope) (st *State, err error) {
	err = s.read(ctx, "table "+id.String(), func(t *tx) error {
		h, err := t.head(id)
		if err != nil {
			return err
		}
		st, err = t.state(h, scope)
		return err
	})
	return st, err
}

// LoadByID is Load for a table that is known by its row; ErrNoSuchTable when it was dropped.
func (s *Store) LoadByID(ctx context.Context, tableID int64, scope Scope) (st *State, err error) {
	err = s.read(ctx, fmt.Sprintf("table %d", tableID), func(t *tx) error {
		var h Head
		err := t.row("SELECT "+headColumns+" FROM tables t WHERE t.id = ?", []any{tableID}, h.dest()...)
		if errors.Is(err, sql.ErrNoRows) {
			return catalog.ErrNoSuchTable
		}
		if err != nil {
			return err
		}
		st, err = t.state(h, scope)
		return err
	})
	return st, err
}

func (t *tx) state(h Head, scope Scope) (*State, error) {
	st := &State{Head: h}
	if err := t.row("SELECT body FROM skeletons WHERE table_id = ?", []any{h.ID}, (*[]byte)(&st.Skeleton)); err != nil {
		return nil, fmt.Errorf("skeleton: %w", err)
	}
	if err := t.loadSnapshots(st, scope); err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	if err := t.rows("SELECT name, snapshot_id, body FROM refs WHERE table_id = ? AND (name < ? OR name >= ?) ORDER BY name", []any{h.ID, scope.SkipFrom, scope.SkipTo}, func(r *sql.Rows) error {
		var ref Ref
		st.Refs = append(st.Refs, ref)
		last := &st.Refs[len(st.Refs)-1]
		return r.Scan(&last.Name, &last.SnapshotID, (*[]byte)(&last.Body))
	}); err != nil {
		return nil, fmt.Errorf("refs: %w", err)
	}
	limit := 1
	if scope.FullLog {
		limit = noLimit
	}
	if err := t.rows("SELECT at_ms, snapshot_id FROM snapshot_log WHERE table_id = ? ORDER BY version DESC LIMIT ?", []any{h.ID, limit}, func(r *sql.Rows) error {
		var e LogEntry
		err := r.Scan(&e.AtMS, &e.SnapshotID)
		st.Log = append(st.Log, e)
		return err
	}); err != nil {
		return nil, fmt.Errorf("snapshot log: %w", err)
	}
	reverse(st.Log)
	if scope.MetadataLog > 0 {
		if err := t.rows("SELECT version, at_ms, location FROM metadata_files WHERE table_id = ? AND version < ? ORDER BY version DESC LIMIT ?",
			[]any{h.ID, h.Version, scope.MetadataLog}, func(r *sql.Rows) error {
				var f MetadataFile
				err := r.Scan(&f.Version, &f.AtMS, &f.Location)
				st.MetadataFiles = append(st.MetadataFiles, f)
				return err
			}); err != nil {
			return nil, fmt.Errorf("metadata files: %w", err)
		}
		reverse(st.MetadataFiles)
	}
	return st, nil
}

func (t *tx) loadSnapshots(st *State, scope Scope) error {
	add := func(r *sql.Rows) error {
		var s Snapshot
		if err := r.Scan(&s.ID, (*[]byte)(&s.Body)); err != nil {
			return err
		}
		st.Snapshots = append(st.Snapshots, s)
		return nil
	}
	if scope.AllSnapshots {
		return t.rows("SELECT snapshot_id, body FROM snapshots WHERE table_id = ? ORDER BY ord", []any{st.ID}, add)
	}
	var also []int64
	if scope.Also != nil {
		var err error
		if also, err = scope.Also(st.Skeleton); err != nil {
			return err
		}
	}
	return t.rows(`SELECT snapshot_id, body FROM snapshots WHERE table_id = ? AND snapshot_id IN (
		SELECT snapshot_id FROM refs WHERE table_id = ? AND (name < ? OR name >= ?) UNION `+t.d.ids+`) ORDER BY ord`,
		[]any{st.ID, st.ID, scope.SkipFrom, scope.SkipTo, jsonIDs(also)}, add)
}

// SnapshotsByID reads those of the named snapshots that exist, in order of arrival.
func (s *Store) SnapshotsByID(ctx context.Context, tableID int64, ids []int64) (out []Snapshot, err error) {
	err = s.readOne(ctx, fmt.Sprintf("snapshots of table %d", tableID), func(t *tx) error {
		return t.rows("SELECT snapshot_id, body FROM snapshots WHERE table_id = ? AND snapshot_id IN ("+t.d.ids+") ORDER BY ord",
			[]any{tableID, jsonIDs(ids)}, func(r *sql.Rows) error {
				var s Snapshot
				if err := r.Scan(&s.ID, (*[]byte)(&s.Body)); err != nil {
					return err
				}
				out = append(out, s)
				return nil
			})
	})
	return out, err
}

// LocationOwner returns the table whose location is loc, lies within it or contains it, or the view whose
// metadata files do; ErrNoSuchTable when there is none. Locations are compared component by component; loc
// is clean. except is a table that is not looked at; 0 for none.
func (s *Store) LocationOwner(ctx context.Context, loc string, except int64) (owner string, err error) {
	err = s.read(ctx, "location "+loc, func(t *tx) error {
		owner, err = t.locationOwner(loc, except)
		return err
	})
	return owner, err
}

func (t *tx) locationOwner(loc string, except int64) (string, error) {
	uuid, err := t.tableAt(loc, except)
	if err == nil {
		return "table " + uuid, nil
	}
	if !errors.Is(err, catalog.ErrNoSuchTable) {
		return "", err
	}
	err = t.at("SELECT uuid FROM views WHERE ", "metadata_dir", nil, loc, &uuid)
	return "view " + uuid, err
}

// TableAt is LocationOwner among the tables alone.
func (s *Store) TableAt(ctx context.Context, loc string) (uuid string, err error) {
	err = s.read(ctx, "location "+loc, func(t *tx) error {
		uuid, err = t.tableAt(loc, 0)
		return err
	})
	return uuid, err
}

func (t *tx) tableAt(loc string, except int64) (uuid string, err error) {
	err = t.at("SELECT uuid FROM tables WHERE id <> ? AND ", "location", []any{except}, loc, &uuid)
	return uuid, err
}

// at finds a row whose column is loc, above it or below it.
func (t *tx) at(query, column string, args []any, loc string, uuid *string) error {
	above := []string{}
	for p := loc; p != ""; {
		above = append(above, p)
		p = p[:max(strings.LastIndexByte(p, '/'), 0)]
	}
	list, err := json.Marshal(above)
	if err != nil {
		return err
	}
	// '0' follows '/' in byte order, so the range is exactly what begins with loc and a slash.
	err = t.row(query+"("+column+" IN ("+t.d.texts+") OR "+column+" >= ? AND "+column+" < ?) LIMIT 1",
		append(args, string(list), loc+"/", loc+"0"), uuid)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: none at %s", catalog.ErrNoSuchTable, loc)
	}
	return err
}

// Rename moves a table to another name. A commit that was prepared under the old name fails with ErrStale.
func (s *Store) Rename(ctx context.Context, from, to catalog.Identifier) error {
	return s.change(ctx, "rename table "+from.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		h, err := t.head(from)
		if err != nil {
			return err
		}
		return t.rename("tables", h.ID, from, to)
	})
}

// Drop removes a table's rows, its history with them, and returns the row it had.
func (s *Store) Drop(ctx context.Context, id catalog.Identifier) (h Head, err error) {
	err = s.change(ctx, "drop table "+id.String(), func(t *tx) error {
		if err := t.alone(); err != nil {
			return err
		}
		if h, err = t.head(id); err != nil {
			return err
		}
		return t.drop(h.ID)
	})
	return h, err
}

func (t *tx) drop(id int64) error {
	// A commit that is under way ends first, or finds the table gone: it must not add rows behind the deletes.
	var version int64
	if err := t.row("SELECT version FROM tables WHERE id = ?"+t.d.forUpdate, []any{id}, &version); err != nil {
		return err
	}
	for _, table := range []string{"skeletons", "snapshots", "refs", "snapshot_log", "metadata_files", "history"} {
		if _, err := t.exec("DELETE FROM "+table+" WHERE table_id = ?", id); err != nil {
			return err
		}
	}
	_, err := t.exec("DELETE FROM tables WHERE id = ?", id)
	return err
}

func jsonIDs(ids []int64) string {
	if len(ids) == 0 {
		return "[]"
	}
	b, _ := json.Marshal(ids) // integers always encode
	return string(b)
}

func reverse[T any](s []T) {
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
}
