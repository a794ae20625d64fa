package commit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

var (
	schedules = flag.Int("schedules", 40, "how many schedules the simulation runs")
	firstSeed = flag.Uint64("seed", 1, "seed of the first schedule; the others follow")
)

// sim is one schedule: two writers of one pipeline that know nothing of each other, a catalog whose answers get lost,
// and other people who compact, append, expire, roll back and drop tags.
type sim struct {
	*lake
	seed    uint64
	rnd     *rand.Rand
	noTx    bool
	oneWay  bool          // all writers decode by one contract
	end     offset.Vector // of the log
	writers [2]*writer
	late    []func()
	trace   []string
	stopped error // a writer asked for a person
	broken  func(*Committer)
	base    catalog.Catalog
}

// writer is what the engine does around a committer.
type writer struct {
	c       *Committer
	f       *flaky
	ready   bool
	at      offset.Vector // next to read
	version uint64        // of the contract that it decodes by
	pending *engine.Batch
}

func newSim(t testing.TB, cat catalog.Catalog, wh *objstore.Warehouse, seed uint64, broken func(*Committer)) *sim {
	s := &sim{lake: lakeIn(t, cat, wh), seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), broken: broken, base: cat,
		end: offset.Vector{0: 3, 1: 2}}
	s.noTx = s.rnd.IntN(3) == 0
	// Two commits for one batch cannot keep writers with different contracts apart, see docs/exactly-once.md.
	s.oneWay = s.noTx || s.rnd.IntN(2) == 0
	if s.rnd.IntN(4) == 0 {
		s.base = plain{cat} // no history of offsets
	}
	for i := range s.writers {
		s.restart(i)
	}
	return s
}

func (s *sim) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

// restart replaces a writer as a crash and a start do. A batch under way is gone; requests under way are not.
func (s *sim) restart(i int) {
	if w := s.writers[i]; w != nil {
		if w.pending != nil {
			release(w.pending)
		}
		s.late = append(s.late, w.f.late...)
	}
	f := &flaky{Catalog: s.base, noTx: s.noTx, next: func() fault {
		if s.rnd.IntN(5) > 0 {
			return works
		}
		what := fault(s.rnd.IntN(int(faults)))
		s.note("  request of %d: %s", i, what)
		return what
	}}
	f.loads = func() error {
		if s.rnd.IntN(25) == 0 {
			return catalog.ErrUnavailable
		}
		return nil
	}
	w := &writer{f: f, c: s.committer(f)}
	w.c.cfg.UnknownTimeout = 0
	if !s.oneWay {
		w.version = s.rnd.Uint64N(2)
	}
	if s.broken != nil {
		s.broken(w.c)
	}
	s.writers[i] = w
	s.note("writer %d starts, contract %d", i, w.version)
}

// visible tells which offsets of the log hold a record.
func visible(p int32, o int64) bool { return mix(uint64(p)<<40|uint64(o))%7 != 0 }

func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// kind is what a record gives by a contract: most give rows, some give dead letters, by one contract or by both.
func kind(version uint64) func(int32, int64) byte {
	return func(p int32, o int64) byte {
		switch {
		case !visible(p, o):
			return '-'
		case mix(uint64(p)<<41|uint64(o)<<1|version)%5 == 0:
			return 'd'
		}
		return 'r'
	}
}

func (s *sim) run(steps int) {
	for range steps {
		if s.stopped != nil {
			return
		}
		s.act()
	}
}

func (s *sim) act() {
	switch n := s.rnd.IntN(100); {
	case n < 60:
		s.step(s.rnd.IntN(2))
	case n < 66:
		p := int32(s.rnd.IntN(3)) // a partition may be new
		s.end[p] += 1 + s.rnd.Int64N(6)
	case n < 70:
		s.restart(s.rnd.IntN(2))
	case n < 76:
		s.note("firn's compaction")
		s.rewrite(s.rows, true)
	case n < 80:
		s.note("foreign compaction")
		s.rewrite(s.rows, false)
	case n < 83:
		s.note("foreign rows")
		s.foreignAppend(s.rows, -1, 1)
	case n < 85:
		s.rollbackSomewhere()
	case n < 87:
		s.rewindSomewhere()
	case n < 91:
		s.note("expiry")
		s.expire(s.rows)
	case n < 93:
		s.note("the dead letters are compacted and their snapshots expire")
		s.rewrite(s.dead, s.rnd.IntN(2) == 0)
		s.expire(s.dead)
	case n < 94:
		s.note("the tag is dropped")
		s.update(s.rows, table.NewRemoveSnapshotRefUpdate("firn.events"))
	default:
		s.deliverOne()
	}
}

func (s *sim) deliverOne() {
	for _, w := range s.writers {
		s.late = append(s.late, w.f.late...)
		w.f.late = nil
	}
	if len(s.late) == 0 {
		return
	}
	i := s.rnd.IntN(len(s.late))
	s.note("a delayed request arrives")
	late := s.late[i]
	s.late = slices.Delete(s.late, i, i+1)
	late()
}

