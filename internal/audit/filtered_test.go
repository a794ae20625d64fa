package audit

import (
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// keptOut is a lake whose pipeline has filtered some offsets of partition 0, the first among them.
func keptOut(t *testing.T, claimed []int64) (*lake, *fakeLog) {
	t.Helper()
	l := sound(t)
	var f ledger.Filtered
	for _, o := range claimed {
		f.Add(o)
	}
	l.ingest([]offset.Range{{Partition: 0, Start: 2500, End: 2520}}, nil, []row{{0, 2501}, {0, 2502}, {0, 2503}, {0, 2519}},
		func(r *ledger.Record) { r.Filtered = map[int32]ledger.Filtered{0: f} })
	return l, logOf(10)
}

// Offsets that a filter kept out are proved by count and digest, with the log and without it; a lost one among them shows.
func TestFilteredOffsets(t *testing.T) {
	l, log := keptOut(t, []int64{2501, 2502, 2503, 2519})
	for what, o := range map[string]Options{"tables": {}, "log": {Kafka: log}} {
		r := l.audit(o)
		l.expect(r, Clean)
		if p := r.Partitions[0]; p.Filtered != 4 || p.Missing+p.Unexplained != 0 {
			t.Errorf("%s: %+v", what, p)
		}
	}
	// Markers beside them can be told by the log alone.
	l, log = keptOut(t, []int64{2501, 2502, 2519})
	log.control = []row{{0, 2503}}
	l.expect(l.audit(Options{}), Unproven, KindUnexplained)
	r := l.audit(Options{Kafka: log})
	l.expect(r, Clean)
	if p := r.Partitions[0]; p.Filtered != 3 || p.Control != 1 {
		t.Errorf("%+v", p)
	}
	// One was lost: as many as were filtered, but not they; and one more than were filtered.
	l, log = keptOut(t, []int64{2501, 2502, 2503, 2504})
	l.expect(l.audit(Options{Kafka: log}), Broken, KindMissing)
	l, log = keptOut(t, []int64{2501, 2502, 2503})
	r = l.audit(Options{Kafka: log})
	l.expect(r, Broken, KindMissing)
	if p := r.Partitions[0]; p.Missing != 4 || p.Filtered != 0 {
		t.Errorf("%+v", p)
	}
	// What was filtered is a row.
	l, log = keptOut(t, nil)
	l.ingest([]offset.Range{{Partition: 1, Start: 100, End: 110}}, nil, nil, func(r *ledger.Record) { r.Filtered = map[int32]ledger.Filtered{1: {First: 105, Count: 2, Digest: 9}} })
	r = l.audit(Options{Kafka: log})
	l.expect(r, Broken, KindFiltered, KindMissing)
}

// A record that is not whole counts among the missing beside those that a filter did not take.
func TestTornBesideFiltered(t *testing.T) {
	rows := setOf(lined{0, 1}, lined{0, 3}, lined{1, 0}, lined{2, 0}, lined{3, 0}, lined{4, 0}, lined{7, 0})
	a := &auditor{rows: rows, dead: newOffsets(), redriven: newOffsets(), rowsGone: newOffsets(), deadGone: newOffsets(), report: &Report{Kafka: true}}
	c := &chain{vector: map[int32]int64{0: 8}, record: &ledger.Record{LastRow: map[int32]int64{0: 7}, Filtered: map[int32]ledger.Filtered{0: {First: 5, Count: 1, Digest: 9}}}}
	p := a.newPartition(0, c)
	p.log = &logFindings{covered: roaring64.BitmapOf(5, 6), missing: roaring64.BitmapOf(5, 6), phantoms: roaring64.New()}
	a.judge([]*partition{p})
	if p.Missing != 3 { // the record at 0, and 5 and 6
		t.Errorf("%d are missing, want 3\n%s", p.Missing, a.report)
	}
}

// Filtered records that log compaction removed later, or that retention took, are still told by the digest; where it cannot be
// formed of what is left, nothing is proved.
func TestFilteredAndGone(t *testing.T) {
	l, log := keptOut(t, []int64{2501, 2502, 2503, 2519})
	log.compacted = []row{{0, 2502}}
	l.expect(l.audit(Options{Kafka: log}), Clean)
	log.control = []row{{0, 2519}}
	l.expect(l.audit(Options{Kafka: log}), Clean)
	l, log = keptOut(t, []int64{2501, 2503, 2519})
	log.compacted, log.aborted = []row{{0, 2503}}, []row{{0, 2502}}
	l.expect(l.audit(Options{Kafka: log}), Unproven, KindUnexplained)
}
