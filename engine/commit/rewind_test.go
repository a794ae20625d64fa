package commit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

func (s *scene) plan(to RewindTarget) (RewindPlan, error) {
	return PlanRewind(context.Background(), s.cat, s.wh, s.rows, "events", to)
}

func rewindLake(t *testing.T) (catalog.Catalog, *objstore.Warehouse) {
	t.Helper()
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	return openCatalog(t, wh), wh
}

// TestRewindTargets: each way to say where to finds the snapshot that is meant, and what it will do is told without
// doing anything.
func TestRewindTargets(t *testing.T) {
	cat, wh := rewindLake(t)
	s := newScene(t, cat, wh)
	foreign := s.foreignAppend(s.rows, -1, 1)
	s.now = time.Now().Add(time.Minute) // a table's time never runs backwards, and the catalog's clock made it
	s.lake.commit(s.c, rng(0, 10, 20), rng(1, 10, 12))
	head := s.meta(s.rows).CurrentSnapshot()
	for _, c := range []struct {
		name string
		to   RewindTarget
		snap int64
		at   offset.Vector
		rows int64
		err  string
	}{
		{"a snapshot", RewindTarget{Snapshot: s.snaps[0]}, s.snaps[0], at(3), 14 + 1 + 12, ""},
		{"another engine's snapshot", RewindTarget{Snapshot: foreign}, foreign, at(10), 12, ""},
		{"the head itself", RewindTarget{Snapshot: head.SnapshotID}, head.SnapshotID, offset.Vector{0: 20, 1: 12}, 0, ""},
		{"a tag", RewindTarget{Tag: "firn.events"}, head.SnapshotID, offset.Vector{0: 20, 1: 12}, 0, ""},
		{"a time", RewindTarget{Time: s.now.Add(-time.Second)}, foreign, at(10), 12, ""},
		{"offsets", RewindTarget{Offsets: at(6)}, s.snaps[1], at(6), 8 + 1 + 12, ""},
		{"offsets between two", RewindTarget{Offsets: at(9)}, s.snaps[1], at(6), 8 + 1 + 12, ""},
		{"offsets of one partition", RewindTarget{Offsets: offset.Vector{1: 11}}, foreign, at(10), 12, ""},
		{"nothing", RewindTarget{}, 0, nil, 0, "no target"},
		{"no such snapshot", RewindTarget{Snapshot: 7}, 0, nil, 0, "no snapshot 7"},
		{"no such tag", RewindTarget{Tag: "v1"}, 0, nil, 0, "no tag v1"},
		{"too early", RewindTarget{Time: s.now.Add(-24 * time.Hour)}, 0, nil, 0, "the oldest is"},
		{"before all rows", RewindTarget{Offsets: at(2)}, 0, nil, 0, "the oldest is"},
	} {
		p, err := s.plan(c.to)
		if c.err != "" {
			if !errors.Is(err, ErrRewind) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want something about %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p.Snapshot != c.snap || !p.Offsets.Equal(c.at) || p.RowsNow-p.RowsThen != c.rows || p.Epoch != 1 || !p.Now.Equal(offset.Vector{0: 20, 1: 12}) {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
	if after := s.meta(s.rows).CurrentSnapshot(); after.SnapshotID != head.SnapshotID {
		t.Error("a plan changed the table")
	}
}

// TestRewind: rows and offsets move together, the running writer reads on from there at once, and the old head can be
// gone back to.
func TestRewind(t *testing.T) {
	cat, wh := rewindLake(t)
	s := newScene(t, cat, wh)
	old := s.meta(s.rows).CurrentSnapshot().SnapshotID
	plan, err := s.plan(RewindTarget{Snapshot: s.snaps[0]})
	s.must(err)
	if a := plan.Again(); a[0] != 7 || a[1] != 7 {
		t.Errorf("to be read again: %v", a)
	}
	got, err := Rewind(t.Context(), cat, wh, s.rows, "events", plan, 24*time.Hour)
	s.must(err)
	s.wantRows(s.rows, at(3), func(int32, int64) bool { return true })
	meta := s.meta(s.rows)
	ref := meta.SnapshotByName(got.Tag)
	if ref == nil || ref.SnapshotID != old {
		t.Fatalf("tag %s: %v, want snapshot %d", got.Tag, ref, old)
	}
	if m := meta.CurrentSnapshot(); *m.ParentSnapshotID != s.snaps[0] || m.SnapshotID != got.SnapshotID || !sameID(refID(meta, ledger.TagName("events")), &m.SnapshotID) {
		t.Errorf("the head is %+v", m)
	}
	st, rec, err := readState(t.Context(), cat, wh, s.rows, "events")
	s.must(err)
	if st.Epoch != 1 || !st.Offsets.Equal(at(3)) || rec.Kind != ledger.KindRewind || !rec.LastRow.Equal(at(2)) || len(st.LeaderEpochs) != 0 || rec.TopicID != "t1" || rec.Prev != old {
		t.Errorf("state %+v, record %+v", st, rec)
	}

	b := s.batchOf(allRows, rng(0, 10, 11))
	defer release(b)
	_, err = s.c.Commit(t.Context(), b)
	isErr(t, err, engine.ErrRewound)
	s.recover(s.c)
	s.lake.commit(s.c, rng(0, 3, 8), rng(1, 3, 8))
	s.wantRows(s.rows, at(8), func(int32, int64) bool { return true })

	plan, err = s.plan(RewindTarget{Tag: got.Tag}) // back to where it was
	s.must(err)
	if len(plan.Again()) != 0 || plan.Epoch != 2 {
		t.Errorf("%+v", plan)
	}
	_, err = Rewind(t.Context(), cat, wh, s.rows, "events", plan, 0)
	s.must(err)
	s.wantRows(s.rows, at(10), func(int32, int64) bool { return true })
	isErr(t, s.c.Check(t.Context()), engine.ErrRewound)
	if st := s.recover(s.c); st.Epoch != 2 || !st.Offsets.Equal(at(10)) {
		t.Errorf("recovered %+v", st)
	}
	s.lake.commit(s.c, rng(0, 10, 12), rng(1, 10, 12))
	s.wantRows(s.rows, at(12), func(int32, int64) bool { return true })
}

// TestRewindUnderFaults: whatever becomes of the request, the table is set back once and nothing is torn.
func TestRewindUnderFaults(t *testing.T) {
	for what := works; what < faults; what++ {
		t.Run(what.String(), func(t *testing.T) {
			cat, wh := rewindLake(t)
			s := newScene(t, cat, wh)
			first := true
			f := &flaky{Catalog: cat, next: func() fault {
				if first {
					first = false
					return what
				}
				return works
			}}
			plan, err := s.plan(RewindTarget{Snapshot: s.snaps[1]})
			s.must(err)
			got, err := Rewind(t.Context(), f, wh, s.rows, "events", plan, 0)
			for _, late := range f.late {
				late()
			}
			if err != nil { // refused: to be tried again by the person
				if o := classify(err); o == conflict || o == unknown {
					t.Fatal(err)
				}
				got, err = Rewind(t.Context(), f, wh, s.rows, "events", plan, 0)
				s.must(err)
			}
			s.wantRows(s.rows, at(6), func(int32, int64) bool { return true })
			st, _, err := readState(t.Context(), cat, wh, s.rows, "events")
			s.must(err)
			if st.SnapshotID != got.SnapshotID || st.Epoch != 1 {
				t.Errorf("%+v, the rewind said %d", st, got.SnapshotID)
			}
		})
	}
}

// TestRewindBesideAWriter: commits between plan and act are set back as well.
func TestRewindBesideAWriter(t *testing.T) {
	cat, wh := rewindLake(t)
	s := newScene(t, cat, wh)
	plan, err := s.plan(RewindTarget{Snapshot: s.snaps[1]})
	s.must(err)
	s.lake.commit(s.c, rng(0, 10, 12), rng(1, 10, 12))
	n, at12 := 0, int64(12)
	f := &flaky{Catalog: cat, next: func() fault {
		if n++; n <= 3 { // the writer is quicker three times
			s.lake.commit(s.c, rng(0, at12, at12+1), rng(1, at12, at12+1))
			at12++
		}
		return works
	}}
	got, err := Rewind(t.Context(), f, wh, s.rows, "events", plan, 0)
	s.must(err)
	if n != 4 || got.Again()[0] != 9 {
		t.Errorf("%d attempts, %+v", n, got)
	}
	s.wantRows(s.rows, at(6), func(int32, int64) bool { return true })
	isErr(t, s.c.Check(t.Context()), engine.ErrRewound)
	s.recover(s.c)
	s.lake.commit(s.c, rng(0, 6, 20), rng(1, 6, 20))
	s.wantRows(s.rows, at(20), func(int32, int64) bool { return true })
}

// TestRewindFromAStop: setting the table back is a way out where recovery stops.
func TestRewindFromAStop(t *testing.T) {
	cat, wh := rewindLake(t)
	s := newScene(t, cat, wh)
	s.replace()
	_, _, err := readState(t.Context(), cat, wh, s.rows, "events")
	isErr(t, err, engine.ErrNeedsDecision)
	plan, err := s.plan(RewindTarget{Snapshot: s.snaps[2]})
	s.must(err)
	if plan.Stopped == "" || plan.Now != nil || plan.Epoch != 1 {
		t.Errorf("%+v", plan)
	}
	_, err = Rewind(t.Context(), cat, wh, s.rows, "events", plan, 0)
	s.must(err)
	if st := s.recover(s.c); st.Epoch != 1 || !st.Offsets.Equal(at(10)) {
		t.Errorf("%+v", st)
	}
	s.wantRows(s.rows, at(10), func(int32, int64) bool { return true })
}

// TestCheck: an idle writer notices what was done to its table.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		act  func(s *scene)
		want error
	}{
		{"nothing", func(*scene) {}, nil},
		{"foreign rows", func(s *scene) { s.foreignAppend(s.rows, -1, 1) }, nil},
		{"firn's compaction", func(s *scene) { s.rewrite(s.rows, true) }, nil},
		{"a rollback", func(s *scene) { s.rollback(s.rows, s.snaps[0]) }, engine.ErrRewound},
		{"the tag is dropped", func(s *scene) { s.dropTag() }, engine.ErrFenced},
		{"another writer", func(s *scene) {
			other := s.committer(s.cat)
			s.recover(other)
			s.lake.commit(other, rng(0, 10, 11))
		}, engine.ErrFenced},
		{"replaced", func(s *scene) { s.replace() }, engine.ErrNeedsDecision},
		{"dropped", func(s *scene) { s.must(s.cat.DropTable(context.Background(), s.rows, false)) }, engine.ErrNeedsDecision},
	} {
		t.Run(c.name, func(t *testing.T) {
			cat, wh := rewindLake(t)
			s := newScene(t, cat, wh)
			c.act(s)
			if err := s.c.Check(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if c.want == nil {
				s.lake.commit(s.c, rng(0, 10, 11), rng(1, 10, 11))
			}
		})
	}
}
