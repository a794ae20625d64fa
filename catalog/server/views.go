package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/iceberg-go/view"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/crash"
)

// ListViews lists the views of a namespace.
func (s *Service) ListViews(ctx context.Context, ns catalog.Identifier) ([]catalog.Identifier, error) {
	ids, _, err := s.listViews(ctx, ns, sqlstore.Page{})
	return ids, err
}

func (s *Service) listViews(ctx context.Context, ns catalog.Identifier, page sqlstore.Page) ([]catalog.Identifier, bool, error) {
	if err := checkNamespace(ns); err != nil {
		return nil, false, fmt.Errorf("list views: %w", err)
	}
	names, more, err := s.store.ListViews(ctx, ns, page)
	return children(ns, names), more, err
}

// createView makes a view. Its metadata file is written first and its row names it, so what is handed out is there.
func (s *Service) createView(ctx context.Context, id catalog.Identifier, req wire.CreateView) (sqlstore.View, error) {
	var none sqlstore.View
	if err := checkTableName(id); err != nil {
		return none, err
	}
	if err := s.free(ctx, id, "view"); err != nil {
		return none, err
	}
	m, err := s.newViewMetadata(req)
	if err != nil {
		return none, err
	}
	v, err := s.viewRow(ctx, sqlstore.View{UUID: m.ViewUUID().String()}, m)
	if err != nil {
		return none, err
	}
	crash.At(ctx, crash.CatalogViewWritten)
	made, err := s.store.CreateView(ctx, id, v)
	s.forget(ctx, v.MetadataLocation, err)
	if err == nil {
		crash.At(ctx, crash.CatalogViewCommitted)
	}
	return made, err
}

// registerView makes a view of a metadata file in the warehouse, as it stands there.
func (s *Service) registerView(ctx context.Context, id catalog.Identifier, metadataLocation string) (sqlstore.View, error) {
	var none sqlstore.View
	if err := checkTableName(id); err != nil {
		return none, err
	}
	if err := s.free(ctx, id, "view"); err != nil {
		return none, err
	}
	loc := strings.TrimRight(metadataLocation, "/")
	clean, err := cleanLocation(s.wh.URI, loc)
	if err != nil {
		return none, err
	}
	if err := s.checkNoTable(ctx, clean); err != nil { // it would go with the table, and tell what is in its files
		return none, fmt.Errorf("metadata file: %w", err)
	}
	doc, err := s.readMetadata(ctx, loc)
	if err != nil {
		return none, err
	}
	m, err := parseView(doc)
	if err == nil {
		err = checkKeys(doc)
	}
	if err != nil {
		return none, fmt.Errorf("metadata file %s: %w", loc, err)
	}
	dir, err := s.viewDir(ctx, m, "")
	if err != nil {
		return none, err
	}
	return s.store.CreateView(ctx, id, sqlstore.View{UUID: m.ViewUUID().String(), MetadataDir: dir, MetadataLocation: loc, Body: doc})
}

// parseView decodes a view's metadata and makes sure that a builder takes it. A panic of the library is a bad request.
func parseView(doc []byte) (m view.Metadata, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: its metadata cannot be decoded: %v", errArgument, p)
		}
	}()
	if m, err = view.ParseMetadataBytes(doc); err != nil {
		return nil, fmt.Errorf("%w: its metadata: %w", errArgument, err)
	}
	b, err := view.MetadataBuilderFromBase(m)
	if err != nil {
		return nil, fmt.Errorf("%w: its metadata: %w", errArgument, err)
	}
	_, err = buildView(b, func() error { return nil })
	return m, err
}

// newViewMetadata makes the first metadata of a view. A panic of the library is a bad request.
func (s *Service) newViewMetadata(req wire.CreateView) (m view.Metadata, err error) {
	switch {
	case req.Schema == nil:
		return nil, fmt.Errorf("%w: the schema is missing", catalog.ErrInvalid)
	case req.Version == nil:
		return nil, fmt.Errorf("%w: view-version is missing", catalog.ErrInvalid)
	}
	id := uuid.New()
	root, err := s.rootOf(req.Location, id)
	if err != nil {
		return nil, err
	}
	b, err := view.NewMetadataBuilder()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	return buildView(b, func() error {
		return b.SetUUID(id).SetLoc(root).SetProperties(maps.Clone(req.Properties)).SetCurrentVersion(req.Version, req.Schema).Err()
	})
}

