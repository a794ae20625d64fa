package plan

import (
	"fmt"
	"slices"
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

// TestManifestsOfADay: a commit a second whose files nobody merges, and a look at the manifests each five seconds. What is
// live stays below the bound that operators are told, over a week too, and an entry is moved O(log n) times.
func TestManifestsOfADay(t *testing.T) {
	for _, c := range []struct {
		name           string
		seconds, files int
		specs          int     // the table's spec changes so many times, evenly
		moved          float64 // times that an entry is written again
	}{
		{name: "a file a second", seconds: 86_400, files: 1, specs: 1, moved: 7},
		{name: "fifteen partitions", seconds: 86_400, files: 15, specs: 1, moved: 8},
		{name: "twelve specs", seconds: 86_400, files: 3, specs: 12, moved: 8},
		{name: "a week", seconds: 604_800, files: 1, specs: 1, moved: 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Manifests{TargetBytes: 8 << 20, TargetEntries: 4096, Fanout: 8, Max: 100}
			const header, entry, look, from = 4000, 300, 5, 60 // bytes, bytes, seconds, manifests
			var ms []Manifest
			moved, live, commits := 0, 0, 0
			for s := range c.seconds {
				ms = append(ms, Manifest{Path: fmt.Sprint(s), Spec: s * c.specs / c.seconds, Files: c.files, Bytes: header + int64(entry*c.files), Sequence: int64(s)})
				live = max(live, len(ms))
				if s%look != 0 || len(ms) < from {
					continue
				}
				merges := Merges(p, ms)
				if len(merges) > 0 {
					commits++
				}
				for i, g := range merges {
					out := Manifest{Path: fmt.Sprint(s, "+", i), Spec: g[0].Spec, Bytes: header, Sequence: int64(s)}
					gone := map[string]bool{}
					for _, m := range g {
						gone[m.Path] = true
						out.Files, out.Bytes = out.Files+m.Files, out.Bytes+m.Bytes-header
					}
					moved += out.Files
					ms = append(slices.DeleteFunc(ms, func(m Manifest) bool { return gone[m.Path] }), out)
				}
			}
			each := float64(moved) / float64(c.seconds*c.files)
			t.Logf("at most %d manifests live, an entry is moved %.2f times, a merge each %.0f s", live, each, float64(c.seconds)/float64(commits))
			if live > 110 || each > c.moved {
				t.Errorf("at most %d manifests live, an entry is moved %.2f times", live, each)
			}
		})
	}
}