func (s *sim) rollbackSomewhere() {
	if id := s.someSnapshot(); id != 0 {
		s.note("rollback to snapshot %d", id)
		s.rollback(s.rows, id)
	}
}

// rewindSomewhere is firn rewind, whose requests fail like any other.
func (s *sim) rewindSomewhere() {
	id := s.someSnapshot()
	if id == 0 {
		return
	}
	plan, err := PlanRewind(context.Background(), s.base, s.wh, s.rows, "events", RewindTarget{Snapshot: id})
	if errors.Is(err, ErrRewind) {
		s.note("no rewind to snapshot %d: %v", id, err)
		return
	}
	s.must(err)
	f := &flaky{Catalog: s.base, next: func() fault { return fault(s.rnd.IntN(int(faults))) }}
	got, err := Rewind(context.Background(), f, s.wh, s.rows, "events", plan, 0)
	s.late = append(s.late, f.late...)
	s.note("rewind to snapshot %d at %s: snapshot %d, epoch %d, %v", id, plan.Offsets, got.SnapshotID, got.Epoch, err)
}

// someSnapshot is one of Firn to set main to: an ancestor, or any, also of a line that was abandoned before. The
// latter only where contracts do not change: dead letters are not set back with the rows, so a record that became a
// dead letter in one line and a row in another would then be both.
func (s *sim) someSnapshot() int64 {
	var ours []int64
	meta := s.meta(s.rows)
	candidates := meta.Snapshots()
	if head := meta.CurrentSnapshot(); !s.oneWay && head != nil {
		candidates = table.AncestorsOf(head.SnapshotID, meta.SnapshotByID)
	}
	for _, sn := range candidates {
		if _, err := record(&sn); err == nil {
			ours = append(ours, sn.SnapshotID)
		}
	}
	if len(ours) == 0 {
		return 0
	}
	return ours[s.rnd.IntN(len(ours))]
}

// step is a turn of a writer: recover, or commit the next batch.
func (s *sim) step(i int) {
	w := s.writers[i]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.f.cut = cancel
	if !w.ready {
		st, err := w.c.Recover(ctx)
		s.note("writer %d recovers: %s, epoch %d (%s) %v", i, st.Offsets, st.Epoch, st.Source, err)
		if errors.Is(err, engine.ErrNeedsDecision) {
			s.stopped = err
		}
		if err == nil {
			w.ready, w.at = true, st.Offsets.Clone()
		}
		return
	}
	if w.pending == nil {
		if s.rnd.IntN(8) == 0 {
			s.look(ctx, i)
			return
		}
		if w.pending = s.nextBatch(w); w.pending == nil {
			return
		}
	}
	got, err := w.c.Commit(ctx, w.pending)
	s.note("writer %d commits %v: snapshot %d %v", i, w.pending.Ranges, got.SnapshotID, err)
	switch {
	case err == nil:
		next, aerr := w.at.Advance(w.pending.Ranges)
		s.must(aerr)
		w.at = next
	case errors.Is(err, engine.ErrFenced), errors.Is(err, engine.ErrRewound):
		w.ready = false
	case errors.Is(err, engine.ErrNeedsDecision):
		s.stopped = err
		w.ready = false
	default:
		return // the same batch again
	}
	release(w.pending)
	w.pending = nil
}

// look is what an idle pipeline does now and then.
func (s *sim) look(ctx context.Context, i int) {
	w := s.writers[i]
	err := w.c.Check(ctx)
	s.note("writer %d looks: %v", i, err)
	switch {
	case errors.Is(err, engine.ErrFenced), errors.Is(err, engine.ErrRewound):
		w.ready = false
	case errors.Is(err, engine.ErrNeedsDecision):
		s.stopped, w.ready = err, false
	}
}

func (s *sim) nextBatch(w *writer) *engine.Batch {
	var ranges []offset.Range
	for _, p := range s.end.Partitions() {
		from, to := w.at[p], s.end[p]
		if from > to {
			s.fail("a writer stands at %d of partition %d, whose log ends at %d", from, p, to)
		}
		if n := min(to-from, s.rnd.Int64N(5)); n > 0 {
			ranges = append(ranges, rng(p, from, from+n))
		}
	}
	if len(ranges) == 0 {
		s.end[int32(s.rnd.IntN(2))] += s.rnd.Int64N(4)
		return nil
	}
	return s.batchOf(kind(w.version), ranges...)
}

func (s *sim) fail(format string, args ...any) {
	panic(simFailure(fmt.Sprintf(format, args...)))
}

type simFailure string

// check is the oracle: below V each record is a row or a dead letter, once, and what is no record is neither; beyond V
// there is no row; the record's last rows are the rows' last.
func (s *sim) check(v offset.Vector, last offset.Vector) error {
	rows, dead := s.offsetsIn(s.rows), s.offsetsIn(s.dead)
	for p, end := range s.end {
		top := int64(-1)
		for o := range end + 8 {
			r, d := rows[p][o], dead[p][o]
			want := 0
			if visible(p, o) && o < v[p] {
				want = 1
			}
			switch {
			case r > 1 || d > 1:
				return fmt.Errorf("partition %d offset %d: %d times a row, %d times a dead letter", p, o, r, d)
			case o < v[p] && r+d != want:
				return fmt.Errorf("partition %d offset %d, V %s: %d rows, %d dead letters, want %d in all", p, o, v, r, d, want)
			case o >= v[p] && r > 0:
				return fmt.Errorf("partition %d offset %d is a row beyond V %s", p, o, v)
			}
			if r > 0 {
				top = o
			}
		}
		if at, ok := last[p]; last != nil && (ok != (top >= 0) || ok && at != top) {
			return fmt.Errorf("partition %d: last row %d, the record says %d", p, top, at)
		}
	}
	return nil
}

