package dedup

import (
	"math"
	"slices"
	"time"

	"github.com/firnlake/firn/internal/offset"
)

const (
	// slicesInWindow is how many slices of time make a window.
	slicesInWindow = 4
	// idleAfter is how long a slice that nobody came near stays in memory.
	idleAfter = time.Minute
	// tidyEvery is how often slices are looked at for that.
	tidyEvery = time.Second
	// maxSlices bounds the slices: timestamps without any order would make one each.
	maxSlices = 8192
)

// slice is what is remembered of a slice of time: the ids of its rows.
type slice struct {
	ids  set
	read bool // what the table has of it is in ids, or was forgotten
	// rows is where its rows end that were decoded in this generation: below it, and committed, they can be read again.
	rows offset.Vector
	// turn and used tell when an event came near last.
	turn int64
	used time.Time
}

// window is the state of one generation.
type window struct {
	width  int64 // of a slice, in microseconds
	max    int   // ids
	slices map[int64]*slice
	n      int
	turn   int64
	tidied time.Time
	// top is up to where the table has rows that are not in slices, as far as it is known; beyond, nothing is to be read.
	top   int64
	known bool
}

func newWindow(c Config) *window {
	return &window{width: c.Window.D().Microseconds() / slicesInWindow, max: c.MaxIDs, slices: map[int64]*slice{}, top: math.MinInt64}
}

// farthest bounds timestamps, so that slices can be calculated with: ±146,000 years.
const farthest = 1 << 62

// of is the slice of a time in microseconds.
func (w *window) of(at int64) int64 {
	at = min(max(at, -farthest), farthest)
	i := at / w.width
	if at%w.width < 0 {
		i--
	}
	return i
}

// bounds are the first and the last microsecond of slices from first to last.
func (w *window) bounds(first, last int64) (from, to int64) {
	return first * w.width, (last+1)*w.width - 1
}

// at is the slice i, made if it is not there.
func (w *window) at(i int64) *slice {
	s := w.slices[i]
	if s == nil {
		s = &slice{}
		w.slices[i] = s
	}
	return s
}

func (w *window) add(s *slice, h id) {
	if s.ids.add(h) {
		w.n++
	}
}

// near gives the slices around i that are there, and notes that they are needed.
func (w *window) near(i int64, now time.Time, out *[2*slicesInWindow + 1]*slice) []*slice {
	n := 0
	for j := i - slicesInWindow; j <= i+slicesInWindow; j++ {
		if s := w.slices[j]; s != nil {
			s.turn, s.used = w.turn, now
			out[n] = s
			n++
		}
	}
	return out[:n]
}

// drop takes a slice out. When an event comes near it again, it is read from the table.
func (w *window) drop(i int64) {
	w.n -= w.slices[i].ids.n
	delete(w.slices, i)
	_, end := w.bounds(i, i)
	w.top = max(w.top, end)
}

// tidy keeps the window within its bounds and tells how many ids in use were forgotten for that.
func (w *window) tidy(now time.Time, committed offset.Vector) (forgotten int) {
	if now.Sub(w.tidied) >= tidyEvery {
		w.tidied = now
		for i, s := range w.slices {
			if now.Sub(s.used) >= idleAfter && s.below(committed) {
				w.drop(i)
			}
		}
	}
	for w.n > w.max {
		s := w.slices[w.oldest(func(s *slice) bool { return s.ids.n > 0 })]
		forgotten += s.ids.n
		w.n -= s.ids.n
		s.ids = set{} // read stays: reading it at once again would push out another one
	}
	for len(w.slices) > maxSlices {
		i := w.oldest(func(*slice) bool { return true })
		if s := w.slices[i]; !s.below(committed) {
			forgotten += s.ids.n
		}
		w.drop(i)
	}
	return forgotten
}

// ends notes that rows of a partition below end were decoded into the slice.
func (s *slice) ends(p int32, end int64) {
	if s.rows == nil {
		s.rows = offset.Vector{}
	}
	s.rows[p] = end
}

// below tells that the slice's rows are all committed.
func (s *slice) below(committed offset.Vector) bool {
	for p, end := range s.rows {
		if committed[p] < end {
			return false
		}
	}
	return true
}

// oldest is the slice that has not been used for the longest, and of several the first in time.
func (w *window) oldest(among func(*slice) bool) (i int64) {
	var best *slice
	for j, s := range w.slices {
		if among(s) && (best == nil || s.turn < best.turn || s.turn == best.turn && j < i) {
			i, best = j, s
		}
	}
	return i
}

// missing are the slices of want that were not read, as runs [first, last]; want ascends. Beyond the table's last row there is nothing to
// be read.
func (w *window) missing(want []int64) (runs [][2]int64) {
	slices.Sort(want)
	for _, i := range slices.Compact(want) {
		s := w.at(i)
		if s.read {
			continue
		}
		if from, _ := w.bounds(i, i); w.known && from > w.top {
			s.read = true
			continue
		}
		if n := len(runs); n > 0 && runs[n-1][1] == i-1 {
			runs[n-1][1] = i
		} else {
			runs = append(runs, [2]int64{i, i})
		}
	}
	return runs
}

// bytes is the memory of the tables.
func (w *window) bytes() (n int64) {
	for _, s := range w.slices {
		n += s.ids.bytes()
	}
	return n
}
