package compaction

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction/plan"
	"github.com/firnlake/firn/internal/crash"
)

// expire removes snapshots outside the window from the metadata, and the refs that are older than their max-ref-age-ms
// before them. The files stay until a sweep.
//
// Removing a snapshot that a ref names would remove the ref too. So the commit asserts every ref that was seen; a ref
// that is set anew, between reading and committing, on a snapshot that is already outside the window cannot be asserted
// by any catalog protocol and goes with it.
func (c *Compactor) expire(ctx context.Context, ts *tableState, r *Report) error {
	for try := 1; ; try++ {
		t, err := c.cat.LoadTable(ctx, ts.id, catalog.LoadAll)
		if err != nil {
			return err
		}
		meta := t.Metadata
		if meta.TableUUID() != ts.uuid {
			return errGone
		}
		snapshots, refs, log, reqs := c.retained(meta)
		c.show(ts, func(s *TableStatus) { s.Snapshots = len(snapshots) })
		aged, refs := plan.AgedRefs(c.now(), table.MainBranch, snapshots, refs)
		ids := plan.Expire(c.cfg.retention(), c.now(), snapshots, refs, log)
		if r.Expired = len(ids); r.DryRun || len(ids)+len(aged) == 0 {
			return nil
		}
		var updates table.Updates
		for _, name := range aged {
			updates = append(updates, table.NewRemoveSnapshotRefUpdate(name))
		}
		if len(ids) > 0 {
			updates = append(updates, table.NewRemoveSnapshotsUpdate(ids, false))
		}
		_, err = c.cat.CommitTable(ctx, catalog.TableCommit{Identifier: ts.id, Requirements: reqs, Updates: updates})
		crash.At(ctx, crash.CompactExpired)
		if err == nil {
			c.m.expired.Add(float64(len(ids)))
			c.show(ts, func(s *TableStatus) { s.Snapshots -= len(ids) })
			if len(aged) > 0 {
				c.log.Info("tags and branches have come of age", "table", ts.id.String(), "refs", aged)
			}
			return nil
		}
		r.Expired = 0
		// Metadata alone: whatever became of an attempt, the next reads the table again.
		again := errors.Is(err, catalog.ErrConflict) && ctx.Err() == nil
		if again {
			c.m.conflicts.Inc()
		}
		if !again || try == maxAttempts {
			return fmt.Errorf("after %d attempts: %w", try, err)
		}
		if err := c.pause(ctx, time.Duration(c.rnd(int64(conflictPause)))); err != nil {
			return err
		}
	}
}

// maxRefAge is for ever: engines that know no absence write the greatest number for it.
const maxRefAge = 100 * 365 * 24 * time.Hour

// retained turns metadata into the planner's terms, and its refs into requirements.
func (c *Compactor) retained(meta table.Metadata) (snapshots []plan.Snapshot, refs []plan.Ref, log []plan.LogEntry, reqs table.Requirements) {
	for _, s := range meta.Snapshots() {
		p := plan.Snapshot{ID: s.SnapshotID, At: time.UnixMilli(s.TimestampMs), Sequence: s.SequenceNumber}
		if s.ParentSnapshotID != nil {
			p.Parent = *s.ParentSnapshotID
		}
		snapshots = append(snapshots, p)
	}
	reqs = table.Requirements{table.AssertTableUUID(meta.TableUUID())}
	for name, ref := range meta.Refs() {
		id := ref.SnapshotID
		p := plan.Ref{Name: name, Branch: ref.SnapshotRefType == table.BranchRef, Snapshot: id}
		if ref.MaxRefAgeMs != nil && *ref.MaxRefAgeMs < maxRefAge.Milliseconds() {
			p.MaxAge = time.Duration(*ref.MaxRefAgeMs) * time.Millisecond
		}
		refs = append(refs, p)
		reqs = append(reqs, table.AssertRefSnapshotID(name, &id))
	}
	for e := range meta.SnapshotLogs() {
		log = append(log, plan.LogEntry{Snapshot: e.SnapshotID, At: time.UnixMilli(e.TimestampMs)})
	}
	return snapshots, refs, log, reqs
}
