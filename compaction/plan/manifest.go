package plan

import (
	"cmp"
	"slices"
)

// Manifest is a manifest of data files in the head's list.
type Manifest struct {
	Path     string
	Spec     int
	Files    int   // live entries
	Bytes    int64 // encoded
	Sequence int64 // of the snapshot that added it
}

// Manifests is the policy for manifests. All fields must be positive.
type Manifests struct {
	TargetBytes int64 // manifests of at least half of it are left alone
	Fanout      int
	Max         int // more than this many small ones are merged whatever their tiers
}

// Merges plans which manifests become one, by tiers of their entries. Each merge has at least two manifests, of one spec.
func Merges(p Manifests, ms []Manifest) [][]Manifest {
	specs := map[int][]Manifest{}
	small := 0
	for _, m := range ms {
		if m.Bytes < p.TargetBytes/2 {
			specs[m.Spec] = append(specs[m.Spec], m)
			small++
		}
	}
	var ids []int
	for id := range specs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var out [][]Manifest
	for _, id := range ids {
		g := specs[id]
		slices.SortFunc(g, func(a, b Manifest) int {
			return cmp.Or(cmp.Compare(a.Files, b.Files), cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Path, b.Path))
		})
		n := p.rising(g)
		if small > p.Max {
			n = max(n, len(g)/2+1) // the smaller half: its entries cost the least to move
		}
		out = append(out, p.cut(g[:n])...)
	}
	return out
}

// rising is how many of g, sorted by entries, make a manifest of a higher tier than each of them.
func (p Manifests) rising(g []Manifest) int {
	sum := int64(0)
	sums := make([]int64, len(g))
	for i, m := range g {
		sum += weight(int64(m.Files))
		sums[i] = sum
	}
	for n := len(g); n >= p.Fanout; n-- {
		top := tier(int64(g[n-1].Files), p.Fanout)
		if n < len(g) && tier(int64(g[n].Files), p.Fanout) == top {
			continue
		}
		if tier(sums[n-1], p.Fanout) > top {
			return n
		}
	}
	return 0
}

// cut splits manifests into merges of at most TargetBytes, oldest first, so that entries of one time stay together.
func (p Manifests) cut(g []Manifest) [][]Manifest {
	g = slices.Clone(g)
	slices.SortFunc(g, func(a, b Manifest) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Path, b.Path))
	})
	var out [][]Manifest
	var one []Manifest
	var bytes int64
	flush := func() {
		if len(one) > 1 {
			out = append(out, one)
		}
		one, bytes = nil, 0
	}
	for _, m := range g {
		if bytes+m.Bytes > p.TargetBytes {
			flush()
		}
		one = append(one, m)
		bytes += m.Bytes
	}
	flush()
	return out
}
