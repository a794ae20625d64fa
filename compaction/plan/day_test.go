package plan

import (
	"fmt"
	"testing"
)

// TestADay plans a day of one-second commits with a round every ten seconds, by the defaults, and holds what the decision
// page (docs/decisions/0003-compaction.md) says of it.
func TestADay(t *testing.T) {
	for _, c := range []struct {
		rows          int64
		amplification float64 // bytes rewritten for a byte ingested
		live          int     // most small files after a round
	}{
		{rows: 20, amplification: 1.2, live: 30},
		{rows: 2_000, amplification: 4, live: 20},
		{rows: 50_000, amplification: 2.2, live: 10},
	} {
		t.Run(fmt.Sprint(c.rows), func(t *testing.T) {
			p := Files{TargetBytes: 128 << 20, SmallBytes: 64 << 20, Fanout: 8, MaxFiles: 500, ColdSequence: -1}
			const overhead, width = 2_500, 31 // bytes, of the demo's events
			var small []File
			var ingested, rewritten int64
			live, settled, jobs := 0, 0, 0
			for s := range int64(86_400) {
				f := File{Path: fmt.Sprint(s), Rows: c.rows, Bytes: overhead + width*c.rows, Sequence: s, Order: s}
				ingested += f.Bytes
				small = append(small, f)
				if s%10 != 9 {
					continue
				}
				for i, j := range Rewrites(p, small) {
					jobs++
					out := merged(j, fmt.Sprint(s, "+", i), s, overhead)
					rewritten += out.Bytes
					small = apply(small, j, out.Path, s)
					if small[len(small)-1] = out; out.Bytes >= p.SmallBytes {
						small = small[:len(small)-1]
						settled++
					}
				}
				live = max(live, len(small))
			}
			amplification := float64(rewritten) / float64(ingested)
			t.Logf("%d rows a second: %.2f bytes rewritten for a byte ingested, %d jobs, %d files of full size, at most %d small ones", c.rows, amplification, jobs, settled, live)
			if amplification > c.amplification || live > c.live {
				t.Errorf("%.2f bytes rewritten for a byte ingested, at most %d small files", amplification, live)
			}
		})
	}
}