// buildView runs the changes on a builder and checks what comes out: the library neither refuses two versions of
// one id nor a current version that is not there.
func buildView(b *view.MetadataBuilder, changes func() error) (m view.Metadata, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: it cannot be made: %v", errArgument, p)
		}
	}()
	if err := changes(); err != nil {
		return nil, fmt.Errorf("%w: %w", errArgument, err)
	}
	r, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errArgument, err)
	}
	r.CurrentSchema() // panics where the current version or its schema is missing
	return r.Metadata, nil
}

// viewRow checks where a view lies, writes its metadata file and gives the row that names it. was is the row before.
func (s *Service) viewRow(ctx context.Context, was sqlstore.View, m view.Metadata) (sqlstore.View, error) {
	clean, err := s.viewDir(ctx, m, was.MetadataDir)
	if err != nil {
		return was, err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return was, fmt.Errorf("%w: encode the view's metadata: %w", catalog.ErrInvalid, err)
	}
	loc, err := s.putMetadata(ctx, metadataDir(m.Location(), m.Properties()), was.Version+1, body)
	was.MetadataDir, was.MetadataLocation, was.Body = clean, loc, body
	return was, err
}

// viewDir checks where a view lies and returns the clean directory of its metadata files, which was before perhaps.
// It is no table's: a file in there would go with the table. The store checks that again as it commits.
func (s *Service) viewDir(ctx context.Context, m view.Metadata, before string) (string, error) {
	if err := s.checkLocation(m.Location()); err != nil {
		return "", err
	}
	dir, err := cleanLocation(s.wh.URI, metadataDir(m.Location(), m.Properties()))
	if err != nil || dir == before {
		return dir, err
	}
	if err := checkRoom(dir); err != nil {
		return "", err
	}
	return dir, s.checkNoTable(ctx, dir)
}

// checkNoTable checks that a clean location is in no table's place.
func (s *Service) checkNoTable(ctx context.Context, clean string) error {
	owner, err := s.store.TableAt(ctx, clean)
	if err == nil {
		return fmt.Errorf("%w: location %s overlaps that of table %s", catalog.ErrInvalid, clean, owner)
	}
	if !errors.Is(err, catalog.ErrNoSuchTable) {
		return err
	}
	return nil
}

// forget deletes a metadata file whose row was refused: nobody was told of it. Where the outcome is unknown it stays.
func (s *Service) forget(ctx context.Context, loc string, err error) {
	if err == nil || errors.Is(err, catalog.ErrUnknownOutcome) {
		return
	}
	key, kerr := s.key(loc)
	if kerr == nil {
		kerr = s.wh.Delete(context.WithoutCancel(ctx), key)
	}
	if kerr != nil {
		s.log.Warn("an unnamed metadata file is left over", "location", loc, "error", kerr)
	}
}

// loadView reads a view's newest state.
func (s *Service) loadView(ctx context.Context, id catalog.Identifier) (sqlstore.View, error) {
	if err := checkTableName(id); err != nil {
		return sqlstore.View{}, err
	}
	return s.store.LoadView(ctx, id)
}

// commitView applies updates to a view when all requirements hold. Updates that change nothing commit nothing.
func (s *Service) commitView(ctx context.Context, id catalog.Identifier, reqs view.Requirements, updates view.Updates) (sqlstore.View, error) {
	unlock, err := s.lock(ctx, []catalog.Identifier{id})
	if err != nil {
		return sqlstore.View{}, err
	}
	defer unlock()
	for try := 0; ; try++ {
		v, err := s.tryCommitView(ctx, id, reqs, updates)
		if !errors.Is(err, sqlstore.ErrStale) {
			return v, err
		}
		s.m.stale.Inc()
		if try == maxStale {
			return v, fmt.Errorf("%w: the view moved %d times during the commit: %w", catalog.ErrUnavailable, try+1, err)
		}
	}
}

