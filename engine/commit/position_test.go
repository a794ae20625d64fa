package commit

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// plain is a catalog without history, as any Iceberg REST catalog.
type plain struct{ catalog.Catalog }

// scene is a table with three commits of Firn, at 3, 6 and 10.
type scene struct {
	*lake
	c     *Committer
	snaps []int64
}

func newScene(t *testing.T, cat catalog.Catalog, wh *objstore.Warehouse) *scene {
	t.Helper()
	s := &scene{lake: lakeIn(t, cat, wh)}
	s.c = s.committer(cat)
	s.recover(s.c)
	at := int64(0)
	for _, end := range []int64{3, 6, 10} {
		s.snaps = append(s.snaps, s.lake.commit(s.c, rng(0, at, end), rng(1, at, end)).SnapshotID)
		at = end
	}
	return s
}

func at(o int64) offset.Vector { return offset.Vector{0: o, 1: o} }

// cherryPick applies the files that snapshot id added to the head once more, as Spark's cherrypick_snapshot does.
func (l *lake) cherryPick(id int64) int64 {
	l.Helper()
	meta := l.meta(l.rows)
	src := meta.SnapshotByID(id)
	files, err := snapshot.Files(context.Background(), l.wh, src, nil)
	l.must(err)
	return l.foreign(l.rows, table.OpAppend, map[string]string{sourceKey: strconv.FormatInt(id, 10)}, func(h snapshot.Head, sid int64) snapshot.Change {
		var c snapshot.Change
		var entries []snapshot.Entry
		for _, f := range files {
			if f.SnapshotID == id {
				c.Added = append(c.Added, f.DataFile)
				entries = append(entries, snapshot.Added(f.DataFile))
			}
		}
		m, err := snapshot.WriteManifest(context.Background(), l.wh, h.Meta, h.Meta.PartitionSpec(), sid, entries)
		l.must(err)
		c.New = append(c.New, m)
		return c
	})
}

// replace makes a new root without ancestors the head, as CREATE OR REPLACE does.
func (l *lake) replace() {
	l.Helper()
	meta := l.meta(l.rows)
	empty := snapshot.Head{Meta: meta}
	s, err := snapshot.Build(context.Background(), l.wh, empty, snapshot.Change{SnapshotID: snapshot.NewID(), Operation: table.OpAppend}, l.now)
	l.must(err)
	l.update(l.rows, snapshot.Updates(s, table.MainBranch)...)
}

func (l *lake) dropTag() { l.update(l.rows, table.NewRemoveSnapshotRefUpdate("firn.events")) }

// dropRows takes all of another engine's view of the newest rows away: a delete of whole files.
func (l *lake) dropRows(id int64) {
	l.Helper()
	l.foreign(l.rows, table.OpDelete, nil, func(h snapshot.Head, sid int64) snapshot.Change {
		files, err := l.reader.FilesOf(context.Background(), h.Manifests, nil)
		l.must(err)
		c := snapshot.Change{Drop: map[string]bool{}}
		var entries []snapshot.Entry
		for _, f := range files {
			c.Drop[f.Manifest] = true
			if f.SnapshotID == id {
				entries = append(entries, snapshot.Removed(f))
				c.Removed = append(c.Removed, f)
				continue
			}
			entries = append(entries, snapshot.Kept(f))
		}
		m, err := snapshot.WriteManifest(context.Background(), l.wh, h.Meta, h.Meta.PartitionSpec(), sid, entries)
		l.must(err)
		c.New = append(c.New, m)
		return c
	})
}

