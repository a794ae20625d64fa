package audit

import (
	"fmt"
	"strings"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// offsets is which offsets of each partition were met, and which of them more than once.
type offsets struct {
	of      map[int32]*roaring64.Bitmap
	doubled map[int32]*roaring64.Bitmap
	rows    map[int32]int64
}

func newOffsets() *offsets {
	return &offsets{of: map[int32]*roaring64.Bitmap{}, doubled: map[int32]*roaring64.Bitmap{}, rows: map[int32]int64{}}
}

func bitmapOf(m map[int32]*roaring64.Bitmap, p int32) *roaring64.Bitmap {
	b := m[p]
	if b == nil {
		b = roaring64.New()
		m[p] = b
	}
	return b
}

// add takes n consecutive offsets of a partition.
func (o *offsets) add(p int32, first, n int64) {
	o.rows[p] += n
	b := bitmapOf(o.of, p)
	if n >= 8 { // a run costs one look at the bitmap instead of n
		before := b.GetCardinality()
		if b.IsEmpty() || uint64(first) > b.Maximum() || !b.Intersects(span(first, first+n)) {
			b.AddRange(uint64(first), uint64(first+n))
			if b.GetCardinality() != before+uint64(n) {
				panic("audit: a run overlaps although it was looked for")
			}
			return
		}
	}
	for x := uint64(first); x < uint64(first+n); x++ {
		if !b.CheckedAdd(x) {
			bitmapOf(o.doubled, p).Add(x)
		}
	}
}

func span(from, to int64) *roaring64.Bitmap {
	b := roaring64.New()
	if to > from {
		b.AddRange(uint64(from), uint64(to))
	}
	return b
}

// merge adds another set; what both have is doubled.
func (o *offsets) merge(other *offsets) {
	for p, theirs := range other.of {
		o.rows[p] += other.rows[p]
		ours := o.of[p]
		if ours == nil {
			theirs.RunOptimize()
			o.of[p] = theirs
			continue
		}
		if ours.Intersects(theirs) {
			both := theirs.Clone()
			both.And(ours)
			bitmapOf(o.doubled, p).Or(both)
		}
		ours.Or(theirs)
	}
	for p, d := range other.doubled {
		bitmapOf(o.doubled, p).Or(d)
	}
}

// spans writes the first few runs of a set: "5, 7-9, 12 and 40 more".
func spans(b *roaring64.Bitmap) string {
	const most = 5
	var out []string
	var shown uint64
	for it := b.Iterator(); it.HasNext() && len(out) < most; {
		first := it.Next()
		last := first
		for it.HasNext() && it.PeekNext() == last+1 {
			last = it.Next()
		}
		shown += last - first + 1
		if first == last {
			out = append(out, fmt.Sprint(first))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", first, last))
		}
	}
	text := strings.Join(out, ", ")
	if rest := b.GetCardinality() - shown; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}

// minus returns a without b.
func minus(a, b *roaring64.Bitmap) *roaring64.Bitmap {
	out := a.Clone()
	if b != nil {
		out.AndNot(b)
	}
	return out
}

func both(a, b *roaring64.Bitmap) *roaring64.Bitmap {
	if a == nil || b == nil {
		return roaring64.New()
	}
	out := a.Clone()
	out.And(b)
	return out
}
