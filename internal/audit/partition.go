package audit

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// partition is one partition under audit, with the sets that its figures come from.
type partition struct {
	Partition
	start, vector int64             // [start, vector) has to be accounted for; vector is -1 when there is none
	open          *roaring64.Bitmap // neither row nor dead letter
	gaps          *roaring64.Bitmap // of the open ones, those that the gaps table names; nil without a vector
	rows, dead    *roaring64.Bitmap // never nil
	deleted       *roaring64.Bitmap // in a file, but taken out by delete files, and not there as another row; never nil
	log           *logFindings      // nil when the log was not compared
	claim         claim
}

func orEmpty(b *roaring64.Bitmap) *roaring64.Bitmap {
	if b == nil {
		return roaring64.New()
	}
	return b
}

func (a *auditor) newPartition(id int32, c *chain) *partition {
	p := &partition{Partition: Partition{Partition: id, First: -1, Last: -1, LastRow: -1, Vector: -1}, vector: -1,
		rows: orEmpty(a.rows.of[id]), dead: orEmpty(a.dead.of[id])}
	if v, ok := c.vector[id]; ok {
		p.Vector, p.vector = v, v
	}
	p.Rows, p.Distinct = a.rows.rows[id], a.rows.distinct(id)
	p.Doubled = p.Rows - p.Distinct
	if !p.rows.IsEmpty() {
		p.First, p.Last = int64(p.rows.Minimum()), int64(p.rows.Maximum())
	}
	if c.record != nil {
		if at, ok := c.record.LastRow[id]; ok {
			p.LastRow = at
		}
		p.claim = claimOf(c.record, id)
	}
	p.deleted = orEmpty(a.rowsGone.of[id]).Clone()
	p.deleted.Or(orEmpty(a.deadGone.of[id]))
	p.deleted.AndNot(p.rows) // an update takes out a row and adds another of the offset
	p.deleted.AndNot(p.dead)
	p.Deleted = int64(p.deleted.GetCardinality())
	p.start = p.begin(c)
	if p.vector < 0 {
		p.open = roaring64.New()
		return p
	}
	known := span(p.start, p.vector)
	early := both(p.dead, known)
	p.DeadAbove = int64(p.dead.GetCardinality() - early.GetCardinality())
	p.dead = early
	p.DeadLetters = int64(both(p.dead, a.dead.wholeOf(id)).GetCardinality() + linesBelow(a.dead.lines[id], p.vector).GetCardinality())
	known.AndNot(p.rows)
	known.AndNot(p.dead)
	known.AndNot(p.deleted)
	p.open = known
	p.gaps = roaring64.New()
	for _, g := range a.opt.Gaps {
		if g.Partition == id {
			p.gaps.Or(both(p.open, span(g.First, g.Next)))
		}
	}
	p.Gaps = int64(p.gaps.GetCardinality())
	p.Unexplained = int64(p.open.GetCardinality()) - p.Gaps
	return p
}

// begin is the first offset that has to be accounted for: where ingest began, as far as the summaries still tell, else
// the first offset that the tables hold.
func (p *partition) begin(c *chain) int64 {
	at := p.vector
	for _, b := range []*roaring64.Bitmap{p.rows, p.dead} {
		if !b.IsEmpty() && (at < 0 || int64(b.Minimum()) < at) {
			at = int64(b.Minimum())
		}
	}
	if o, ok := c.origin[p.Partition.Partition]; ok && (at < 0 || o < at) {
		at = o
	}
	if p.claim.Count > 0 && p.claim.First < at {
		at = p.claim.First
	}
	return at
}

// judge turns what was found in the partitions into problems.
func (a *auditor) judge(parts []*partition) {
	for _, p := range parts {
		a.judgeVector(p)
		if d := a.dead.doubled[p.Partition.Partition]; d != nil {
			a.partitionProblem(p, KindDeadDoubled, d, "dead letters are there more than once")
		}
		over, redriven := a.overlap(p)
		p.Redriven = int64(redriven.GetCardinality())
		if !over.IsEmpty() {
			p.DeadRows = int64(over.GetCardinality())
			a.partitionProblem(p, KindDeadOverlap, over, "offsets are a row and a dead letter: a record is one of the two")
		}
		a.judgeLines(p)
		a.judgeGaps(p)
		a.report.Partitions = append(a.report.Partitions, p.Partition)
	}
}