// TestRecovery: what each act of others leaves for recovery, with a catalog that has history and with one that has not.
// stop says that only a person can tell, and that the error says why in these words.
func TestRecovery(t *testing.T) {
	type answer struct {
		at    offset.Vector
		epoch int64
		step  string
		stop  string
	}
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	same := func(step string) answer { return answer{at: at(10), step: step} }
	for _, c := range []struct {
		name    string
		act     func(s *scene)
		history answer
		plain   answer
	}{
		{"nothing", func(*scene) {}, same(StepHead), same(StepHead)},
		{"firn's compaction", func(s *scene) { s.rewrite(s.rows, true) }, same(StepHead), same(StepHead)},
		{"foreign compaction", func(s *scene) { s.rewrite(s.rows, false) }, same(StepWalk), same(StepWalk)},
		{"foreign rows", func(s *scene) { s.foreignAppend(s.rows, -1, 1); s.foreignAppend(s.rows, -1, 2) }, same(StepWalk), same(StepWalk)},
		{"foreign delete of new rows", func(s *scene) { s.dropRows(s.snaps[2]) }, same(StepWalk), same(StepWalk)},
		{"expiry", func(s *scene) { s.expire(s.rows) }, same(StepHead), same(StepHead)},
		{"foreign compaction and expiry", func(s *scene) { s.rewrite(s.rows, false); s.expire(s.rows) }, same(StepWalk), same(StepWalk)}, // the tag holds the parent
		{"two foreign compactions and expiry", func(s *scene) { s.rewrite(s.rows, false); s.rewrite(s.rows, false); s.expire(s.rows) }, same(StepLedger), same(StepLedger)},
		{"foreign delete of new rows, compaction and expiry", func(s *scene) { s.dropRows(s.snaps[2]); s.rewrite(s.rows, false); s.expire(s.rows) },
			answer{stop: "the last rows are 0:5 1:5"}, answer{stop: "the last rows are 0:5 1:5"}},
		{"rollback", func(s *scene) { s.rollback(s.rows, s.snaps[1]) }, answer{at(6), 1, StepHead, ""}, answer{at(6), 1, StepHead, ""}},
		{"rollback and foreign rows", func(s *scene) { s.rollback(s.rows, s.snaps[0]); s.foreignAppend(s.rows, -1, 1) }, answer{at(3), 1, StepWalk, ""}, answer{at(3), 1, StepWalk, ""}},
		{"rollback and firn's compaction", func(s *scene) { s.rollback(s.rows, s.snaps[0]); s.rewrite(s.rows, true) }, answer{at(3), 1, StepHead, ""}, answer{at(3), 1, StepHead, ""}},
		{"rollback, foreign rows and expiry", func(s *scene) { s.rollback(s.rows, s.snaps[0]); s.foreignAppend(s.rows, -1, 1); s.expire(s.rows) },
			answer{at(3), 1, StepHistory, ""}, answer{stop: "the last rows are 0:2 1:2"}},
		{"rollback before the first snapshot", func(s *scene) {
			s.update(s.rows, table.NewRemoveSnapshotRefUpdate(table.MainBranch))
		}, answer{stop: "main has no snapshot"}, answer{stop: "main has no snapshot"}},
		{"replace", func(s *scene) { s.replace() }, answer{stop: "does not descend from any snapshot of firn"}, answer{stop: "does not descend from any snapshot of firn"}},
		{"tag dropped", func(s *scene) { s.dropTag() }, same(StepHead), same(StepHead)},
		{"tag dropped, foreign compaction", func(s *scene) { s.dropTag(); s.rewrite(s.rows, false) }, same(StepWalk), same(StepWalk)},
		{"tag dropped, foreign compaction and expiry", func(s *scene) { s.dropTag(); s.rewrite(s.rows, false); s.expire(s.rows) },
			same(StepHistory), answer{stop: "the table holds rows from Kafka up to 0:9 1:9"}},
		{"tag set back", func(s *scene) { s.update(s.rows, snapshot.SetTag("firn.events", s.snaps[0], 0)) }, same(StepHead), same(StepHead)},
		{"tag set to another's snapshot", func(s *scene) {
			s.update(s.rows, snapshot.SetTag("firn.events", s.foreignAppend(s.rows, -1, 1), 0))
		}, same(StepWalk), same(StepWalk)},
		{"cherry-pick of what comes next", func(s *scene) {
			s.rollback(s.rows, s.snaps[1])
			s.foreignAppend(s.rows, -1, 1)
			s.cherryPick(s.snaps[2])
		}, same(StepWalk), same(StepWalk)},
		{"cherry-pick over a gap", func(s *scene) {
			s.rollback(s.rows, s.snaps[0])
			s.foreignAppend(s.rows, -1, 1)
			s.cherryPick(s.snaps[2])
		},
			answer{stop: "not those that come next"}, answer{stop: "not those that come next"}},
		{"cherry-pick of what is there", func(s *scene) { s.cherryPick(s.snaps[1]) }, answer{stop: "not those that come next"}, answer{stop: "not those that come next"}},
		{"cherry-pick of another's", func(s *scene) { s.cherryPick(s.foreignAppend(s.rows, -1, 1)) }, same(StepWalk), same(StepWalk)},
		{"cherry-pick and expiry", func(s *scene) {
			s.cherryPick(s.snaps[1])
			s.rewrite(s.rows, false)
			s.expire(s.rows)
		}, same(StepLedger), same(StepLedger)}, // nothing tells of the cherry-pick any more; audit finds such rows
		{"a compaction that says less than it holds", func(s *scene) {
			r, err := record(s.meta(s.rows).SnapshotByID(s.snaps[0]))
			s.must(err)
			r.Kind = ledger.KindCompact
			props, err := r.Summary()
			s.must(err)
			s.foreign(s.rows, table.OpReplace, props, func(snapshot.Head, int64) snapshot.Change { return snapshot.Change{} })
		}, answer{stop: "the head descends from firn's last snapshot"}, answer{stop: "the head descends from firn's last snapshot"}},
		{"a damaged record", func(s *scene) {
			s.foreign(s.rows, table.OpAppend, map[string]string{ledger.KeyVersion: "1", ledger.KeyPipeline: "events"}, func(snapshot.Head, int64) snapshot.Change { return snapshot.Change{} })
		}, answer{stop: "firn record cannot be read"}, answer{stop: "firn record cannot be read"}},
		{"a newer firn's record", func(s *scene) {
			s.foreign(s.rows, table.OpAppend, map[string]string{ledger.KeyVersion: "99"}, func(snapshot.Head, int64) snapshot.Change { return snapshot.Change{} })
		}, answer{stop: "upgrade"}, answer{stop: "upgrade"}},
		{"another pipeline's record", func(s *scene) {
			props, err := ledger.Record{Kind: ledger.KindIngest, Pipeline: "other", Offsets: at(1)}.Summary()
			s.must(err)
			s.foreign(s.rows, table.OpAppend, props, func(snapshot.Head, int64) snapshot.Change { return snapshot.Change{} })
		}, answer{stop: "a table has one pipeline"}, answer{stop: "a table has one pipeline"}},
	} {
		for kind, want := range map[string]answer{"history": c.history, "plain": c.plain} {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				s := newScene(t, cat, wh)
				c.act(s)
				view := cat
				if kind == "plain" {
					view = plain{cat}
				}
				// A writer that was there, one that starts, and one who only asks see the same.
				st, _, err := readState(t.Context(), view, wh, s.rows, "events")
				check := func(who string, st engine.State, err error) {
					t.Helper()
					if want.stop != "" {
						if !errors.Is(err, engine.ErrNeedsDecision) || !strings.Contains(err.Error(), want.stop) || !strings.Contains(err.Error(), "firn offsets resolve") {
							t.Errorf("%s: %v, want a stop that says %q", who, err, want.stop)
						}
						return
					}
					if err != nil || !st.Offsets.Equal(want.at) || st.Epoch != want.epoch || st.Source != want.step {
						t.Errorf("%s: %+v, %v; want %+v", who, st, err, want)
					}
				}
				check("reader", st, err)
				next := s.committer(view)
				st, err = next.Recover(t.Context())
				check("next writer", st, err)
				b := s.batchOf(allRows, rng(0, 10, 12))
				defer release(b)
				s.c.cat = view
				_, err = s.c.Commit(t.Context(), b)
				switch {
				case strings.HasPrefix(c.name, "tag"): // moved, whatever else happened
					isErr(t, err, engine.ErrFenced)
				case want.stop != "":
					isErr(t, err, engine.ErrNeedsDecision)
				case want.epoch > 0:
					isErr(t, err, engine.ErrRewound)
				case err != nil:
					t.Errorf("the writer that was there: %v", err)
				}
				if want.stop != "" {
					return
				}
				// From there it goes on, and once it has, recovery is simple again.
				st, err = s.c.Recover(t.Context())
				s.must(err)
				end := st.Offsets[0] + 4
				b = s.batchOf(allRows, rng(0, st.Offsets[0], end))
				defer release(b)
				_, err = s.c.Commit(t.Context(), b)
				s.must(err)
				st, _, err = readState(t.Context(), view, wh, s.rows, "events")
				if err != nil || st.Offsets[0] != end || st.Epoch != want.epoch || st.Source != StepHead {
					t.Errorf("after the next commit: %+v, %v", st, err)
				}
			})
		}
	}
}