func (s *Service) tryCommitView(ctx context.Context, id catalog.Identifier, reqs view.Requirements, updates view.Updates) (sqlstore.View, error) {
	was, err := s.loadView(ctx, id)
	if err != nil {
		return was, err
	}
	base, err := view.ParseMetadataBytes(was.Body)
	if err != nil {
		return was, fmt.Errorf("view %s in the catalog's database: %w", id, err)
	}
	for _, r := range reqs {
		if err := r.Validate(base); err != nil {
			s.m.conflicts.Inc()
			return was, fmt.Errorf("%w: %w", catalog.ErrConflict, err)
		}
	}
	b, err := view.MetadataBuilderFromBase(base)
	if err != nil {
		return was, fmt.Errorf("view %s in the catalog's database: %w", id, err)
	}
	m, err := buildView(b, func() error { return applyView(b, base, updates) })
	if err != nil {
		return was, err
	}
	if !b.HasChanges() {
		return was, nil
	}
	v, err := s.viewRow(ctx, was, m)
	if err != nil {
		return was, err
	}
	crash.At(ctx, crash.CatalogViewWritten)
	after, err := s.store.ReplaceView(ctx, id, v)
	s.forget(ctx, v.MetadataLocation, err)
	if err == nil {
		crash.At(ctx, crash.CatalogViewCommitted)
		s.m.commits.Inc()
	}
	return after, err
}

// applyView applies the updates. A version that the view has already is not added a second time, which the library
// would do: a set-current-view-version of the last added one then means that one.
func applyView(b *view.MetadataBuilder, base view.Metadata, updates view.Updates) error {
	have, last := base.Versions(), int64(0)
	for i, u := range updates {
		var v struct {
			View    *view.Version `json:"view-version"`
			Current *int64        `json:"view-version-id"`
		}
		raw, err := json.Marshal(u)
		if err == nil {
			err = json.Unmarshal(raw, &v)
		}
		if err != nil {
			return fmt.Errorf("update %d (%s): %w", i, u.Action(), err)
		}
		switch u.Action() {
		case view.UpdateAddViewVersion:
			last = 0
			if v.View == nil {
				return fmt.Errorf("update %d (%s): view-version is missing", i, u.Action())
			}
			if j := slices.IndexFunc(have, v.View.Equals); j >= 0 {
				last = have[j].VersionID
				continue
			}
		case view.UpdateSetCurrentViewVersion:
			if v.Current != nil && *v.Current == view.LastAddedID && last != 0 {
				u = view.NewSetCurrentVersionUpdate(last)
			}
		}
		if err := u.Apply(b); err != nil {
			return fmt.Errorf("update %d (%s): %w", i, u.Action(), err)
		}
		if err := b.Err(); err != nil {
			return fmt.Errorf("update %d (%s): %w", i, u.Action(), err)
		}
	}
	return nil
}

// viewExists gives ErrNoSuchView when it does not.
func (s *Service) viewExists(ctx context.Context, id catalog.Identifier) error {
	_, err := s.loadView(ctx, id)
	return err
}

// renameView gives a view another name, perhaps in another namespace.
func (s *Service) renameView(ctx context.Context, from, to catalog.Identifier) error {
	for _, id := range []catalog.Identifier{from, to} {
		if err := checkTableName(id); err != nil {
			return fmt.Errorf("rename view: %w", err)
		}
	}
	if err := checkNewName(to); err != nil {
		return fmt.Errorf("rename view: %w", err)
	}
	return s.store.RenameView(ctx, from, to)
}

// dropView removes a view. Its metadata files stay where they are: they are small, and they may have been handed out.
func (s *Service) dropView(ctx context.Context, id catalog.Identifier) error {
	if err := checkTableName(id); err != nil {
		return fmt.Errorf("drop view: %w", err)
	}
	return s.store.DropView(ctx, id)
}
