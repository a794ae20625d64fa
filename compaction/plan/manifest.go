package plan

import (
	"cmp"
	"maps"
	"slices"
)

// Manifest is a manifest of data files in the head's list.
type Manifest struct {
	Path     string
	Spec     int
	Files    int   // live entries
	Bytes    int64 // encoded
	Sequence int64 // of the snapshot that added it
	// Apart: it holds none but files that are left alone. Such manifests are not merged with others, which are written
	// again whenever files of theirs are merged.
	Apart bool
}

// Manifests is the policy for manifests. All fields must be positive.
type Manifests struct {
	// TargetBytes and TargetEntries bound a merged manifest. One that has reached half of either is settled: left alone.
	TargetBytes   int64
	TargetEntries int
	Fanout        int
	Max           int // more manifests than this are merged whatever their tiers
}

// A table whose files are never merged would fill ever more manifests of the target size. So the targets double, up to
// 2^maxDoublings, while the entries would fill more than Max/settledShare manifests: each doubling moves an entry once more.
const (
	settledShare = 4
	maxDoublings = 4
)

// For is the policy with the targets that the manifests need.
func (p Manifests) For(ms []Manifest) Manifests {
	var bytes, files int64
	for _, m := range ms {
		bytes, files = bytes+m.Bytes, files+int64(m.Files)
	}
	full := int64(max(p.Max/settledShare, 1))
	for range maxDoublings {
		if bytes <= full*p.TargetBytes && files <= full*int64(p.TargetEntries) {
			break
		}
		p.TargetBytes, p.TargetEntries = 2*p.TargetBytes, 2*p.TargetEntries
	}
	return p
}

// Settled tells whether a manifest is large enough to be left alone.
func (p Manifests) Settled(m Manifest) bool {
	return m.Bytes >= p.TargetBytes/2 || m.Files >= p.TargetEntries/2
}

// Merges plans which manifests become one, by tiers of their entries. Each merge has at least two manifests, of one spec.
func Merges(p Manifests, ms []Manifest) [][]Manifest {
	p = p.For(ms)
	type kind struct {
		spec  int
		apart bool
	}
	kinds := map[kind][]Manifest{}
	for _, m := range ms {
		if !p.Settled(m) {
			k := kind{m.Spec, m.Apart}
			kinds[k] = append(kinds[k], m)
		}
	}
	var out [][]Manifest
	for _, k := range slices.SortedFunc(maps.Keys(kinds), func(a, b kind) int {
		if c := cmp.Compare(a.spec, b.spec); c != 0 || a.apart == b.apart {
			return c
		}
		if a.apart {
			return 1
		}
		return -1
	}) {
		g := kinds[k]
		slices.SortFunc(g, func(a, b Manifest) int {
			return cmp.Or(cmp.Compare(a.Files, b.Files), cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Path, b.Path))
		})
		n := p.rising(g)
		if len(ms) > p.Max {
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

// cut splits manifests into merges within the targets, oldest first, so that entries of one time stay together.
func (p Manifests) cut(g []Manifest) [][]Manifest {
	g = slices.Clone(g)
	slices.SortFunc(g, func(a, b Manifest) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Path, b.Path))
	})
	var out [][]Manifest
	var one []Manifest
	var bytes int64
	var files int
	flush := func() {
		if len(one) > 1 {
			out = append(out, one)
		}
		one, bytes, files = nil, 0, 0
	}
	for _, m := range g {
		if bytes+m.Bytes > p.TargetBytes || files+m.Files > p.TargetEntries {
			flush()
		}
		one = append(one, m)
		bytes, files = bytes+m.Bytes, files+m.Files
	}
	flush()
	return out
}
