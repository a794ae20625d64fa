package commit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// The steps of recovery, as State.Source names them.
const (
	StepNew     = "new table"
	StepHead    = "head summary"
	StepWalk    = "ancestor walk"
	StepHistory = "catalog history"
	StepLedger  = "ledger columns"
)

// position is where a pipeline stands in its table.
type position struct {
	record ledger.Record // that V was read from; the zero Record for a table that Firn never wrote
	at     int64         // the snapshot that carries it; 0 when there is none
	epoch  int64         // of the commits to come
	step   string
}

func (p position) offsets() offset.Vector {
	if p.record.Offsets == nil {
		return offset.Vector{}
	}
	return p.record.Offsets
}

// finder answers where V is in a table as it was loaded, by the steps of docs/exactly-once.md: it stops at the first
// certain answer, and where there is none with ErrNeedsDecision.
type finder struct {
	wh       *objstore.Warehouse
	reader   *snapshot.Reader
	line     *lineage
	pipeline string
	broken   rules

	head *table.Snapshot
	tag  *table.Snapshot // where the pipeline's tag stands; nil without a tag
	last *ledger.Record  // of the tag's snapshot; nil when there is no tag or it stands at another's snapshot
	saw  []string        // what each step saw, for a person
}

func newFinder(wh *objstore.Warehouse, r *snapshot.Reader, line *lineage, pipeline string) *finder {
	return &finder{wh: wh, reader: r, line: line, pipeline: pipeline}
}

// find answers by the steps, and with all the topics that the tag's record knows: a rollback takes none of them back.
func (f *finder) find(ctx context.Context) (position, error) {
	pos, err := f.answer(ctx)
	if err != nil || f.last == nil {
		return pos, err
	}
	if pos.record, err = withTopics(pos.record, *f.last); err != nil {
		return position{}, f.stop("topics: %v", err)
	}
	return pos, nil
}

// answer runs the steps.
func (f *finder) answer(ctx context.Context) (position, error) {
	f.head = f.line.meta.SnapshotByName(table.MainBranch)
	if err := f.readTag(); err != nil {
		return position{}, err
	}
	if f.head == nil {
		return f.withoutHead(ctx)
	}
	if f.broken.find != nil {
		return f.broken.find(ctx, f)
	}
	w, err := f.line.walk(ctx, f.head)
	if err != nil {
		return position{}, f.explain(err)
	}
	if w.found != nil {
		if err := f.line.cherryPicks(ctx, &w); err != nil {
			return position{}, f.explain(err)
		}
		return f.fromRecord(ctx, w)
	}
	f.note("head summary: snapshot %d carries no record of firn", f.head.SnapshotID)
	for _, s := range w.foreign {
		if s.Summary != nil && s.Summary.Properties[sourceKey] != "" && (f.tag != nil || !w.complete) {
			return position{}, f.stop("ancestor walk: snapshot %d is a cherry-pick, and the snapshot that it went on from is not known", s.SnapshotID)
		}
	}
	if w.complete {
		return f.withoutRecord(ctx)
	}
	f.note("ancestor walk: %d snapshots of other engines, then snapshot %d, which has expired", len(w.foreign), w.missing)
	pos, ok, err := f.byHistory(ctx, w.missing)
	if err != nil || ok {
		return pos, err
	}
	return f.byLedger(ctx)
}

func (f *finder) note(format string, args ...any) {
	f.saw = append(f.saw, fmt.Sprintf(format, args...))
}

// stop is step e: nothing is read or written until a person has decided.
func (f *finder) stop(format string, args ...any) error {
	f.note(format, args...)
	return f.explain(engine.ErrNeedsDecision)
}

// explain adds what the steps saw and the way out to an error that stops the pipeline.
func (f *finder) explain(err error) error {
	if !errors.Is(err, engine.ErrNeedsDecision) {
		return err
	}
	if len(f.saw) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.Join(f.saw, "; "))
	}
	remedy := "state where to read on: firn offsets resolve " + f.line.id.String()
	if f.tag != nil {
		remedy = fmt.Sprintf("set main back to firn's last snapshot %d (tag %s) with any engine, or %s", f.tag.SnapshotID, ledger.TagName(f.pipeline), remedy)
	}
	return fmt.Errorf("table %s: %w; %s (docs/exactly-once.md)", f.line.id, err, remedy)
}

