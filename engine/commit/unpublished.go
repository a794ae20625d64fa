package commit

import (
	"maps"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// lettersBelow is per partition the first dead letter between V and next: those of the batch, and those that the table had
// before it and that V comes to with it.
func (c *Committer) lettersBelow(next offset.Vector, dead []engine.Dead) offset.Vector {
	first := offset.Vector{}
	for i := range dead {
		first.Lower(offset.Vector{dead[i].Partition: dead[i].Offset})
	}
	for p, held := range c.sticky {
		for at := range held {
			if at.offset < next[p] {
				first.Lower(offset.Vector{p: at.offset})
			}
		}
	}
	return first
}

// unpublished is what the snapshot of t notes of dead letters that may not be in their topic: what the publisher has not done
// yet, and those that come with t. What is published while t is on its way is noted with the next.
func (c *Committer) unpublished(t *try) offset.Vector {
	if c.cfg.Unpublished == nil {
		return nil
	}
	v := c.cfg.Unpublished().Clone()
	v.Lower(t.letters)
	return below(v, t.next)
}

// publishedSince tells that dead letters were published of which the last snapshot says that they may not be.
func (c *Committer) publishedSince() bool {
	noted := c.pos.record.Unpublished
	return c.cfg.Unpublished != nil && len(noted) > 0 && !c.cfg.Unpublished().Equal(noted)
}

// recoveredUnpublished is what a new generation has to publish. Where only the catalog's history knew V there is no record of
// it, and that of the last dead letters says enough: what was unpublished since was so then. It is heard as well where a person said
// where to read on: the record that was gone by then may have noted what that of the person does not. Where the dead letters' own
// record is gone, too, all of them are published again.
func (c *Committer) recoveredUnpublished() offset.Vector {
	if c.cfg.Unpublished == nil {
		return nil
	}
	v := c.pos.record.Unpublished.Clone()
	if c.pos.record.BatchID != "" && !ofAPerson(c.pos.record) {
		return below(v, c.pos.offsets())
	}
	v.Lower(c.deadRec.Unpublished)
	if c.dead.head.Snapshot != nil && c.deadRec.BatchID == "" {
		for p := range c.pos.offsets() {
			v.Lower(offset.Vector{p: 0})
		}
	}
	return below(v, c.pos.offsets())
}

// ofAPerson tells that a record is of firn rewind or firn offsets resolve, or may be: a compaction since carries the record on under
// a kind of its own. Only a commit that published and did nothing else has no ranges either.
func ofAPerson(r ledger.Record) bool {
	return r.Kind == ledger.KindRewind || r.Kind == ledger.KindCompact && len(r.Ranges) == 0
}

// unpublishedBelow is what goes on to hold after a person's decision where to read on. Dead letters from there on are
// published when V comes to them again.
func unpublishedBelow(base ledger.Record, to offset.Vector, sameTopic func(partition int32) bool) offset.Vector {
	v := below(base.Unpublished.Clone(), to)
	maps.DeleteFunc(v, func(p int32, _ int64) bool { return !sameTopic(p) })
	return v
}

// below leaves of v what lies below end.
func below(v, end offset.Vector) offset.Vector {
	maps.DeleteFunc(v, func(p int32, at int64) bool { return at >= end[p] })
	return v
}
