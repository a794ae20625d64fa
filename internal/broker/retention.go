package broker

import (
	"cmp"
	"slices"
	"time"
)

// noFloor is a partition that no consumer needs.
const noFloor = int64(-1)

// partitionState is what the plan for one partition rests on.
type partitionState struct {
	topic    string
	id       int32
	end      int64 // high watermark
	floor    int64 // first offset that a consumer still needs; noFloor when there is none
	segments []segment
}

// trim deletes a partition's records below an offset, which is the first of a segment.
type trim struct {
	topic string
	id    int32
	below int64
	bytes int64
}

// plan says what to cut so that the log keeps within keepBytes and keepFor. Pure. Whole segments go, the longest
// untouched first over all partitions; in each partition the last segment and the last record stay (see doc.go), and so
// does everything from the floor on. held is how many bytes beyond keepBytes that leaves.
func plan(parts []partitionState, now time.Time, keepBytes int64, keepFor time.Duration) (trims []trim, held int64) {
	type candidate struct {
		part     int
		next     int64 // first offset of the segment after it
		bytes    int64
		modified time.Time
	}
	var total int64
	var all []candidate
	for i, p := range parts {
		var latest time.Time
		for j, s := range p.segments {
			total += s.bytes
			// A copied directory has modification times in any order; segments go in the order of offsets all the same.
			if s.modified.After(latest) {
				latest = s.modified
			}
			if j == len(p.segments)-1 {
				break
			}
			next := p.segments[j+1].base
			if next >= p.end || p.floor != noFloor && next > p.floor {
				continue
			}
			all = append(all, candidate{part: i, next: next, bytes: s.bytes, modified: latest})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(a.modified.Compare(b.modified), cmp.Compare(a.part, b.part), cmp.Compare(a.next, b.next))
	})
	cuts := map[int]*trim{}
	for _, c := range all {
		if total <= keepBytes && now.Sub(c.modified) <= keepFor {
			break
		}
		total -= c.bytes
		t := cuts[c.part]
		if t == nil {
			t = &trim{topic: parts[c.part].topic, id: parts[c.part].id}
			cuts[c.part] = t
		}
		t.below, t.bytes = c.next, t.bytes+c.bytes
	}
	for i := range parts {
		if t := cuts[i]; t != nil {
			trims = append(trims, *t)
		}
	}
	return trims, max(0, total-keepBytes)
}