// readTag finds the snapshot that the pipeline's tag stands at, and its record.
func (f *finder) readTag() error {
	id := refID(f.line.meta, ledger.TagName(f.pipeline))
	if id == nil {
		return nil
	}
	if f.tag = f.line.meta.SnapshotByID(*id); f.tag == nil {
		return f.stop("tag %s: its snapshot %d is not in the metadata", ledger.TagName(f.pipeline), *id)
	}
	r, err := record(f.tag)
	switch {
	case err == nil && r.Pipeline == f.pipeline:
		f.last = &r
	case err == nil:
		return f.stop("tag %s: snapshot %d is of the pipeline %s", ledger.TagName(f.pipeline), *id, r.Pipeline)
	case errors.Is(err, ledger.ErrNoRecord):
		f.note("tag %s: somebody set it to snapshot %d, which carries no record", ledger.TagName(f.pipeline), *id)
	default:
		return f.stop("tag %s: snapshot %d: %v", ledger.TagName(f.pipeline), *id, err)
	}
	return nil
}

// fromRecord is steps a and b: the head's summary, or that of its nearest ancestor with one. Rows and offsets are in
// one snapshot there, so this is V whatever happened since; what remains is whether the table was set back.
func (f *finder) fromRecord(ctx context.Context, w walked) (position, error) {
	r := w.record
	if r.Pipeline != f.pipeline {
		return position{}, f.stop("snapshot %d is of the pipeline %s: a table has one pipeline", w.found.SnapshotID, r.Pipeline)
	}
	pos := position{record: r, at: w.found.SnapshotID, epoch: r.Epoch, step: StepHead}
	if len(w.foreign) > 0 {
		pos.step = StepWalk
	}
	if f.last == nil {
		return pos, nil
	}
	pos.epoch = max(r.Epoch, f.last.Epoch)
	if r.Offsets.Equal(f.last.Offsets) {
		return pos, nil
	}
	d, err := f.line.descent(ctx, f.head, f.tag)
	switch {
	case err != nil:
		return position{}, err
	case d == apart: // a rollback: firn's last snapshot is not part of the table any more
		pos.epoch++
		return pos, nil
	case reaches(r.Offsets, f.last.Offsets):
		return pos, nil // the tag was set back, the table was not
	case d == descends:
		return position{}, f.stop("%s: the head descends from firn's last snapshot %d at %s, yet the record of snapshot %d says %s",
			pos.step, f.tag.SnapshotID, f.last.Offsets, w.found.SnapshotID, r.Offsets)
	}
	return position{}, f.stop("%s: the record of snapshot %d says %s, firn's last snapshot %d says %s, and too much has expired to tell whether the table was set back",
		pos.step, w.found.SnapshotID, r.Offsets, f.tag.SnapshotID, f.last.Offsets)
}

// reaches reports that v stands at or beyond o in every partition of o.
func reaches(v, o offset.Vector) bool {
	for p, at := range o {
		if have, ok := v[p]; !ok || have < at {
			return false
		}
	}
	return true
}

