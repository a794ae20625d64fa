package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	query, args, err := t.stateQuery(st, scope)
	if err != nil {
		return nil, err
	}
	if err := t.rows(query+" ORDER BY kind, n", args, st.add); err != nil {
		return nil, fmt.Errorf("snapshots, refs and logs: %w", err)
	}
	slices.SortFunc(st.Refs, func(a, b Ref) int { return strings.Compare(a.Name, b.Name) })
	return st, nil
}

// What a row of stateQuery is.
const (
	rowSnapshot = iota
	rowRef
	rowLog
	rowFile
)

// stateQuery asks for all that hangs on a table's row, in one statement: a load is a matter of round trips. A row is its
// kind, its place among them, a snapshot's id, a time, a name and a body.
func (t *tx) stateQuery(st *State, scope Scope) (query string, args []any, err error) {
	query = "SELECT 0 AS kind, ord AS n, snapshot_id AS id, 0 AS at_ms, '' AS name, body FROM snapshots WHERE table_id = ?"
	args = []any{st.ID}
	if !scope.AllSnapshots {
		var also []int64
		if scope.Also != nil {
			if also, err = scope.Also(st.Skeleton); err != nil {
				return "", nil, err
			}
		}
		query += " AND snapshot_id IN (SELECT snapshot_id FROM refs WHERE table_id = ? AND (name < ? OR name >= ?) UNION " + t.d.ids + ")"
		args = append(args, st.ID, scope.SkipFrom, scope.SkipTo, jsonIDs(also))
	}
	limit := 1
	if scope.FullLog {
		limit = noLimit
	}
	query += ` UNION ALL SELECT 1, 0, snapshot_id, 0, name, body FROM refs WHERE table_id = ? AND (name < ? OR name >= ?)
		UNION ALL SELECT 2, l.version, l.snapshot_id, l.at_ms, '', NULL FROM
			(SELECT version, snapshot_id, at_ms FROM snapshot_log WHERE table_id = ? ORDER BY version DESC LIMIT ?) AS l`
	args = append(args, st.ID, scope.SkipFrom, scope.SkipTo, st.ID, limit)
	if scope.MetadataLog > 0 {
		query += ` UNION ALL SELECT 3, f.version, 0, f.at_ms, f.location, NULL FROM
			(SELECT version, at_ms, location FROM metadata_files WHERE table_id = ? AND version < ? ORDER BY version DESC LIMIT ?) AS f`
		args = append(args, st.ID, st.Version, scope.MetadataLog)
	}
	return query, args, nil
}

// add takes a row of stateQuery.
func (st *State) add(r *sql.Rows) error {
	var kind int
	var n, id, at int64
	var name string
	var body []byte
	if err := r.Scan(&kind, &n, &id, &at, &name, &body); err != nil {
		return err
	}
	switch kind {
	case rowSnapshot:
		st.Snapshots = append(st.Snapshots, Snapshot{id, body})
	case rowRef:
		st.Refs = append(st.Refs, Ref{name, id, body})
	case rowLog:
		st.Log = append(st.Log, LogEntry{AtMS: at, SnapshotID: id})
	case rowFile:
		st.MetadataFiles = append(st.MetadataFiles, MetadataFile{Version: n, AtMS: at, Location: name})
	}
	return nil
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
	// '0' follows '/' in byte order, so the range is exactly what begins with loc and a slash. Two statements in one, as with an
	// OR Postgres reads every row.
	both := append(append(slices.Clone(args), string(list)), append(slices.Clone(args), loc+"/", loc+"0")...)
	err = t.row(query+column+" IN ("+t.d.texts+") UNION ALL "+query+column+" >= ? AND "+column+" < ? LIMIT 1", both, uuid)
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
