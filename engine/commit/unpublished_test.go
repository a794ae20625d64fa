package commit

import (
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// TestWhatAPersonDoesNotKnowIsPublished: after a person's word, and where there is no record, what the dead letters' own table notes
// is published too, as far as it lies below V; the record of a commit says all by itself.
func TestWhatAPersonDoesNotKnowIsPublished(t *testing.T) {
	v := offset.Vector{0: 10, 1: 10, 2: 10}
	noted, dead := offset.Vector{0: 7, 1: 2}, offset.Vector{0: 3, 1: 4, 2: 10}
	left := ledger.Record{BatchID: "d", Unpublished: dead}
	all := offset.Vector{0: 0, 1: 0, 2: 0}
	for _, c := range []struct {
		name         string
		record, dead ledger.Record
		want         offset.Vector
	}{
		{"a commit", ledger.Record{Kind: ledger.KindIngest, BatchID: "b", Offsets: v, Unpublished: noted}, left, noted},
		{"a person's word", ledger.Record{Kind: ledger.KindRewind, BatchID: "b", Offsets: v, Unpublished: noted}, left, offset.Vector{0: 3, 1: 2}},
		{"a person's word about nothing known", ledger.Record{Kind: ledger.KindRewind, BatchID: "b", Offsets: v}, left, offset.Vector{0: 3, 1: 4}},
		{"compacted since a commit", ledger.Record{Kind: ledger.KindCompact, BatchID: "b", Offsets: v, Unpublished: noted, Ranges: []offset.Range{rng(0, 7, 10)}}, left, noted},
		{"compacted since a person's word", ledger.Record{Kind: ledger.KindCompact, BatchID: "b", Offsets: v, Unpublished: noted}, left, offset.Vector{0: 3, 1: 2}},
		{"no record", ledger.Record{Offsets: v}, left, offset.Vector{0: 3, 1: 4}},
		{"a commit, and nothing left of the dead letters", ledger.Record{Kind: ledger.KindIngest, BatchID: "b", Offsets: v, Unpublished: noted}, ledger.Record{}, noted},
		{"a person's word, and nothing left of the dead letters", ledger.Record{Kind: ledger.KindRewind, BatchID: "b", Offsets: v}, ledger.Record{}, all},
		{"nothing left at all", ledger.Record{Offsets: v}, ledger.Record{}, all},
	} {
		cm := &Committer{cfg: Config{Unpublished: func() offset.Vector { return nil }}, deadRec: c.dead, dead: pinned{head: snapshot.Head{Snapshot: &table.Snapshot{}}}, pos: position{record: c.record}}
		if got := cm.recoveredUnpublished(); !got.Equal(c.want) {
			t.Errorf("%s: %s is published again, want %s", c.name, got, c.want)
		}
	}
}
