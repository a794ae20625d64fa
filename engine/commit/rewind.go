package commit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// ErrRewind reports a rewind that cannot be made; the error says what is possible.
var ErrRewind = errors.New("the table cannot be set back so")

// maxRewindTries bounds how often a rewind is tried beside a writer that commits each second.
const maxRewindTries = 30

// RewindTarget says where to; exactly one field is set.
type RewindTarget struct {
	Snapshot int64         // this one, also of a line that was left by an earlier rewind
	Tag      string        // the snapshot that a tag or branch names
	Time     time.Time     // the last snapshot of the present line made at or before it
	Offsets  offset.Vector // the last snapshot of the present line that holds nothing at or beyond; partitions not named are free
}

// RewindPlan is what a rewind will do.
type RewindPlan struct {
	Snapshot int64         // that the table is set back to
	At       time.Time     // when it was made
	Head     int64         // that it is set back from
	Offsets  offset.Vector // V after it
	Now      offset.Vector // V before it; nil where recovery stops
	Stopped  string        // why recovery stops; empty when it does not
	Epoch    int64         // of the commits to come
	RowsNow  int64         // of the table; -1 when the summary lacks it
	RowsThen int64
	Record   ledger.Record // that Offsets was read from
}

// Again returns how many offsets of each partition will be read again; none where the target is ahead.
func (p RewindPlan) Again() map[int32]int64 {
	out := map[int32]int64{}
	for id, now := range p.Now {
		if n := now - p.Offsets[id]; n > 0 {
			out[id] = n
		}
	}
	return out
}

// Rewound is a rewind that took effect.
type Rewound struct {
	RewindPlan
	SnapshotID int64  // of kind rewind, the new head
	Tag        string // at the old head
}

// rewinder holds one look at a table.
type rewinder struct {
	cat      catalog.Catalog
	wh       *objstore.Warehouse
	reader   *snapshot.Reader
	line     *lineage
	pipeline string
	head     *table.Snapshot
	tag      *int64
}

func newRewinder(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, pipeline string) (*rewinder, error) {
	t, err := cat.LoadTable(ctx, id, catalog.LoadAll)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", id, err)
	}
	r := &rewinder{cat: cat, wh: wh, reader: snapshot.NewReader(wh, manifestCacheBytes), pipeline: pipeline,
		line: &lineage{cat: cat, id: id, meta: t.Metadata, all: t.Metadata}, tag: refID(t.Metadata, ledger.TagName(pipeline))}
	if r.head = t.Metadata.SnapshotByName(table.MainBranch); r.head == nil {
		return nil, r.errorf("it has no snapshot")
	}
	return r, nil
}

func (r *rewinder) errorf(format string, args ...any) error {
	return fmt.Errorf("%w: table %s: %s", ErrRewind, r.line.id, fmt.Sprintf(format, args...))
}

// PlanRewind finds the snapshot that a target means and says what setting the table back to it will do. It changes
// nothing.
func PlanRewind(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, pipeline string, to RewindTarget) (RewindPlan, error) {
	r, err := newRewinder(ctx, cat, wh, id, pipeline)
	if err != nil {
		return RewindPlan{}, err
	}
	s, err := r.target(ctx, to)
	if err != nil {
		return RewindPlan{}, err
	}
	return r.plan(ctx, s)
}

