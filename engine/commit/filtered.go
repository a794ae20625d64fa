package commit

import (
	"maps"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// filtered is what a filter kept out, by partition. Offsets that it kept out are neither rows nor dead letters, so the
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

// filteredOf is what was carried, and what the batch adds. A record that is a dead letter already stays one, as in
// withoutSticky: it is not counted here.
func (c *Committer) filteredOf(b *engine.Batch) filtered {
	if len(b.Filtered) == 0 {
		return c.carriedOut
	}
	own := filtered{}
	for _, f := range b.Filtered {
		sum := own[f.Partition]
		for _, o := range f.Offsets {
			if !c.sticky.has(f.Partition, o, 0) {
				sum.Add(o)
			}
		}
		if sum.Count > 0 {
			own[f.Partition] = sum
		}
	}
	return c.carriedOut.plus(own)
}

// filteredBelow is what goes on to hold after a person's decision where to read on: nothing of another topic, and nothing of a
// partition that goes back, because its offsets are filtered once more.
func filteredBelow(base ledger.Record, to offset.Vector, topic engine.Topic) map[int32]ledger.Filtered {
	if KnownID(topic.TopicID) && KnownID(base.TopicID) && topic.TopicID != base.TopicID {
		return nil
	}
	out := map[int32]ledger.Filtered{}
	for p, f := range base.Filtered {
		if at, ok := to[p]; ok && at >= base.Offsets[p] {
			out[p] = f
		}
	}
	return out
}
