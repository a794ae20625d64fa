package ledger

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/offset"
)

// TestRecordIsSmall: a summary stands in the metadata file for as long as its snapshot. All keys are counted, when the
// partitions move evenly, when few are hot, and when most stand still; with offsets as they are after a year, spread over a
// million. The bounds are those of docs/format/summary.md, which says why 256 partitions do not fit into 1 kB.
func TestRecordIsSmall(t *testing.T) {
	for partitions, bound := range map[int32]int{8: 480, 64: 820, 128: 1200, 256: 1900} {
		recordSize(t, partitions, bound)
	}
}

func recordSize(t *testing.T, partitions int32, bound int) {
	t.Helper()
	const snapshots = 100
	for _, c := range []struct {
		name string
		move func(r *rand.Rand, p int32) int64
	}{
		{"even", func(r *rand.Rand, _ int32) int64 { return 70 + r.Int64N(20) }},
		{"skewed", func(r *rand.Rand, p int32) int64 {
			if p < 4 {
				return 2000 + r.Int64N(2000)
			}
			return 5 + r.Int64N(10)
		}},
		{"one in ten moves", func(r *rand.Rand, _ int32) int64 { return max(0, 20-r.Int64N(22)*10) }},
	} {
		rnd := rand.New(rand.NewPCG(1, 2))
		rec := Record{Version: 1, Kind: KindIngest, Pipeline: "user-events", ClusterID: "MkU3OEVBNTcwNTJENDM2Qk", TopicID: "AAAAAAAAAAAAAAAAAAAAAA",
			Offsets: offset.Vector{}, LastRow: offset.Vector{}, TraceID: "4bf92f3577b34da6a3ce929d0e0e4736"}
		for p := range partitions {
			rec.Offsets[p] = 31_536_000*80 + rnd.Int64N(1_000_000) // a year at 80 a second
		}
		total := 0
		for range snapshots {
			rec.BatchID, rec.Prev, rec.Watermark = uuid.Must(uuid.NewV7()).String(), rnd.Int64(), time.UnixMilli(1_780_000_000_123).UTC()
			rec.Ranges = nil
			for p := range partitions {
				n := c.move(rnd, p)
				if n == 0 {
					continue
				}
				from := rec.Offsets[p]
				rec.Offsets[p] = from + n
				rec.LastRow[p] = from + n - 1 - rnd.Int64N(2)
				rec.Ranges = append(rec.Ranges, offset.Range{Partition: p, Start: from, End: from + n, LeaderEpoch: 5})
			}
			props, err := rec.Summary()
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range props {
				total += len(k) + len(v) + len(`"":"",`)
			}
		}
		t.Logf("%d partitions, %s: %d bytes a snapshot", partitions, c.name, total/snapshots)
		if total/snapshots > bound {
			t.Errorf("%d partitions, %s: %d bytes a snapshot, at most %d", partitions, c.name, total/snapshots, bound)
		}
	}
}
