package past

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// Rows is the rows with From[p] <= _kafka_offset < To[p] of each partition p. A partition that is absent in From
// is taken from its start; one that is absent in a To which is not nil gives nothing. Rows without ledger values
// belong to no range that bounds anything.
type Rows struct{ From, To offset.Vector }

func (r Rows) All() bool { return r.From == nil && r.To == nil }

func (r Rows) lower(p int32) int64 { return r.From[p] } // no offset is negative

func (r Rows) upper(p int32) int64 {
	if r.To == nil {
		return math.MaxInt64
	}
	return r.To[p]
}

func (r Rows) Holds(p int32, at int64) bool { return at >= r.lower(p) && at < r.upper(p) }

// None reports that no row can be in the range.
func (r Rows) None() bool {
	if r.To == nil {
		return false
	}
	for p := range r.To {
		if r.lower(p) < r.upper(p) {
			return false
		}
	}
	return true
}

// Below is r cut once more; nil cuts nothing.
func (r Rows) Below(v offset.Vector) Rows {
	if v == nil {
		return r
	}
	if r.To == nil {
		r.To = v
		return r
	}
	to := offset.Vector{}
	for p, at := range r.To {
		if b, known := v[p]; known {
			to[p] = min(at, b)
		}
	}
	r.To = to
	return r
}

// Bounds is what a manifest says of a file's ledger columns.
type Bounds struct {
	known           bool
	firstP, lastP   int32
	firstAt, lastAt int64
	nulls           bool // perhaps rows without ledger values
	none            bool // no row has them
}

// Last is an offset that no row of the file exceeds: that of its greatest as far as statistics tell it, -1 where no row has one.
func (b Bounds) Last() int64 {
	switch {
	case b.none:
		return -1
	case !b.known:
		return math.MaxInt64
	}
	return b.lastAt
}

// LedgerColumns are the field ids of the columns that ranges are about; ok is false for a table that Firn does not
// ingest into.
func LedgerColumns(sc *iceberg.Schema) (partition, offs int, ok bool) {
	p, okP := sc.FindFieldByName(ledger.ColPartition)
	o, okO := sc.FindFieldByName(ledger.ColOffset)
	return p.ID, o.ID, okP && okO
}

func BoundsOf(df iceberg.DataFile, partition, offs int) Bounds {
	b := Bounds{}
	if n, ok := df.NullValueCounts()[offs]; df.Count() == 0 || ok && n == df.Count() {
		b.none = true
		return b
	}
	lo, up := df.LowerBoundValues(), df.UpperBoundValues()
	p0, ok0 := intBound(lo[partition])
	p1, ok1 := intBound(up[partition])
	o0, ok2 := intBound(lo[offs])
	o1, ok3 := intBound(up[offs])
	if !ok0 || !ok1 || !ok2 || !ok3 || p0 < math.MinInt32 || p1 > math.MaxInt32 || p0 > p1 || o0 > o1 {
		return b
	}
	b.known, b.firstP, b.lastP, b.firstAt, b.lastAt = true, int32(p0), int32(p1), o0, o1
	nulls := df.NullValueCounts()
	np, okP := nulls[partition]
	no, okO := nulls[offs]
	b.nulls = !okP || !okO || np > 0 || no > 0
	return b
}

// intBound reads an int or a long (Iceberg spec, "Binary single-value serialization").
func intBound(b []byte) (int64, bool) {
	switch len(b) {
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(b))), true
	case 8:
		return int64(binary.LittleEndian.Uint64(b)), true
	}
	return 0, false
}

// MayHold reports whether a file with these bounds can hold a row of the range. It errs on the side of yes.
func (r Rows) MayHold(b Bounds) bool {
	switch {
	case r.All():
		return true
	case b.none:
		return false
	case !b.known:
		return true
	}
	overlaps := func(p int32) bool {
		return max(b.firstAt, r.lower(p)) < r.upper(p) && b.lastAt >= r.lower(p)
	}
	if r.To != nil {
		for p := range r.To {
			if p >= b.firstP && p <= b.lastP && overlaps(p) {
				return true
			}
		}
		return false
	}
	named := int64(0)
	for p := range r.From {
		if p < b.firstP || p > b.lastP {
			continue
		}
		if overlaps(p) {
			return true
		}
		named++
	}
	return int64(b.lastP)-int64(b.firstP)+1 > named // a partition that From does not name
}

// maxWholePartitions bounds the loop over a file's partitions.
const maxWholePartitions = 4096

// HoldsAll reports whether every row of such a file is in the range. It errs on the side of no.
func (r Rows) HoldsAll(b Bounds) bool {
	if r.All() {
		return true
	}
	if !b.known || b.nulls || int64(b.lastP)-int64(b.firstP) >= maxWholePartitions {
		return false
	}
	for p := b.firstP; ; p++ {
		if b.firstAt < r.lower(p) || b.lastAt >= r.upper(p) {
			return false
		}
		if p == b.lastP {
			return true
		}
	}
}

// Cut returns the rows of b that are in the range, in order. partition and offs are column positions. The result is
// the caller's; nil when there is none.
func (r Rows) Cut(mem memory.Allocator, b arrow.RecordBatch, partition, offs int) (arrow.RecordBatch, error) {
	ps, okP := b.Column(partition).(*array.Int32)
	os, okO := b.Column(offs).(*array.Int64)
	if !okP || !okO {
		return nil, fmt.Errorf("columns %s and %s are %s and %s, want int32 and int64", ledger.ColPartition, ledger.ColOffset,
			b.Column(partition).DataType(), b.Column(offs).DataType())
	}
	var runs [][2]int64 // [start, end) of rows that stay
	for i := 0; i < ps.Len(); i++ {
		if ps.IsNull(i) || os.IsNull(i) || !r.Holds(ps.Value(i), os.Value(i)) {
			continue
		}
		runs = extend(runs, int64(i))
	}
	return datafile.TakeRuns(mem, b, runs)
}

// extend adds a position behind all others to runs [start, end).
func extend(runs [][2]int64, at int64) [][2]int64 {
	if n := len(runs); n > 0 && runs[n-1][1] == at {
		runs[n-1][1]++
		return runs
	}
	return append(runs, [2]int64{at, at + 1})
}
