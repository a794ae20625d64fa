//go:build simulation

package commit

import (
	"context"
	"slices"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/snapshot"
)

// Broken returns rules that a committer can be made to break, by name, for the simulation to notice. The file is part of
// no program: only tests with -tags=simulation have it.
func Broken() map[string]func(*Committer) {
	find := func(f func(context.Context, *finder) (position, error)) func(*Committer) {
		return func(c *Committer) { c.broken.find = f }
	}
	return map[string]func(*Committer){
		"a moved head and tag are followed blindly":          func(c *Committer) { c.broken.blindRebase = true },
		"a lost answer is taken for a failure":               func(c *Committer) { c.broken.onUnknown = brokenForget },
		"dead letters are not sticky":                        func(c *Committer) { c.broken.noSticky = true },
		"a dead line makes its record sticky":                func(c *Committer) { c.broken.wholeSticky = true },
		"the newest snapshot is taken for the head":          find(brokenNewest),
		"missing means zero":                                 find(brokenHeadAlone),
		"a walk that was cut short is taken for a whole one": find(brokenWalk),
		"the tag is believed":                                find(brokenTag),
		"the maximum of two vectors is taken":                find(brokenMaximum),
	}
}

// brokenForget commits the batch anew on the head as it is.
func brokenForget(ctx context.Context, c *Committer, t *try, legs []*leg) error {
	t.open = false
	for _, l := range legs {
		meta, err := c.load(ctx, l.p.id)
		if err != nil {
			return err
		}
		head, err := snapshot.LoadHead(ctx, c.reader, meta, table.MainBranch)
		if err != nil {
			return err
		}
		l.p.head, l.p.tag, l.p.stale = head, refID(meta, c.tagName()), false
		l.id, l.prepared, l.built = snapshot.NewID(), false, false
		if err := c.manifest(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func positionAt(s *table.Snapshot, step string) (position, error) {
	r, err := record(s)
	if err != nil {
		return position{step: StepNew}, nil
	}
	return position{record: r, at: s.SnapshotID, epoch: r.Epoch, step: step}, nil
}

func brokenNewest(ctx context.Context, f *finder) (position, error) {
	all, err := f.line.everything(ctx)
	if err != nil {
		return position{}, err
	}
	pos := position{step: StepNew}
	sns := all.Snapshots()
	slices.SortFunc(sns, func(a, b table.Snapshot) int { return int(a.SequenceNumber - b.SequenceNumber) })
	for _, s := range sns {
		if p, _ := positionAt(&s, StepHead); p.at != 0 {
			pos = p
		}
	}
	return pos, nil
}

func brokenHeadAlone(_ context.Context, f *finder) (position, error) {
	return positionAt(f.head, StepHead)
}

func brokenWalk(ctx context.Context, f *finder) (position, error) {
	w, err := f.line.walk(ctx, f.head)
	if err != nil || w.found == nil {
		return position{step: StepNew}, err
	}
	return positionAt(w.found, StepWalk)
}

func brokenTag(_ context.Context, f *finder) (position, error) {
	if f.last == nil {
		return position{step: StepNew}, nil
	}
	return positionAt(f.tag, StepHead)
}

func brokenMaximum(ctx context.Context, f *finder) (position, error) {
	pos, err := brokenWalk(ctx, f)
	if err != nil || f.last == nil {
		return pos, err
	}
	v := pos.offsets().Clone()
	for p, o := range f.last.Offsets {
		if have, ok := v[p]; !ok || o > have {
			v[p] = o
		}
	}
	pos.record.Offsets = v
	return pos, nil
}
