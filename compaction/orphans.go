package compaction

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// sweepable are the kinds of files that a sweep may delete. Metadata files are not among them: every one that was handed
// out stays readable.
var sweepable = map[string]bool{".parquet": true, ".avro": true, ".puffin": true, ".stats": true}

// maxDeletes is how many files are deleted by one request.
const maxDeletes = 1000

// reach is what all snapshots of a table reach, as hashes of keys: two keys with one hash make a dead file stay, never a
// live one go. Lists and manifests never change, so a sweep reads only what is new since the one before.
type reach struct {
	seed      maphash.Seed
	keys      map[uint64]bool           // of everything reachable
	lists     map[string][]string       // manifest list → its manifests
	manifests map[string]*manifestReach // by location
}

type manifestReach struct {
	files []uint64
}

func (r *reach) hash(key string) uint64 { return maphash.String(r.seed, key) }

// sweep deletes files under the table's data and metadata folders that no snapshot reaches.
//
// The order makes it safe. First the folders are listed, then the table is read: what a commit adds in between is either
// not listed or reachable. A file that an earlier sweep of this process found reachable belonged to snapshots that expired
// or to a branch that was dropped: queries may still read it, for OrphanGrace. Any other file may be one of a commit under
// way, or have expired before this process began: it must be StrayGrace old, and unreachable for OrphanGrace as far as
// this process has seen. What is remembered is lost in a restart; files stay longer then.
func (c *Compactor) sweep(ctx context.Context, ts *tableState, r *Report) error {
	meta, err := c.loadReach(ctx, ts) // only to list no more than needed
	if err != nil {
		return err
	}
	found, err := c.list(ctx, ts, meta)
	if err != nil {
		return err
	}
	if _, err := c.loadReach(ctx, ts); err != nil {
		return err
	}
	now := c.now()
	condemned, listed := make(map[string]time.Time, len(found)), make(map[uint64]bool, len(found))
	var dead []objstore.Info
	for _, f := range found {
		h := ts.reach.hash(f.Key)
		if listed[h] = true; ts.reach.keys[h] {
			continue
		}
		since, once := ts.died[h]
		if !once {
			var seen bool
			if since, seen = ts.condemned[f.Key]; !seen {
				since = now
			}
		}
		condemned[f.Key] = since
		if now.Sub(since) >= c.cfg.OrphanGrace.D() && (once || now.Sub(f.Modified) >= c.cfg.StrayGrace.D()) {
			dead = append(dead, f)
		}
	}
	ts.condemned = condemned
	maps.DeleteFunc(ts.died, func(h uint64, since time.Time) bool { // reachable again, or gone from the folders
		return ts.reach.keys[h] || !listed[h] && now.Sub(since) >= c.cfg.OrphanInterval.D()
	})
	for chunk := range slices.Chunk(dead, maxDeletes) {
		if err := c.deleteFiles(ctx, ts, chunk, r); err != nil {
			return err
		}
	}
	r.Condemned = len(condemned)
	return nil
}

func (c *Compactor) deleteFiles(ctx context.Context, ts *tableState, files []objstore.Info, r *Report) error {
	keys := make([]string, len(files))
	var bytes int64
	for i, f := range files {
		keys[i] = f.Key
		bytes += f.Size
	}
	if err := c.wh.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	for _, k := range keys {
		delete(ts.condemned, k)
		delete(ts.died, ts.reach.hash(k))
	}
	r.Orphans += len(files)
	r.OrphanBytes += bytes
	c.m.orphans.Add(float64(len(files)))
	c.m.orphanBytes.Add(float64(bytes))
	return nil
}

var errEnough = errors.New("enough")

