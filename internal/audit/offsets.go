package audit

import (
	"fmt"
	"strings"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// offsets is which offsets of each partition were met, and which of them more than once. Of records with many events the lines
// are told apart: until close, of holds whole records alone.
type offsets struct {
	of      map[int32]*roaring64.Bitmap
	doubled map[int32]*roaring64.Bitmap
	rows    map[int32]int64
	lines   map[int32]*roaring64.Bitmap // offset<<lineBits + line-1
	single  map[int32]*roaring64.Bitmap // of, as it was without lines; only of partitions with lines
}

const (
	lineBits       = 20 // ten times what the decoder takes of one record
	maxLine        = 1 << lineBits
	maxLinedOffset = 1<<(63-lineBits) - 1
)

func newOffsets() *offsets {
	return &offsets{of: map[int32]*roaring64.Bitmap{}, doubled: map[int32]*roaring64.Bitmap{}, rows: map[int32]int64{},
		lines: map[int32]*roaring64.Bitmap{}, single: map[int32]*roaring64.Bitmap{}}
}

// addRow takes what a file holds: n consecutive whole records, or one line of a record.
func (o *offsets) addRow(p int32, first, n int64, line int32) {
	if line == 0 {
		o.add(p, first, n)
		return
	}
	o.rows[p]++
	if !bitmapOf(o.lines, p).CheckedAdd(uint64(first)<<lineBits | uint64(line-1)) {
		bitmapOf(o.doubled, p).Add(uint64(first))
	}
}

// close brings the offsets of lines to those of whole records. An offset that has both is doubled.
func (o *offsets) close() {
	for p, lines := range o.lines {
		whole := bitmapOf(o.of, p)
		o.single[p] = whole.Clone()
		at := offsetsOf(lines)
		if whole.Intersects(at) {
			bitmapOf(o.doubled, p).Or(both(whole, at))
		}
		whole.Or(at)
	}
}

// wholeOf is the offsets of records that are there as a whole.
func (o *offsets) wholeOf(p int32) *roaring64.Bitmap {
	if b := o.single[p]; b != nil {
		return b
	}
	return orEmpty(o.of[p])
}

// distinct is how many different rows there are.
func (o *offsets) distinct(p int32) int64 {
	return int64(o.wholeOf(p).GetCardinality() + orEmpty(o.lines[p]).GetCardinality())
}

// offsetsOf are the offsets that the lines are of.
func offsetsOf(lines *roaring64.Bitmap) *roaring64.Bitmap {
	out := roaring64.New()
	if lines == nil {
		return out
	}
	last := ^uint64(0)
	for it := lines.Iterator(); it.HasNext(); {
		if at := it.Next() >> lineBits; at != last {
			out.Add(at)
			last = at
		}
	}
	return out
}

// linesBelow are the lines of records below an offset; all where there is none (-1).
func linesBelow(lines *roaring64.Bitmap, below int64) *roaring64.Bitmap {
	if lines == nil || below < 0 {
		return orEmpty(lines)
	}
	out := roaring64.New()
	for it := lines.Iterator(); it.HasNext(); {
		x := it.Next()
		if x>>lineBits >= uint64(below) {
			break
		}
		out.Add(x)
	}
	return out
}

// torn are the offsets of records of which a line is missing: lines are numbered without a gap.
func torn(lines *roaring64.Bitmap) *roaring64.Bitmap {
	out := roaring64.New()
	at, next := ^uint64(0), uint64(0)
	for it := lines.Iterator(); it.HasNext(); next++ {
		x := it.Next()
		if x>>lineBits != at {
			at, next = x>>lineBits, 0
		}
		if x&(maxLine-1) != next {
			out.Add(at)
			next = x & (maxLine - 1)
		}
	}
	return out
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
	for p, n := range other.rows {
		o.rows[p] += n
	}
	for p, theirs := range other.of {
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
	for p, theirs := range other.lines {
		ours := bitmapOf(o.lines, p)
		if twice := both(ours, theirs); !twice.IsEmpty() {
			bitmapOf(o.doubled, p).Or(offsetsOf(twice))
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
