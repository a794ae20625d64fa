package commit

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// linesOf makes rows of partition 0 at these places.
func linesOf(mem memory.Allocator, at ...spot) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: ledger.ColPartition, Type: arrow.PrimitiveTypes.Int32},
		{Name: ledger.ColOffset, Type: arrow.PrimitiveTypes.Int64}, {Name: ledger.ColIndex, Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil))
	defer b.Release()
	for _, x := range at {
		b.Field(0).(*array.Int32Builder).Append(0)
		b.Field(1).(*array.Int64Builder).Append(x.offset)
		if x.line == 0 {
			b.Field(2).AppendNull()
			continue
		}
		b.Field(2).(*array.Int32Builder).Append(x.line - 1)
	}
	return b.NewRecordBatch()
}

// placesOf are the places of rows, in order.
func placesOf(rows []arrow.RecordBatch) string {
	out := []spot{}
	for _, r := range rows {
		_, o, _ := ledgerColumns(r)
		for i := range int(r.NumRows()) {
			out = append(out, spot{o.Value(i), engine.LinesOf(r).At(i)})
		}
	}
	return fmt.Sprint(out)
}

// TestLinesOfABatch: a record may come several times as its lines, in order, and no other way.
func TestLinesOfABatch(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, c := range []struct {
		at []spot
		ok bool
	}{
		{[]spot{{3, 1}, {3, 2}, {3, 5}, {4, 0}, {5, 2}}, true},
		{[]spot{{3, 1}, {3, 1}}, false},
		{[]spot{{3, 2}, {3, 1}}, false},
		{[]spot{{3, 0}, {3, 1}}, false},
		{[]spot{{3, 0}, {3, 0}}, false},
		{[]spot{{4, 1}, {3, 2}}, false},
		{[]spot{{9, 1}, {10, 1}}, false},
	} {
		r := linesOf(mem, c.at...)
		err := checkRows(&engine.Batch{Ranges: []offset.Range{rng(0, 3, 10)}, Rows: []arrow.RecordBatch{r}})
		r.Release()
		if (err == nil) != c.ok || err != nil && !errors.Is(err, engine.ErrRewound) {
			t.Errorf("%v: %v", c.at, err)
		}
	}
}

// TestLinesThatAreDeadAlready: a line stays where it landed first, and so does a whole record; the other lines are rows.
func TestLinesThatAreDeadAlready(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	c := &Committer{m: NewMetrics(nil), sticky: sticky{}}
	c.sticky.add(0, 3, 2)
	c.sticky.add(0, 5, 0)
	rows := linesOf(mem, spot{3, 1}, spot{3, 2}, spot{3, 3}, spot{4, 1}, spot{5, 1}, spot{5, 2}, spot{6, 0})
	defer rows.Release()
	letter := func(o int64, line int32) engine.Dead {
		return engine.Dead{DeadLetter: engine.DeadLetter{Offset: o, Line: line}}
	}
	in := c.withoutSticky(&engine.Batch{Rows: []arrow.RecordBatch{rows}, Dead: []engine.Dead{letter(3, 2), letter(3, 4), letter(5, 3), letter(3, 0)}})
	defer in.release()
	if got := placesOf(in.rows); got != "[{3 1} {3 3} {4 1} {6 0}]" || in.last[0] != 6 {
		t.Errorf("rows %s, the last at %d", got, in.last[0])
	}
	if len(in.dead) != 2 || in.dead[0].Line != 4 || in.dead[1].Line != 0 {
		t.Errorf("dead letters %+v", in.dead)
	}
	c.sticky.forget(offset.Vector{0: 5})
	if c.sticky.has(0, 3, 2) || !c.sticky.has(0, 5, 7) {
		t.Errorf("after a commit up to 5: %v", c.sticky)
	}
}

// TestLinesOfLetters: a whole record gives the lines that are not rows yet; what no letter asked for is refused.
func TestLinesOfLetters(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	there := sticky{}
	there.add(0, 7, 2)
	there.add(0, 8, 1)
	letters := []deadletter.Letter{{Offset: 3, Line: 2}, {Offset: 3, Line: 5}, {Offset: 7}, {Offset: 8}}
	for _, c := range []struct {
		made    []spot
		kept    string
		letters int
	}{
		{[]spot{{3, 2}, {7, 1}, {7, 2}, {7, 3}, {8, 1}}, "[{3 2} {7 1} {7 3}]", 3},
		{[]spot{{3, 5}}, "[{3 5}]", 1},
		{[]spot{{3, 3}}, "", 0},
		{[]spot{{7, 1}, {7, 1}}, "", 0},
		{[]spot{{9, 0}}, "", 0},
	} {
		ch := &chosen{letters: letters, there: there, marks: sticky{}, rows: []arrow.RecordBatch{linesOf(mem, c.made...)}}
		n, err := (&redriver{}).checkRedriven(ch)
		if c.letters == 0 {
			if !errors.Is(err, ErrRedrive) {
				t.Errorf("%v: %v", c.made, err)
			}
		} else if got := placesOf(ch.rows); err != nil || n != c.letters || got != c.kept || len(ch.marks[0]) != n {
			t.Errorf("%v: %d letters %v gave %s, want %d and %s; %v", c.made, n, ch.marks, got, c.letters, c.kept, err)
		}
		for _, r := range ch.rows {
			r.Release()
		}
	}
	if !slices.IsSortedFunc(letters, func(a, b deadletter.Letter) int { return int(a.Offset - b.Offset) }) {
		t.Error("the letters were put into another order")
	}
}
