package commit

import (
	"context"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
)

// rolledBack sets main back right after the commit whose answer it loses, so that main stands where the writer pinned it
// while the tag stands at what the writer committed.
type rolledBack struct {
	*flaky
	l    *lake
	to   int64
	once bool
}

func (r *rolledBack) CommitTable(ctx context.Context, c catalog.TableCommit) (*catalog.Table, error) {
	t, err := r.flaky.CommitTable(ctx, c)
	if r.to != 0 && !r.once {
		r.once = true
		r.l.rollback(r.l.rows, r.to)
	}
	return t, err
}

// TestSetBackBeforeTheAnswer: a rollback to just where a batch was built, between that batch and the look at what became
// of it, is a rewind like any other. The writer must neither go on over the hole nor be stuck.
func TestSetBackBeforeTheAnswer(t *testing.T) {
	l := newLake(t)
	cat := &rolledBack{flaky: &flaky{Catalog: l.cat, next: only(1, lostAfter)}, l: l}
	c := l.committer(cat)
	l.recover(c)
	cat.to = 0
	first := l.commit(c, rng(0, 0, 3))
	cat.to = first.SnapshotID
	if got := l.commit(c, rng(0, 3, 6)); got.Offsets[0] != 6 { // it took effect, and was undone since
		t.Fatalf("the batch whose answer was lost gave %+v", got)
	}
	b := l.batchOf(allRows, rng(0, 6, 9))
	defer release(b)
	_, err := c.Commit(context.Background(), b)
	isErr(t, err, engine.ErrRewound)
	st := l.recover(c)
	if st.Offsets[0] != 3 || st.Epoch != first.Epoch+1 {
		t.Fatalf("recovered %s in epoch %d, want partition 0 at 3 in epoch %d", st.Offsets, st.Epoch, first.Epoch+1)
	}
	l.commit(c, rng(0, 3, 9))
	l.wantRows(l.rows, l.recover(c).Offsets, func(int32, int64) bool { return true })
}

// TestSetBackToThePin: main moves on by another engine's snapshot and is set back to where the writer stands. V is what
// it was, and the writer goes on: its snapshot takes a sequence number that was not given yet.
func TestSetBackToThePin(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	first := l.commit(c, rng(0, 0, 3))
	l.foreignAppend(l.rows, -1, 1)
	l.rollback(l.rows, first.SnapshotID)
	got := l.commit(c, rng(0, 3, 6))
	if got.Epoch != first.Epoch || got.Attempts > 2 {
		t.Errorf("epoch %d after %d attempts, want epoch %d after 2", got.Epoch, got.Attempts, first.Epoch)
	}
	l.wantRows(l.rows, got.Offsets, func(int32, int64) bool { return true })
}
