package offset

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrNotContiguous reports a range that does not start where its partition's vector stands.
var ErrNotContiguous = errors.New("offset range is not contiguous with the vector")

// Range is what one batch moved in one partition: offsets Start (inclusive) to End (exclusive).
// Gaps inside it are normal (compaction, transaction markers, aborted records): the range says which
// offsets are dealt with, not how many rows they gave.
type Range struct {
	Partition   int32
	Start, End  int64
	LeaderEpoch int32 // of the last record batch read; -1 when the broker gave none
}

// Vector maps a partition to the next offset that is to be consumed from it.
// A partition that is absent has not been read yet; absent is never the same as zero.
type Vector map[int32]int64

// Clone returns a copy that shares nothing with v. The clone of nil is an empty vector.
func (v Vector) Clone() Vector {
	c := make(Vector, len(v))
	maps.Copy(c, v)
	return c
}

// Equal reports whether both vectors know the same partitions at the same offsets.
func (v Vector) Equal(o Vector) bool { return maps.Equal(v, o) }

// Lower brings v down to o, partition by partition: of those that both know it keeps the lower offset, and it takes in the others.
func (v Vector) Lower(o Vector) {
	for p, at := range o {
		if have, ok := v[p]; !ok || at < have {
			v[p] = at
		}
	}
}

// Partitions returns the partitions of v in ascending order.
func (v Vector) Partitions() []int32 { return slices.Sorted(maps.Keys(v)) }

// Advance returns v moved over the ranges. Each range must start exactly where its partition stands;
// a partition that v does not know yet may start anywhere. v itself is not changed.
func (v Vector) Advance(ranges []Range) (Vector, error) {
	n := v.Clone()
	for _, r := range ranges {
		at, known := n[r.Partition]
		if r.Start < 0 || r.End < r.Start || (known && at != r.Start) {
			return nil, fmt.Errorf("%w: partition %d stands at %d, range is [%d,%d)",
				ErrNotContiguous, r.Partition, at, r.Start, r.End)
		}
		n[r.Partition] = r.End
	}
	return n, nil
}

// Merge joins ranges of the same partition that touch, in the order given, and returns them sorted by
// partition. Ranges of one partition that do not touch give ErrNotContiguous.
func Merge(ranges []Range) ([]Range, error) {
	byPartition := map[int32]Range{}
	for _, r := range ranges {
		m, ok := byPartition[r.Partition]
		if !ok {
			byPartition[r.Partition] = r
			continue
		}
		if m.End != r.Start {
			return nil, fmt.Errorf("%w: partition %d has [%d,%d) and then [%d,%d)",
				ErrNotContiguous, r.Partition, m.Start, m.End, r.Start, r.End)
		}
		m.End, m.LeaderEpoch = r.End, r.LeaderEpoch
		byPartition[r.Partition] = m
	}
	out := make([]Range, 0, len(byPartition))
	for _, p := range slices.Sorted(maps.Keys(byPartition)) {
		out = append(out, byPartition[p])
	}
	return out, nil
}
