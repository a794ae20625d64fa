package commit

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
)

// thirds makes every third record a dead letter.
func thirds(_ int32, o int64) byte {
	if o%3 == 0 {
		return 'd'
	}
	return 'r'
}

// redrive makes rows of letters but for those that are odd, when asked.
func (l *lake) redrive(cat catalog.Catalog, o RedriveOptions, odd bool) (Redriven, error) {
	return Redrive(context.Background(), cat, l.wh, l.rows, l.dead, "events", o, func(_ *iceberg.Schema, letters []deadletter.Letter) (rows []arrow.RecordBatch, still []engine.Dead, err error) {
		for _, x := range letters {
			if odd && x.Offset%2 == 1 {
				still = append(still, engine.Dead{Partition: x.Partition, DeadLetter: engine.DeadLetter{Reason: "odd", Offset: x.Offset}})
				continue
			}
			rows = append(rows, l.rowsOf(x.Partition, x.Offset))
		}
		return rows, still, nil
	})
}

// letters counts the dead letters, and those with a mark.
func (l *lake) letters() (all, redriven int) {
	l.Helper()
	meta := l.load(l.dead, catalog.LoadRefs)
	err := deadletter.Files(context.Background(), l.wh, l.files(meta), deadletter.Columns(meta.CurrentSchema(), false), func(_ snapshot.File, x *deadletter.Letter) error {
		if all++; x.Redriven != 0 {
			redriven++
		}
		if x.Reason != "bad" {
			l.Errorf("letter %d has the reason %q", x.Offset, x.Reason)
		}
		return nil
	})
	l.must(err)
	return all, redriven
}

func (l *lake) commitThirds(c *Committer, from, to int64) {
	l.Helper()
	b := l.batchOf(thirds, rng(0, from, to))
	defer release(b)
	_, err := c.Commit(context.Background(), b)
	l.must(err)
}

func TestRedrive(t *testing.T) {
	l := newLake(t, "day(meta.at)")
	c := l.committer(l.cat)
	l.recover(c)
	l.commitThirds(c, 0, 30)
	l.commitThirds(c, 30, 61)
	dry, err := l.redrive(l.cat, RedriveOptions{DryRun: true}, true)
	l.must(err)
	if dry.Chosen != 21 || dry.Rows != 11 || dry.Still["odd"] != 10 || dry.SnapshotID != 0 {
		t.Errorf("dry: %+v", dry)
	}
	one, err := l.redrive(l.cat, RedriveOptions{Filter: deadletter.Filter{Offsets: []int64{12}}}, true)
	l.must(err)
	if one.Rows != 1 || one.SnapshotID == 0 || one.DeadSnapshotID == 0 {
		t.Errorf("one: %+v", one)
	}
	all, err := l.redrive(l.cat, RedriveOptions{}, true)
	l.must(err)
	if all.Chosen != 20 || all.Rows != 10 || len(all.Still) != 1 {
		t.Errorf("all: %+v", all)
	}
	// The letter at 60 was beyond the last row.
	rec, err := record(l.meta(l.rows).CurrentSnapshot())
	l.must(err)
	if rec.Kind != ledger.KindRedrive || rec.LastRow[0] != 60 || rec.Offsets[0] != 61 {
		t.Errorf("record %+v", rec)
	}
	again, err := l.redrive(l.cat, RedriveOptions{}, true)
	l.must(err)
	if again.Rows != 0 || again.SnapshotID != 0 || again.DeadSnapshotID != 0 {
		t.Errorf("again: %+v", again)
	}
	if n, m := l.letters(); n != 21 || m != 11 {
		t.Errorf("%d letters, %d of them redriven", n, m)
	}
	l.exactly(l.rows, 0, 61, 3, 9, 15, 21, 27, 33, 39, 45, 51, 57)
	// The pipeline that was at work finds out, and goes on where it stood.
	b := l.batchOf(thirds, rng(0, 61, 70))
	defer release(b)
	if _, err := c.Commit(t.Context(), b); !errors.Is(err, engine.ErrRedriven) {
		t.Fatalf("the writer beside it: %v", err)
	}
	if st := l.recover(c); st.Offsets[0] != 61 || st.Epoch != 0 {
		t.Errorf("recovered at %+v", st)
	}
	_, err = c.Commit(t.Context(), b)
	l.must(err)
	l.exactly(l.rows, 0, 70, 3, 9, 15, 21, 27, 33, 39, 45, 51, 57, 63, 66, 69)
	if n, m := l.letters(); n != 24 || m != 11 {
		t.Errorf("%d letters, %d of them redriven", n, m)
	}
}

