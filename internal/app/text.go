package app

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// plural is "1 row", "2 rows".
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// phases prints the parts of a commit in a stable order, the longest first.
func phases(m map[string]time.Duration) string {
	if len(m) == 0 {
		return ""
	}
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + " " + m[n].Round(100*time.Microsecond).String()
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// rateMeter turns a growing count into a rate over the last few seconds.
type rateMeter struct {
	mu   sync.Mutex
	seen []struct {
		at time.Time
		n  int64
	}
}

const rateWindow = 5 * time.Second

func (r *rateMeter) per(now time.Time, n int64) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.seen) > 1 && now.Sub(r.seen[1].at) >= rateWindow {
		r.seen = r.seen[1:]
	}
	if len(r.seen) == 0 || now.Sub(r.seen[len(r.seen)-1].at) >= rateWindow/10 {
		r.seen = append(r.seen, struct {
			at time.Time
			n  int64
		}{now, n})
	}
	first := r.seen[0]
	if d := now.Sub(first.at).Seconds(); d > 0 {
		return float64(n-first.n) / d
	}
	return 0
}

// byteText prints a size for people.
func byteText(n int64) string {
	const unit = 1024
	v, u := float64(n), 0
	for v >= unit && u < 4 {
		v, u = v/unit, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, []string{"KiB", "MiB", "GiB", "TiB"}[u-1])
}
