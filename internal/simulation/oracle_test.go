package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// place is where a row came from.
type place struct {
	p    int32
	o    int64
	line int32 // of a record with several events; 0: the record as a whole
}

// state is where the pipeline stands, with recovery's stop as the error.
func (w *world) state(ctx context.Context) (engine.State, ledger.Record, error) {
	e, err := commit.Explain(ctx, w.m, w.wh, w.rows, pipeline)
	return e.State, e.Record, errors.Join(e.Stop, err)
}

// look is a query at any moment: it pins the head and compares what stands there, and what the tails add to it, with
// the log.
func (w *world) look(ctx context.Context) error {
	st, rec, err := w.state(ctx)
	if errors.Is(err, engine.ErrNeedsDecision) { // loud is right, wrong rows would not be
		return w.checkSingle(ctx)
	}
	if err != nil {
		return err
	}
	rows, dead, err := w.placesOf(ctx)
	if err != nil {
		return err
	}
	if err := w.checkRows(rows, dead, st.Offsets, rec); err != nil {
		return err
	}
	for _, a := range w.live() {
		if err := a.checkHot(ctx, st, rec.Offsets, rows); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) placesOf(ctx context.Context) (rows, dead map[place]int, err error) {
	if rows, err = w.places(ctx, w.rows); err != nil {
		return nil, nil, err
	}
	dead, err = w.places(ctx, w.dead)
	return rows, dead, err
}

// checkRows: below V each record is a row or a dead letter, once, and what is no record is neither; beyond V there is
// no row, and the record's last rows are the rows' last.
func (w *world) checkRows(rows, dead map[place]int, v offset.Vector, rec ledger.Record) error {
	last := offset.Vector{}
	counted := 0
	dropped, err := w.dropped(rows, dead, v, rec)
	if err != nil {
		return err
	}
	for p := range int32(len(w.log.parts)) {
		if at := v[p]; at > w.log.stable(p) {
			return fmt.Errorf("V of partition %d is %d, and only %d can be read", p, at, w.log.stable(p))
		}
		for o := range int64(len(w.log.parts[p])) {
			for line, kind := range w.log.lines(p, o) {
				at := place{p, o, line}
				r, d := rows[at], dead[at]
				counted += r
				if r > 0 {
					last[p] = o
				}
				if dropped[at] {
					continue
				}
				if err := w.checkEvent(at, kind, r, d, v); err != nil {
					return err
				}
			}
		}
	}
	all := 0
	for _, n := range rows {
		all += n
	}
	if all != counted {
		return fmt.Errorf("%d rows stand at offsets that the log does not have", all-counted)
	}
	for p := range v {
		was, ok := rec.LastRow[p]
		at, is := last[p]
		if ok != is || ok && was != at {
			return fmt.Errorf("partition %d: the last row is %d (%t), the record says %d (%t)", p, at, is, was, ok)
		}
	}
	return nil
}

// dropped are the events below V that deduplication was right to drop. Where the record tells of as many it means these, and it
// tells of no more. Of less it may, where recovery had to go by the catalog's history or by a person's word.
func (w *world) dropped(rows, dead map[place]int, v offset.Vector, rec ledger.Record) (map[place]bool, error) {
	if !w.log.deduped {
		return nil, nil
	}
	out, sums := map[place]bool{}, map[int32]ledger.Filtered{}
	for p := range v {
		for o := range v[p] {
			at := place{p: p, o: o}
			switch is := w.log.gives(p, o, w.log.parts[p][o].kind, 0); {
			case rows[at] > 0 && w.log.seen(rows, at):
				return nil, fmt.Errorf("partition %d offset %d is a row, and its event is another one within the window", p, o)
			case is == isRow && rows[at]+dead[at] == 0 && w.log.seen(rows, at):
				out[at] = true
				sum := sums[p]
				sum.Add(o)
				sums[p] = sum
			}
		}
	}
	for p, told := range rec.Duplicates {
		if sum := sums[p]; told.Count > sum.Count || told.Count == sum.Count && told != sum {
			return nil, fmt.Errorf("partition %d: the record tells of the duplicates %+v, and there are %+v", p, told, sum)
		}
	}
	w.stats.duplicates = len(out)
	return out, nil
}

// seen tells whether among rows there is another one of an event, within the window.
func (l *topicLog) seen(rows map[place]int, x place) bool {
	slice := func(o int64) int64 { return l.at(o) / (dedupWindow.Milliseconds() / 4) }
	id := l.id(x.p, x.o)
	if id == "" || l.parts[x.p][x.o].kind != isRow {
		return false
	}
	for at, n := range rows {
		if n > 0 && at != x && l.id(at.p, at.o) == id && l.parts[at.p][at.o].kind == isRow && slice(at.o)-slice(x.o) <= 4 && slice(x.o)-slice(at.o) <= 4 {
			return true
		}
	}
	return false
}

// below are the records before a vector.
func (l *topicLog) below(v offset.Vector) map[place]int {
	out := map[place]int{}
	for p, end := range v {
		for o := range end {
			out[place{p, o, 0}] = 1
		}
	}
	return out
}

func (w *world) checkEvent(x place, kind byte, rows, dead int, v offset.Vector) error {
	p, o := x.p, x.o
	switch {
	case rows > 1 || dead > 1:
		return fmt.Errorf("partition %d offset %d line %d: %d times a row, %d times a dead letter", p, o, x.line, rows, dead)
	case o >= v[p] && rows > 0:
		return fmt.Errorf("partition %d offset %d line %d is a row beyond V %s", p, o, x.line, v)
	case o >= v[p]:
		return nil // dead letters may go before, where they are committed first, and stay after a rewind
	}
	want := 1
	if w.log.gives(p, o, kind, 0) == isHole {
		want = 0
	}
	if rows+dead != want {
		return fmt.Errorf("partition %d offset %d line %d, V %s: %d rows and %d dead letters, want %d in all", p, o, x.line, v, rows, dead, want)
	}
	if a, b := w.log.gives(p, o, kind, 0), w.log.gives(p, o, kind, 1); want == 1 && (w.oneWay || a == b) && (a == isRow) != (rows == 1) {
		return fmt.Errorf("partition %d offset %d line %d is a row %t and should be %c", p, o, x.line, rows == 1, a)
	}
	return nil
}

// checkSingle holds tables whose V nobody can tell: nothing stands there twice.
func (w *world) checkSingle(ctx context.Context) error {
	rows, dead, err := w.placesOf(ctx)
	if err != nil {
		return err
	}
	for _, t := range []map[place]int{rows, dead} {
		for at, n := range t {
			if n > 1 {
				return fmt.Errorf("stopped, and partition %d offset %d stands there %d times", at.p, at.o, n)
			}
		}
	}
	return nil
}

// checkHot: what a tail adds to the pinned snapshot goes on where that ends, without a gap, nothing twice. A writer that
// knows that it is fenced adds nothing.
func (a *writer) checkHot(ctx context.Context, st engine.State, from offset.Vector, rows map[place]int) error {
	cut, err := a.tail.Cut(ctx, from, st.Epoch)
	status := a.pipe.Status()
	if status.StandsBy {
		a.stats.fences++
		if !errors.Is(err, hot.ErrFenced) && !errors.Is(err, hot.ErrNoTail) {
			if err == nil {
				cut.Release()
			}
			return fmt.Errorf("writer %d is fenced, and its tail answers: %w", a.id, errOr(err))
		}
	}
	if err != nil {
		if errors.Is(err, hot.ErrFenced) || errors.Is(err, hot.ErrNoTail) || errors.Is(err, hot.ErrExpired) {
			return nil
		}
		return err
	}
	defer cut.Release()
	got := map[place]int{}
	for _, b := range cut.Rows {
		if err := eachPlace(b, func(at place) { got[at]++ }); err != nil {
			return err
		}
	}
	all := maps.Clone(got)
	for p := range int32(len(a.log.parts)) {
		end := cut.End[p]
		if end > a.log.stable(p) {
			return fmt.Errorf("writer %d: its tail of partition %d ends at %d, and only %d can be read", a.id, p, end, a.log.stable(p))
		}
		for o := int64(0); o < end; o++ {
			for line, kind := range a.log.lines(p, o) {
				at, want := place{p, o, line}, 0
				if o >= from[p] && a.log.gives(p, o, kind, a.contract) == isRow {
					want = 1
					a.stats.hot++
				}
				if want == 1 && got[at] == 0 && (a.log.seen(rows, at) || a.log.seen(all, at) || a.overtaken && a.log.seen(a.log.below(cut.End), at)) {
					continue // by the rows of one that is overtaken, which are not the table's, another event may be the first
				}
				if got[at] != want || want == 1 && a.log.seen(all, at) {
					return fmt.Errorf("writer %d: its tail from %s to %s has partition %d offset %d line %d %d times, want %d", a.id, from, cut.End, p, o, line, got[at], want)
				}
				delete(got, at)
			}
		}
	}
	if len(got) > 0 {
		return fmt.Errorf("writer %d: its tail has %d rows beyond its end %s", a.id, len(got), cut.End)
	}
	return nil
}

func errOr(err error) error {
	if err == nil {
		return errors.New("with rows")
	}
	return err
}

// places counts the rows of a table's head by where they came from. Files do not change, so each is read once.
func (w *world) places(ctx context.Context, id catalog.Identifier) (map[place]int, error) {
	h, err := w.head(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("table %s: its head cannot be read: %w", id.Name(), err)
	}
	out := map[place]int{}
	if h.Snapshot == nil {
		return out, nil
	}
	files, err := w.files(ctx, h.Manifests)
	if err != nil {
		return nil, fmt.Errorf("table %s: a live manifest cannot be read: %w", id.Name(), err)
	}
	for _, f := range files {
		at, err := w.read(ctx, h.Meta, f)
		if err != nil {
			return nil, fmt.Errorf("table %s: a live file cannot be read: %w", id.Name(), err)
		}
		for _, x := range at {
			out[x]++
		}
	}
	return out, nil
}

func (w *world) read(ctx context.Context, meta table.Metadata, f snapshot.File) ([]place, error) {
	k, err := w.wh.Key(f.FilePath())
	if err != nil {
		return nil, err
	}
	if at, ok := w.seen[k]; ok {
		_, err := w.store.Stat(ctx, k)
		return at, err
	}
	r, err := datafile.Open(ctx, w.store, k, datafile.ReadOptions{Mem: memory.DefaultAllocator})
	if err != nil {
		return nil, err
	}
	var want []iceberg.NestedField
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset, ledger.ColIndex} {
		c, ok := meta.CurrentSchema().FindFieldByName(name)
		if !ok {
			continue
		}
		c.Required = false
		want = append(want, c)
	}
	var out []place
	err = r.Scan(ctx, iceberg.NewSchema(0, want...), func(b arrow.RecordBatch) error {
		return eachPlace(b, func(at place) { out = append(out, at) })
	})
	w.seen[k] = out
	return out, errors.Join(err, r.Close())
}

