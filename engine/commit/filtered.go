package commit

import (
	"maps"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// filtered is what a filter kept out, or deduplication dropped, by partition. Such offsets are neither rows nor dead letters, so the
// record of the snapshot that moves V over them says how many they are and, by a digest, which.
type filtered map[int32]ledger.Filtered

// plus is both together, and neither of them.
func (f filtered) plus(g filtered) filtered {
	if len(g) == 0 {
		return f
	}
	out := maps.Clone(f)
	if out == nil {
		out = filtered{}
	}
	for p, more := range g {
		out[p] = out[p].Plus(more)
	}
	return out
}

// leftOut are the offsets of a batch that gave neither row nor dead letter although there was a record.
type leftOut struct {
	filtered   filtered
	duplicates filtered
}

// leftOutOf is what was carried, and what the batch adds.
func (c *Committer) leftOutOf(b *engine.Batch) leftOut {
	return leftOut{filtered: c.carriedOut.filtered.plus(c.sumOf(b.Filtered)), duplicates: c.carriedOut.duplicates.plus(c.sumOf(b.Duplicates))}
}

// sumOf counts offsets. A record that is a dead letter already stays one, as in withoutSticky: it is not counted here.
func (c *Committer) sumOf(fs []engine.Filtered) filtered {
	var own filtered
	for _, f := range fs {
		sum := own[f.Partition]
		for _, o := range f.Offsets {
			if !c.sticky.has(f.Partition, o, 0) {
				sum.Add(o)
			}
		}
		if sum.Count > 0 {
			if own == nil {
				own = filtered{}
			}
			own[f.Partition] = sum
		}
	}
	return own
}

// leftOutBelow is what goes on to hold after a person's decision where to read on: nothing of another topic, and nothing of a
// partition that goes back, because its offsets are judged once more.
func leftOutBelow(base ledger.Record, to offset.Vector, sameTopic func(partition int32) bool) leftOut {
	below := func(was map[int32]ledger.Filtered) filtered {
		out := filtered{}
		for p, f := range was {
			if at, ok := to[p]; ok && at >= base.Offsets[p] && sameTopic(p) {
				out[p] = f
			}
		}
		return out
	}
	return leftOut{filtered: below(base.Filtered), duplicates: below(base.Duplicates)}
}
