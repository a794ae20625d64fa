package layout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/bench/report"
)

// BenchmarkMerge merges sorted sources of 32,768 rows of two keys and a payload, in batches of 1,024. In the one case their rows
// lie all across one another, in the other (beside) each source's lie behind those of the one before.
func BenchmarkMerge(b *testing.B) {
	const rows, piece = 32_768, 1_024
	for _, sources := range []int{8, 64} {
		for _, across := range []bool{true, false} {
			b.Run(fmt.Sprintf("sources=%d/across=%t", sources, across), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 2))
				keys := []SortKey{{Path: []int{0}}, {Path: []int{1}, Desc: true}}
				sorted := make([]arrow.RecordBatch, sources)
				for i := range sorted {
					from := 0
					if !across {
						from = i
					}
					sorted[i] = benchSource(b, rng, from, rows, keys)
					defer sorted[i].Release()
				}
				b.ReportAllocs()
				before := report.CPUTime()
				for b.Loop() {
					in := make([]Source, sources)
					for i, s := range sorted {
						p := &pieces{rows: s}
						for end := int64(piece); end <= rows; end += piece {
							p.cuts = append(p.cuts, end)
						}
						in[i] = p
					}
					n := int64(0)
					err := Merge(context.Background(), memory.DefaultAllocator, keys, in, func(b arrow.RecordBatch) error {
						n += b.NumRows()
						return nil
					})
					if err != nil || n != int64(sources*rows) {
						b.Fatalf("%d rows: %v", n, err)
					}
				}
				cpu := report.CPUTime() - before
				b.ReportMetric(float64(b.N*sources*rows)/cpu.Seconds()/1e6, "Mrows/cpu-s")
				b.ReportMetric(cpu.Seconds()*1e3/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// benchSource is sorted rows of a user, a time and a text; users of another from lie behind those of one before it.
func benchSource(b *testing.B, rng *rand.Rand, from, rows int, keys []SortKey) arrow.RecordBatch {
	sc := arrow.NewSchema([]arrow.Field{{Name: "user", Type: arrow.BinaryTypes.String}, {Name: "at", Type: arrow.PrimitiveTypes.Int64}, {Name: "page", Type: arrow.BinaryTypes.String}}, nil)
	r := array.NewRecordBuilder(memory.DefaultAllocator, sc)
	defer r.Release()
	for range rows {
		user := rng.IntN(5_000)
		r.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("%03d-user-%05d", from, user))
		r.Field(1).(*array.Int64Builder).Append(rng.Int64N(1 << 40))
		r.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("/page/%d", rng.IntN(1_000)))
	}
	all := r.NewRecordBatch()
	defer all.Release()
	out, err := Sort(b.Context(), memory.DefaultAllocator, []arrow.RecordBatch{all}, keys)
	if err != nil {
		b.Fatal(err)
	}
	return out
}