// TestTwoRollbacks: every rewind has an epoch of its own, also when the first left no snapshot behind in the line.
func TestTwoRollbacks(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	first := l.commit(c, rng(0, 0, 3))
	for want := int64(1); want <= 3; want++ {
		l.commit(c, rng(0, 3, 5))
		l.rollback(l.rows, first.SnapshotID)
		st := l.recover(c)
		if st.Epoch != want || !st.Offsets.Equal(offset.Vector{0: 3}) {
			t.Fatalf("rollback %d: %+v", want, st)
		}
	}
	if got := l.commit(c, rng(0, 3, 9)); got.Epoch != 3 {
		t.Errorf("committed %+v", got)
	}
	if st := l.recover(c); st.Epoch != 3 {
		t.Errorf("recovered %+v", st)
	}
	l.wantRows(l.rows, offset.Vector{0: 9}, func(int32, int64) bool { return true })
}

// TestForeignTables: a table that others filled is taken over from the topic's start if no row claims to be from Kafka.
func TestForeignTables(t *testing.T) {
	l := newLake(t)
	l.foreignAppend(l.rows, -1, 1, 2, 3)
	c := l.committer(l.cat)
	if st := l.recover(c); len(st.Offsets) != 0 || st.Source != StepNew {
		t.Errorf("a table with others' rows: %+v", st)
	}
	l.commit(c, rng(0, 0, 2))

	m := newLake(t)
	m.foreignAppend(m.rows, 0, 1, 2, 3)
	_, err := m.committer(m.cat).Recover(t.Context())
	isErr(t, err, engine.ErrNeedsDecision)
	if !strings.Contains(err.Error(), "rows from Kafka up to 0:3") {
		t.Error(err)
	}

	// Firn's own snapshots, out of the head's line, without a tag to tell.
	n := newLake(t)
	c = n.committer(n.cat)
	n.recover(c)
	n.commit(c, rng(0, 0, 2))
	n.dropTag()
	n.replace()
	_, err = n.committer(n.cat).Recover(t.Context())
	isErr(t, err, engine.ErrNeedsDecision)
}

