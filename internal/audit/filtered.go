package audit

import (
	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/firnlake/firn/internal/ledger"
)

// judgeFiltered explains offsets by the filter of the pipeline's transform and by its deduplication. The head's record says how many
// they left out and gives a digest of them: if the offsets that are neither row nor dead letter have just that count and digest, they are
// those, and none of them was lost. It returns what of the open offsets is left to explain, and how many it has told of as
// unexplained. Which offsets were left out
// cannot be told apart from others, so a set that does not match is reported as a whole.
func (a *auditor) judgeFiltered(p *partition, open *roaring64.Bitmap) (rest *roaring64.Bitmap, told int64) {
	if p.claim.Count == 0 {
		return open, 0
	}
	if p.claim.is(open) {
		if p.log != nil {
			p.log.missing = minus(p.log.missing, open)
		}
		return p.filtered(open), 0
	}
	l := p.log
	if l == nil {
		a.partitionProblem(p, KindUnexplained, open, "neither row nor dead letter, and the pipeline's record says that %s left %d out: the others are control, aborted, compacted or lost (run with --kafka)", p.claim.who(), p.claim.Count)
		return roaring64.New(), int64(open.GetCardinality())
	}
	gone := minus(open, l.covered)
	rest = gone.Clone()
	rest.Or(l.missing)
	n := int64(rest.GetCardinality())
	switch {
	case p.claim.is(rest):
		p.filtered(rest)
		l.missing = roaring64.New()
		return minus(open, rest), 0
	case int64(l.missing.GetCardinality()) <= p.claim.Count && (!gone.IsEmpty() || l.compacted > 0):
		a.partitionProblem(p, KindUnexplained, rest, "neither row nor dead letter, and the pipeline's record says that %s left %d out; kafka no longer holds all of them, so that a lost one would not be told apart", p.claim.who(), p.claim.Count)
		l.missing = roaring64.New()
		return roaring64.New(), n
	case n == 0:
		a.problemOf(p, KindFiltered, "the pipeline's record says that %s left %d offsets out, and each record of the log is a row or a dead letter", p.claim.who(), p.claim.Count)
		return open, 0
	}
	a.partitionProblem(p, KindMissing, rest, "the log has records that are neither row nor dead letter, and they are not the %d that %s left out by the pipeline's record: some were lost", p.claim.Count, p.claim.who())
	p.Missing += n // torn records are among the missing already
	l.missing = roaring64.New()
	return minus(open, rest), 0
}

// filtered takes offsets as explained.
func (p *partition) filtered(which *roaring64.Bitmap) *roaring64.Bitmap {
	p.Filtered, p.Duplicates = int64(which.GetCardinality())-p.claim.duplicates, p.claim.duplicates
	return roaring64.New()
}

// claim is what the head's record says that was left out: by a filter, and of these by deduplication.
type claim struct {
	ledger.Filtered
	duplicates int64
}

func claimOf(r *ledger.Record, partition int32) claim {
	d := r.Duplicates[partition]
	return claim{r.Filtered[partition].Plus(d), d.Count}
}

// who names what left the offsets out.
func (c claim) who() string {
	switch c.duplicates {
	case 0:
		return "a filter"
	case c.Count:
		return "deduplication"
	}
	return "a filter and deduplication"
}

// is tells whether a set of offsets is the one that was kept out.
func (c claim) is(set *roaring64.Bitmap) bool {
	if int64(set.GetCardinality()) != c.Count {
		return false
	}
	var digest uint64
	for it := set.Iterator(); it.HasNext(); {
		digest += ledger.Mix(int64(it.Next()))
	}
	return digest == c.Digest
}
