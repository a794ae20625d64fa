package commit

import (
	"context"
	"strings"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// The ways in which committers and recoveries go wrong elsewhere, each on top of everything else that is right here.

// forget takes a lost answer for a failure and commits the batch anew on the head as it is.
func forget(ctx context.Context, c *Committer, t *try, legs []*leg) error {
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

// newest takes the newest snapshot in the metadata for the state of the table.
func newest(ctx context.Context, f *finder) (position, error) {
	all, err := f.line.everything(ctx)
	if err != nil {
		return position{}, err
	}
	pos, seq := position{step: StepNew}, int64(-1)
	for _, s := range all.Snapshots() {
		if r, err := record(&s); err == nil && s.SequenceNumber > seq {
			seq, pos = s.SequenceNumber, position{record: r, at: s.SnapshotID, epoch: r.Epoch, step: StepHead}
		}
	}
	return pos, nil
}

// headAlone takes a head without a record for a table without rows.
func headAlone(_ context.Context, f *finder) (position, error) {
	if f.head == nil {
		return position{step: StepNew}, nil
	}
	r, err := record(f.head)
	if err != nil {
		return position{step: StepNew}, nil
	}
	return position{record: r, at: f.head.SnapshotID, epoch: r.Epoch, step: StepHead}, nil
}

// uncheckedWalk takes a walk that ends at an expired snapshot for one that reached the root.
func uncheckedWalk(ctx context.Context, f *finder) (position, error) {
	if f.head == nil {
		return position{step: StepNew}, nil
	}
	w, err := f.line.walk(ctx, f.head)
	if err != nil || w.found == nil {
		return position{step: StepNew}, err
	}
	return position{record: w.record, at: w.found.SnapshotID, epoch: w.record.Epoch, step: StepWalk}, nil
}

// tagAlone believes the tag, wherever the head is.
func tagAlone(_ context.Context, f *finder) (position, error) {
	if f.last == nil {
		return position{step: StepNew}, nil
	}
	return position{record: *f.last, at: f.tag.SnapshotID, epoch: f.last.Epoch, step: StepHead}, nil
}

// greatest takes the maximum of the head's vector and the tag's.
func greatest(ctx context.Context, f *finder) (position, error) {
	pos, err := uncheckedWalk(ctx, f)
	if err != nil || f.last == nil {
		return pos, err
	}
	for p, at := range f.last.Offsets {
		if at > pos.record.Offsets[p] {
			return tagAlone(ctx, f)
		}
	}
	return pos, nil
}

// TestSimulationNotices breaks one rule at a time and sees that the simulation finds it.
func TestSimulationNotices(t *testing.T) {
	const within = 150
	finder := func(f func(context.Context, *finder) (position, error)) func(*Committer) {
		return func(c *Committer) { c.broken.find = f }
	}
	for name, broken := range map[string]func(*Committer){
		"a moved head is followed blindly":                   func(c *Committer) { c.broken.blindRebase = true },
		"a lost answer is taken for a failure":               func(c *Committer) { c.broken.onUnknown = forget },
		"dead letters are written again":                     func(c *Committer) { c.broken.noSticky = true },
		"the newest snapshot is taken for the head":          finder(newest),
		"a head without a record is taken for an empty one":  finder(headAlone),
		"a walk that was cut short is taken for a whole one": finder(uncheckedWalk),
		"the tag is believed":                                finder(tagAlone),
		"the greatest of two vectors is taken":               finder(greatest),
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
			cat := openCatalog(t, wh)
			for i := range within {
				if _, err := runOne(t, cat, wh, *firstSeed+uint64(i), broken); err != nil {
					t.Logf("found by schedule %d: %v", i+1, err)
					return
				}
			}
			t.Errorf("%d schedules did not find it", within)
		})
	}
}
