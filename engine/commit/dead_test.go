package commit

import (
	"errors"
	"fmt"
	"testing"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

// mixed gives rows, dead letters and offsets without a record.
func mixed(_ int32, o int64) byte { return "rrdr-rd"[o%7] }

func is(kind func(int32, int64) byte, what byte) func(int32, int64) bool {
	return func(p int32, o int64) bool { return kind(p, o) == what }
}

func (l *lake) commitKind(c *Committer, kind func(int32, int64) byte, ranges ...offset.Range) engine.Committed {
	l.Helper()
	b := l.batchOf(kind, ranges...)
	defer release(b)
	got, err := c.Commit(l.Context(), b)
	l.must(err)
	return got
}

// TestDeadLetters: rows and dead letters of a batch are committed together, and the vectors of both say so.
func TestDeadLetters(t *testing.T) {
	for _, tx := range []bool{true, false} {
		t.Run(fmt.Sprintf("tx=%t", tx), func(t *testing.T) {
			l := newLake(t)
			c := l.committer(&flaky{Catalog: l.cat, noTx: !tx})
			l.recover(c)
			l.commitKind(c, mixed, rng(0, 0, 10), rng(1, 0, 5))
			l.commitKind(c, allRows, rng(0, 10, 14)) // moves the rows' vector alone
			l.commitKind(c, func(int32, int64) byte { return 'd' }, rng(1, 5, 7))
			kind := func(p int32, o int64) byte {
				switch {
				case p == 0 && o >= 10:
					return 'r'
				case p == 1 && o >= 5:
					return 'd'
				}
				return mixed(p, o)
			}
			v := offset.Vector{0: 14, 1: 7}
			l.wantRows(l.rows, v, is(kind, 'r'))
			l.wantRows(l.dead, v, is(kind, 'd'))
			rows, err := record(l.meta(l.rows).CurrentSnapshot())
			l.must(err)
			dead, err := record(l.meta(l.dead).CurrentSnapshot())
			l.must(err)
			if !rows.Offsets.Equal(v) || !dead.Offsets.Equal(v) || !dead.LastRow.Equal(offset.Vector{0: 9, 1: 6}) || dead.BatchID != rows.BatchID {
				t.Errorf("records\n%+v\n%+v", rows, dead)
			}
			if len(dead.Ranges) != 2 || dead.Ranges[0] != (offset.Range{Partition: 0, Start: 10, End: 14, LeaderEpoch: -1}) || dead.Ranges[1] != rng(1, 5, 7) {
				t.Errorf("the dead letters' ranges: %v", dead.Ranges)
			}
			if id := refID(l.meta(l.dead), "firn.events"); id == nil || *id != l.meta(l.dead).CurrentSnapshot().SnapshotID {
				t.Errorf("the dead letters' tag stands at %v", id)
			}
		})
	}
}

// crashBetween commits the dead letters of a batch and not its rows, as a crash between the two commits does.
func (l *lake) crashBetween(kind func(int32, int64) byte, ranges ...offset.Range) {
	l.Helper()
	f := &flaky{Catalog: l.cat, noTx: true}
	c := l.committer(f)
	l.recover(c)
	b := l.batchOf(kind, ranges...)
	defer release(b)
	f.next = only(1, refused)
	if _, err := c.Commit(l.Context(), b); err == nil {
		l.Fatal("the rows were to be refused")
	}
}

// TestMembershipIsSticky: dead letters that were committed before a crash, or before the rows were set back, stay dead
// letters, once, also when the record would give a row now. Records that were not stay free.
func TestMembershipIsSticky(t *testing.T) {
	other := func(_ int32, o int64) byte { return "drrrrrr"[o%7] } // another contract: what was dead is a row, and the reverse
	now := func(p int32, o int64) byte {                           // where the first decision stands, and else the new one
		if mixed(p, o) == 'd' && o >= 7 && o < 20 {
			return 'd'
		}
		return other(p, o)
	}
	for _, how := range []string{"crash", "rollback"} {
		for _, tx := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/tx=%t", how, tx), func(t *testing.T) {
				l := newLake(t)
				c := l.committer(l.cat)
				l.recover(c)
				base := l.commit(c, rng(0, 0, 7))
				if how == "crash" {
					l.crashBetween(mixed, rng(0, 7, 20))
				} else {
					l.commitKind(c, mixed, rng(0, 7, 20))
					l.rollback(l.rows, base.SnapshotID)
				}
				c = l.committer(&flaky{Catalog: l.cat, noTx: !tx})
				if st := l.recover(c); !st.Offsets.Equal(offset.Vector{0: 7}) {
					t.Fatalf("recovered %+v", st)
				}
				l.commitKind(c, other, rng(0, 7, 15))
				c = l.committer(&flaky{Catalog: l.cat, noTx: !tx}) // and once more in the middle of it
				l.recover(c)
				l.commitKind(c, other, rng(0, 15, 30))
				kind := func(p int32, o int64) byte {
					if o < 7 {
						return 'r'
					}
					return now(p, o)
				}
				v := offset.Vector{0: 30}
				l.wantRows(l.rows, v, is(kind, 'r'))
				l.wantRows(l.dead, v, is(kind, 'd'))
				r, err := record(l.meta(l.rows).CurrentSnapshot())
				l.must(err)
				if r.LastRow[0] != 29 {
					t.Errorf("last row %v", r.LastRow)
				}
				if len(c.sticky) != 0 {
					t.Errorf("%v is still held back", c.sticky)
				}
			})
		}
	}
}

// TestStickyLastRow: the last row of a partition is the last that was written, not one that was left out.
func TestStickyLastRow(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 2))
	l.crashBetween(func(_ int32, o int64) byte { return "rrrdd"[o] }, rng(0, 2, 5))
	l.recover(c)
	l.commit(c, rng(0, 2, 5))
	r, err := record(l.meta(l.rows).CurrentSnapshot())
	l.must(err)
	if !r.LastRow.Equal(offset.Vector{0: 2}) || !r.Offsets.Equal(offset.Vector{0: 5}) {
		t.Errorf("record %+v", r)
	}
	// A rewrite of the dead letters without the record does not make them free again.
	l.crashBetween(func(int32, int64) byte { return 'd' }, rng(0, 5, 8))
	l.rewrite(l.dead, false)
	l.recover(c)
	l.commit(c, rng(0, 5, 9))
	l.wantRows(l.dead, offset.Vector{0: 9}, func(_ int32, o int64) bool { return o >= 3 && o < 8 })
	l.wantRows(l.rows, offset.Vector{0: 9}, func(_ int32, o int64) bool { return o < 3 || o == 8 })
}

// TestFencedWritesNoDeadLetters: where two commits are needed, a writer that is fenced asks before the first.
func TestFencedWritesNoDeadLetters(t *testing.T) {
	l := newLake(t)
	a, z := l.committer(l.cat), l.committer(&flaky{Catalog: l.cat, noTx: true})
	l.recover(a)
	l.recover(z)
	z.noTx = true
	l.commit(a, rng(0, 0, 7))
	b := l.batchOf(mixed, rng(0, 0, 7))
	defer release(b)
	_, err := z.Commit(t.Context(), b)
	if !errors.Is(err, engine.ErrFenced) {
		t.Fatalf("a fenced writer: %v", err)
	}
	if got := l.offsetsIn(l.dead); len(got) != 0 {
		t.Errorf("a fenced writer left dead letters %v", got)
	}
}
