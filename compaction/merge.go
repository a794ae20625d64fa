package compaction

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction/plan"
	"github.com/firnlake/firn/internal/snapshot"
)

// A commit each second is a manifest each second, and readers pay a request for every one. Rounds merge manifests in
// passing, but a round may be ten minutes in one table's data files, and leaves tables alone whose rows it may not move.
// So manifests have a loop of their own beside the rounds. It needs no more than manifests and their list, serves format
// versions 2 and 3 and tables with row-level deletes, and commits a `replace` snapshot as rounds do. A rewrite that is
// under way meanwhile finds its inputs again in the merged manifests.
const (
	manifestWorkers = 4 // tables at a time: merging is mostly waiting for storage
	// mergeShare of MaxManifests is from where on a table's manifests are merged: below it merges would be many and small,
	// and what is left above it is for those that arrive until the merge is committed.
	mergeShare = 0.6
	// A table's list is read when it may have grown that far by one manifest a snapshot, or after this time: another
	// engine's snapshot may bring more.
	recountAfter = time.Minute
	// discoverAfter is how long the list of tables is good for.
	discoverAfter = 30 * time.Second
)

// mergeState is what the loop remembers of a table. Whoever holds busy may use it; lastErr is the loop's.
type mergeState struct {
	*tableState // its own, not the rounds': uuid, and the head that was read last

	counted  time.Time // when the list was read; zero before
	live     int       // manifests in it
	sequence int64     // of the table then
	futile   int       // manifests in it when nothing could be merged; 0: something could, or was not tried
	lastErr  string
}

// mergeLoop merges manifests until ctx ends.
func (c *Compactor) mergeLoop(ctx context.Context) {
	var ids []catalog.Identifier
	var discovered time.Time
	for ctx.Err() == nil {
		if now := c.now(); discovered.IsZero() || now.Sub(discovered) >= discoverAfter {
			found, err := c.discover(ctx)
			if err == nil { // the rounds tell of the other case
				ids, discovered = found, now
				c.forgetMerges(ids)
			}
		}
		c.mergeAll(ctx, ids)
		if c.pause(ctx, c.cfg.ManifestInterval.D()) != nil {
			return
		}
	}
}

// mergeState is a table's, made when it is asked for first.
func (c *Compactor) mergeState(id catalog.Identifier) *mergeState {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms := c.merging[key(id)]
	if ms == nil {
		ms = &mergeState{tableState: newTableState(id)}
		c.merging[key(id)] = ms
	}
	return ms
}

// forgetMerges drops the state of tables that are no more.
func (c *Compactor) forgetMerges(ids []catalog.Identifier) {
	live := make(map[string]bool, len(ids))
	for _, id := range ids {
		live[key(id)] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.merging, func(k string, _ *mergeState) bool { return !live[k] })
}

