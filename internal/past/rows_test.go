package past

import (
	"encoding/binary"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// TestRowRange holds pruning and cutting against a look at each row: no file with a row of the range is pruned, none
// with a row outside is taken whole, and the cut has exactly the rows inside, in order.
func TestRowRange(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: ledger.ColPartition, Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: ledger.ColOffset, Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "name", Type: arrow.BinaryTypes.String}}, nil)
	vector := rapid.Custom(func(t *rapid.T) offset.Vector {
		if rapid.Bool().Draw(t, "nil") {
			return nil
		}
		return rapid.MapOfN(rapid.Int32Range(0, 3), rapid.Int64Range(0, 9), 0, 4).Draw(t, "vector")
	})
	rapid.Check(t, func(t *rapid.T) {
		r := Rows{From: vector.Draw(t, "from"), To: vector.Draw(t, "to")}
		below := vector.Draw(t, "below")
		cut := r.Below(below)
		b := array.NewRecordBuilder(mem, schema)
		defer b.Release()
		n := rapid.IntRange(0, 12).Draw(t, "rows")
		stats := Bounds{known: n > 0}
		var want []int
		outside := false
		for i := range n {
			p, o := rapid.Int32Range(0, 3).Draw(t, "p"), rapid.Int64Range(0, 9).Draw(t, "o")
			null := rapid.IntRange(0, 9).Draw(t, "null") == 0
			if i == 0 {
				stats.firstP, stats.lastP, stats.firstAt, stats.lastAt = p, p, o, o
			}
			stats.firstP, stats.lastP = min(stats.firstP, p), max(stats.lastP, p)
			stats.firstAt, stats.lastAt = min(stats.firstAt, o), max(stats.lastAt, o)
			stats.nulls = stats.nulls || null
			b.Field(0).(*array.Int32Builder).Append(p)
			if null {
				b.Field(1).AppendNull()
			} else {
				b.Field(1).(*array.Int64Builder).Append(o)
			}
			b.Field(2).(*array.StringBuilder).Append(string(rune('a' + i)))
			end, inTo := r.To[p]
			top, inBelow := below[p]
			if !null && o >= r.From[p] && (r.To == nil || inTo && o < end) && (below == nil || inBelow && o < top) {
				want = append(want, i)
			} else {
				outside = true
			}
		}
		rec := b.NewRecordBatch()
		defer rec.Release()
		got, err := cut.Cut(mem, rec, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		have := 0
		if got != nil {
			defer got.Release()
			have = int(got.NumRows())
		}
		if have != len(want) {
			t.Fatalf("%d rows of the range, want %v", have, want)
		}
		for i, at := range want {
			if got.Column(2).(*array.String).Value(i) != string(rune('a'+at)) {
				t.Fatalf("row %d is not row %d of the batch", i, at)
			}
		}
		if len(want) > 0 && !cut.MayHold(stats) {
			t.Fatalf("a file with rows %v of %+v was pruned by %+v", want, cut, stats)
		}
		// Nothing bounds a range without vectors: rows without ledger values belong to it.
		if cut.HoldsAll(stats) && outside && !cut.All() {
			t.Fatalf("%+v does not hold all of a file with %+v", cut, stats)
		}
	})
}

func TestIntBound(t *testing.T) {
	four, eight := binary.LittleEndian.AppendUint32(nil, 0xffffffff), binary.LittleEndian.AppendUint64(nil, 1<<40)
	if v, ok := intBound(four); !ok || v != -1 {
		t.Errorf("int: %d, %t", v, ok)
	}
	if v, ok := intBound(eight); !ok || v != 1<<40 {
		t.Errorf("long: %d, %t", v, ok)
	}
	for _, b := range [][]byte{nil, {}, {1}, make([]byte, 9)} { // manifests are foreign bytes
		if v, ok := intBound(b); ok {
			t.Errorf("%v is %d", b, v)
		}
	}
}
