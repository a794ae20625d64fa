package past

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
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

// TestBoundsOfAFile: what statistics leave open may hold anything; a file in which no row came from Kafka holds nothing of any range
// but that of all rows.
func TestBoundsOfAFile(t *testing.T) {
	const partition, offs = 1, 2
	four, eight := binary.LittleEndian.AppendUint32(nil, 3), func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	bounds := func(rows, nulls int64, lower, upper map[int][]byte) Bounds {
		b, err := iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, "s3://b/f.parquet", iceberg.ParquetFile, nil, nil, nil, rows, 1)
		if err != nil {
			t.Fatal(err)
		}
		return BoundsOf(b.NullValueCounts(map[int]int64{partition: nulls, offs: nulls}).LowerBoundValues(lower).UpperBoundValues(upper).Build(), partition, offs)
	}
	known := bounds(5, 0, map[int][]byte{partition: four, offs: eight(10)}, map[int][]byte{partition: four, offs: eight(19)})
	open := bounds(5, 0, nil, map[int][]byte{partition: four, offs: eight(19)})
	none := bounds(5, 5, nil, nil)
	for _, c := range []struct {
		name   string
		b      Bounds
		last   int64
		from19 bool // may hold a row of partition 3 from 19 on
		from20 bool
		any    bool // may hold a row at all
	}{{"known", known, 19, true, false, true}, {"open", open, math.MaxInt64, true, true, true}, {"none", none, -1, false, false, true}} {
		if got := c.b.Last(); got != c.last {
			t.Errorf("%s: the last offset is %d, want %d", c.name, got, c.last)
		}
		for at, want := range map[int64]bool{19: c.from19, 20: c.from20} {
			if got := (Rows{From: offset.Vector{3: at}}).MayHold(c.b); got != want {
				t.Errorf("%s: may hold rows from %d on: %t", c.name, at, got)
			}
		}
		if got := (Rows{}).MayHold(c.b); got != c.any {
			t.Errorf("%s: may hold any row: %t", c.name, got)
		}
	}
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
