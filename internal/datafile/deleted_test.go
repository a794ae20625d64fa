package datafile

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestDeletedRows: Scan leaves out the rows at the deleted positions and no others, of every type, at every size of
// batches and row groups.
func TestDeletedRows(t *testing.T) {
	const n = 200
	whole := batch(t, memory.DefaultAllocator, everything(), rowsJSON(n, 0))
	defer whole.Release()
	var want []string
	for i := range n {
		one := whole.NewSlice(int64(i), int64(i+1))
		js, err := one.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, string(js))
		one.Release()
	}
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 25 {
		o := DefaultWriteOptions()
		o.RowGroupRows = int64(1 + r.IntN(n+50))
		data, _ := encode(t, o, whole)
		gone := roaring64.New()
		for range r.IntN(n) {
			gone.Add(uint64(r.IntN(n + 20))) // some behind the end
		}
		switch round {
		case 0:
			gone.AddRange(0, n)
		case 1:
			gone.Clear()
		}
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		f, err := NewReader(bytes.NewReader(data), int64(len(data)), "t", ReadOptions{Mem: mem, BatchRows: int64(1 + r.IntN(n)), Deleted: gone})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = f.Scan(t.Context(), everything(), func(b arrow.RecordBatch) error {
			if b.NumRows() == 0 {
				t.Error("a batch without rows")
			}
			for i := range b.NumRows() {
				one := b.NewSlice(i, i+1)
				js, err := one.MarshalJSON()
				one.Release()
				if err != nil {
					return err
				}
				got = append(got, string(js))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var live []string
		for i, row := range want {
			if !gone.Contains(uint64(i)) {
				live = append(live, row)
			}
		}
		if !slices.Equal(got, live) {
			t.Fatalf("round %d: %d rows, want %d", round, len(got), len(live))
		}
	}
}
