package plan

import (
	"cmp"
	"slices"
)

// File is a live data file.
type File struct {
	Path        string
	Spec        int
	Partition   string // canonical text of the partition's values
	Rows, Bytes int64
	Sequence    int64 // of the snapshot that added it
	Order       int64 // when its rows arrived: rewritten rows keep this order
}

// Files is the policy for data files. All fields must be positive; ColdSequence may be zero.
type Files struct {
	TargetBytes int64 // greatest sum of a job's input
	SmallBytes  int64 // files of at least this size are left alone; at most half of TargetBytes
	Fanout      int   // files that make a merge worth while, and the ratio of two tiers; at least 2
	MaxFiles    int   // greatest number of a job's inputs; at least Fanout
	// ColdSequence is the sequence number of the table some time ago. A partition without a small file newer than it
	// gets no more rows worth waiting for and is merged by tiers of coldFanout.
	ColdSequence int64
}

// coldFanout makes the files that stay in a cold partition few: each row is rewritten at most log2 times more.
const coldFanout = 2

// Rewrite is one job: its files, in order, become one.
type Rewrite struct {
	Spec        int
	Partition   string
	Files       []File
	Rows, Bytes int64
	Tier        int  // highest among the inputs
	Cold        bool // planned by the rule for cold partitions
}

// Rewrites plans the merges of small files. Those that save the most files for a byte come first.
func Rewrites(p Files, files []File) []Rewrite {
	type key struct {
		spec      int
		partition string
	}
	groups := map[key][]File{}
	for _, f := range files {
		if f.Bytes < p.SmallBytes {
			k := key{f.Spec, f.Partition}
			groups[k] = append(groups[k], f)
		}
	}
	var out []Rewrite
	for _, g := range groups {
		jobs := p.partition(g, p.Fanout, false)
		if len(jobs) == 0 && p.cold(g) {
			jobs = p.partition(g, coldFanout, true)
		}
		out = append(out, jobs...)
	}
	slices.SortFunc(out, func(a, b Rewrite) int {
		if c := cmp.Compare(a.costPerFile(), b.costPerFile()); c != 0 {
			return c
		}
		return cmp.Compare(a.Files[0].Path, b.Files[0].Path)
	})
	return out
}

func (r Rewrite) costPerFile() float64 { return float64(r.Bytes) / float64(len(r.Files)-1) }

func (p Files) cold(g []File) bool {
	for _, f := range g {
		if f.Sequence > p.ColdSequence {
			return false
		}
	}
	return true
}

// partition plans one partition's small files: of all tiers that could rise, the highest takes everything below it
// along, because a file that skips a tier is spared a rewrite.
func (p Files) partition(g []File, fanout int, cold bool) []Rewrite {
	slices.SortFunc(g, func(a, b File) int {
		return cmp.Or(cmp.Compare(tier(a.Rows, fanout), tier(b.Rows, fanout)), cmp.Compare(a.Path, b.Path))
	})
	var rows int64
	sums := make([]int64, len(g))
	for i, f := range g {
		rows += weight(f.Rows)
		sums[i] = rows
	}
	for n := len(g); n >= 2; n-- {
		top := tier(g[n-1].Rows, fanout)
		if n < len(g) && tier(g[n].Rows, fanout) == top {
			continue // a tier is taken whole
		}
		if n >= fanout && tier(sums[n-1], fanout) > top || p.settles(g[:n]) {
			if jobs := p.cut(g[:n], fanout, cold); len(jobs) > 0 {
				return jobs
			}
		}
	}
	return nil
}

// settles tells whether the files give one that is large enough for good. Their rows must be twice the largest's: a
// result that a codec makes too small after all has doubled at least.
func (p Files) settles(g []File) bool {
	var bytes, rows, largest int64
	for _, f := range g {
		bytes += f.Bytes
		rows += weight(f.Rows)
		largest = max(largest, weight(f.Rows))
	}
	return bytes >= p.SmallBytes && rows >= 2*largest
}

// cut splits files into jobs of at most TargetBytes and MaxFiles, in order of arrival, and keeps those that are worth it.
func (p Files) cut(g []File, fanout int, cold bool) []Rewrite {
	g = slices.Clone(g)
	slices.SortFunc(g, func(a, b File) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Path, b.Path))
	})
	var jobs []Rewrite
	var job Rewrite
	var rows int64
	flush := func() {
		if p.settles(job.Files) || len(job.Files) >= fanout && tier(rows, fanout) > job.Tier {
			job.Spec, job.Partition, job.Cold = g[0].Spec, g[0].Partition, cold
			jobs = append(jobs, job)
		}
		job, rows = Rewrite{}, 0
	}
	for _, f := range g {
		if len(job.Files) > 0 && (job.Bytes+f.Bytes > p.TargetBytes || len(job.Files) == p.MaxFiles) {
			flush()
		}
		job.Files = append(job.Files, f)
		job.Bytes += f.Bytes
		job.Rows += f.Rows
		rows += weight(f.Rows)
		job.Tier = max(job.Tier, tier(f.Rows, fanout))
	}
	flush()
	return jobs
}

// weight counts an empty file as one row, so that empty files are merged away too.
func weight(rows int64) int64 { return max(rows, 1) }

// tier is floor(log_fanout rows).
func tier(rows int64, fanout int) int {
	t := 0
	for rows >= int64(fanout) {
		rows /= int64(fanout)
		t++
	}
	return t
}