func eachPlace(b arrow.RecordBatch, fn func(place)) error {
	pi, oi := b.Schema().FieldIndices(ledger.ColPartition), b.Schema().FieldIndices(ledger.ColOffset)
	if len(pi) != 1 || len(oi) != 1 {
		return fmt.Errorf("rows without ledger columns: %s", b.Schema())
	}
	p, o := b.Column(pi[0]).(*array.Int32), b.Column(oi[0]).(*array.Int64)
	line := func(int) int32 { return 0 }
	if li := b.Schema().FieldIndices(ledger.ColIndex); len(li) == 1 {
		index := b.Column(li[0]).(*array.Int32)
		line = func(i int) int32 {
			if index.IsNull(i) {
				return 0
			}
			return index.Value(i) + 1
		}
	}
	for i := range int(b.NumRows()) {
		if !p.IsNull(i) && !o.IsNull(i) {
			fn(place{p.Value(i), o.Value(i), line(i)})
		}
	}
	return nil
}

func (w *world) get(ctx context.Context, location string) ([]byte, error) {
	k, err := w.wh.Key(location)
	if err != nil {
		return nil, err
	}
	return w.store.Get(ctx, k, 1<<30)
}

// listed adds the keys of everything that a table's snapshots name: lists, manifests, data files; and the metadata files
// that were handed out.
func (w *world) listed(ctx context.Context, id catalog.Identifier, out map[string]bool) error {
	t, err := w.m.LoadTable(ctx, id, catalog.LoadAll)
	if err != nil {
		return err
	}
	add := func(location string) error {
		k, err := w.wh.Key(location)
		out[k] = true
		return err
	}
	for _, s := range t.Metadata.Snapshots() {
		ms, err := w.manifests(ctx, &s)
		if err != nil {
			return fmt.Errorf("table %s, snapshot #%d: %w", id.Name(), w.number[s.SnapshotID], err)
		}
		files, err := w.files(ctx, ms)
		if err != nil {
			return fmt.Errorf("table %s, snapshot #%d: %w", id.Name(), w.number[s.SnapshotID], err)
		}
		err = add(s.ManifestList)
		for _, m := range ms {
			err = errors.Join(err, add(m.FilePath()))
		}
		for _, f := range files {
			err = errors.Join(err, add(f.FilePath()))
		}
		if err != nil {
			return err
		}
	}
	for location := range w.handed {
		if err := add(location); err != nil {
			return err
		}
	}
	return nil
}