// TestLedgerReadsWhatStatisticsLeaveOpen: one partition's offsets far below another's, over many files.
func TestLedgerReadsWhatStatisticsLeaveOpen(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 1000, 1010), rng(1, 5, 7))
	l.commit(c, rng(0, 1010, 1020))
	l.commit(c, rng(0, 1020, 1030), rng(1, 7, 8))
	l.commit(c, rng(0, 1030, 1040))
	files, err := snapshot.Files(t.Context(), l.wh, l.meta(l.rows).CurrentSnapshot(), nil)
	l.must(err)
	scan, err := newLedgerScan(l.wh, l.meta(l.rows))
	l.must(err)
	v, err := scan.last(t.Context(), files)
	l.must(err)
	if !v.Equal(offset.Vector{0: 1039, 1: 7}) {
		t.Errorf("last rows %s", v)
	}
	if scan.reads == 0 || scan.reads > 3 {
		t.Errorf("%d of %d files were read; the one with lower offsets of partition 0 alone need not be", scan.reads, len(files))
	}
	for _, want := range []struct {
		v     offset.Vector
		n     int
		reads int
	}{{offset.Vector{0: 1040, 1: 8}, 0, 2}, {offset.Vector{0: 1035, 1: 8}, 5, 3}, {offset.Vector{0: 1040}, 3, 2}} {
		scan.reads = 0
		got, err := scan.from(t.Context(), files, want.v)
		l.must(err)
		n := 0
		for _, o := range got {
			n += len(o)
		}
		if n != want.n || scan.reads > want.reads {
			t.Errorf("from %s: %d rows with %d reads, want %d with %d", want.v, n, scan.reads, want.n, want.reads)
		}
	}
}
