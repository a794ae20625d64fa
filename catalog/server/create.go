package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/objstore"
)

// maxDepth bounds the parts of a namespace.
const maxDepth = 32

// Table properties that name places where writers put files.
const (
	propDataPath     = "write.data.path"
	propMetadataPath = "write.metadata.path"
	propPrevious     = "write.metadata.previous-versions-max"
)

// checkName checks one part of a name. Names are only ever values in the database, never paths.
func checkName(part string) error {
	switch {
	case part == "":
		return fmt.Errorf("%w: a name is empty", catalog.ErrInvalid)
	case len(part) > maxNameBytes:
		return fmt.Errorf("%w: a name of %d bytes: more than %d", catalog.ErrInvalid, len(part), maxNameBytes)
	case !utf8.ValidString(part):
		return fmt.Errorf("%w: name %q is not UTF-8", catalog.ErrInvalid, part)
	case strings.ContainsAny(part, "\x00"+wire.Separator):
		return fmt.Errorf("%w: name %q has a NUL or a unit separator", catalog.ErrInvalid, part)
	}
	return nil
}

// checkNamespace checks a namespace that must have at least one part.
func checkNamespace(ns catalog.Identifier) error {
	if len(ns) == 0 {
		return fmt.Errorf("%w: the namespace is empty", catalog.ErrInvalid)
	}
	if len(ns) > maxDepth {
		return fmt.Errorf("%w: a namespace of %d parts: more than %d", catalog.ErrInvalid, len(ns), maxDepth)
	}
	for _, p := range ns {
		if err := checkName(p); err != nil {
			return fmt.Errorf("namespace %s: %w", ns, err)
		}
	}
	return nil
}

func checkTableName(id catalog.Identifier) error {
	if len(id) < 2 {
		return fmt.Errorf("%w: table %q has no namespace, write namespace.table", catalog.ErrInvalid, id.String())
	}
	if err := checkNamespace(id.Namespace()); err != nil {
		return err
	}
	if err := checkName(id.Name()); err != nil {
		return fmt.Errorf("table %s: %w", id, err)
	}
	return nil
}

// creates reports whether the requirements ask that the table does not exist yet.
func creates(reqs table.Requirements) bool {
	for _, r := range reqs {
		if r != nil && r.GetType() == "assert-create" {
			return true
		}
	}
	return false
}

// rootOf chooses the location of a new table or view: never by its name, so that a rename moves nothing and one
// that is made again under an old name shares no file with the old one. A location that is asked for is kept as
// it is written, "file:/x" as well as "file:///x": clients compare it with what they asked for.
func (s *Service) rootOf(asked string, id uuid.UUID) (string, error) {
	if asked == "" {
		return s.wh.URI + "/" + id.String(), nil
	}
	return strings.TrimRight(asked, "/"), s.checkLocation(asked)
}

// checkMetadataLocations checks every place that metadata names against the warehouse and the other tables, and
// returns the table's location in its clean form. tableID is 0 for a table that does not exist yet.
func (s *Service) checkMetadataLocations(ctx context.Context, m table.Metadata, tableID int64) (root string, err error) {
	root, err = cleanLocation(s.wh.URI, m.Location())
	if err != nil {
		return "", err
	}
	places := []string{root}
	if err := checkProperties(m.Properties()); err != nil {
		return "", err
	}
	for _, key := range propertyPlaces {
		v := m.Properties()[key]
		if v == "" {
			continue
		}
		p, err := cleanLocation(s.wh.URI, v)
		if err != nil {
			return "", fmt.Errorf("property %s: %w", key, err)
		}
		if !within(p, root) {
			if s.who != nil { // only a table's location is kept from others, so its files must not lie elsewhere
				return "", fmt.Errorf("%w: property %s: %s is not in the table's location %s, and with access control it must be", catalog.ErrInvalid, key, v, root)
			}
			places = append(places, p)
		}
	}
	for _, p := range places {
		if err := checkRoom(p); err != nil {
			return "", err
		}
		owner, err := s.store.LocationOwner(ctx, p, tableID)
		if err == nil {
			return "", fmt.Errorf("%w: location %s overlaps that of %s", catalog.ErrInvalid, p, owner)
		}
		if !errors.Is(err, catalog.ErrNoSuchTable) {
			return "", err
		}
	}
	return root, nil
}

// newMetadata makes the first metadata of a table. A panic of the library is a bad request.
func (s *Service) newMetadata(req catalog.CreateTable) (m table.Metadata, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: the table cannot be made: %v", catalog.ErrInvalid, p)
		}
	}()
	if req.Schema == nil {
		return nil, fmt.Errorf("%w: the schema is missing", catalog.ErrInvalid)
	}
	id := uuid.New()
	root, err := s.rootOf(req.Location, id)
	if err != nil {
		return nil, err
	}
	order := table.UnsortedSortOrder
	if req.SortOrder != nil {
		order = *req.SortOrder
	}
	spec := req.Partition
	if spec == nil {
		spec = iceberg.UnpartitionedSpec
	}
	m, err = table.NewMetadataWithUUID(req.Schema, spec, order, root, maps.Clone(req.Properties), id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	return m, nil
}

