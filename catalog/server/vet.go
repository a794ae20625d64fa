package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

const (
	// vetReaders is how many manifests of one commit are read at once.
	vetReaders = 8
	// maxKnownManifests bounds the manifests that are remembered as looked at, all tables together.
	maxKnownManifests = 200_000
)

// ManifestCheck says whether what is in the manifests of a commit is looked at.
type ManifestCheck struct {
	Mode         string      `yaml:"mode" jsonschema_description:"on: a commit over HTTP is refused when a manifest that it adds names a file outside of the table's places. off: it is not looked at. Default: on with token or auth, off without."`
	MaxManifests int         `yaml:"max_manifests" jsonschema_description:"Manifests that one commit may add; default 2000."`
	MaxBytes     units.Bytes `yaml:"max_bytes" jsonschema_description:"What the manifests that one commit adds may have, all together; also what is looked at at the same time. Default 512MiB."`
}

// WithDefaults fills unset fields but Mode, which depends on who may use the catalog.
func (c ManifestCheck) WithDefaults() ManifestCheck {
	if c.MaxManifests == 0 {
		c.MaxManifests = 2000
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 512 << 20
	}
	return c
}

// Validate names the first value that cannot be used.
func (c ManifestCheck) Validate() error {
	switch {
	case c.Mode != "" && c.Mode != "on" && c.Mode != "off":
		return fmt.Errorf("mode: %q is neither on nor off", c.Mode)
	case c.MaxManifests < 1:
		return fmt.Errorf("max_manifests: %d is less than 1", c.MaxManifests)
	case c.MaxBytes < 1<<10:
		return fmt.Errorf("max_bytes: %d is less than 1KiB", c.MaxBytes)
	}
	return nil
}

// vetter looks into the manifests that commits bring.
type vetter struct {
	cfg     ManifestCheck
	known   *lru.Cache[int64, map[string]bool] // by table: the manifests of the list that was looked at last
	reading *semaphore.Weighted
}

// newVetter returns nil when manifests are not looked into.
func newVetter(c ManifestCheck, guarded bool) *vetter {
	if c.Mode == "off" || c.Mode == "" && !guarded {
		return nil
	}
	return &vetter{cfg: c, known: lru.New[int64, map[string]bool](maxKnownManifests), reading: semaphore.NewWeighted(int64(c.MaxBytes))}
}

// vet looks into the snapshots that commits add, before they are made: every file that a new manifest names must lie where
// the table's files may lie. A manifest is new when the parent's list has it not; what it says of itself counts for
// nothing. It is for requests: the process itself, which has the storage's keys, is not asked.
func (s *Service) vet(ctx context.Context, commits []catalog.TableCommit) error {
	if s.vets == nil {
		return nil
	}
	for _, c := range commits {
		began := time.Now()
		n, err := s.vetCommit(ctx, c)
		if n == 0 && err == nil {
			continue
		}
		s.m.vetSeconds.Observe(time.Since(began).Seconds())
		switch {
		case err == nil:
			s.m.vetted.WithLabelValues("passed").Inc()
		case errors.Is(err, catalog.ErrInvalid):
			s.m.vetted.WithLabelValues("refused").Inc()
		default:
			s.m.vetted.WithLabelValues("failed").Inc()
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", c.Identifier, err)
		}
	}
	return nil
}

// vetCommit returns how many snapshots it looked into.
func (s *Service) vetCommit(ctx context.Context, c catalog.TableCommit) (n int, err error) {
	var added []table.Snapshot
	location := ""
	for _, u := range c.Updates {
		if u == nil || u.Action() != table.UpdateAddSnapshot && u.Action() != table.UpdateSetLocation {
			continue // a null is refused where updates are applied
		}
		var v struct {
			Location string         `json:"location"`
			Snapshot table.Snapshot `json:"snapshot"`
		}
		if err := readUpdate(u, &v); err != nil {
			return 0, err
		}
		if u.Action() == table.UpdateSetLocation {
			location = v.Location
		} else if v.Snapshot.ManifestList != "" {
			added = append(added, v.Snapshot)
		}
	}
	if len(added) == 0 {
		return 0, nil
	}
	base, err := s.current(ctx, c.Identifier)
	if errors.Is(err, catalog.ErrNoSuchTable) && creates(c.Requirements) {
		base, err = nil, nil
	}
	if err != nil {
		return 0, err
	}
	var own []string
	tableID := int64(0)
	if base != nil {
		own, tableID = s.ownPlaces(base.meta, base.head.Location), base.head.ID
	} else if clean, err := cleanLocation(s.wh.URI, location); err == nil {
		own = []string{clean} // that it is nobody else's is checked when the table is made
	}
	for i := range added {
		if err := s.vetSnapshot(ctx, base, tableID, own, &added[i]); err != nil {
			return i + 1, fmt.Errorf("snapshot %d: %w", added[i].SnapshotID, err)
		}
	}
	return len(added), nil
}