// Rewind sets table and offsets back together, in one commit: a snapshot without changes (kind rewind, epoch + 1) on
// plan.Snapshot becomes main and the place of the pipeline's tag, and the old head is kept under a tag for the time
// keep (0: for ever). A pipeline that runs drops what it holds and reads on from plan.Offsets. A writer that commits
// meanwhile is no hindrance: what it added is set back too. After a lost answer the table is looked at.
func Rewind(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, pipeline string, plan RewindPlan, keep time.Duration) (Rewound, error) {
	batch, err := uuid.NewV7()
	if err != nil {
		return Rewound{}, fmt.Errorf("batch id: %w", err)
	}
	sid := snapshot.NewID()
	for n := 1; ; n++ {
		r, err := newRewinder(ctx, cat, wh, id, pipeline)
		if err != nil {
			return Rewound{}, err
		}
		if r.line.meta.SnapshotByID(sid) != nil { // an attempt whose answer was lost: it came with the move of main
			return Rewound{RewindPlan: plan, SnapshotID: sid, Tag: tagOfHead(plan.Epoch, batch)}, nil
		}
		s := r.line.meta.SnapshotByID(plan.Snapshot)
		if s == nil {
			return Rewound{}, r.errorf("snapshot %d has expired meanwhile", plan.Snapshot)
		}
		if plan, err = r.plan(ctx, s); err != nil {
			return Rewound{}, err
		}
		err = r.commit(ctx, plan, s, sid, batch, keep)
		switch classify(err) {
		case committed:
			return Rewound{RewindPlan: plan, SnapshotID: sid, Tag: tagOfHead(plan.Epoch, batch)}, nil
		case conflict, unknown:
		default:
			return Rewound{}, fmt.Errorf("rewind table %s: %w", id, err)
		}
		if n == maxRewindTries {
			return Rewound{}, fmt.Errorf("rewind table %s, attempt %d: %w", id, n, err)
		}
		if perr := pause(ctx, min(n, quickAttempts+2), unknown); perr != nil {
			return Rewound{}, fmt.Errorf("rewind table %s: %w: look at it again before you repeat this", id, errors.Join(perr, err))
		}
	}
}

// tagOfHead names the tag at the head that a rewind left.
func tagOfHead(epoch int64, batch uuid.UUID) string {
	sec, nsec := batch.Time().UnixTime()
	return "rewound-" + strconv.FormatInt(epoch, 10) + "-" + time.Unix(sec, nsec).UTC().Format("20060102T150405Z")
}

// commit sends one attempt.
func (r *rewinder) commit(ctx context.Context, plan RewindPlan, s *table.Snapshot, sid int64, batch uuid.UUID, keep time.Duration) error {
	manifests, err := r.reader.Manifests(ctx, s)
	if err != nil {
		return fmt.Errorf("table %s: snapshot %d: %w", r.line.id, s.SnapshotID, err)
	}
	rec := ledger.Record{Kind: ledger.KindRewind, Pipeline: r.pipeline, BatchID: batch.String(), Epoch: plan.Epoch,
		ClusterID: plan.Record.ClusterID, TopicID: plan.Record.TopicID, Topics: plan.Record.Topics, Offsets: plan.Offsets, LastRow: plan.Record.LastRow,
		Filtered: plan.Record.Filtered, Duplicates: plan.Record.Duplicates, Unpublished: plan.Record.Unpublished, Watermark: plan.Record.Watermark}
	if r.tag != nil {
		rec.Prev = *r.tag
	}
	summary, err := rec.Summary()
	if err != nil {
		return err
	}
	h := snapshot.Head{Meta: r.line.meta, Snapshot: s, Manifests: manifests}
	snap, err := snapshot.Build(ctx, r.wh, h, snapshot.Change{SnapshotID: sid, Operation: table.OpAppend, Summary: summary}, time.Now())
	if err != nil {
		return fmt.Errorf("table %s: %w", r.line.id, err)
	}
	move := fencedMove(r.line.id, r.pipeline, &r.head.SnapshotID, r.tag, h, snap)
	move.Updates = append(move.Updates, snapshot.SetTag(tagOfHead(plan.Epoch, batch), r.head.SnapshotID, keep))
	_, err = r.cat.CommitTable(ctx, move)
	return err
}

