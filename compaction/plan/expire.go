package plan

import (
	"cmp"
	"slices"
	"time"
)

// Snapshot is a snapshot in a table's metadata.
type Snapshot struct {
	ID, Parent int64 // Parent 0: none
	At         time.Time
	Sequence   int64
}

// Ref is a branch or a tag.
type Ref struct {
	Name     string
	Branch   bool
	Snapshot int64
	MaxAge   time.Duration // of the snapshot that it names; 0: it stays for ever
	// Of a branch: what it says itself of the snapshots before the one that it names. Zero: what Retention says.
	Window time.Duration
	Min    int
}

// LogEntry says that main stood at a snapshot from a time on.
type LogEntry struct {
	Snapshot int64
	At       time.Time
}

// Retention says which snapshots stay: those that were the head of a branch at any time of the last Window, at least
// the newest Min of each branch, and what a ref names. A branch that says something of its own is kept by that.
type Retention struct {
	Window time.Duration
	Min    int // at least 1
	Max    int // greatest number that one plan expires; the oldest go first
}

// AgedRefs takes apart the refs whose snapshot is older than they may be. main never is.
func AgedRefs(now time.Time, main string, snapshots []Snapshot, refs []Ref) (aged []string, rest []Ref) {
	at := make(map[int64]time.Time, len(snapshots))
	for _, s := range snapshots {
		at[s.ID] = s.At
	}
	for _, ref := range refs {
		if when, ok := at[ref.Snapshot]; ok && ref.MaxAge > 0 && ref.Name != main && now.Sub(when) > ref.MaxAge {
			aged = append(aged, ref.Name)
			continue
		}
		rest = append(rest, ref)
	}
	slices.Sort(aged)
	return aged, rest
}

// Expire returns the snapshots that may go, oldest first. log is main's, oldest entry first.
func Expire(r Retention, now time.Time, snapshots []Snapshot, refs []Ref, log []LogEntry) []int64 {
	cutoff := now.Add(-r.Window)
	byID := make(map[int64]Snapshot, len(snapshots))
	for _, s := range snapshots {
		byID[s.ID] = s
	}
	keep := map[int64]bool{}
	for _, ref := range refs {
		keep[ref.Snapshot] = true
		if ref.Branch {
			of := r
			if ref.Window > 0 {
				of.Window = ref.Window
			}
			if ref.Min > 0 {
				of.Min = ref.Min
			}
			of.keepBranch(ref.Snapshot, now.Add(-of.Window), byID, keep)
		}
	}
	// Clients drop the log before an entry whose snapshot is gone. What main left in a rollback is on no branch, but in
	// the log's window, so it stays as long.
	superseded := now
	for i := len(log) - 1; i >= 0 && !superseded.Before(cutoff); i-- {
		keep[log[i].Snapshot] = true
		superseded = log[i].At
	}
	var old []Snapshot
	for _, s := range snapshots {
		if !keep[s.ID] && s.At.Before(cutoff) {
			old = append(old, s)
		}
	}
	slices.SortFunc(old, func(a, b Snapshot) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
	})
	out := make([]int64, 0, min(len(old), r.Max))
	for _, s := range old[:min(len(old), r.Max)] {
		out = append(out, s.ID)
	}
	return out
}

// keepBranch marks a branch's head and its ancestors back to the one that was the head when the window began: not the
// snapshot's own age counts but when it was followed, or the head of an idle table would go the moment it is followed,
// under the queries that just pinned it.
func (r Retention) keepBranch(head int64, cutoff time.Time, byID map[int64]Snapshot, keep map[int64]bool) {
	s, ok := byID[head]
	for n := 1; ok && n <= len(byID); n++ { // damaged metadata may have a cycle
		keep[s.ID] = true
		if n >= r.Min && s.At.Before(cutoff) {
			return // its parent was followed before the window
		}
		s, ok = byID[s.Parent]
	}
}
