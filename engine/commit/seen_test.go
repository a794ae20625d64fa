package commit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

// hour is the Kafka timestamp of the lake's rows at offsets from 10·n on.
func hour(n int64) int64 { return 1_780_000_000_000_000 + n*3_600_000_000 }

// seenIn are the offsets that are read between two times, and the answer's top.
func (l *lake) seenIn(s *Seen, from, to int64) (out []int64, top int64) {
	l.Helper()
	top, err := s.Read(context.Background(), from, to, func(b arrow.RecordBatch) error {
		if b.NumCols() != 4 || b.Schema().Field(0).Name != "user" {
			return fmt.Errorf("columns %s", b.Schema())
		}
		at, o := b.Column(1).(*array.Timestamp), b.Column(3).(*array.Int64)
		for i := range int(b.NumRows()) {
			if t := int64(at.Value(i)); t >= from && t <= to {
				out = append(out, o.Value(i))
			}
		}
		return nil
	})
	l.must(err)
	slices.Sort(out)
	return out, top
}

// opens counts data files that are opened.
type opens struct {
	objstore.Store
	n int
}

func (o *opens) Open(ctx context.Context, key string) (objstore.Object, error) {
	if strings.HasSuffix(key, ".parquet") {
		o.n++
	}
	return o.Store.Open(ctx, key)
}

func (o *opens) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	if strings.HasSuffix(key, ".parquet") {
		o.n++
	}
	return o.Store.Get(ctx, key, limit)
}

// TestSeen: what is read back is what the pipeline's next commit is built on, whoever moves main meanwhile, and no more files are
// opened than have rows of that time.
func TestSeen(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	store := &opens{Store: l.wh.Store}
	s := NewSeen(l.cat, &objstore.Warehouse{Store: store, URI: l.wh.URI}, l.rows, "events", "user")
	resume := func() {
		t.Helper()
		l.must(s.Resume(t.Context(), l.recover(c)))
	}
	want := func(from, to int64, offsets ...int64) {
		t.Helper()
		if got, _ := l.seenIn(s, from, to); !slices.Equal(got, offsets) {
			t.Errorf("between %d and %d: %v, want %v", from, to, got, offsets)
		}
	}
	resume()
	if got, top := l.seenIn(s, hour(0), hour(9)); len(got) != 0 || top >= hour(0) {
		t.Errorf("an empty table has %v up to %d", got, top)
	}
	first := l.commit(c, rng(0, 8, 12))
	l.commit(c, rng(0, 12, 22))
	l.commit(c, rng(0, 22, 32))
	want(hour(1), hour(1), 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
	if store.n != 2 {
		t.Errorf("%d files were opened, two have rows of that hour", store.n)
	}
	if _, top := l.seenIn(s, 0, 1); top != hour(3) {
		t.Errorf("the table ends at %d, want %d", top, hour(3))
	}
	// main is set back and forth by somebody: what was committed by the pipeline counts, until it recovers.
	head := l.load(l.rows, catalog.LoadRefs).CurrentSnapshot().SnapshotID
	l.rollback(l.rows, first.SnapshotID)
	want(hour(2), hour(2), 20, 21, 22, 23, 24, 25, 26, 27, 28, 29)
	l.rollback(l.rows, head)
	// After a rewind its rows are gone, also those that the tag still stands at.
	l.rollback(l.rows, first.SnapshotID)
	resume()
	want(hour(0), hour(9), 8, 9, 10, 11)
	l.commit(c, rng(0, 12, 14))
	want(hour(0), hour(9), 8, 9, 10, 11, 12, 13)
	// Another engine rewrites and expires: the same rows, once main was looked at again; before, an error and no guess.
	resume()
	l.rewrite(l.rows, false)
	want(hour(0), hour(9), 8, 9, 10, 11, 12, 13)
	l.rewrite(l.rows, false)
	resume()
	l.rewrite(l.rows, false)
	l.expire(l.rows)
	if _, err := s.Read(t.Context(), hour(0), hour(1), func(arrow.RecordBatch) error { return nil }); err == nil {
		t.Error("a snapshot that has expired was read")
	}
	resume()
	want(hour(0), hour(9), 8, 9, 10, 11, 12, 13)
}

// TestDuplicatesInTheRecord: they are counted as filtered offsets are, by themselves; those that are dead letters already are not, and those
// of a batch without rows go with the next snapshot.
func TestDuplicatesInTheRecord(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 4))
	batch := func(kind func(int32, int64) byte, from, to int64, dup ...int64) {
		t.Helper()
		b := l.batchOf(kind, rng(0, from, to))
		defer release(b)
		b.Duplicates = []engine.Filtered{{Partition: 0, Offsets: dup}}
		_, err := c.Commit(t.Context(), b)
		l.must(err)
	}
	batch(skips, 4, 6, 4, 5)
	batch(allRows, 6, 8)
	var sum ledger.Filtered
	sum.Add(4)
	sum.Add(5)
	if r, err := record(l.load(l.rows, catalog.LoadRefs).CurrentSnapshot()); err != nil || r.Duplicates[0] != sum || len(r.Filtered) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	c.sticky.add(0, 9, 0)
	batch(func(_ int32, o int64) byte { return "r--"[o-8] }, 8, 11, 9, 10)
	sum.Add(10)
	r, err := record(l.load(l.rows, catalog.LoadRefs).CurrentSnapshot())
	if err != nil || r.Duplicates[0] != sum {
		t.Errorf("%+v, %v", r, err)
	}
	if left := leftOutBelow(r, offset.Vector{0: 11}, func(int32) bool { return true }); left.duplicates[0] != sum {
		t.Errorf("reading on keeps %+v", left)
	}
	if left := leftOutBelow(r, offset.Vector{0: 10}, func(int32) bool { return true }); len(left.duplicates) != 0 {
		t.Errorf("going back keeps %+v", left)
	}
	if st := l.recover(l.committer(l.cat)); st.IsDead != nil {
		t.Error("a table without dead letters ahead has some")
	}
}