// list returns the files that the last reach does not hold and that were live once or are older than OrphanGrace, at most
// maxCondemned.
func (c *Compactor) list(ctx context.Context, ts *tableState, meta table.Metadata) ([]objstore.Info, error) {
	root, err := c.wh.Key(meta.Location())
	if err != nil {
		return nil, fmt.Errorf("location of the table: %w", err)
	}
	before := c.now().Add(-c.cfg.OrphanGrace.D())
	var found []objstore.Info
	// Folders that properties put elsewhere may be shared with other tables: they are not swept.
	for _, dir := range []string{root + "/data", root + "/metadata"} {
		err := c.wh.List(ctx, dir, func(f objstore.Info) error {
			h := ts.reach.hash(f.Key)
			if !sweepable[path.Ext(f.Key)] || !strings.HasPrefix(f.Key, dir+"/") || ts.reach.keys[h] {
				return nil
			}
			if _, once := ts.died[h]; !once && f.Modified.After(before) {
				return nil
			}
			if found = append(found, f); len(found) == maxCondemned {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, fmt.Errorf("list %s: %w", dir, err)
		}
	}
	return found, nil
}

// loadReach reads the table and everything that its snapshots reach.
func (c *Compactor) loadReach(ctx context.Context, ts *tableState) (table.Metadata, error) {
	t, err := c.cat.LoadTable(ctx, ts.id, catalog.LoadAll)
	if err != nil {
		return nil, err
	}
	meta := t.Metadata
	if meta.TableUUID() != ts.uuid {
		return nil, errGone
	}
	if ts.reach == nil {
		ts.reach = &reach{seed: maphash.MakeSeed(), lists: map[string][]string{}, manifests: map[string]*manifestReach{}}
	}
	old := ts.reach
	next := &reach{seed: old.seed, keys: make(map[uint64]bool, len(old.keys)), lists: map[string][]string{}, manifests: map[string]*manifestReach{}}
	for _, s := range meta.Snapshots() {
		if err := c.reachSnapshot(ctx, old, next, &s); err != nil {
			return nil, err
		}
	}
	for s := range meta.Statistics() {
		if err := c.reachable(next, s.StatisticsPath); err != nil {
			return nil, err
		}
	}
	for s := range meta.PartitionStatistics() {
		if err := c.reachable(next, s.StatisticsPath); err != nil {
			return nil, err
		}
	}
	now := c.now()
	for h := range old.keys {
		if _, ok := ts.died[h]; !ok && !next.keys[h] && len(ts.died) < maxCondemned {
			ts.died[h] = now
		}
	}
	ts.reach = next
	return meta, nil
}

func (c *Compactor) reachSnapshot(ctx context.Context, old, next *reach, s *table.Snapshot) error {
	if s.ManifestList == "" {
		return fmt.Errorf("%w: snapshot %d of format version 1 has no manifest list", snapshot.ErrCorrupt, s.SnapshotID)
	}
	if err := c.reachable(next, s.ManifestList); err != nil {
		return err
	}
	locations, known := old.lists[s.ManifestList]
	if known {
		known = !slices.ContainsFunc(locations, func(l string) bool { return old.manifests[l] == nil })
	}
	var files []iceberg.ManifestFile
	if !known {
		var err error
		if files, err = c.read.Manifests(ctx, s); err != nil {
			return err
		}
		locations = nil
		for _, m := range files {
			locations = append(locations, m.FilePath())
		}
	}
	next.lists[s.ManifestList] = locations
	for i, l := range locations {
		if next.manifests[l] != nil {
			continue
		}
		m := old.manifests[l]
		if m == nil {
			var err error
			if m, err = c.reachManifest(ctx, next, files[i]); err != nil {
				return err
			}
		}
		next.manifests[l] = m
		if err := c.reachable(next, l); err != nil {
			return err
		}
		for _, h := range m.files {
			next.keys[h] = true
		}
	}
	return nil
}

func (c *Compactor) reachManifest(ctx context.Context, next *reach, m iceberg.ManifestFile) (*manifestReach, error) {
	entries, err := c.read.Entries(ctx, m)
	if err != nil {
		return nil, err
	}
	out := &manifestReach{files: make([]uint64, 0, len(entries))}
	for _, e := range entries {
		k, err := c.wh.Key(e.DataFile().FilePath())
		if errors.Is(err, objstore.ErrOutsideRoot) {
			continue // nothing there is ever deleted
		}
		if err != nil {
			return nil, err
		}
		out.files = append(out.files, next.hash(k))
	}
	return out, nil
}

// reachable marks a location.
func (c *Compactor) reachable(r *reach, location string) error {
	k, err := c.wh.Key(location)
	if errors.Is(err, objstore.ErrOutsideRoot) {
		return nil
	}
	if err != nil {
		return err
	}
	r.keys[r.hash(k)] = true
	return nil
}