// finish ends the faults, lets everything that is still under way arrive, and brings the table up to the log's end.
func (s *sim) finish() error {
	for range 100 {
		s.deliverOne()
	}
	for i := range s.writers {
		if w := s.writers[i]; w.pending != nil {
			release(w.pending)
			w.pending = nil
		}
	}
	c := s.committer(&flaky{Catalog: s.base, noTx: s.noTx})
	if s.broken != nil {
		s.broken(c)
	}
	for range 20 {
		st, err := c.Recover(context.Background())
		if errors.Is(err, engine.ErrNeedsDecision) {
			s.stopped = err
			return nil
		}
		if err != nil {
			return err
		}
		var ranges []offset.Range
		for _, p := range s.end.Partitions() {
			if st.Offsets[p] < s.end[p] {
				ranges = append(ranges, rng(p, st.Offsets[p], s.end[p]))
			}
		}
		if len(ranges) == 0 {
			_, r, err := readState(context.Background(), s.base, s.wh, s.rows, "events")
			if err != nil {
				return err
			}
			if !st.Offsets.Equal(s.end) {
				return fmt.Errorf("at the end V is %s, the log ends at %s", st.Offsets, s.end)
			}
			return s.check(st.Offsets, r.LastRow)
		}
		s.now = s.now.Add(c.cfg.OffsetsInterval) // offsets alone do not wait now
		b := s.batchOf(kind(0), ranges...)
		_, err = c.Commit(context.Background(), b)
		release(b)
		if err != nil && !errors.Is(err, engine.ErrFenced) && !errors.Is(err, engine.ErrRewound) {
			return err
		}
	}
	return errors.New("twenty commits without rivals do not reach the log's end")
}

// runOne runs a schedule and returns what its oracle found.
func runOne(t testing.TB, cat catalog.Catalog, wh *objstore.Warehouse, seed uint64, broken func(*Committer)) (s *sim, err error) {
	s = newSim(t, cat, wh, seed, broken)
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(simFailure)
			if !ok {
				panic(r)
			}
			err = errors.New(string(f))
		}
	}()
	for range 2 {
		s.run(20)
		if s.stopped != nil {
			break
		}
		st, r, err := readState(context.Background(), s.base, s.wh, s.rows, "events")
		if errors.Is(err, engine.ErrNeedsDecision) {
			s.stopped = err
			break
		}
		if err != nil {
			return s, err
		}
		if err := s.check(st.Offsets, r.LastRow); err != nil {
			return s, err
		}
	}
	if s.stopped != nil { // loud is right, wrong rows would not be: what the last record says must still hold
		return s, s.checkStopped()
	}
	return s, s.finish()
}

// checkStopped holds the table against its tag's record where nobody could tell V: nothing stands there twice.
func (s *sim) checkStopped() error {
	for _, id := range []catalog.Identifier{s.rows, s.dead} {
		for p, offsets := range s.offsetsIn(id) {
			for o, n := range offsets {
				if n > 1 {
					return fmt.Errorf("stopped, and partition %d offset %d stands %d times in %s", p, o, n, id)
				}
			}
		}
	}
	return nil
}

const (
	simChunk = 1000 // schedules of one parallel subtest
	simRenew = 100  // schedules of one catalog and store, which grow with each
)

func TestSimulation(t *testing.T) {
	var stops atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d schedules from seed %d, %d of them ended at a stop that asks a person", *schedules, *firstSeed, stops.Load())
		if stops.Load() > int64(*schedules/3) {
			t.Errorf("%d of %d schedules stopped: recovery gives up too easily to show anything", stops.Load(), *schedules)
		}
	})
	for from := 0; from < *schedules; from += simChunk {
		t.Run(fmt.Sprintf("from_seed_%d", *firstSeed+uint64(from)), func(t *testing.T) {
			t.Parallel()
			var wh *objstore.Warehouse
			var cat *server.Server
			for i := range min(simChunk, *schedules-from) {
				if i%simRenew == 0 {
					closeCatalog(t, cat)
					wh = &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
					cat = serverOver(t, wh)
				}
				seed := *firstSeed + uint64(from+i)
				s, err := runOne(t, cat.Service(), wh, seed, nil)
				if err != nil {
					t.Errorf("go test ./engine/commit -run '^TestSimulation$' -schedules 1 -seed %d: %v\n%s", seed, err, strings.Join(s.trace, "\n"))
					break
				}
				if s.stopped != nil {
					stops.Add(1)
				}
			}
			closeCatalog(t, cat)
		})
	}
}