// target finds the snapshot that is meant.
func (r *rewinder) target(ctx context.Context, to RewindTarget) (*table.Snapshot, error) {
	switch {
	case to.Snapshot != 0:
		if s := r.line.meta.SnapshotByID(to.Snapshot); s != nil {
			return s, nil
		}
		return nil, r.errorf("there is no snapshot %d, or not any more: firn snapshots %s lists them", to.Snapshot, r.line.id)
	case to.Tag != "":
		if s := r.line.meta.SnapshotByName(to.Tag); s != nil {
			return s, nil
		}
		return nil, r.errorf("there is no tag %s", to.Tag)
	case !to.Time.IsZero():
		return r.nearest(ctx, "made at or before "+to.Time.UTC().Format(time.RFC3339Nano), func(s *table.Snapshot) (bool, error) {
			return s.TimestampMs <= to.Time.UnixMilli(), nil
		})
	case len(to.Offsets) > 0:
		return r.nearest(ctx, "that holds nothing at or beyond "+to.Offsets.String(), func(s *table.Snapshot) (bool, error) {
			rec, err := r.recordAt(ctx, s)
			if errors.Is(err, ErrRewind) {
				return false, nil
			}
			return err == nil && within(rec.Offsets, to.Offsets), err
		})
	}
	return nil, r.errorf("no target was given")
}

func within(v, limit offset.Vector) bool {
	for p, at := range limit {
		if v[p] > at {
			return false
		}
	}
	return true
}

// nearest walks from the head towards the root, as far as the catalog has the snapshots, to the first that fits.
func (r *rewinder) nearest(ctx context.Context, what string, fits func(*table.Snapshot) (bool, error)) (*table.Snapshot, error) {
	oldest := r.head
	for s, n := r.head, 0; s != nil && n < maxAncestors; n++ {
		oldest = s
		ok, err := fits(s)
		if err != nil {
			return nil, err
		}
		if ok {
			return s, nil
		}
		if s.ParentSnapshotID == nil {
			break
		}
		if s, err = r.line.snapshot(ctx, *s.ParentSnapshotID); err != nil {
			return nil, err
		}
	}
	return nil, r.errorf("its line has no snapshot %s any more; the oldest is %d of %s. Older ones may stand under tags: firn snapshots %s",
		what, oldest.SnapshotID, time.UnixMilli(oldest.TimestampMs).UTC().Format(time.RFC3339Nano), r.line.id)
}

// recordAt is what the table holds at a snapshot: its record, or that of the nearest ancestor.
func (r *rewinder) recordAt(ctx context.Context, s *table.Snapshot) (ledger.Record, error) {
	w, err := r.line.walk(ctx, s)
	if err == nil && w.found != nil {
		err = r.line.cherryPicks(ctx, &w)
	}
	switch {
	case errors.Is(err, engine.ErrNeedsDecision):
		return ledger.Record{}, fmt.Errorf("%w: %w", ErrRewind, err)
	case err != nil:
		return ledger.Record{}, err
	case w.found == nil:
		return ledger.Record{}, r.errorf("what snapshot %d holds of the topic is not known: no ancestor that is left carries a record of firn", s.SnapshotID)
	case w.record.Pipeline != r.pipeline:
		return ledger.Record{}, r.errorf("snapshot %d is of the pipeline %s", w.found.SnapshotID, w.record.Pipeline)
	}
	return w.record, nil
}

// plan says what setting the table back to s does.
func (r *rewinder) plan(ctx context.Context, s *table.Snapshot) (RewindPlan, error) {
	rec, err := r.recordAt(ctx, s)
	if err != nil {
		return RewindPlan{}, err
	}
	p := RewindPlan{Snapshot: s.SnapshotID, At: time.UnixMilli(s.TimestampMs), Head: r.head.SnapshotID, Offsets: rec.Offsets.Clone(), Record: rec,
		RowsNow: snapshot.Count(r.head, "total-records"), RowsThen: snapshot.Count(s, "total-records")}
	f := newFinder(r.wh, r.reader, r.line, r.pipeline)
	pos, err := f.find(ctx)
	switch {
	case err == nil:
		p.Now = pos.offsets().Clone()
	case errors.Is(err, engine.ErrNeedsDecision):
		p.Stopped = err.Error()
	default:
		return RewindPlan{}, err
	}
	if p.Record, err = withTopics(rec, pos.record); err == nil && f.last != nil {
		p.Record, err = withTopics(p.Record, *f.last)
	}
	if err != nil {
		return RewindPlan{}, r.errorf("%v", err)
	}
	p.Epoch = max(rec.Epoch, pos.epoch) + 1
	if f.last != nil {
		p.Epoch = max(p.Epoch, f.last.Epoch+1)
	}
	return p, nil
}
