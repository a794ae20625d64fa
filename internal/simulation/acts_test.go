package simulation

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// What happens to a request to commit.
const (
	works     = iota
	refused   // 503, before the effect
	spurious  // a conflict although every requirement held
	lostEarly // no answer, no effect
	lostLate  // no answer, after the effect
	odd       // an error that nobody has heard of, after the effect
	twice     // the request arrives twice, and the second answer comes back
	delayed   // no answer; the request arrives later
	fatal     // the writer ends, after the effect
	fates
)

var fateNames = [fates]string{"works", "is refused", "gives a spurious conflict", "is lost", "works, its answer is lost", "works, its answer is odd",
	"arrives twice", "is delayed", "works, its writer ends"}

// serve takes a request from the gate and decides what becomes of it.
func (w *world) serve(c *call) {
	w.net.take(c)
	ctx := context.Background()
	if c.w.dead.Load() || c.gone.Load() { // it was under way; nobody waits for it
		if !c.reads() && w.rnd.IntN(2) == 0 {
			w.note("writer %d is gone, its %s %s arrives: %s", c.w.id, c.lane, c.note, brief(c.run(ctx)))
		}
		c.answer(errDead)
		return
	}
	switch c.lane {
	case "poll":
		f := c.poll.read(w.rnd)
		*c.fetched = f
		w.note("writer %d reads partition %d [%d,%d)", c.w.id, f.Partition, f.Start, f.End)
		c.answer(nil)
	case "load", "seen", "letters":
		if !w.calm && w.rnd.IntN(25) == 0 {
			w.note("writer %d: a load is refused", c.w.id)
			c.answer(c.refuse)
			return
		}
		err := c.run(ctx)
		w.note("writer %d loads: %s", c.w.id, brief(err))
		c.answer(err)
	case "produce":
		w.note("writer %d produces %s", c.w.id, c.note)
		w.serveProduce(c)
	case "put":
		w.note("writer %d puts", c.w.id)
		w.servePut(c)
	default:
		w.serveCommit(c)
	}
}

func (w *world) servePut(c *call) {
	ctx := context.Background()
	switch n := w.rnd.IntN(30); {
	case w.diskDown.Load():
		c.answer(c.refuse)
	case n > 2 || w.calm:
		c.answer(c.run(ctx))
	case n == 0:
		c.answer(c.refuse)
	case n == 1:
		c.answer(c.unknown)
	default:
		_ = c.run(ctx)
		c.answer(c.unknown)
	}
}

func (w *world) serveCommit(c *call) {
	ctx, fate := context.Background(), works
	if !w.calm && w.rnd.IntN(3) == 0 {
		fate = 1 + w.rnd.IntN(fates-1)
		if w.rnd.IntN(6) == 0 {
			fate = delayed
		}
	}
	var err error
	switch fate {
	case works, twice, lostLate, odd, fatal:
		err = c.run(ctx)
	case delayed:
		w.late = append(w.late, request{time.Now(), c.run})
	}
	if fate == works {
		c.w.stuck(err)
	}
	w.note("writer %d: its commit of %s %s: %s", c.w.id, c.note, fateNames[fate], brief(err))
	switch fate {
	case works:
		c.answer(err)
	case refused:
		c.answer(c.refuse)
	case spurious:
		c.answer(fmt.Errorf("%w: a rival", catalog.ErrConflict))
	case odd:
		c.answer(errors.New("something is odd"))
	case twice:
		c.answer(c.run(ctx))
	case fatal:
		c.w.die()
		c.answer(errDead)
	default:
		c.answer(c.unknown)
	}
}

// maxConflicts is how often in a row a writer may be told that its commit does not fit tables that stand still: after the
// first it has looked at them.
const maxConflicts = 3

// stuck fails a schedule in which a writer does not learn from a conflict.
func (a *writer) stuck(err error) {
	at := a.m.versions()
	if !errors.Is(err, catalog.ErrConflict) || at != a.refusedAt {
		a.refusals = 0
	}
	if !errors.Is(err, catalog.ErrConflict) {
		return
	}
	a.refusedAt = at
	if a.refusals++; a.refusals >= maxConflicts {
		a.failed(fmt.Errorf("writer %d is stuck: its commit was refused %d times, and the tables stood still", a.id, a.refusals))
	}
}