// maxCalmTicks is how long a writer without rivals and faults may take to bring the table up to the log's end.
const maxCalmTicks = 200

// finish ends the faults, lets everything that is under way arrive, has a new writer bring the table up to the log's
// end, and compares everything.
func (w *world) finish() error {
	ctx := context.Background()
	if err := w.settle(); err != nil {
		return err
	}
	for _, a := range w.live() {
		a.die()
	}
	if err := w.settle(); err != nil {
		return err
	}
	for _, c := range w.ready() {
		w.serve(c)
	}
	w.giveUp()
	for len(w.late) > 0 {
		w.deliver(ctx)
	}
	w.calm = true
	w.diskDown.Store(false)
	w.log.settle(w.rnd)
	w.note("calm; the log ends at %s", w.log.ends())
	if err := w.start(0); err != nil {
		return err
	}
	if err := w.catchUp(ctx); err != nil {
		return err
	}
	return w.compareAll(ctx)
}

func (w *world) catchUp(ctx context.Context) error {
	for n := 0; n < maxCalmTicks; {
		if err := w.settle(); err != nil {
			return err
		}
		w.turns++
		if ready := w.ready(); len(ready) > 0 {
			w.serve(ready[w.rnd.IntN(len(ready))])
			continue
		}
		n++
		st, _, err := w.state(ctx)
		switch {
		case errors.Is(err, engine.ErrNeedsDecision):
			if err := w.person(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			if w.log.readTo(st.Offsets) && w.published() {
				return nil
			}
		}
		w.pass(1)
	}
	st, _, err := w.state(ctx)
	return fmt.Errorf("after %d calm ticks V is %s, the log ends at %s (%w), the pipeline says %q", maxCalmTicks, st.Offsets, w.log.ends(), errOr(err), fmt.Sprint(w.slots[0].pipe.Status().Problem))
}

// compareAll is the oracle's last look, after all strays are gone.
func (w *world) compareAll(ctx context.Context) error {
	if err := errors.Join(w.look(ctx), w.checkLetters(ctx)); err != nil {
		return err
	}
	w.pass(int(strayGrace/tick) + 1)
	if err := w.settle(); err != nil {
		return err
	}
	if err := w.sweep(ctx); err != nil {
		return err
	}
	if err := w.look(ctx); err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, id := range []catalog.Identifier{w.rows, w.dead} {
		if err := w.listed(ctx, id, listed); err != nil {
			return err
		}
	}
	missing := 0
	for k := range listed {
		if _, err := w.store.Stat(ctx, k); err != nil {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d files that snapshots name are not on storage", missing)
	}
	for location, was := range w.handed {
		raw, err := w.get(ctx, location)
		if err != nil || string(raw) != was {
			return fmt.Errorf("metadata that was handed out cannot be read as it was: %w", errOr(err))
		}
		if _, err := table.ParseMetadataBytes(raw); err != nil {
			return fmt.Errorf("metadata that was handed out cannot be parsed: %w", err)
		}
	}
	return nil
}