// stage prepares a table that a later commit with assert-create makes, and returns its clean location with it.
func (s *Service) stage(ctx context.Context, id catalog.Identifier, req catalog.CreateTable) (m table.Metadata, root string, err error) {
	if err := checkTableName(id); err != nil {
		return nil, "", err
	}
	if err := s.free(ctx, id, "table"); err != nil {
		return nil, "", err
	}
	if m, err = s.newMetadata(req); err != nil {
		return nil, "", err
	}
	root, err = s.checkMetadataLocations(ctx, m, 0)
	return m, root, err
}

// StageTable returns the metadata that CreateTable would make, and writes nothing.
func (s *Service) StageTable(ctx context.Context, id catalog.Identifier, req catalog.CreateTable) (table.Metadata, error) {
	m, _, err := s.stage(ctx, id, req)
	if err != nil {
		return nil, fmt.Errorf("stage table %s: %w", id, err)
	}
	return m, nil
}

// CreateTable implements catalog.Catalog.
func (s *Service) CreateTable(ctx context.Context, id catalog.Identifier, req catalog.CreateTable) (*catalog.Table, error) {
	l, err := s.create(ctx, id, req)
	if err != nil {
		return nil, fmt.Errorf("create table %s: %w", id, err)
	}
	return l.table(id), nil
}

func (s *Service) create(ctx context.Context, id catalog.Identifier, req catalog.CreateTable) (*lean, error) {
	m, root, err := s.stage(ctx, id, req)
	if err != nil {
		return nil, err
	}
	change, l, err := newTable(id, m, root)
	if err != nil {
		return nil, err
	}
	return s.insert(ctx, change, l)
}

// insert writes a table that does not exist yet.
func (s *Service) insert(ctx context.Context, change sqlstore.Change, l *lean) (*lean, error) {
	crash.At(ctx, crash.CatalogBeforeCommit)
	heads, err := s.store.Commit(ctx, []sqlstore.Change{change})
	if err != nil {
		return nil, err
	}
	crash.At(ctx, crash.CatalogAfterCommit)
	l.head = heads[0]
	s.remember(l)
	return l, nil
}

// newTable gives the rows of a table that does not exist yet. root is its clean location.
func newTable(id catalog.Identifier, m table.Metadata, root string) (sqlstore.Change, *lean, error) {
	skeleton, err := skeletonOf(m)
	if err != nil {
		return sqlstore.Change{}, nil, err
	}
	c := sqlstore.Change{Head: headOf(sqlstore.Head{Location: root}, m), Name: id, Skeleton: skeleton}
	for _, sn := range m.Snapshots() {
		r, err := snapshotRow(&sn)
		if err != nil {
			return c, nil, err
		}
		c.AddSnapshots = append(c.AddSnapshots, r)
	}
	for name, ref := range m.Refs() {
		r, err := refRow(name, ref)
		if err != nil {
			return c, nil, err
		}
		c.SetRefs = append(c.SetRefs, r)
	}
	if cur := currentID(m); cur != nil {
		c.History = &sqlstore.History{SnapshotID: *cur, Offsets: offsetsOf(m.SnapshotByID(*cur))}
	}
	ids, err := statisticsSnapshots(skeleton)
	if err != nil {
		return c, nil, err
	}
	l := &lean{head: c.Head, skeleton: skeleton, meta: m, stats: len(ids) > 0, loose: len(c.AddSnapshots)}
	return c, l, l.readable()
}