// overlap gives the offsets where a row and a dead letter are of the same event, without those that were redriven, and those.
// A record as a whole is the same as any line of it.
func (a *auditor) overlap(p *partition) (over, redriven *roaring64.Bitmap) {
	id := p.Partition.Partition
	rowLines, deadLines := a.rows.lines[id], linesBelow(a.dead.lines[id], p.vector)
	whole := both(both(a.dead.wholeOf(id), p.dead), p.rows)
	wholeBack := both(whole, a.redriven.wholeOf(id))
	lines := both(rowLines, deadLines)
	linesBack := both(lines, a.redriven.lines[id])
	over, redriven = minus(whole, wholeBack), wholeBack
	over.Or(offsetsOf(minus(lines, linesBack)))
	over.Or(both(a.rows.wholeOf(id), offsetsOf(deadLines)))
	redriven.Or(offsetsOf(linesBack))
	return over, redriven
}

// judgeLines looks for records of which some lines are there and some are not.
func (a *auditor) judgeLines(p *partition) {
	id := p.Partition.Partition
	if a.rows.lines[id] == nil && a.dead.lines[id] == nil {
		return
	}
	all := orEmpty(a.rows.lines[id]).Clone()
	for _, set := range []*offsets{a.dead, a.rowsGone, a.deadGone} {
		all.Or(orEmpty(set.lines[id]))
	}
	if t := minus(torn(all), a.dead.wholeOf(id)); !t.IsEmpty() {
		p.Missing += int64(t.GetCardinality())
		a.partitionProblem(p, KindMissing, t, "records are not whole: lines of them are neither row nor dead letter, and others are")
	}
}

func (a *auditor) partitionProblem(p *partition, kind Kind, which *roaring64.Bitmap, format string, args ...any) {
	id := p.Partition.Partition
	a.report.problem(Problem{Kind: kind, Partition: &id, Count: int64(which.GetCardinality()), Offsets: spans(which), Message: fmt.Sprintf(format, args...)})
}

// judgeVector holds the head's record against the rows.
func (a *auditor) judgeVector(p *partition) {
	if p.vector < 0 {
		if p.Rows > 0 && !a.report.has(KindNoRecord) {
			a.partitionProblem(p, KindVector, p.rows, "the head's record does not know the partition: its rows will be doubled")
		}
		return
	}
	// From the vector on, not a complement from 0 on: offsets may be large where rows are few.
	if above := both(p.rows, span(p.vector, p.Last+1)); !above.IsEmpty() {
		a.partitionProblem(p, KindVector, above, "rows stand at or above the vector's %d: they will be doubled", p.vector)
	}
	id := p.Partition.Partition
	last := p.Last
	if !p.deleted.IsEmpty() {
		last = max(last, int64(p.deleted.Maximum()))
	}
	switch {
	case p.LastRow > last:
		a.report.problem(Problem{Kind: KindVector, Partition: &id, Message: fmt.Sprintf("the record says that the last row is offset %d, the last that is there is %d: rows were taken out or lost", p.LastRow, p.Last)})
	case p.LastRow < p.Last && p.Last < p.vector:
		a.report.problem(Problem{Kind: KindVector, Partition: &id, Message: fmt.Sprintf("the record says that the last row is offset %d, but there is a row at %d", p.LastRow, p.Last)})
	}
}

func (a *auditor) judgeGaps(p *partition) {
	open := p.open
	if p.gaps != nil && !p.gaps.IsEmpty() {
		a.partitionProblem(p, KindRetentionGap, p.gaps, "kafka had dropped these before they were read: the gaps table names them (on_gap: record)")
		open = minus(open, p.gaps)
	}
	open, told := a.judgeFiltered(p, open)
	if l := p.log; l != nil {
		open = minus(open, l.covered)
		p.Control, p.Aborted, p.Compacted = l.control, l.aborted, l.compacted
		p.Phantom, p.CompactedRows = l.phantomRows, l.compactedRows
		p.Compared = l.compared
		p.Unexplained = int64(open.GetCardinality()) + told
		if !l.missing.IsEmpty() {
			p.Missing += int64(l.missing.GetCardinality())
			a.partitionProblem(p, KindMissing, l.missing, "the log has records that are neither row nor dead letter: they were lost")
		}
		if l.phantomRows > 0 {
			a.partitionProblem(p, KindPhantom, l.phantoms, "rows or dead letters at offsets where the log has no record that can be read: markers, aborted records, or another log's")
		}
		if !open.IsEmpty() {
			a.partitionProblem(p, KindUnexplained, open, "neither row nor dead letter, and kafka no longer holds them: a marker, an aborted record or a lost one, which nothing can tell any more")
		}
		return
	}
	p.Unexplained = int64(open.GetCardinality()) + told
	if !open.IsEmpty() {
		a.partitionProblem(p, KindUnexplained, open, "neither row nor dead letter; unknown: control, aborted, compacted or lost (run with --kafka)")
	}
}