// brief names the kind of an error: texts hold ids, which a trace must not.
func brief(err error) string {
	for _, k := range []error{catalog.ErrConflict, catalog.ErrUnknownOutcome, catalog.ErrUnavailable, engine.ErrNeedsDecision, engine.ErrFenced,
		engine.ErrRewound, commit.ErrResolve, commit.ErrRewind} {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	if err != nil {
		return "another error"
	}
	return "done"
}

// act is something that is no request of a writer's.
func (w *world) act() error {
	ctx := context.Background()
	if w.takenOver() && w.rnd.IntN(6) == 0 {
		return w.rollback(ctx) // mostly to where the one stands that will be fenced
	}
	switch n := w.rnd.IntN(100); {
	case n < 30:
		return w.actOnWriter()
	case n < 35:
		return w.compact(ctx, w.rows, true)
	case n < 39:
		return w.compact(ctx, w.rows, false)
	case n < 42:
		return w.foreignRows(ctx)
	case n < 45:
		return w.rollback(ctx)
	case n < 48:
		return w.rewind(ctx)
	case n < 53:
		return w.expire(ctx, w.rows)
	case n < 56:
		return errors.Join(w.compact(ctx, w.dead, w.rnd.IntN(2) == 0), w.expire(ctx, w.dead))
	case n < 57:
		w.note("the tag is dropped")
		return w.update(ctx, w.rows, table.NewRemoveSnapshotRefUpdate(ledger.TagName(pipeline)))
	case n < 73:
		w.deliver(ctx)
	case n < 75:
		w.diskDown.Store(!w.diskDown.Load())
		w.note("storage is down: %t", w.diskDown.Load())
	case n < 80:
		return w.expose(ctx)
	case n < 83:
		return w.sweep(ctx)
	case n < 86:
		return w.person(ctx)
	case n < 88:
		w.note("time passes")
		w.pass(12)
		if err := w.settle(); err != nil {
			return err
		}
		w.giveUp()
	default:
		return w.look(ctx)
	}
	return nil
}

// takenOver tells that a writer runs that does not know yet that another one has committed.
func (w *world) takenOver() bool {
	return slices.ContainsFunc(w.live(), func(a *writer) bool { return a.overtaken })
}

func (w *world) actOnWriter() error {
	slot := w.rnd.IntN(len(w.slots))
	a := w.slots[slot]
	if a == nil || a.dead.Load() || a.over() {
		return w.start(slot)
	}
	switch n := w.rnd.IntN(10); {
	case n < 2:
		w.note("writer %d is killed", a.id)
		a.die()
	case n < 4:
		w.note("writer %d is asked to stop", a.id)
		a.stopping = true
		a.cancel()
	default:
		a.paused = w.turns + 5 + w.rnd.IntN(40)
		w.note("writer %d is cut off until turn %d", a.id, a.paused)
	}
	return nil
}

// giveUp drops what is older than the network keeps: answers will not come, requests will not arrive.
func (w *world) giveUp() {
	old := time.Now().Add(-patience)
	w.late = slices.DeleteFunc(w.late, func(r request) bool { return r.sent.Before(old) })
	for _, c := range w.net.sorted() {
		if c.poll == nil && c.sent.Before(old) {
			w.net.take(c)
			c.answer(c.unknown)
		}
	}
}

// deliver lets one delayed request arrive.
func (w *world) deliver(ctx context.Context) {
	w.giveUp()
	if len(w.late) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.late))
	r := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	w.stats.late++
	w.note("a delayed request arrives: %s", brief(r.run(ctx)))
}

func (w *world) update(ctx context.Context, id catalog.Identifier, updates ...table.Update) error {
	_, err := w.m.CommitTable(ctx, catalog.TableCommit{Identifier: id, Updates: updates})
	return err
}

// foreign commits a change as another engine does: on the head as it is.
func (w *world) foreign(ctx context.Context, id catalog.Identifier, op table.Operation, summary map[string]string, change func(snapshot.Head, int64) (snapshot.Change, error)) error {
	h, err := w.head(ctx, id)
	if err != nil {
		return err
	}
	sid := w.numbered(snapshot.NewID())
	c, err := change(h, sid)
	if err != nil {
		return err
	}
	c.SnapshotID, c.Operation, c.Summary = sid, op, summary
	s, err := snapshot.Build(ctx, w.wh, h, c, time.Now())
	if err != nil {
		return err
	}
	return w.update(ctx, id, snapshot.Updates(s, table.MainBranch)...)
}

