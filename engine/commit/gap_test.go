package commit

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

func retention(p int32, next, logStart int64) *engine.LogError {
	return &engine.LogError{Kind: engine.ErrRetentionGap, Partition: p, Next: next, LogStart: logStart, LogEnd: -1}
}

// gapsIn are the stretches that the gaps table names, as "partition:[first,next)".
func (l *lake) gapsIn() []string {
	l.Helper()
	t, err := l.cat.LoadTable(context.Background(), l.gaps(), catalog.LoadRefs)
	l.must(err)
	var out []string
	l.must(ReadGaps(context.Background(), t, l.wh, func(p int32, first, next int64) error {
		out = append(out, fmt.Sprintf("%d:[%d,%d)", p, first, next))
		return nil
	}))
	return out
}

func (l *lake) gaps() catalog.Identifier { return catalog.Identifier{l.rows[0], "events_gaps"} }

func (l *lake) gapCommitter(cat catalog.Catalog) *Committer {
	c := l.committer(cat)
	c.cfg.GapsTable = l.gaps()
	return c
}

// oneByOne is a catalog that commits one table at a time, and fails the n-th of these commits from now on before it takes effect.
type oneByOne struct {
	catalog.Catalog
	fail int
}

func (o *oneByOne) CommitTransaction(context.Context, []catalog.TableCommit) error {
	return catalog.ErrUnsupported
}

func (o *oneByOne) CommitTable(ctx context.Context, tc catalog.TableCommit) (*catalog.Table, error) {
	if o.fail--; o.fail == 0 {
		return nil, catalog.ErrDenied
	}
	return o.Catalog.CommitTable(ctx, tc)
}

// TestRecordGap: the row in the gaps table and the jump are one commit, V goes on behind it, and the rows around it stay.
func TestRecordGap(t *testing.T) {
	l := newLake(t)
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	l.mem = mem
	c := l.gapCommitter(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 10), rng(1, 0, 5))
	g, err := c.RecordGap(t.Context(), retention(0, 10, 25))
	l.must(err)
	if g.First != 10 || g.Next != 25 || g.Missing() != 15 || g.Known || g.SnapshotID == 0 {
		t.Errorf("%+v", g)
	}
	if _, err := c.Commit(t.Context(), &engine.Batch{ID: "x"}); err == nil {
		t.Error("a batch was taken before the position was recovered")
	}
	st, r, err := readState(t.Context(), l.cat, l.wh, l.rows, "events")
	l.must(err)
	if !st.Offsets.Equal(offset.Vector{0: 25, 1: 5}) || st.Epoch != 0 || r.Kind != ledger.KindGap || len(r.Ranges) != 1 || r.Ranges[0].End-r.Ranges[0].Start != 15 ||
		!r.LastRow.Equal(offset.Vector{0: 9, 1: 4}) {
		t.Errorf("state %+v, record %+v", st, r)
	}
	l.recover(c)
	l.commit(c, rng(0, 25, 30))
	l.wantRows(l.rows, offset.Vector{0: 30, 1: 5}, func(p int32, o int64) bool { return p == 1 || o < 10 || o >= 25 })
	// A gap that the table has passed already is nothing.
	if g, err := c.RecordGap(t.Context(), retention(0, 10, 25)); err != nil || g.SnapshotID != 0 {
		t.Errorf("a passed gap: %+v, %v", g, err)
	}
	if got := fmt.Sprint(l.gapsIn()); got != "[0:[10,25)]" {
		t.Errorf("gaps %s", got)
	}
	// After a rewind the same stretch is gone still, and more: rows never overlap.
	l.rollback(l.rows, l.meta(l.rows).Snapshots()[0].SnapshotID)
	for _, next := range []int64{10, 25} {
		_, err := c.RecordGap(t.Context(), retention(0, next, 28))
		l.must(err)
	}
	if got := fmt.Sprint(l.gapsIn()); got != "[0:[10,25) 0:[25,28)]" && got != "[0:[25,28) 0:[10,25)]" {
		t.Errorf("gaps %s", got)
	}
	if st := l.recover(c); !st.Offsets.Equal(offset.Vector{0: 28, 1: 5}) || st.Epoch != 1 {
		t.Errorf("recovered %+v", st)
	}
	// Without a table for it, nothing is jumped.
	c = l.committer(l.cat)
	_, err = c.RecordGap(t.Context(), retention(0, 28, 40))
	isErr(t, err, engine.ErrRetentionGap)
}

// TestRecordGapWithoutTransactions: a crash between the two commits leaves a row that the next try finds.
func TestRecordGapWithoutTransactions(t *testing.T) {
	l := newLake(t)
	one := &oneByOne{Catalog: l.cat}
	c := l.gapCommitter(one)
	l.recover(c)
	l.commit(c, rng(0, 0, 10))
	_, err := EnsureTable(t.Context(), l.cat, l.gaps(), GapsSchema(), nil, nil)
	l.must(err)
	one.fail = 2 // the rows' table
	_, err = c.RecordGap(t.Context(), retention(0, 10, 25))
	isErr(t, err, catalog.ErrDenied)
	if st := l.recover(l.committer(l.cat)); !st.Offsets.Equal(offset.Vector{0: 10}) {
		t.Errorf("recovered %+v", st)
	}
	// Retention went on meanwhile: the stretch that was noted first, then the rest.
	for i, want := range []int64{25, 31} {
		g, err := c.RecordGap(t.Context(), retention(0, []int64{10, 25}[i], 31))
		l.must(err)
		if g.Next != want || g.Known != (i == 0) {
			t.Errorf("step %d: %+v", i, g)
		}
	}
	if got := l.gapsIn(); len(got) != 2 {
		t.Errorf("gaps %v", got)
	}
	l.recover(c)
	l.commit(c, rng(0, 31, 33))
	l.wantRows(l.rows, offset.Vector{0: 33}, func(_ int32, o int64) bool { return o < 10 || o >= 31 })
}
