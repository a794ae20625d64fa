package plan

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawPolicy(t *rapid.T) Files {
	target := rapid.Int64Range(1<<20, 128<<20).Draw(t, "target")
	fanout := rapid.IntRange(2, 12).Draw(t, "fanout")
	return Files{TargetBytes: target, SmallBytes: rapid.Int64Range(1, target/2).Draw(t, "small"), Fanout: fanout,
		MaxFiles: rapid.IntRange(fanout, 200).Draw(t, "max files"), ColdSequence: rapid.Int64Range(0, 400).Draw(t, "cold")}
}

// merged is a job's result: every file has a fixed cost, so bytes shrink in a merge while rows add up.
func merged(j Rewrite, path string, seq, overhead int64) File {
	f := File{Path: path, Spec: j.Spec, Partition: j.Partition, Rows: j.Rows, Sequence: seq, Order: j.Files[0].Order}
	f.Bytes = max(overhead, j.Bytes-int64(len(j.Files)-1)*overhead)
	return f
}

func checkJobs(t *rapid.T, p Files, files []File, jobs []Rewrite) {
	have, seen := map[string]File{}, map[string]bool{}
	for _, f := range files {
		have[f.Path] = f
	}
	for _, j := range jobs {
		var rows, bytes int64
		for i, f := range j.Files {
			if have[f.Path] != f || seen[f.Path] {
				t.Fatalf("%s is in two jobs, or in none of the table's", f.Path)
			}
			seen[f.Path] = true
			if f.Partition != j.Partition || f.Spec != j.Spec || f.Bytes >= p.SmallBytes {
				t.Fatalf("%+v does not belong into %+v", f, j)
			}
			if i > 0 && j.Files[i-1].Order > f.Order {
				t.Fatalf("%s stands after a file that arrived later", f.Path)
			}
			rows, bytes = rows+f.Rows, bytes+f.Bytes
		}
		if rows != j.Rows || bytes != j.Bytes || len(j.Files) < 2 || len(j.Files) > p.MaxFiles || bytes > p.TargetBytes {
			t.Fatalf("a job of %d files, %d rows, %d bytes: %+v", len(j.Files), rows, bytes, p)
		}
	}
}

// TestAmplification ingests second by second, compacts whenever there is something to do, and counts how often each row
// is rewritten.
func TestAmplification(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		partitions := rapid.IntRange(1, 3).Draw(t, "partitions")
		overhead := rapid.SampledFrom([]int64{0, 100, 4096}).Draw(t, "overhead")
		width := rapid.Int64Range(1, 200).Draw(t, "bytes a row")
		rates := rapid.SliceOfN(rapid.Int64Range(0, 50_000), 1, 40).Draw(t, "rows a second")
		seconds := rapid.IntRange(1, 300).Draw(t, "seconds")
		cold := rapid.Bool().Draw(t, "cold partitions")
		if !cold {
			p.ColdSequence = -1
		}
		rewrites := map[string]int{} // the most that any row of the file has seen
		var files []File
		var most int64
		for s := range int64(seconds) {
			for part := range partitions {
				rows := rates[(int(s)*partitions+part)%len(rates)]
				if rows == 0 {
					continue // a second without rows writes no file
				}
				f := File{Path: fmt.Sprintf("%d-%d", s, part), Partition: fmt.Sprint(part), Rows: rows, Bytes: overhead + rows*width + 1, Sequence: s, Order: s}
				files = append(files, f)
				most = max(most, rows)
			}
			jobs := Rewrites(p, files)
			checkJobs(t, p, files, jobs)
			for i, j := range jobs {
				out := merged(j, fmt.Sprintf("%d+%d", s, i), s, overhead)
				for _, f := range j.Files {
					rewrites[out.Path] = max(rewrites[out.Path], rewrites[f.Path]+1)
				}
				files = apply(files, j, out.Path, s)
				files[len(files)-1] = out
				most = max(most, out.Rows)
			}
		}
		bound := tier(most, p.Fanout) + 2
		if cold || overhead > 0 { // a merge that seemed to settle has at least doubled its rows
			bound += tier(most, coldFanout)
		}
		for path, n := range rewrites {
			if n > bound {
				t.Fatalf("a row of %s was rewritten %d times, %d are allowed for files of up to %d rows", path, n, bound, most)
			}
		}
	})
}

// TestConvergence: planning on the results again comes to an end, and leaves less than fanout files a tier.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		p.MaxFiles = math.MaxInt
		n := rapid.IntRange(0, 300).Draw(t, "files")
		var files []File
		for i := range n {
			rows := rapid.Int64Range(0, 100_000).Draw(t, "rows")
			files = append(files, File{Path: fmt.Sprint("f", i), Partition: fmt.Sprint(i % 3), Spec: i % 2, Rows: rows, Bytes: rows*50 + 1,
				Sequence: int64(i), Order: rapid.Int64Range(0, 50).Draw(t, "order")})
		}
		for round := 0; ; round++ {
			jobs := Rewrites(p, files)
			checkJobs(t, p, files, jobs)
			if len(jobs) == 0 {
				break
			}
			if round > n {
				t.Fatal("it does not come to an end")
			}
			for i, j := range jobs {
				files = apply(files, j, fmt.Sprintf("%d+%d", round, i), 0)
			}
		}
		left := map[string]int{}
		for _, f := range files {
			// Beyond a quarter of the target few files fit together; the tiers below stay short.
			if f.Bytes < min(p.SmallBytes, p.TargetBytes/int64(4*p.Fanout)) {
				k := fmt.Sprint(f.Spec, f.Partition, tier(f.Rows, p.Fanout))
				if left[k]++; left[k] >= p.Fanout {
					t.Fatalf("%d files are left in tier %d of a partition: %+v", left[k], tier(f.Rows, p.Fanout), p)
				}
			}
		}
	})
}

func TestMergesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Manifests{TargetBytes: rapid.Int64Range(64<<10, 8<<20).Draw(t, "target"), TargetEntries: rapid.IntRange(50, 4000).Draw(t, "entries"), Fanout: rapid.IntRange(2, 10).Draw(t, "fanout"), Max: 100}
		var ms []Manifest
		specs := rapid.IntRange(1, 3).Draw(t, "specs")
		moved, total := 0, 0
		for s := range rapid.IntRange(1, 400).Draw(t, "commits") {
			files := rapid.IntRange(0, 20).Draw(t, "files")
			total += files + 1
			ms = append(ms, Manifest{Path: fmt.Sprint(s), Spec: s % specs, Files: files, Bytes: 1000 + 1000*int64(files), Sequence: int64(s)})
			now := p.For(ms)
			for i, merge := range Merges(p, ms) {
				out := Manifest{Path: fmt.Sprintf("%d+%d", s, i), Spec: merge[0].Spec, Sequence: int64(s), Bytes: 1000}
				for _, m := range merge {
					at := slices.Index(ms, m)
					if at < 0 || m.Spec != out.Spec || now.Settled(m) {
						t.Fatalf("%+v is in two merges, of another spec, or settled", m)
					}
					ms = slices.Delete(ms, at, at+1)
					out.Files += m.Files
					out.Bytes += m.Bytes - 1000
				}
				if out.Files > now.TargetEntries || out.Bytes > now.TargetBytes {
					t.Fatalf("a merge gives %+v, the targets are %+v", out, now)
				}
				moved += out.Files
				ms = append(ms, out)
			}
		}
		if len(ms) > p.Max {
			t.Fatalf("%d manifests are live", len(ms))
		}
		if limit := total * (tier(int64(total), p.Fanout) + 2 + maxDoublings); moved > limit {
			t.Fatalf("%d entries were moved for %d written", moved, total)
		}
	})
}

// TestExpireProperties: what a ref names, what was the head in the window, and every branch's newest stay; what stays of
// a branch is contiguous; in the end nothing that may go is left.
func TestExpireProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Retention{Window: time.Duration(rapid.IntRange(0, 900).Draw(t, "window")) * time.Second, Min: rapid.IntRange(1, 5).Draw(t, "min"), Max: rapid.IntRange(1, 50).Draw(t, "max")}
		var snaps []Snapshot
		var log []LogEntry
		var clock, head int64
		heads := map[int64]int64{} // second → main's head from then on
		for id := int64(1); id <= int64(rapid.IntRange(1, 80).Draw(t, "snapshots")); id++ {
			clock += rapid.Int64Range(0, 60).Draw(t, "pause")
			if head != 0 && rapid.IntRange(0, 9).Draw(t, "act") == 0 { // a rollback
				head = snaps[rapid.IntRange(0, len(snaps)-1).Draw(t, "to")].ID
				log, heads[clock] = append(log, LogEntry{head, at(clock)}), head
				continue
			}
			snaps = append(snaps, Snapshot{ID: id, Parent: head, At: at(clock), Sequence: id})
			head = id
			log, heads[clock] = append(log, LogEntry{head, at(clock)}), head
		}
		refs := []Ref{{Name: "main", Branch: true, Snapshot: head}}
		for i := range rapid.IntRange(0, 3).Draw(t, "refs") {
			refs = append(refs, Ref{Name: fmt.Sprint("r", i), Branch: rapid.Bool().Draw(t, "branch"), Snapshot: snaps[rapid.IntRange(0, len(snaps)-1).Draw(t, "of")].ID})
		}
		now := clock + rapid.Int64Range(0, 1000).Draw(t, "after")
		live := map[int64]Snapshot{}
		for _, s := range snaps {
			live[s.ID] = s
		}
		for {
			ids := Expire(r, at(now), snaps, refs, log)
			if len(ids) == 0 {
				break
			}
			if len(ids) > r.Max {
				t.Fatalf("%d at once", len(ids))
			}
			for _, id := range ids {
				if _, ok := live[id]; !ok {
					t.Fatalf("%d expires twice", id)
				}
				delete(live, id)
			}
			snaps = slices.DeleteFunc(snaps, func(s Snapshot) bool { return slices.Contains(ids, s.ID) })
			for i := len(log) - 1; i >= 0; i-- { // as every client does
				if _, ok := live[log[i].Snapshot]; !ok {
					log = log[i+1:]
					break
				}
			}
		}
		for _, ref := range refs {
			if _, ok := live[ref.Snapshot]; !ok {
				t.Fatalf("ref %s has lost its snapshot", ref.Name)
			}
		}
		// Main's head of every second of the window, by the history kept aside.
		last, began := int64(0), now-int64(r.Window/time.Second)
		for s := int64(0); s <= now; s++ {
			if h, ok := heads[s]; ok {
				last = h
			}
			if _, ok := live[last]; s >= began && last != 0 && !ok {
				t.Fatalf("%d was the head at %d and is gone at %d (window from %d)", last, s, now, began)
			}
		}
	})
}