// compact writes the live files of a head into one, or only their manifests. With the record carried on it is Firn's
// own compaction, without it another engine's.
func (w *world) compact(ctx context.Context, id catalog.Identifier, carry bool) error {
	h, err := w.head(ctx, id)
	if err != nil || h.Snapshot == nil {
		return err
	}
	var summary map[string]string
	if carry {
		if r, err := ledger.ParseSummary(h.Snapshot.Summary.Properties); err == nil {
			r.Kind, r.Ranges, r.Prev = ledger.KindCompact, nil, h.Snapshot.SnapshotID
			if summary, err = r.Summary(); err != nil {
				return err
			}
		}
	}
	merge := w.rnd.IntN(2) == 0
	w.note("%s is compacted: by firn %t, files %t", id.Name(), summary != nil, merge)
	return w.foreign(ctx, id, table.OpReplace, summary, func(h snapshot.Head, sid int64) (c snapshot.Change, err error) {
		files, err := w.files(ctx, h.Manifests)
		if err != nil || len(files) == 0 {
			return snapshot.Change{}, err
		}
		c.Drop = map[string]bool{}
		var entries []snapshot.Entry
		for _, f := range files {
			c.Drop[f.Manifest] = true
			if merge {
				c.Removed = append(c.Removed, f)
				entries = append(entries, snapshot.Removed(f))
				continue
			}
			entries = append(entries, snapshot.Kept(f))
		}
		if merge {
			df, err := w.merged(ctx, h.Meta, files)
			if err != nil {
				return c, err
			}
			c.Added = append(c.Added, df)
			entries = append(entries, snapshot.Added(df))
		}
		m, err := snapshot.WriteManifest(ctx, w.wh, h.Meta, h.Meta.PartitionSpec(), sid, entries)
		c.New = []iceberg.ManifestFile{m}
		return c, err
	})
}

// merged writes the rows of files into one.
func (w *world) merged(ctx context.Context, meta table.Metadata, files []snapshot.File) (iceberg.DataFile, error) {
	var rows []arrow.RecordBatch
	defer func() {
		for _, r := range rows {
			r.Release()
		}
	}()
	for _, f := range files {
		k, err := w.wh.Key(f.FilePath())
		if err != nil {
			return nil, err
		}
		r, err := datafile.Open(ctx, w.store, k, datafile.ReadOptions{Mem: memory.DefaultAllocator})
		if err != nil {
			return nil, fmt.Errorf("a live file cannot be read: %w", err)
		}
		err = r.Scan(ctx, meta.CurrentSchema(), func(b arrow.RecordBatch) error {
			b.Retain()
			rows = append(rows, b)
			return nil
		})
		if err = errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
	}
	return w.dataFile(ctx, meta, rows)
}

func (w *world) dataFile(ctx context.Context, meta table.Metadata, rows []arrow.RecordBatch) (iceberg.DataFile, error) {
	o := datafile.DefaultWriteOptions()
	o.Codec = "none"
	var buf bytes.Buffer
	st, err := datafile.Write(&buf, meta.CurrentSchema(), rows, o)
	if err != nil {
		return nil, err
	}
	location := snapshot.DataLocation(meta, uuid.NewString()+".parquet")
	k, err := w.wh.Key(location)
	if err != nil {
		return nil, err
	}
	if _, err := w.store.Put(ctx, k, bytes.NewReader(buf.Bytes()), objstore.IfAbsent); err != nil {
		return nil, err
	}
	return snapshot.DataFile(meta.PartitionSpec(), location, st, nil, nil)
}

// foreignRows adds a row that did not come from Kafka.
func (w *world) foreignRows(ctx context.Context) error {
	w.note("another engine adds a row")
	return w.foreign(ctx, w.rows, table.OpAppend, nil, func(h snapshot.Head, sid int64) (c snapshot.Change, err error) {
		as, err := datafile.ArrowSchema(h.Meta.CurrentSchema())
		if err != nil {
			return c, err
		}
		b := array.NewRecordBuilder(memory.DefaultAllocator, as)
		defer b.Release()
		for _, f := range b.Fields() {
			f.AppendNull()
		}
		r := b.NewRecordBatch()
		defer r.Release()
		df, err := w.dataFile(ctx, h.Meta, []arrow.RecordBatch{r})
		if err != nil {
			return c, err
		}
		m, err := snapshot.WriteManifest(ctx, w.wh, h.Meta, h.Meta.PartitionSpec(), sid, []snapshot.Entry{snapshot.Added(df)})
		return snapshot.Change{Added: []iceberg.DataFile{df}, New: []iceberg.ManifestFile{m}}, err
	})
}