func (c *Compactor) mergeAll(ctx context.Context, ids []catalog.Identifier) {
	work := make(chan catalog.Identifier)
	var wg sync.WaitGroup
	for range min(manifestWorkers, len(ids)) {
		wg.Go(func() {
			for id := range work {
				if ctx.Err() == nil {
					c.mergeReported(ctx, id)
				}
			}
		})
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	wg.Wait()
}

// mergeReported is MergeManifests for the loop: it tells a failure once until it has passed.
func (c *Compactor) mergeReported(ctx context.Context, id catalog.Identifier) {
	ms := c.mergeState(id)
	r, err := c.MergeManifests(ctx, id)
	if r.SnapshotID != 0 {
		c.log.Debug("manifests merged", "table", r.Table, "snapshot", r.SnapshotID, "manifests", r.ManifestsMerged, "conflicts", r.Conflicts, "seconds", r.Seconds)
	}
	if err == nil || errors.Is(err, catalog.ErrNoSuchTable) || ctx.Err() != nil {
		ms.lastErr = ""
		return
	}
	_ = c.failed("manifests", err)
	level := slog.LevelWarn
	if ms.lastErr == err.Error() {
		level = slog.LevelDebug
	}
	ms.lastErr = err.Error()
	c.log.Log(ctx, level, "manifests cannot be merged; the next look tries again", "table", ms.id.String(), "class", class(err), "error", err)
}

// mergeTable merges the manifests of one table if there are enough.
func (c *Compactor) mergeTable(ctx context.Context, ms *mergeState) (r Report, err error) {
	began := c.now()
	r = Report{Table: ms.id.String()}
	defer func() { r.Seconds = c.now().Sub(began).Seconds() }()
	t, err := c.cat.LoadTable(ctx, ms.id, catalog.LoadRefs)
	if err != nil {
		return r, err
	}
	meta := t.Metadata
	if meta.TableUUID() != ms.uuid {
		ms.reset(meta.TableUUID())
		ms.counted, ms.futile = time.Time{}, 0
	}
	if r.Skipped = c.excluded(meta); r.Skipped != "" {
		return r, nil
	}
	if v := meta.Version(); v < 2 {
		r.Skipped = fmt.Sprintf("format version %d", v) // its lists need not say what a manifest holds
		return r, nil
	}
	from := int(mergeShare * float64(c.cfg.MaxManifests))
	if grown := ms.live + int(meta.LastSequenceNumber()-ms.sequence); grown < from && !ms.counted.IsZero() && began.Sub(ms.counted) < recountAfter {
		return r, nil
	}
	head, err := c.loadHead(ctx, ms.tableState, meta)
	if err != nil || head.Snapshot == nil {
		return r, err
	}
	ms.counted, ms.live, ms.sequence = began, len(head.Manifests), meta.LastSequenceNumber()
	c.showManifests(ms.id, ms.live)
	if ms.live < from || ms.live == ms.futile {
		return r, nil
	}
	groups := locations(plan.Merges(c.cfg.manifestPolicy(), c.mergeable(ms, head)))
	if len(groups) == 0 {
		ms.futile = ms.live
		return r, nil
	}
	ms.futile = 0
	return r, c.mergeNow(ctx, ms, head, groups, &r)
}

func (c *Compactor) mergeNow(ctx context.Context, ms *mergeState, head snapshot.Head, groups [][]string, r *Report) error {
	p := &pending{c: c, ts: ms.tableState, id: snapshot.NewID(), merges: groups, report: r}
	err := p.commit(ctx, head)
	var bad *snapshot.ManifestError
	if errors.As(err, &bad) && quarantines(bad.Err) && len(ms.quarantine) < maxQuarantine {
		ms.quarantine[bad.Location] = c.now().Add(quarantineTime)
	}
	if r.SnapshotID == 0 {
		return err
	}
	ms.live -= r.ManifestsMerged - len(p.new)
	c.showManifests(ms.id, ms.live)
	return err
}

// mergeable describes the head's manifests that can be merged, by what its list says of them. Not those that are elsewhere
// than in the warehouse, encrypted, or of a spec that cannot be written any more.
func (c *Compactor) mergeable(ms *mergeState, head snapshot.Head) (out []plan.Manifest) {
	now, specs := c.now(), map[int32]bool{}
	for _, m := range head.Manifests {
		spec := m.PartitionSpecID()
		ok, known := specs[spec]
		if !known {
			ok = writable(head.Meta, int(spec))
			specs[spec] = ok
		}
		files := int(m.AddedDataFiles()) + int(m.ExistingDataFiles())
		if !ok || m.ManifestContent() != iceberg.ManifestContentData || len(m.KeyMetadata()) > 0 ||
			m.AddedDataFiles() < 0 || m.ExistingDataFiles() < 0 || files == 0 {
			continue
		}
		if _, err := c.wh.Key(m.FilePath()); err != nil {
			continue
		}
		if until, bad := ms.quarantine[m.FilePath()]; bad {
			if now.Before(until) {
				continue
			}
			delete(ms.quarantine, m.FilePath())
		}
		out = append(out, plan.Manifest{Path: m.FilePath(), Spec: int(spec), Files: files, Bytes: m.Length(), Sequence: m.SequenceNum()})
	}
	return out
}

// showManifests publishes how many manifests a table's head has, where the rounds know the table.
func (c *Compactor) showManifests(id catalog.Identifier, live int) {
	c.mu.Lock()
	ts := c.tables[key(id)]
	c.mu.Unlock()
	if ts != nil {
		c.show(ts, func(s *TableStatus) { s.Manifests = live })
	}
}
