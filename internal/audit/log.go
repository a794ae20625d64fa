package audit

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/firnlake/firn/internal/ledger"
)

// logFindings is what the log says of one partition.
type logFindings struct {
	covered                     *roaring64.Bitmap // of the open offsets, those that the log answered for
	missing                     *roaring64.Bitmap
	phantoms                    *roaring64.Bitmap
	phantomRows                 int64
	compactedRows               int64
	control, aborted, compacted int64
	compared                    int64
}

// compareLog reads the log from where it begins up to the vector and holds every offset against the tables.
func (a *auditor) compareLog(ctx context.Context, c *chain, parts []*partition) error {
	others, err := a.otherTopics(ctx, c)
	if err != nil {
		return err
	}
	bounds, err := a.opt.Kafka.Bounds(ctx)
	if err != nil {
		return err
	}
	a.total += len(parts)
	for _, p := range parts {
		b, ok := bounds[p.Partition.Partition]
		place, _ := ledger.Place(p.Partition.Partition)
		if len(a.report.Topics) == 0 {
			place = 0
		}
		switch {
		case others.cluster || others.places[place]:
		case !ok:
			a.problemOf(p, KindLog, "the topic has no such partition")
		case p.vector < 0:
		case p.vector > b.End:
			a.problemOf(p, KindLog, "the vector stands at %d, the log ends at %d: it was truncated, or is another one", p.vector, b.End)
			fallthrough
		default:
			if err := a.comparePartition(ctx, c, p, b); err != nil {
				return fmt.Errorf("partition %s: %w", a.report.label(p.Partition.Partition), err)
			}
		}
		a.progress()
	}
	return nil
}

func (a *auditor) problemOf(p *partition, kind Kind, format string, args ...any) {
	id := p.Partition.Partition
	a.report.problem(Problem{Kind: kind, Partition: &id, Message: fmt.Sprintf(format, args...)})
}

// others is what the log is not: of it nothing is compared. Another topic's records would make every row a phantom, which is no help.
type others struct {
	cluster bool         // the log is another cluster's
	places  map[int]bool // of topics that were made again
}

// otherTopics tells which of the topics are not those that the ledger was written from.
func (a *auditor) otherTopics(ctx context.Context, c *chain) (o others, err error) {
	cluster, topics, err := a.opt.Kafka.Describe(ctx, a.report.Topics)
	if err != nil || c.record == nil {
		return o, err
	}
	differ := func(what, log, wrote string) bool {
		if log == "" || wrote == "" || log == "n/a" || wrote == "n/a" || log == wrote {
			return false
		}
		a.report.problem(Problem{Kind: KindLog, Message: fmt.Sprintf("the log is of the %s %s, the table was written from %s: they are not compared", what, log, wrote)})
		return true
	}
	o.places = map[int]bool{}
	if o.cluster = differ("cluster", cluster, c.record.ClusterID); o.cluster {
		return o, nil
	}
	for i, id := range topics {
		if i < len(c.record.Topics) {
			o.places[i] = differ("topic "+c.record.Topics[i].Name, id, c.record.Topics[i].ID)
		} else if i == 0 {
			o.places[i] = differ("topic", id, c.record.TopicID)
		}
	}
	return o, nil
}

func (a *auditor) comparePartition(ctx context.Context, c *chain, p *partition, b LogBounds) error {
	l := &logFindings{covered: roaring64.New(), missing: roaring64.New(), phantoms: roaring64.New()}
	p.log = l
	// Firn reads a partition from its first offset: where nothing tells that ingest began later, the log's first
	// records are owed, too.
	from := b.Start
	if o, ok := c.origin[p.Partition.Partition]; ok {
		from = max(from, o)
	}
	to := min(p.vector, b.End)
	if from > p.start {
		p.NotHeld = int64(span(p.start, min(from, p.vector)).GetCardinality())
		a.report.note("partition %s: kafka begins at %d, the offsets %d to %d were not compared", a.report.label(p.Partition.Partition), b.Start, p.start, min(from, p.vector)-1)
	}
	if from >= to {
		return nil
	}
	next := int64(-1)
	err := a.opt.Kafka.ReadRange(ctx, p.Partition.Partition, from, to, func(s Stretch) error {
		if s.End < s.Start || (next >= 0 && s.Start != next) || (next < 0 && s.Start > from) {
			return fmt.Errorf("the log was read from %d to %d after %d: it has to be contiguous", s.Start, s.End, next)
		}
		next = s.End
		return l.stretch(p, s, from, to)
	})
	if err != nil {
		return err
	}
	if next < to {
		return fmt.Errorf("the log was read up to %d, %d was asked for", next, to)
	}
	l.compared = to - from
	l.covered = both(p.open, span(from, to))
	return nil
}

// stretch holds one stretch of the log, cut to [from, to), against the tables.
func (l *logFindings) stretch(p *partition, s Stretch, from, to int64) error {
	start, end := max(s.Start, from), min(s.End, to)
	var found []uint64 // offsets of the tables where the log shows no record
	held := func(x int64) bool { return p.rows.Contains(uint64(x)) || p.dead.Contains(uint64(x)) }
	at, hidden := start, int64(0)
	hide := func(until int64) {
		for ; at < until; at++ {
			if hidden++; held(at) {
				found = append(found, uint64(at))
			}
		}
	}
	for _, o := range s.Offsets {
		if o < start {
			continue
		}
		if o >= end {
			break
		}
		if o < at {
			return fmt.Errorf("the log shows offset %d after %d", o, at-1)
		}
		hide(o)
		if at = o + 1; !held(o) && !p.deleted.Contains(uint64(o)) {
			l.missing.Add(uint64(o))
		}
	}
	hide(end)
	whole := start == s.Start && end == s.End
	compacted := max(s.End-s.Start-int64(len(s.Offsets))-s.Control-s.Aborted, 0)
	if whole {
		l.control, l.aborted = l.control+s.Control, l.aborted+s.Aborted
	} else { // cut: how many of the hidden lie inside is not told
		l.control += min(s.Control, hidden)
		l.aborted += min(s.Aborted, max(hidden-s.Control, 0))
		compacted = min(compacted, max(hidden-s.Control-s.Aborted, 0))
	}
	// A row whose record log compaction has removed since is none of our faults; in a stretch that lost records one
	// cannot be told from the other, so as many are believed as were removed.
	believed := min(int64(len(found)), compacted)
	l.compactedRows += believed
	l.compacted += compacted - believed
	if wrong := int64(len(found)) - believed; wrong > 0 {
		l.phantomRows += wrong
		l.phantoms.AddMany(found)
	}
	return nil
}