// Rows that were redriven and set back since are dead letters still, and come back when asked.
func TestRedriveAndRewind(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commitThirds(c, 0, 30)
	before := l.meta(l.rows).CurrentSnapshot().SnapshotID
	_, err := l.redrive(l.cat, RedriveOptions{}, false)
	l.must(err)
	l.exactly(l.rows, 0, 30)
	plan, err := PlanRewind(t.Context(), l.cat, l.wh, l.rows, "events", RewindTarget{Snapshot: before})
	l.must(err)
	_, err = Rewind(t.Context(), l.cat, l.wh, l.rows, "events", plan, 0)
	l.must(err)
	l.exactly(l.rows, 0, 30, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27)
	if got, err := l.redrive(l.cat, RedriveOptions{}, false); err != nil || got.Rows != 0 {
		t.Errorf("without Again: %+v, %v", got, err)
	}
	got, err := l.redrive(l.cat, RedriveOptions{Again: true}, false)
	if err != nil || got.Rows != 10 {
		t.Errorf("again: %+v, %v", got, err)
	}
	l.exactly(l.rows, 0, 30)
}

// Letters beyond V come again by themselves: a row now would be there twice.
func TestRedriveLeavesWhatComesAgain(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commitThirds(c, 0, 10)
	target := l.meta(l.rows).CurrentSnapshot().SnapshotID
	l.commitThirds(c, 10, 30)
	plan, err := PlanRewind(t.Context(), l.cat, l.wh, l.rows, "events", RewindTarget{Snapshot: target})
	l.must(err)
	_, err = Rewind(t.Context(), l.cat, l.wh, l.rows, "events", plan, 0)
	l.must(err)
	got, err := l.redrive(l.cat, RedriveOptions{}, false)
	if err != nil || got.Rows != 4 || got.Ahead != 6 {
		t.Errorf("%+v, %v", got, err)
	}
}

// lossy gives other answers than what happened.
type lossy struct {
	catalog.Catalog
	single bool // commits one table at a time
	fail   int  // which commits fail, as bits: before the effect
	lose   int  // after it
	n      int
}

func (f *lossy) fate(do func() error) error {
	bit := 1 << f.n
	f.n++
	if f.fail&bit != 0 {
		return fmt.Errorf("%w: injected", catalog.ErrUnknownOutcome)
	}
	err := do()
	if err == nil && f.lose&bit != 0 {
		return fmt.Errorf("%w: injected", catalog.ErrUnknownOutcome)
	}
	return err
}

func (f *lossy) CommitTable(ctx context.Context, tc catalog.TableCommit) (t *catalog.Table, err error) {
	err = f.fate(func() error { t, err = f.Catalog.CommitTable(ctx, tc); return err })
	return t, err
}

func (f *lossy) CommitTransaction(ctx context.Context, tcs []catalog.TableCommit) error {
	if f.single {
		return catalog.ErrUnsupported
	}
	return f.fate(func() error { return f.Catalog.CommitTransaction(ctx, tcs) })
}

// Whatever is lost on the way, each letter is a row once and marked.
func TestRedriveWithLostAnswers(t *testing.T) {
	for _, single := range []bool{false, true} {
		for _, fate := range []int{0, 1, 3, 4, 5, 8, 12} {
			l := newLake(t)
			c := l.committer(l.cat)
			l.recover(c)
			l.commitThirds(c, 0, 12)
			f := &lossy{Catalog: l.cat, single: single, fail: fate & 3, lose: fate >> 2}
			got, err := l.redrive(f, RedriveOptions{}, false)
			if err != nil {
				t.Fatalf("single %v, fate %d: %v", single, fate, err)
			}
			if got.Rows != 4 || got.SnapshotID == 0 {
				t.Errorf("single %v, fate %d: %+v", single, fate, got)
			}
			l.exactly(l.rows, 0, 12)
			if n, m := l.letters(); n != 4 || m != 4 {
				t.Errorf("single %v, fate %d: %d letters, %d of them marked", single, fate, n, m)
			}
			l.recover(c)
			l.commitThirds(c, 12, 20)
		}
	}
}

// A writer that commits while rows are made of letters makes the redrive look again.
func TestRedriveBesideAWriter(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commitThirds(c, 0, 12)
	calls := 0
	got, err := Redrive(t.Context(), l.cat, l.wh, l.rows, l.dead, "events", RedriveOptions{}, func(_ *iceberg.Schema, letters []deadletter.Letter) (rows []arrow.RecordBatch, still []engine.Dead, err error) {
		if calls++; calls == 1 {
			l.commitThirds(c, 12, 24)
		}
		for _, x := range letters {
			rows = append(rows, l.rowsOf(x.Partition, x.Offset))
		}
		return rows, nil, nil
	})
	if err != nil || calls != 2 || got.Rows != 8 {
		t.Errorf("%d calls, %+v, %v", calls, got, err)
	}
	l.exactly(l.rows, 0, 24)
	// Rows that were not asked for are refused.
	l.recover(c)
	l.commitThirds(c, 24, 30)
	_, err = Redrive(t.Context(), l.cat, l.wh, l.rows, l.dead, "events", RedriveOptions{}, func(_ *iceberg.Schema, letters []deadletter.Letter) ([]arrow.RecordBatch, []engine.Dead, error) {
		return []arrow.RecordBatch{l.rowsOf(0, 24, 27), l.rowsOf(0, 27)}, nil, nil
	})
	if !errors.Is(err, ErrRedrive) {
		t.Errorf("a row twice: %v", err)
	}
}
