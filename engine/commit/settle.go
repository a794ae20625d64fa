package commit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/sleep"
	"github.com/firnlake/firn/internal/snapshot"
)

// maxChain bounds the walk over firn.prev that looks for a batch behind another writer's snapshots.
const maxChain = 64

// attempt is the commit protocol: it sends the legs until they took effect, until it is certain that they must not, or
// until nothing more can be done now. In the last case the same batch may come again.
//
//	         ┌────────────── build on the pinned head ◀───────────┐
//	         ▼                                                    │ only the head moved, V stands
//	send ─▶ committed ─▶ done                                     │ or nothing moved
//	     ─▶ conflict, unknown ─▶ settle: load, look at the tag ───┤
//	     ─▶ unavailable, fatal ─▶ error, nothing happened         ├─ at our snapshot ─▶ done
//	                                                              ├─ moved elsewhere ─▶ fenced
//	                                                              └─ V moved ─▶ rewound, or a person decides
func (c *Committer) attempt(ctx context.Context, t *try, legs ...*leg) error {
	deadline := time.Now().Add(c.cfg.UnknownTimeout)
	for n := 1; ; n++ {
		if t.open || t.refused || stale(legs) {
			done, err := c.settle(ctx, t, legs)
			if done || err != nil {
				return err
			}
		}
		if err := c.buildAll(ctx, t, legs); err != nil {
			return err
		}
		before := t.open
		t.open = true
		t.attempts++
		crash.At(ctx, crash.BeforeCommit)
		after, err := c.send(ctx, legs)
		crash.At(ctx, crash.AfterCommit)
		o := classify(err)
		c.m.outcomes.WithLabelValues(c.cfg.Pipeline, o.String()).Inc()
		switch o {
		case committed:
			t.open = false
			c.took(ctx, legs, after)
			return nil
		case gone:
			return fmt.Errorf("%w: a table was dropped or renamed while batch %s was committed: %w", engine.ErrNeedsDecision, t.batch, err)
		case unavailable, fatal:
			t.open = before // this request had no effect; an earlier one of the batch may have had
			if !before {
				return fmt.Errorf("commit batch %s: %w", t.batch, err)
			}
		case conflict:
			t.open, t.refused = before, true
		}
		if c.broken.onUnknown != nil && o == unknown {
			if err := c.broken.onUnknown(ctx, c, t, legs); err != nil {
				return err
			}
			continue
		}
		done, serr := c.settleUntil(ctx, deadline, t, legs)
		if done || serr != nil {
			return serr
		}
		if o == unavailable || o == fatal || n == maxAttempts {
			return fmt.Errorf("commit batch %s, attempt %d: %w", t.batch, n, err)
		}
		if err := pause(ctx, n, o); err != nil {
			return fmt.Errorf("commit batch %s: %w", t.batch, err)
		}
	}
}

func stale(legs []*leg) bool {
	for _, l := range legs {
		if l.p.stale {
			return true
		}
	}
	return false
}