func (s *Service) vetSnapshot(ctx context.Context, base *lean, tableID int64, own []string, sn *table.Snapshot) error {
	if err := s.checkPlacesIn(ctx, own, tableID, []place{{"manifest list", sn.ManifestList}}); err != nil {
		return err
	}
	list, err := snapshot.ReadManifests(ctx, &s.wh, sn)
	if err != nil {
		return vetError(err)
	}
	known, _ := s.vets.known.Get(tableID)
	fresh := newManifests(list, known)
	if len(fresh) > 1 && base != nil { // another process made the parent, or this one has just begun
		if known, err = s.parentManifests(ctx, base, sn); err != nil {
			return err
		}
		fresh = newManifests(list, known)
	}
	if len(fresh) > s.vets.cfg.MaxManifests {
		return fmt.Errorf("%w: it adds %d manifests, manifest_check.max_manifests allows %d", catalog.ErrInvalid, len(fresh), s.vets.cfg.MaxManifests)
	}
	total := int64(0)
	for _, m := range fresh {
		if m.Length() < 0 || m.Length() > int64(s.vets.cfg.MaxBytes) {
			return fmt.Errorf("%w: manifest %s has %d bytes, manifest_check.max_bytes allows %d", catalog.ErrInvalid, m.FilePath(), m.Length(), s.vets.cfg.MaxBytes)
		}
		total += m.Length()
	}
	if total > int64(s.vets.cfg.MaxBytes) {
		return fmt.Errorf("%w: its new manifests have %d bytes, manifest_check.max_bytes allows %d", catalog.ErrInvalid, total, s.vets.cfg.MaxBytes)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(vetReaders)
	for _, m := range fresh {
		g.Go(func() error { return s.vetManifest(gctx, own, tableID, m) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if tableID != 0 {
		all := make(map[string]bool, len(list))
		for _, m := range list {
			all[m.FilePath()] = true
		}
		s.vets.known.Put(tableID, int64(1+len(all)), all)
	}
	return nil
}

// newManifests are those of a list that are not known, each once.
func newManifests(list []iceberg.ManifestFile, known map[string]bool) (out []iceberg.ManifestFile) {
	seen := map[string]bool{}
	for _, m := range list {
		if p := m.FilePath(); !known[p] && !seen[p] {
			seen[p] = true
			out = append(out, m)
		}
	}
	return out
}

// parentManifests are those of the snapshot's parent, or of the head of main, which others build upon when they roll back.
func (s *Service) parentManifests(ctx context.Context, base *lean, sn *table.Snapshot) (map[string]bool, error) {
	out := map[string]bool{}
	var ids []int64
	if sn.ParentSnapshotID != nil {
		ids = append(ids, *sn.ParentSnapshotID)
	}
	if id := currentID(base.meta); id != nil && !slices.Contains(ids, *id) {
		ids = append(ids, *id)
	}
	for _, id := range ids {
		parent, err := s.snapshotOf(ctx, base, id)
		if errors.Is(err, catalog.ErrInvalid) {
			continue // it has been expired; all of the list is looked into
		}
		if err != nil {
			return nil, err
		}
		list, err := snapshot.ReadManifests(ctx, &s.wh, parent)
		switch {
		case errors.Is(err, snapshot.ErrCorrupt), errors.Is(err, objstore.ErrNotFound):
			continue // what it had is looked into
		case err != nil:
			return nil, vetError(err)
		}
		for _, m := range list {
			out[m.FilePath()] = true
		}
	}
	return out, nil
}

func (s *Service) vetManifest(ctx context.Context, own []string, tableID int64, m iceberg.ManifestFile) error {
	if err := s.checkPlacesIn(ctx, own, tableID, []place{{"manifest", m.FilePath()}}); err != nil {
		return err
	}
	weight := max(m.Length(), 1)
	if err := s.vets.reading.Acquire(ctx, weight); err != nil {
		return fmt.Errorf("%w: waiting for other commits to be looked into: %w", catalog.ErrUnavailable, err)
	}
	defer s.vets.reading.Release(weight)
	paths, err := snapshot.Paths(ctx, &s.wh, m, max(m.Length(), 0))
	if err != nil {
		return vetError(err)
	}
	what := "manifest " + m.FilePath() + ": file"
	places := make([]place, len(paths))
	for i, p := range paths {
		places[i] = place{what, p}
	}
	return s.checkFilesIn(ctx, own, tableID, places)
}

// vetError: what cannot be read is refused, unless the storage is to blame.
func vetError(err error) error {
	if errors.Is(err, snapshot.ErrCorrupt) {
		return fmt.Errorf("%w: it cannot be looked into: %w", catalog.ErrInvalid, err)
	}
	return storageError("it cannot be looked into", err)
}