// applyCreate evaluates a commit that makes its table: the second half of a staged creation.
func (s *Service) applyCreate(ctx context.Context, c catalog.TableCommit) (sqlstore.Change, *lean, error) {
	if err := checkNewName(c.Identifier); err != nil {
		return sqlstore.Change{}, nil, err
	}
	if err := validate(c.Requirements, nil); err != nil {
		return sqlstore.Change{}, nil, err
	}
	t, err := s.survey(c.Updates, nil)
	if err != nil {
		return sqlstore.Change{}, nil, err
	}
	format := t.format
	if format == 0 {
		format = table.DefaultFormatVersion
	}
	b, err := table.NewMetadataBuilder(format)
	if err != nil {
		return sqlstore.Change{}, nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	// The builder is made with the version asked for and refuses to be told again.
	updates := schemaFirst(c.Updates)
	m, err := build(b, updates, func(i int) bool { return updates[i].Action() == table.UpdateUpgradeFormatVersion })
	if err != nil {
		return sqlstore.Change{}, nil, err
	}
	root, err := s.checkMetadataLocations(ctx, m, 0)
	if err != nil {
		return sqlstore.Change{}, nil, err
	}
	if err := s.checkPlaces(ctx, m, root, 0, t.places); err != nil {
		return sqlstore.Change{}, nil, err
	}
	change, l, err := newTable(c.Identifier, m, root)
	change.Log = lastLog(m)
	return change, l, err
}

// schemaFirst moves set-current-schema to just behind the add-schema before it: the library binds specs and sort
// orders to the current schema as they come, and DuckDB names the current schema of a new table last of all.
func schemaFirst(updates table.Updates) table.Updates {
	added := slices.IndexFunc(updates, func(u table.Update) bool { return u.Action() == table.UpdateAddSchema })
	current := slices.IndexFunc(updates, func(u table.Update) bool { return u.Action() == table.UpdateSetCurrentSchema })
	if added < 0 || current <= added+1 {
		return updates
	}
	for i := added + 1; i < current; i++ {
		if updates[i].Action() == table.UpdateAddSchema {
			added = i
		}
	}
	u := updates[current]
	return slices.Insert(slices.Delete(slices.Clone(updates), current, current+1), added+1, u)
}

// RegisterTable makes a table of a metadata file in the warehouse, as it stands there.
func (s *Service) RegisterTable(ctx context.Context, id catalog.Identifier, metadataLocation string) (*catalog.Table, error) {
	l, err := s.register(ctx, id, metadataLocation, false)
	if err != nil {
		return nil, fmt.Errorf("register table %s: %w", id, err)
	}
	return l.table(id), nil
}

// register makes a table of a metadata file. With overwrite a table that has the name goes in the same transaction,
// its commit history with it; its files stay.
func (s *Service) register(ctx context.Context, id catalog.Identifier, metadataLocation string, overwrite bool) (*lean, error) {
	if err := checkTableName(id); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, []catalog.Identifier{id})
	if err != nil {
		return nil, err
	}
	defer unlock()
	var old sqlstore.Head
	if overwrite {
		if old, err = s.store.Head(ctx, id); err != nil && !errors.Is(err, catalog.ErrNoSuchTable) {
			return nil, err
		}
	}
	if old.ID == 0 {
		if err := s.free(ctx, id, "table"); err != nil {
			return nil, err
		}
	}
	loc := strings.TrimRight(metadataLocation, "/")
	doc, err := s.readMetadata(ctx, loc)
	if err != nil {
		return nil, err
	}
	m, err := parse(doc)
	if err != nil {
		return nil, fmt.Errorf("metadata file %s: %w", loc, err)
	}
	if err := errors.Join(checkKeys(doc), checkLists(m), checkNumbers(m)); err != nil {
		return nil, fmt.Errorf("metadata file %s: %w", loc, err)
	}
	root, err := s.checkMetadataLocations(ctx, m, old.ID)
	if err != nil {
		return nil, err
	}
	if err := s.checkPlaces(ctx, m, root, old.ID, append(placesOf(m), place{"metadata file", loc})); err != nil {
		return nil, err
	}
	change, l, err := newTable(id, m, root)
	if err != nil {
		return nil, err
	}
	change.MaterializedLocation, change.Replaces, change.FirstVersion = loc, old.ID, fileVersion(loc)
	for e := range m.SnapshotLogs() {
		change.EarlierLog = append(change.EarlierLog, sqlstore.LogEntry{AtMS: e.TimestampMs, SnapshotID: e.SnapshotID})
		change.EarlierHistory = append(change.EarlierHistory,
			sqlstore.History{SnapshotID: e.SnapshotID, AtMS: e.TimestampMs, Offsets: offsetsOf(m.SnapshotByID(e.SnapshotID))})
	}
	for e := range m.PreviousFiles() {
		change.EarlierFiles = append(change.EarlierFiles, sqlstore.MetadataFile{AtMS: e.TimestampMs, Location: e.MetadataFile})
	}
	l, err = s.insert(ctx, change, l)
	switch {
	case errors.Is(err, sqlstore.ErrStale): // another process replaced or dropped it meanwhile
		return nil, fmt.Errorf("%w: %w", catalog.ErrConflict, err)
	case err == nil && old.ID != 0:
		s.leans.Drop(old.ID)
		s.exposed.Drop(old.ID)
	}
	return l, err
}

// readMetadata reads a metadata file in the warehouse, if it is no larger than max_metadata.
func (s *Service) readMetadata(ctx context.Context, loc string) ([]byte, error) {
	key, err := s.key(loc)
	if err != nil {
		return nil, err
	}
	doc, err := s.wh.Get(ctx, key, int64(s.cfg.MaxMetadata))
	if errors.Is(err, objstore.ErrTooLarge) {
		return nil, fmt.Errorf("%w: metadata file %s has more bytes than max_metadata allows: %w", catalog.ErrInvalid, loc, err)
	}
	if err != nil {
		return nil, storageError("metadata file "+loc, err)
	}
	return doc, nil
}

// metadataDir is the location where the metadata files of a table or view go, as its writers write it.
func metadataDir(location string, props iceberg.Properties) string {
	if p := props[propMetadataPath]; p != "" {
		return strings.TrimRight(p, "/")
	}
	return strings.TrimRight(location, "/") + "/metadata"
}
