package config

import (
	"slices"
	"strings"
)

// nearest returns the candidate that s most likely meant, or "" when none is near.
func nearest(s string, candidates []string) string {
	best, bestDistance := "", 1+max(2, len(s)/3)
	for _, c := range candidates {
		if c == s {
			continue
		}
		d := distance(strings.ToLower(s), strings.ToLower(c))
		// commitInterval, commit-interval and commitinterval are all commit_interval.
		if fold(s) == fold(c) {
			d = 0
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	// Two short words of the same length can differ in every letter and still be "near".
	if bestDistance >= max(len(s), len(best)) {
		return ""
	}
	return best
}

func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
}

// distance is the number of insertions, deletions, changes and swaps of neighbours between a and b
// (optimal string alignment). Input longer than any key is not compared.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var before, last []int
	current := make([]int, len(b)+1)
	for j := range current {
		current[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, current = last, current, make([]int, len(b)+1)
		current[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			current[j] = min(last[j]+1, current[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
	}
	return current[len(b)]
}

// didYouMean ends a message with the nearest candidate, or with all of them when none is near and they are few.
func didYouMean(s string, candidates []string) string {
	if n := nearest(s, candidates); n != "" {
		return "; did you mean " + n + "?"
	}
	if len(candidates) == 0 || len(candidates) > 24 {
		return ""
	}
	known := slices.Clone(candidates)
	slices.Sort(known)
	return "; known here: " + strings.Join(known, ", ")
}

// oneOf is didYouMean for the few values that a key takes. The nearest of them may be what nobody meant (of stop and record, stop is
// near to skip), so all of them are named.
func oneOf(s string, values []string) string {
	known := slices.Clone(values)
	slices.Sort(known)
	hint := ": " + strings.Join(known, ", ")
	if n := nearest(s, values); n != "" {
		hint += "; did you mean " + n + "?"
	}
	return hint
}

// DidYouMean is didYouMean for names that are no keys: columns, transforms.
func DidYouMean(s string, candidates []string) string { return didYouMean(s, candidates) }