// someSnapshot is one of Firn's to set main back to: an ancestor of the head, or where all writers have one contract
// any, also of a line that was left before. (Dead letters are not set back with the rows, so with two contracts a record
// could be a dead letter in one line and a row in the other.)
func (w *world) someSnapshot(ctx context.Context) (int64, error) {
	t, err := w.m.LoadTable(ctx, w.rows, catalog.LoadAll)
	if err != nil {
		return 0, err
	}
	candidates := slices.Clone(t.Metadata.Snapshots())
	if head := t.Metadata.CurrentSnapshot(); !w.oneWay && head != nil {
		candidates = table.AncestorsOf(head.SnapshotID, t.Metadata.SnapshotByID)
	}
	slices.SortFunc(candidates, func(a, b table.Snapshot) int { return cmp.Compare(a.SequenceNumber, b.SequenceNumber) })
	var ours []int64
	for _, s := range candidates {
		if s.Summary == nil {
			continue
		}
		if _, err := ledger.ParseSummary(s.Summary.Properties); err == nil {
			ours = append(ours, s.SnapshotID)
		}
	}
	if len(ours) == 0 {
		return 0, nil
	}
	if len(ours) > 1 && w.rnd.IntN(2) == 0 {
		return ours[len(ours)-2], nil // mostly somebody takes back what came last
	}
	return ours[w.rnd.IntN(len(ours))], nil
}

// rollback is what Spark or PyIceberg do: main is set to another snapshot, nothing else.
func (w *world) rollback(ctx context.Context) error {
	id, err := w.someSnapshot(ctx)
	if err != nil || id == 0 {
		return err
	}
	w.stats.rewinds++
	w.note("rollback to #%d", w.number[w.numbered(id)])
	return w.update(ctx, w.rows, snapshot.SetBranch(table.MainBranch, id))
}

// rewind is firn rewind.
func (w *world) rewind(ctx context.Context) error {
	id, err := w.someSnapshot(ctx)
	if err != nil || id == 0 {
		return err
	}
	plan, err := commit.PlanRewind(ctx, w.m, w.wh, w.rows, pipeline, commit.RewindTarget{Snapshot: id})
	if errors.Is(err, commit.ErrRewind) {
		w.note("no rewind to #%d", w.number[id])
		return nil
	}
	if err != nil {
		return err
	}
	w.stats.rewinds++
	got, err := commit.Rewind(ctx, w.m, w.wh, w.rows, pipeline, plan, 0)
	if err != nil {
		return err
	}
	w.note("rewind to #%d: #%d at %s, epoch %d", w.number[id], w.number[w.numbered(got.SnapshotID)], plan.Offsets, got.Epoch)
	return nil
}

// expire removes every snapshot that no ref names.
func (w *world) expire(ctx context.Context, id catalog.Identifier) error {
	t, err := w.m.LoadTable(ctx, id, catalog.LoadAll)
	if err != nil {
		return err
	}
	named := leanOf(t.Metadata)
	var gone []int64
	for _, s := range t.Metadata.Snapshots() {
		if named.SnapshotByID(s.SnapshotID) == nil {
			gone = append(gone, s.SnapshotID)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	w.note("%d snapshots of %s expire", len(gone), id.Name())
	return w.update(ctx, id, table.NewRemoveSnapshotsUpdate(gone, false))
}

// expose hands a metadata location to somebody.
func (w *world) expose(ctx context.Context) error {
	id := w.rows
	if w.rnd.IntN(3) == 0 {
		id = w.dead
	}
	location, err := w.m.expose(ctx, id)
	if err != nil {
		return err
	}
	raw, err := w.get(ctx, location)
	if err != nil {
		return err
	}
	if was, ok := w.handed[location]; ok && was != string(raw) {
		return fmt.Errorf("metadata at one location was changed after it was handed out")
	}
	w.handed[location] = string(raw)
	return nil
}

// sweep deletes files that no snapshot lists and that are older than the grace.
func (w *world) sweep(ctx context.Context) error {
	w.giveUp()
	listed := map[string]bool{}
	for _, id := range []catalog.Identifier{w.rows, w.dead} {
		if err := w.listed(ctx, id, listed); err != nil {
			return err
		}
	}
	var strays []string
	err := w.store.List(ctx, "", func(i objstore.Info) error {
		if !listed[i.Key] && time.Since(i.Modified) > strayGrace {
			strays = append(strays, i.Key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.note("%d strays are swept", len(strays))
	return w.store.Delete(ctx, strays...)
}

// person looks at a table whose offsets nobody can tell, and decides.
func (w *world) person(ctx context.Context) error {
	_, _, err := w.state(ctx)
	if !errors.Is(err, engine.ErrNeedsDecision) {
		return err
	}
	w.stats.stops++
	got, err := commit.Resolve(ctx, w.m, w.wh, w.rows, pipeline, commit.Resolution{})
	if err != nil {
		return fmt.Errorf("a stop cannot be resolved: %w", err)
	}
	w.note("it stopped; a person resolves it: #%d at %s", w.number[w.numbered(got.SnapshotID)], got.Offsets)
	return nil
}
