package compaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction/plan"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

// expire removes snapshots outside the window from the metadata, and the refs that are older than their max-ref-age-ms
// before them, and tags those that the calendar keeps. The files stay until a sweep.
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
		e, err := c.expiry(meta)
		if err != nil {
			return err // without a policy that can be read nothing is expired
		}
		c.show(ts, func(s *TableStatus) { s.Snapshots = len(meta.Snapshots()) })
		if r.Expired, r.Tagged = len(e.expired), len(e.tags); r.DryRun || len(e.expired)+len(e.aged)+len(e.tags) == 0 {
			return nil
		}
		_, err = c.cat.CommitTable(ctx, catalog.TableCommit{Identifier: ts.id, Requirements: e.requirements(meta), Updates: e.updates()})
		crash.At(ctx, crash.CompactExpired)
		if err == nil {
			c.m.expired.Add(float64(len(e.expired)))
			c.m.tags.Add(float64(len(e.tags)))
			c.show(ts, func(s *TableStatus) { s.Snapshots -= len(e.expired) })
			if aged := slices.DeleteFunc(e.aged, ledger.IsMark); len(aged) > 0 {
				c.log.Info("tags and branches have come of age", "table", ts.id.String(), "refs", aged)
			}
			return nil
		}
		r.Expired, r.Tagged = 0, 0
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

// expiry is what one commit does to a table's snapshots and refs.
type expiry struct {
	expired []int64
	aged    []string
	tags    []plan.CalendarTag
}

func (c *Compactor) expiry(meta table.Metadata) (e expiry, err error) {
	policy, calendar, err := c.policyOf(meta)
	if err != nil {
		return e, err
	}
	now := c.now()
	snapshots, refs, log := retained(meta)
	e.aged, refs = plan.AgedRefs(now, table.MainBranch, snapshots, refs)
	e.tags = calendar.Due(now, snapshots, refs, log)
	for _, t := range e.tags { // also those that the next commit sets
		refs = append(refs, plan.Ref{Name: t.Name, Snapshot: t.Snapshot})
	}
	e.tags = e.tags[:min(len(e.tags), maxTags)]
	e.expired = plan.Expire(policy, now, snapshots, refs, log)
	return e, nil
}

func (e expiry) updates() (out table.Updates) {
	for _, name := range e.aged {
		out = append(out, table.NewRemoveSnapshotRefUpdate(name))
	}
	for _, t := range e.tags {
		out = append(out, snapshot.SetTag(t.Name, t.Snapshot, t.MaxAge))
	}
	if len(e.expired) > 0 {
		out = append(out, table.NewRemoveSnapshotsUpdate(e.expired, false))
	}
	return out
}

// requirements assert every ref that was seen, and that those to be set are not there.
func (e expiry) requirements(meta table.Metadata) table.Requirements {
	out := table.Requirements{table.AssertTableUUID(meta.TableUUID())}
	for name, ref := range meta.Refs() {
		id := ref.SnapshotID
		out = append(out, table.AssertRefSnapshotID(name, &id))
	}
	for _, t := range e.tags {
		out = append(out, table.AssertRefSnapshotID(t.Name, nil))
	}
	return out
}

// The table's own properties come before the configuration.
const (
	propertyWindow = "firn.snapshots.window" // as snapshot_window
	propertyTags   = "firn.snapshots.tags"   // as snapshot_tags
)

// policyOf is what stays of a table's snapshots. What main, or the properties that Iceberg has for it, ask for counts when
// it is more, but for what Firn itself says there where nobody has said anything.
func (c *Compactor) policyOf(meta table.Metadata) (r plan.Retention, cal plan.Calendar, err error) {
	r, cal = c.cfg.retention(), c.calendar
	p := meta.Properties()
	if v, ok := p[propertyWindow]; ok {
		d, err := units.ParseDuration(v)
		if err != nil || d < 0 {
			return r, nil, fmt.Errorf("property %s: %q is no duration such as 15m: nothing is expired until it is one", propertyWindow, v)
		}
		r.Window = d.D()
	}
	if v, ok := p[propertyTags]; ok {
		if cal, err = plan.ParseCalendar(v); err != nil {
			return r, nil, fmt.Errorf("property %s: %w: nothing is expired until it is right", propertyTags, err)
		}
	}
	more := func(age time.Duration, keep int) {
		if age != snapshot.MainSnapshotAge {
			r.Window = max(r.Window, age)
		}
		if keep != snapshot.MainMinSnapshots {
			r.Min = max(r.Min, keep)
		}
	}
	keep, _ := strconv.Atoi(p[table.MinSnapshotsToKeepKey])
	age, _ := strconv.ParseInt(p[table.MaxSnapshotAgeMsKey], 10, 64)
	more(ageOf(age), keep)
	for name, ref := range meta.Refs() {
		if name != table.MainBranch {
			continue
		}
		if ref.MaxSnapshotAgeMs != nil {
			more(ageOf(*ref.MaxSnapshotAgeMs), 0)
		}
		if ref.MinSnapshotsToKeep != nil {
			more(0, *ref.MinSnapshotsToKeep)
		}
	}
	return r, cal, nil
}

// maxRefAge is for ever: engines that know no absence write the greatest number for it.
const maxRefAge = 100 * 365 * 24 * time.Hour

// ageOf is an age in milliseconds, at most maxRefAge.
func ageOf(ms int64) time.Duration {
	return time.Duration(min(ms, maxRefAge.Milliseconds())) * time.Millisecond
}

// retained turns metadata into the planner's terms.
func retained(meta table.Metadata) (snapshots []plan.Snapshot, refs []plan.Ref, log []plan.LogEntry) {
	for _, s := range meta.Snapshots() {
		p := plan.Snapshot{ID: s.SnapshotID, At: time.UnixMilli(s.TimestampMs), Sequence: s.SequenceNumber}
		if s.ParentSnapshotID != nil {
			p.Parent = *s.ParentSnapshotID
		}
		snapshots = append(snapshots, p)
	}
	for name, ref := range meta.Refs() {
		p := plan.Ref{Name: name, Branch: ref.SnapshotRefType == table.BranchRef, Snapshot: ref.SnapshotID}
		if ref.MaxRefAgeMs != nil && *ref.MaxRefAgeMs < maxRefAge.Milliseconds() {
			p.MaxAge = time.Duration(*ref.MaxRefAgeMs) * time.Millisecond
		}
		if p.Branch && name != table.MainBranch { // main's is in the policy
			if ref.MaxSnapshotAgeMs != nil {
				p.Window = ageOf(*ref.MaxSnapshotAgeMs)
			}
			if ref.MinSnapshotsToKeep != nil {
				p.Min = *ref.MinSnapshotsToKeep
			}
		}
		refs = append(refs, p)
	}
	for e := range meta.SnapshotLogs() {
		log = append(log, plan.LogEntry{Snapshot: e.SnapshotID, At: time.UnixMilli(e.TimestampMs)})
	}
	return snapshots, refs, log
}