func (c *Committer) buildAll(ctx context.Context, t *try, legs []*leg) error {
	start := time.Now()
	defer t.phases.since(phaseManifest, start)
	for _, l := range legs {
		if err := c.build(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// took adopts legs that took effect. The answer of a transaction shows no table, so they are loaded; if that fails it
// is done before the next commit.
func (c *Committer) took(ctx context.Context, legs []*leg, after *catalog.Table) {
	for _, l := range legs {
		var meta table.Metadata
		if after != nil {
			meta = after.Metadata
		} else if t, err := c.cat.LoadTable(ctx, l.p.id, catalog.LoadRefs); err == nil {
			meta = t.Metadata
		}
		c.adopt(ctx, l, meta)
	}
}

// pause waits before another attempt: not at all after the first conflicts, in which another commit won and the next
// attempt is as good as any, and longer after each further one, spread so that two writers do not keep in step.
func pause(ctx context.Context, n int, o outcome) error {
	if o == conflict && n <= quickAttempts {
		return ctx.Err()
	}
	d := min(retryMin<<min(n, 10), retryMax)
	d = d/2 + rand.N(d/2+1)
	return sleep.For(ctx, d)
}

// settleUntil settles, again and again while the catalog does not answer, until the deadline.
func (c *Committer) settleUntil(ctx context.Context, deadline time.Time, t *try, legs []*leg) (bool, error) {
	for n := quickAttempts + 1; ; n++ {
		done, err := c.settle(ctx, t, legs)
		if done || err == nil || !transient(err) || !time.Now().Before(deadline) {
			return done, err
		}
		if pause(ctx, n, unknown) != nil {
			return false, err
		}
	}
}

// settle loads the tables of the legs and says what became of the batch. done: it took effect. Otherwise, without an
// error, it did not yet, V stands, and the legs are pinned to the heads as they are now. A request that is still under
// way does no harm: it pins what was loaded here or something older, and carries the same snapshot.
func (c *Committer) settle(ctx context.Context, t *try, legs []*leg) (done bool, err error) {
	metas := make([]table.Metadata, len(legs))
	ours := 0
	for i, l := range legs {
		if metas[i], err = c.load(ctx, l.p.id); err != nil {
			return false, err
		}
		if err := l.p.same(l.p.id, metas[i]); err != nil {
			return false, err
		}
		if sameID(refID(metas[i], c.tagName()), &l.id) {
			ours++
		}
	}
	if ours == len(legs) {
		t.open, t.refused = false, false
		for i, l := range legs {
			c.adopt(ctx, l, metas[i])
		}
		return true, nil
	}
	for i, l := range legs {
		if !sameID(refID(metas[i], c.tagName()), l.p.tag) {
			if c.broken.blindRebase {
				l.p.tag = refID(metas[i], c.tagName())
				continue
			}
			return false, c.fenced(ctx, t, l, metas[i])
		}
	}
	for i, l := range legs {
		if err := c.rebase(ctx, l, metas[i]); err != nil {
			return false, err
		}
		if err := c.relayout(t, l); err != nil {
			return false, err
		}
	}
	t.refused = false
	return false, nil
}

// errRelaid asks for the same batch again, whose files are written for the table's new schema and layout then.
var errRelaid = errors.New("the table's schema or layout was changed by somebody else while this batch was to change it: it is written anew")

// relayout holds a leg that changes the table's schema or layout against the head that it was pinned to now: another writer
// may have changed it in between, and given away the ids of columns, specs and orders that this leg's files were written for.
func (c *Committer) relayout(t *try, l *leg) error {
	if len(l.lay.updates) == 0 {
		return nil
	}
	now, err := c.evolve(l.p.head.Meta, l.lay.shapes)
	if err != nil {
		return fmt.Errorf("table %s: %w", l.p.id, err)
	}
	if !now.same(l.lay) {
		t.relay = true
		return fmt.Errorf("table %s: %w", l.p.id, errRelaid)
	}
	l.lay = now
	return nil
}

func (c *Committer) tagName() string { return ledger.TagName(c.cfg.Pipeline) }

// rebase pins a leg to the head as it is now, if V still stands there.
func (c *Committer) rebase(ctx context.Context, l *leg, meta table.Metadata) error {
	// Main may stand where it was pinned and yet have moved. A stale pin is not the head that our own last snapshot made, so
	// main was set back to it. And another engine's snapshot that was set back since has left its sequence number: built
	// on the pin as it is, ours would be refused for ever.
	// A change of the schema or the layout hangs on more of the table than its head.
	if !l.p.stale && len(l.lay.updates) == 0 && sameID(refID(meta, table.MainBranch), l.p.head.ID()) && meta.LastSequenceNumber() == l.p.head.Meta.LastSequenceNumber() {
		return nil
	}
	if l.p == &c.main && !c.broken.blindRebase {
		near := map[int64]*table.Snapshot{}
		if s := l.p.head.Snapshot; s != nil {
			near[s.SnapshotID] = s
		}
		pos, err := c.position(ctx, meta, near)
		if err != nil {
			return err
		}
		if !pos.offsets().Equal(c.pos.offsets()) || pos.epoch != c.pos.epoch {
			return fmt.Errorf("%w: table %s stood at %s and stands at %s (%s)", engine.ErrRewound, l.p.id, orNone(c.pos.offsets()), orNone(pos.offsets()), pos.step)
		}
	}
	head, err := snapshot.LoadHead(ctx, c.reader, meta, table.MainBranch)
	if err != nil {
		return fmt.Errorf("table %s: %w", l.p.id, err)
	}
	c.log.Debug("another commit came first; going on from it", "head", refID(meta, table.MainBranch))
	l.p.head, l.p.stale, l.built = head, false, false
	return nil
}

// fenced is the error of a writer whose tag was moved: by another writer, or by firn rewind and firn offsets resolve,
// after which nobody else writes and it may read on at once. It also says when the batch itself had taken effect before the
// other writer went on from it: then nothing is read again.
func (c *Committer) fenced(ctx context.Context, t *try, l *leg, meta table.Metadata) error {
	tag := refID(meta, c.tagName())
	if tag == nil {
		return fmt.Errorf("%w: tag %s of table %s was removed", engine.ErrFenced, c.tagName(), l.p.id)
	}
	line := &lineage{cat: c.cat, id: l.p.id, meta: meta}
	if s, err := line.snapshot(ctx, *tag); err == nil && s != nil {
		if r, err := record(s); err == nil && r.Kind == ledger.KindRewind && r.Epoch > c.pos.epoch {
			return fmt.Errorf("%w: table %s was set to %s by snapshot %d (kind rewind)", engine.ErrRewound, l.p.id, orNone(r.Offsets), *tag)
		}
	}
	if c.redriven(ctx, line, *tag, l) {
		return fmt.Errorf("%w: table %s, snapshot %d", engine.ErrRedriven, l.p.id, *tag)
	}
	how := "the batch is not in the table"
	for id, n := *tag, 0; id != 0 && n < maxChain; n++ {
		s, err := line.snapshot(ctx, id)
		if err != nil || s == nil {
			how = "whether the batch is in the table is for recovery to say"
			break
		}
		r, err := record(s)
		if err != nil {
			break
		}
		if r.BatchID == t.batch && s.SnapshotID == l.id {
			how = fmt.Sprintf("the batch had been committed before, as snapshot %d", l.id)
			break
		}
		if id = r.Prev; sameID(&id, l.p.tag) {
			break // where we stood: nothing of ours lies below
		}
	}
	return fmt.Errorf("%w: tag %s of table %s moved to snapshot %d; %s", engine.ErrFenced, c.tagName(), l.p.id, *tag, how)
}

// redriven tells that between the tag and where the leg stood there is nothing but redrives: nobody else writes.
func (c *Committer) redriven(ctx context.Context, line *lineage, tag int64, l *leg) bool {
	for id, n := tag, 0; n < maxChain; n++ {
		if sameID(&id, l.p.tag) {
			return n > 0
		}
		s, err := line.snapshot(ctx, id)
		if err != nil || s == nil {
			return false
		}
		r, err := record(s)
		if err != nil || r.Kind != ledger.KindRedrive {
			return false
		}
		id = r.Prev
	}
	return false
}
