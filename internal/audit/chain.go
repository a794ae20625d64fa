package audit

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// chain is what the summaries of the head and its ancestors say, as far as the metadata still holds them.
type chain struct {
	record *ledger.Record // the newest; nil when there is none
	vector offset.Vector
	origin offset.Vector // where the ingest of a partition began, for partitions whose first range is still told of
}

// recorded is a snapshot with its record.
type recorded struct {
	id int64
	ledger.Record
}

func (a *auditor) chain(meta table.Metadata) *chain {
	c := &chain{vector: offset.Vector{}, origin: offset.Vector{}}
	head := meta.CurrentSnapshot()
	if head == nil {
		return c
	}
	a.report.SnapshotID = head.SnapshotID
	records := a.records(meta, head)
	if len(records) == 0 {
		a.report.problem(Problem{Kind: KindNoRecord, Message: "neither the head nor an ancestor that is still in the metadata carries firn's record: where Kafka stands is not known"})
		return c
	}
	for i, r := range records {
		if i == 0 {
			if r.Prev == 0 && r.Kind == ledger.KindIngest {
				c.begin(r, nil)
			}
			continue
		}
		a.link(records[i-1], r)
		c.begin(r, records[i-1].Offsets)
	}
	last := records[len(records)-1]
	c.record, c.vector = &last.Record, last.Offsets
	a.report.Records, a.report.Pipeline, a.report.Epoch, a.report.Topics = len(records), last.Pipeline, last.Epoch, last.Topics
	return c
}

// begin notes the start of partitions that the record is the first to move.
func (c *chain) begin(r recorded, before offset.Vector) {
	for _, g := range r.Ranges {
		if _, known := before[g.Partition]; !known {
			c.origin[g.Partition] = g.Start
		}
	}
}

// records returns the records of the head's ancestors, the oldest first.
func (a *auditor) records(meta table.Metadata, head *table.Snapshot) []recorded {
	var out []recorded
	seen := map[int64]bool{}
	for s := head; s != nil && !seen[s.SnapshotID]; {
		seen[s.SnapshotID] = true
		var props map[string]string
		if s.Summary != nil {
			props = s.Summary.Properties
		}
		r, err := ledger.ParseSummary(props)
		switch {
		case err == nil:
			out = append(out, recorded{s.SnapshotID, r})
		case errors.Is(err, ledger.ErrNoRecord):
			a.report.ForeignSnapshots++
		default:
			a.report.problem(Problem{Kind: KindChain, Message: fmt.Sprintf("snapshot %d: %v", s.SnapshotID, err)})
		}
		if s.ParentSnapshotID == nil {
			break
		}
		s = meta.SnapshotByID(*s.ParentSnapshotID)
	}
	slices.Reverse(out)
	return out
}

// link holds a record against the one before it.
func (a *auditor) link(prev, r recorded) {
	bad := func(format string, args ...any) {
		a.report.problem(Problem{Kind: KindChain, Message: fmt.Sprintf("snapshot %d after %d: ", r.id, prev.id) + fmt.Sprintf(format, args...)})
	}
	switch {
	case r.Pipeline != prev.Pipeline:
		bad("it is of the pipeline %s, the one before of %s: a table has one pipeline", r.Pipeline, prev.Pipeline)
	case r.Epoch < prev.Epoch:
		bad("epoch %d follows %d", r.Epoch, prev.Epoch)
	case r.Kind == ledger.KindCompact:
		if !r.Offsets.Equal(prev.Offsets) {
			bad("a compaction moved the vector from %s to %s", prev.Offsets, r.Offsets)
		}
	case r.Kind == ledger.KindRewind || r.Epoch > prev.Epoch:
		// A rewind sets the vector where it wants.
	default:
		for _, g := range r.Ranges {
			if at, known := prev.Offsets[g.Partition]; known && at != g.Start {
				bad("partition %d moves from %d, the vector stood at %d", g.Partition, g.Start, at)
				return
			}
		}
		if want, err := prev.Offsets.Advance(r.Ranges); err != nil || !want.Equal(r.Offsets) {
			bad("its ranges lead to %s, it says %s", want, r.Offsets)
		}
	}
}

// checkTotals holds the running total of the head's summary against the rows that were read.
func (a *auditor) checkTotals(head *table.Snapshot) {
	if head.Summary == nil {
		return
	}
	said, err := strconv.ParseInt(head.Summary.Properties["total-records"], 10, 64)
	if err != nil {
		return // engines may leave it out
	}
	var rows int64
	for _, held := range []*offsets{a.rows, a.rowsGone} { // the total counts deleted rows as well
		for _, n := range held.rows {
			rows += n
		}
	}
	if said != rows && !a.report.has(KindDamaged, KindNoLedger, KindRowCount) {
		a.report.problem(Problem{Kind: KindRowCount, Message: fmt.Sprintf("the head's summary says %d rows in all, its files hold %d", said, rows)})
	}
}
