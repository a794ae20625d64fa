package tail

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/internal/arrowmem"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var schema = arrow.NewSchema([]arrow.Field{
	{Name: ledger.ColPartition, Type: arrow.PrimitiveTypes.Int32},
	{Name: ledger.ColOffset, Type: arrow.PrimitiveTypes.Int64},
}, nil)

func rowsOf(mem memory.Allocator, partition int32, offsets ...int64) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for _, o := range offsets {
		b.Field(0).(*array.Int32Builder).Append(partition)
		b.Field(1).(*array.Int64Builder).Append(o)
	}
	return b.NewRecordBatch()
}

func offsetsOf(c *hot.Cut) map[int32][]int64 {
	out := map[int32][]int64{}
	for _, r := range c.Rows {
		for i := range int(r.NumRows()) {
			p := r.Column(0).(*array.Int32).Value(i)
			out[p] = append(out[p], r.Column(1).(*array.Int64).Value(i))
		}
	}
	return out
}

func TestCutStartsAtTheSnapshotsVector(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	tl := New(time.Minute, 1<<30, time.Now)
	defer tl.Close()
	if _, err := tl.Cut(t.Context(), nil, 0); !errors.Is(err, hot.ErrNoTail) {
		t.Fatalf("before the first Reset: %v", err)
	}
	tl.Reset(3, offset.Vector{0: 10})
	r := rowsOf(mem, 0, 10, 12, 14)
	tl.Append(r, offset.Range{Partition: 0, Start: 10, End: 15})
	r.Release()
	tl.Append(nil, offset.Range{Partition: 0, Start: 15, End: 20})

	c, err := tl.Cut(t.Context(), offset.Vector{0: 12}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got := offsetsOf(c)[0]; len(got) != 2 || got[0] != 12 || c.End[0] != 20 {
		t.Errorf("rows %v, end %v: want 12 and 14, up to 20", got, c.End)
	}
	c.Release()
	if _, err := tl.Cut(t.Context(), offset.Vector{0: 12}, 2); !errors.Is(err, hot.ErrFenced) {
		t.Errorf("another epoch: %v", err)
	}
	if _, err := tl.Cut(t.Context(), offset.Vector{0: 9}, 3); !errors.Is(err, hot.ErrExpired) {
		t.Errorf("before the tail: %v", err)
	}
	if c, err = tl.Cut(t.Context(), offset.Vector{0: 25}, 3); err != nil || len(c.Rows) != 0 || c.End[0] != 25 {
		t.Errorf("a snapshot ahead of the tail: %v, %v", c, err)
	}
	c.Release()
}

func TestCommittedRowsStayForTheGraceTime(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	now := time.Unix(1000, 0)
	tl := New(5*time.Second, 1<<30, func() time.Time { return now })
	defer tl.Close()
	tl.Reset(0, offset.Vector{0: 0})
	r := rowsOf(mem, 0, 0, 1)
	tl.Append(r, offset.Range{Partition: 0, Start: 0, End: 2})
	r.Release()
	tl.Committed(offset.Vector{0: 2})
	now = now.Add(4 * time.Second)
	tl.Committed(offset.Vector{0: 2})
	if c, err := tl.Cut(t.Context(), offset.Vector{0: 0}, 0); err != nil || len(offsetsOf(c)[0]) != 2 {
		t.Fatalf("within the grace time: %v", err)
	} else {
		c.Release()
	}
	now = now.Add(2 * time.Second)
	tl.Committed(offset.Vector{0: 2})
	if tl.Bytes() != 0 {
		t.Errorf("%d bytes held after the grace time", tl.Bytes())
	}
	if _, err := tl.Cut(t.Context(), offset.Vector{0: 0}, 0); !errors.Is(err, hot.ErrExpired) {
		t.Errorf("after the grace time: %v", err)
	}
	if _, err := tl.Cut(t.Context(), nil, 0); !errors.Is(err, hot.ErrExpired) {
		t.Errorf("a snapshot that does not know the partition, after an eviction: %v", err)
	}
}

// TestCommittedRowsAreBounded: what was committed first goes first, of all partitions, and never what is not committed.
func TestCommittedRowsAreBounded(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	now := time.Unix(1000, 0)
	one := rowsOf(mem, 0, 0)
	size := arrowmem.Bytes(one)
	one.Release()
	tl := New(time.Hour, 3*size, func() time.Time { return now })
	defer tl.Close()
	tl.Reset(0, offset.Vector{0: 0, 1: 0})
	for at := range int64(4) {
		for p := range int32(2) {
			r := rowsOf(mem, p, at)
			tl.Append(r, offset.Range{Partition: p, Start: at, End: at + 1})
			r.Release()
		}
	}
	for _, c := range []struct{ committed, segments, low int64 }{{0, 8, 0}, {1, 8, 0}, {2, 6, 1}, {2, 6, 1}, {4, 0, 4}} {
		now = now.Add(time.Second)
		tl.Committed(offset.Vector{0: c.committed, 1: c.committed})
		if tl.Bytes() != c.segments*size {
			t.Errorf("%d bytes after the commit of %d, want %d", tl.Bytes(), c.committed, c.segments*size)
		}
		if _, err := tl.Cut(t.Context(), offset.Vector{0: c.low - 1, 1: 9}, 0); c.low > 0 && !errors.Is(err, hot.ErrExpired) {
			t.Errorf("below %d: %v", c.low, err)
		}
		cut, err := tl.Cut(t.Context(), offset.Vector{0: c.low, 1: c.low}, 0)
		if err != nil || int64(len(cut.Rows)) != c.segments {
			t.Fatalf("from %d: %v, %v", c.low, cut, err)
		}
		cut.Release()
	}
}

// A tail that began at a vector does not have what lies below. A snapshot from before a partition's first commit does not
// know the partition, so those rows would be in neither.
func TestSnapshotFromBeforeThePartition(t *testing.T) {
	tl := New(time.Second, 1<<30, time.Now)
	defer tl.Close()
	tl.Reset(0, offset.Vector{0: 5, 1: 3, 2: 0})
	if _, err := tl.Cut(t.Context(), offset.Vector{0: 5, 2: 0}, 0); !errors.Is(err, hot.ErrExpired) {
		t.Errorf("partition 1 below 3 is in neither, and the cut says %v", err)
	}
	c, err := tl.Cut(t.Context(), offset.Vector{0: 5, 1: 3}, 0)
	if err != nil {
		t.Fatalf("nothing lies below 0: %v", err)
	}
	c.Release()
}

// For any appends, commits and cuts, a cut from C gives exactly the rows of [C, H), or says that it cannot.
func TestCutsAreExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		defer mem.AssertSize(t, 0)
		now := time.Unix(0, 0)
		tl := New(time.Second, 1<<30, func() time.Time { return now })
		defer tl.Close()
		tl.Reset(0, offset.Vector{0: 0, 1: 0})
		end, committed := offset.Vector{0: 0, 1: 0}, offset.Vector{0: 0, 1: 0}
		rows := map[int32][]int64{}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			p := rapid.Int32Range(0, 1).Draw(rt, "partition")
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0, 1:
				n := rapid.Int64Range(0, 6).Draw(rt, "length")
				var offs []int64
				for o := end[p]; o < end[p]+n; o++ {
					if rapid.Bool().Draw(rt, "row") {
						offs = append(offs, o)
					}
				}
				r := rowsOf(mem, p, offs...)
				tl.Append(r, offset.Range{Partition: p, Start: end[p], End: end[p] + n})
				r.Release()
				rows[p] = append(rows[p], offs...)
				end[p] += n
			case 2:
				committed[p] = rapid.Int64Range(committed[p], end[p]).Draw(rt, "committed")
				tl.Committed(committed)
				now = now.Add(time.Duration(rapid.IntRange(0, 800).Draw(rt, "ms")) * time.Millisecond)
			case 3:
				from := offset.Vector{0: rapid.Int64Range(0, end[0]).Draw(rt, "from 0"), 1: rapid.Int64Range(0, end[1]).Draw(rt, "from 1")}
				checkCut(rt, tl, from, end, committed, rows)
			}
		}
	})
}

func checkCut(rt *rapid.T, tl *Tail, from, end, committed offset.Vector, rows map[int32][]int64) {
	c, err := tl.Cut(context.Background(), from, 0)
	if err != nil {
		if from[0] >= committed[0] && from[1] >= committed[1] {
			rt.Fatalf("a cut from %v failed though only %v is committed: %v", from, committed, err)
		}
		return
	}
	defer c.Release()
	got := offsetsOf(c)
	for p := range end {
		var want []int64
		for _, o := range rows[p] {
			if o >= from[p] {
				want = append(want, o)
			}
		}
		if len(got[p]) != len(want) || c.End[p] != end[p] {
			rt.Fatalf("partition %d from %d: rows %v up to %d, want %v up to %d", p, from[p], got[p], c.End[p], want, end[p])
		}
		for i := range want {
			if got[p][i] != want[i] {
				rt.Fatalf("partition %d: rows %v, want %v", p, got[p], want)
			}
		}
	}
}
