package commit

import (
	"testing"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// TestWhatAPersonDoesNotKnowIsPublished: after a person's word, and where there is no record, what the dead letters' own table notes
// is published too, as far as it lies below V; the record of a commit says all by itself.
func TestWhatAPersonDoesNotKnowIsPublished(t *testing.T) {
	v := offset.Vector{0: 10, 1: 10, 2: 10}
	noted, dead := offset.Vector{0: 7, 1: 2}, offset.Vector{0: 3, 1: 4, 2: 10}
	for _, c := range []struct {
		name   string
		record ledger.Record
		want   offset.Vector
	}{
		{"a commit", ledger.Record{Kind: ledger.KindIngest, BatchID: "b", Offsets: v, Unpublished: noted}, noted},
		{"a person's word", ledger.Record{Kind: ledger.KindRewind, BatchID: "b", Offsets: v, Unpublished: noted}, offset.Vector{0: 3, 1: 2}},
		{"a person's word about nothing known", ledger.Record{Kind: ledger.KindRewind, BatchID: "b", Offsets: v}, offset.Vector{0: 3, 1: 4}},
		{"no record", ledger.Record{Offsets: v}, offset.Vector{0: 3, 1: 4}},
	} {
		cm := &Committer{cfg: Config{Unpublished: func() offset.Vector { return nil }}, deadRec: ledger.Record{Unpublished: dead}, pos: position{record: c.record}}
		if got := cm.recoveredUnpublished(); !got.Equal(c.want) {
			t.Errorf("%s: %s is published again, want %s", c.name, got, c.want)
		}
	}
}
