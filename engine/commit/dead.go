package commit

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// input is what of a batch is to be written.
type input struct {
	rows  []arrow.RecordBatch
	owned []arrow.RecordBatch // of rows, those that were cut here
	dead  []engine.Dead
	last  offset.Vector // last offset that gave a row
}

func (in input) release() {
	for _, r := range in.owned {
		r.Release()
	}
}

// withoutSticky leaves out the records that the dead-letter table holds already, and of records with many events the lines:
// such a one is a dead letter and stays one, also when it now would give a row, so that it is in exactly one of the two tables.
func (c *Committer) withoutSticky(b *engine.Batch) input {
	in := input{dead: b.Dead, last: b.LastRow}
	for _, r := range b.Rows {
		if r.NumRows() > 0 {
			in.rows = append(in.rows, r)
		}
	}
	if len(c.sticky) == 0 {
		return in
	}
	left := 0
	in.dead = nil
	for _, d := range b.Dead {
		if c.sticky.has(d.Partition, d.Offset, d.Line) {
			left++
			continue
		}
		in.dead = append(in.dead, d)
	}
	whole := in.rows
	in.rows, in.last = nil, offset.Vector{}
	for _, r := range whole {
		left += c.cutSticky(r, &in)
	}
	c.m.sticky.WithLabelValues(c.cfg.Pipeline).Add(float64(left))
	return in
}

// cutSticky adds r without its sticky rows and returns how many those were.
func (c *Committer) cutSticky(r arrow.RecordBatch, in *input) int {
	p, o, ok := ledgerColumns(r)
	if !ok {
		in.rows = append(in.rows, r)
		return 0
	}
	lines := engine.LinesOf(r)
	left, from := 0, 0
	n := int(r.NumRows())
	keep := func(to int) {
		if to == from {
			return
		}
		at := o.Value(to - 1)
		if have, ok := in.last[p.Value(to-1)]; !ok || at > have {
			in.last[p.Value(to-1)] = at
		}
		if from == 0 && to == n {
			in.rows = append(in.rows, r)
			return
		}
		part := r.NewSlice(int64(from), int64(to))
		in.rows, in.owned = append(in.rows, part), append(in.owned, part)
	}
	for i := range n {
		if c.sticky.has(p.Value(i), o.Value(i), lines.At(i)) {
			keep(i)
			left++
			from = i + 1
		}
	}
	keep(n)
	return left
}

// deadRecord is what the snapshot of the dead letters carries: the vector up to which all dead letters are in the
// table. It never falls, also when the rows were set back, because what it covers is still there.
func (c *Committer) deadRecord(t *try, dead []engine.Dead) ledger.Record {
	r := ledger.Record{Kind: ledger.KindIngest, Pipeline: c.cfg.Pipeline, BatchID: t.batch, Epoch: t.main.record.Epoch,
		ClusterID: t.main.record.ClusterID, TopicID: t.main.record.TopicID, Topics: t.main.record.Topics, Offsets: c.deadRec.Offsets.Clone(), LastRow: c.deadRec.LastRow.Clone(),
		Unpublished: t.main.record.Unpublished, Prev: c.deadAt, TraceID: t.main.record.TraceID}
	moved := map[int32]offset.Range{}
	for _, g := range t.ranges {
		moved[g.Partition] = g
	}
	for _, p := range t.next.Partitions() {
		end := t.next[p]
		start, known := c.deadRec.Offsets[p]
		if known && start >= end {
			continue
		}
		g, now := moved[p]
		switch {
		case known: // the batches in between had no dead letters
			g = offset.Range{Partition: p, Start: start, End: end, LeaderEpoch: g.LeaderEpoch}
			if !now {
				g.LeaderEpoch = -1
			}
		case !now: // of what lies before, nothing is claimed
			g = offset.Range{Partition: p, Start: end, End: end, LeaderEpoch: -1}
		}
		r.Offsets[p] = end
		r.Ranges = append(r.Ranges, g)
	}
	for _, d := range dead {
		if at, ok := r.LastRow[d.Partition]; !ok || d.Offset > at {
			r.LastRow[d.Partition] = d.Offset
		}
	}
	return r
}
