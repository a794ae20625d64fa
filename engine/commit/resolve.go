package commit

import (
	"context"
	"errors"
	"fmt"
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

// ErrResolve reports a decision that would double rows; the error names the partition.
var ErrResolve = errors.New("the offsets cannot be set so")

// Resolution is a person's decision where recovery stops (ErrNeedsDecision).
type Resolution struct {
	// To is where to read on, for every partition; nil: just after the last row of each, as the table's ledger columns
	// say. Offsets without a row between there and the truth are read again, which gives nothing twice.
	To offset.Vector
	// Topic is what the offsets belong to; empty ids keep those of Firn's last record.
	Topic engine.Topic
	// Topics are those of a table that several go to; one that is not among them keeps its id.
	Topics []engine.Topic
	// DryRun decides and checks, and writes nothing.
	DryRun bool
}

// Resolved is what a decision did, or would do.
type Resolved struct {
	Before     string // what recovery answered, or why it stopped
	Offsets    offset.Vector
	LastRow    offset.Vector
	Epoch      int64
	SnapshotID int64 // 0 after a dry run
}

// Resolve is the way out of a stop: it commits a snapshot without rows (kind rewind) on the head as it is, which says
// that the table holds everything below r.To and nothing beyond, and moves the tag there. It refuses a vector below
// rows that are in the table, for these would come a second time. Pipelines that run are fenced and read it.
func Resolve(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, pipeline string, r Resolution) (Resolved, error) {
	t, err := cat.LoadTable(ctx, id, catalog.LoadRefs)
	if err != nil {
		return Resolved{}, fmt.Errorf("table %s: %w", id, err)
	}
	reader := snapshot.NewReader(wh, manifestCacheBytes)
	f := newFinder(wh, reader, &lineage{cat: cat, id: id, meta: t.Metadata}, pipeline)
	pos, err := f.find(ctx)
	out := Resolved{Before: fmt.Sprintf("%s at %s", pos.step, orNone(pos.offsets()))}
	switch {
	case errors.Is(err, engine.ErrNeedsDecision):
		out.Before = err.Error()
	case err != nil:
		return Resolved{}, err
	}
	rec, err := f.decide(ctx, pos, r, &out)
	if err != nil || r.DryRun {
		return out, err
	}
	head, err := snapshot.LoadHead(ctx, reader, t.Metadata, table.MainBranch)
	if err != nil {
		return Resolved{}, fmt.Errorf("table %s: %w", id, err)
	}
	tag := refID(t.Metadata, ledger.TagName(pipeline))
	if tag != nil {
		rec.Prev = *tag
	}
	summary, err := rec.Summary()
	if err != nil {
		return Resolved{}, err
	}
	l := &leg{p: &pinned{id: id, head: head, tag: tag}, id: snapshot.NewID()}
	l.change = snapshot.Change{SnapshotID: l.id, Operation: table.OpAppend, Summary: summary}
	if l.snap, err = snapshot.Build(ctx, wh, head, l.change, time.Now()); err != nil {
		return Resolved{}, fmt.Errorf("table %s: %w", id, err)
	}
	if _, err := cat.CommitTable(ctx, request(l, pipeline)); err != nil {
		return Resolved{}, fmt.Errorf("table %s: %w: look at it again before you repeat this", id, err)
	}
	out.SnapshotID = l.id
	return out, nil
}

// decide makes the record that says what r says, if the table's rows allow it.
func (f *finder) decide(ctx context.Context, pos position, r Resolution, out *Resolved) (ledger.Record, error) {
	rows, err := f.ledger(ctx, true)
	if err != nil {
		return ledger.Record{}, fmt.Errorf("table %s: %w", f.line.id, err)
	}
	to := r.To.Clone()
	if r.To == nil {
		for p, o := range rows {
			to[p] = o + 1
		}
	}
	for _, p := range rows.Partitions() {
		at, ok := to[p]
		switch {
		case !ok:
			return ledger.Record{}, fmt.Errorf("%w: table %s holds rows of partition %d up to %d, and nothing is said of it", ErrResolve, f.line.id, p, rows[p])
		case at <= rows[p]:
			return ledger.Record{}, fmt.Errorf("%w: partition %d would be read from %d on, and the table holds its rows up to %d: they would be there twice; delete them first, or take %d", ErrResolve, p, at, rows[p], rows[p]+1)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return ledger.Record{}, fmt.Errorf("batch id: %w", err)
	}
	base := pos.record
	if f.last != nil {
		base = *f.last
	}
	if base, err = withTopics(base, pos.record); err == nil {
		base, err = named(base, to, f.line.meta)
	}
	if err != nil {
		return ledger.Record{}, fmt.Errorf("%w: table %s: %w", ErrResolve, f.line.id, err)
	}
	out.Offsets, out.LastRow, out.Epoch = to, rows, max(base.Epoch, pos.epoch)+1
	now, same := rebound(base, r.Topic, r.Topics)
	left := leftOutBelow(base, to, same)
	return ledger.Record{Kind: ledger.KindRewind, Pipeline: f.pipeline, BatchID: id.String(), Epoch: out.Epoch,
		ClusterID: orKnown(r.Topic.ClusterID, base.ClusterID), TopicID: orKnown(now.TopicID, noID), Topics: now.Topics,
		Offsets: to, LastRow: rows, Filtered: left.filtered, Duplicates: left.duplicates, Unpublished: unpublishedBelow(base, to, same), Watermark: base.Watermark}, nil
}