// wrote reports whether any snapshot that the catalog still has is of this pipeline.
func (f *finder) wrote(ctx context.Context) (int64, error) {
	all, err := f.line.everything(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range all.Snapshots() {
		if _, err := record(&s); !errors.Is(err, ledger.ErrNoRecord) {
			return s.SnapshotID, nil
		}
	}
	return 0, nil
}

// withoutHead is a table whose main has no snapshot.
func (f *finder) withoutHead(ctx context.Context) (position, error) {
	if f.tag != nil {
		if f.last != nil && len(f.last.LastRow) == 0 {
			return f.adopt("ledger columns: firn has not written a row yet, and there is none"), nil
		}
		return position{}, f.stop("main has no snapshot, although firn has written rows: the table was replaced or truncated")
	}
	id, err := f.wrote(ctx)
	if err != nil {
		return position{}, err
	}
	if id != 0 {
		return position{}, f.stop("main has no snapshot and the tag %s is gone, although firn made snapshot %d", ledger.TagName(f.pipeline), id)
	}
	return position{step: StepNew}, nil
}

// withoutRecord is a head whose ancestors are all there, none with a record: a table of other engines' that Firn never
// wrote, or one that was replaced or set back to before Firn's first snapshot.
func (f *finder) withoutRecord(ctx context.Context) (position, error) {
	f.note("ancestor walk: no ancestor carries one, down to the root")
	if f.tag != nil {
		return position{}, f.stop("the head does not descend from any snapshot of firn: the table was replaced, or set back to before firn's first snapshot")
	}
	return f.neverWritten(ctx)
}

// neverWritten is a table with snapshots and without a tag. Firn begins at the topic's start only if none of its rows
// came from Kafka through Firn.
func (f *finder) neverWritten(ctx context.Context) (position, error) {
	id, err := f.wrote(ctx)
	if err != nil {
		return position{}, err
	}
	if id != 0 {
		return position{}, f.stop("the tag %s is gone, and firn's snapshot %d is no ancestor of the head", ledger.TagName(f.pipeline), id)
	}
	v, err := f.ledger(ctx, true)
	if err != nil {
		return position{}, f.unsettled(err)
	}
	if len(v) > 0 {
		return position{}, f.stop("ledger columns: the table holds rows from Kafka up to %s, and nothing tells who wrote them", v)
	}
	return position{step: StepNew}, nil
}

// byHistory is step c: the catalog remembers the offsets of the snapshot that the walk could not reach.
func (f *finder) byHistory(ctx context.Context, id int64) (position, bool, error) {
	v, ok, saw, err := f.line.history(ctx, id)
	if err != nil {
		return position{}, false, err
	}
	f.note("catalog history: %s", saw)
	if !ok {
		return position{}, false, nil
	}
	if f.last != nil && f.last.Offsets.Equal(v) {
		return position{record: *f.last, at: f.tag.SnapshotID, epoch: f.last.Epoch, step: StepHistory}, true, nil
	}
	// The table was set back to id and went on from there. The record of id has expired with it; its offsets are
	// known, and the last rows are what the ledger says.
	rows, err := f.ledger(ctx, false)
	if err != nil {
		return position{}, false, f.unsettled(err)
	}
	for p, o := range rows {
		if at, known := v[p]; !known || o >= at {
			return position{}, false, f.stop("ledger columns: partition %d has a row at %d, and the offsets of the history stand at %d", p, o, at)
		}
	}
	pos := position{record: ledger.Record{Kind: ledger.KindIngest, Pipeline: f.pipeline, Offsets: v, LastRow: rows}, at: id, step: StepHistory}
	if f.last != nil {
		pos.record.ClusterID, pos.record.TopicID, pos.record.Topics = f.last.ClusterID, f.last.TopicID, f.last.Topics
		pos.epoch = f.last.Epoch + 1
	}
	return pos, true, nil
}

// byLedger is step d: if the last row of every partition is the one that Firn's last snapshot left, then all that it
// wrote is there and nothing beyond, whoever rewrote it.
func (f *finder) byLedger(ctx context.Context) (position, error) {
	if f.last == nil {
		if f.tag == nil {
			return f.neverWritten(ctx)
		}
		return position{}, f.stop("ledger columns: without the tag's record there is nothing to hold them against")
	}
	rows, err := f.ledger(ctx, false)
	if err != nil {
		return position{}, f.unsettled(err)
	}
	if !rows.Equal(f.last.LastRow) {
		return position{}, f.stop("ledger columns: the last rows are %s, firn's last snapshot %d left %s", orNone(rows), f.tag.SnapshotID, orNone(f.last.LastRow))
	}
	return f.adopt("ledger columns: the last rows are those that firn left"), nil
}

func (f *finder) adopt(saw string) position {
	f.note("%s", saw)
	return position{record: *f.last, at: f.tag.SnapshotID, epoch: f.last.Epoch, step: StepLedger}
}

func orNone(v offset.Vector) string {
	if len(v) == 0 {
		return "none"
	}
	return v.String()
}

// ledger returns the last row of each partition over the head. Row deletes of other engines hide rows from it, unless
// hidden ones are to be counted as well.
func (f *finder) ledger(ctx context.Context, hidden bool) (offset.Vector, error) {
	if f.head == nil {
		return offset.Vector{}, nil
	}
	manifests, err := f.reader.Manifests(ctx, f.head)
	if err != nil {
		return nil, err
	}
	if hidden {
		manifests = snapshot.DataManifests(manifests)
	}
	files, err := f.reader.FilesOf(ctx, manifests, nil)
	if err != nil {
		return nil, err
	}
	scan, err := newLedgerScan(f.wh, f.line.meta)
	if err != nil {
		return nil, err
	}
	return scan.last(ctx, files)
}

// unsettled turns an error of reading the ledger into a stop, unless it passes by itself.
func (f *finder) unsettled(err error) error {
	if transient(err) {
		return fmt.Errorf("table %s: ledger columns: %w", f.line.id, err)
	}
	return f.stop("ledger columns: %v", err)
}

// refID is the snapshot that a ref names; nil when there is no such ref.
func refID(meta table.Metadata, name string) *int64 {
	for n, r := range meta.Refs() {
		if n == name {
			id := r.SnapshotID
			return &id
		}
	}
	return nil
}

// leaderEpochs are those of the batches that the record's snapshot read last: of no other partition, and of none after a
// rewind or a gap, which read nothing.
func (p position) leaderEpochs() map[int32]int32 {
	epochs := map[int32]int32{}
	for _, r := range p.record.Ranges {
		if r.LeaderEpoch >= 0 && r.End == p.record.Offsets[r.Partition] {
			epochs[r.Partition] = r.LeaderEpoch
		}
	}
	return epochs
}

func (p position) state(meta table.Metadata) engine.State {
	st := engine.State{Offsets: p.offsets().Clone(), Epoch: p.epoch, Source: p.step, LeaderEpochs: p.leaderEpochs()}
	if head := meta.SnapshotByName(table.MainBranch); head != nil {
		st.SnapshotID = head.SnapshotID
	}
	return st
}
