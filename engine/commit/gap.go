package commit

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// GapsSchema is the schema of a gaps table: a row says that the offsets [_kafka_offset, next_offset) of a partition were
// gone from Kafka before they were read. _ingested_at is when that was found. The page is docs/format/gaps-table.md.
func GapsSchema() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "pipeline", Type: p.String},
		iceberg.NestedField{ID: 2, Name: "topic", Type: p.String},
		iceberg.NestedField{ID: 3, Name: "topic_id", Type: p.String},
		iceberg.NestedField{ID: 4, Name: ledger.ColGapNext, Type: p.Int64},
		iceberg.NestedField{ID: 5, Name: "missing", Type: p.Int64},
		iceberg.NestedField{ID: 6, Name: "batch_id", Type: p.String},
		iceberg.NestedField{ID: 7, Name: ledger.ColPartition, Type: p.Int32},
		iceberg.NestedField{ID: 8, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 9, Name: ledger.ColTimestamp, Type: p.TimestampTz},
		iceberg.NestedField{ID: 10, Name: ledger.ColIngestedAt, Type: p.TimestampTz})
}

// RecordGap implements engine.GapRecorder: a snapshot of main without rows whose range covers the gap, and a row in the
// gaps table, in one transaction; where the catalog commits one table at a time the row comes first. Rows of the gaps
// table never overlap: a stretch that it names already (after a crash between the two commits, or a rewind) is jumped
// over without another row, and one that it names in part ends where that part begins. What is left is the next gap.
func (c *Committer) RecordGap(ctx context.Context, e *engine.LogError) (engine.Gap, error) {
	if len(c.cfg.GapsTable) == 0 {
		return engine.Gap{}, fmt.Errorf("%w: no gaps table is configured", e)
	}
	st, err := c.Recover(ctx)
	if err != nil {
		return engine.Gap{}, err
	}
	c.ready = false // whatever comes of it, the pipeline recovers before it commits
	start, known := st.Offsets[e.Partition]
	if !known {
		start = e.Next
	}
	if start > e.Next || start >= e.LogStart {
		return engine.Gap{Partition: e.Partition, First: start, Next: start}, nil // the table has moved since
	}
	gaps, err := c.gapsTable(ctx)
	if err != nil {
		return engine.Gap{}, err
	}
	end, named, err := c.openGap(ctx, &gaps, e.Partition, start, e.LogStart)
	if err != nil {
		return engine.Gap{}, err
	}
	g := engine.Gap{Partition: e.Partition, First: start, Next: end, Table: c.cfg.GapsTable.String(), Known: named}
	t, err := c.beginGap(ctx, &gaps, g)
	if err != nil {
		return engine.Gap{}, err
	}
	if err := c.store(ctx, t); err != nil {
		return engine.Gap{}, err
	}
	if err := c.deliver(ctx, t); err != nil {
		return engine.Gap{}, err
	}
	g.SnapshotID = t.main.id
	return g, nil
}

// gapsTable pins the gaps table, created when it is missing.
func (c *Committer) gapsTable(ctx context.Context) (pinned, error) {
	if _, err := EnsureOwnTable(ctx, c.cat, c.cfg.GapsTable, GapsSchema(), nil); err != nil {
		return pinned{}, fmt.Errorf("gaps table: %w", err)
	}
	meta, err := c.load(ctx, c.cfg.GapsTable)
	if err != nil {
		return pinned{}, err
	}
	return c.pin(ctx, c.cfg.GapsTable, meta)
}

// openGap cuts [start, logStart) to the part at its beginning that the gaps table names whole, or not at all.
func (c *Committer) openGap(ctx context.Context, gaps *pinned, partition int32, start, logStart int64) (end int64, named bool, err error) {
	end = logStart
	if gaps.head.Snapshot == nil {
		return end, false, nil
	}
	err = ReadGaps(ctx, &catalog.Table{Identifier: gaps.id, Metadata: gaps.head.Meta}, c.wh, func(p int32, first, next int64) error {
		switch {
		case p != partition || next <= start:
		case first <= start:
			end, named = min(next, logStart), true
		case first < end && !named:
			end = first
		}
		return nil
	})
	return end, named, err
}

// beginGap makes the snapshots that note g; the gaps table's leg is absent when it names g already.
func (c *Committer) beginGap(ctx context.Context, gaps *pinned, g engine.Gap) (*try, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("batch id: %w", err)
	}
	ranges := []offset.Range{{Partition: g.Partition, Start: g.First, End: g.Next, LeaderEpoch: -1}}
	next, err := c.pos.offsets().Advance(ranges)
	if err != nil {
		return nil, fmt.Errorf("%w: the gap does not continue the table: %w", engine.ErrRewound, err)
	}
	t := &try{batch: id.String(), ranges: ranges, next: next, phases: timed{}}
	meta := c.main.head.Meta
	t.main = &leg{p: &c.main, id: snapshot.NewID(), spec: meta.PartitionSpec(), schema: meta.CurrentSchema(),
		record: c.record(ctx, t, &engine.Batch{ID: t.batch}, nil)}
	t.main.record.Kind = ledger.KindGap
	if g.Known {
		return t, nil
	}
	meta = gaps.head.Meta
	l := &leg{p: gaps, id: snapshot.NewID(), spec: meta.PartitionSpec(), schema: meta.CurrentSchema(), record: t.main.record}
	l.record.Offsets, l.record.LastRow, l.record.Prev = next.Clone(), offset.Vector{g.Partition: g.First}, 0
	l.record.Filtered, l.record.Duplicates, l.record.Unpublished = nil, nil, nil
	if gaps.tag != nil {
		l.record.Prev = *gaps.tag
	}
	row, err := c.gapRow(l.schema, g, t.batch)
	if err != nil {
		return nil, err
	}
	defer row.Release()
	if l.files, err = encodeFiles(ctx, meta, l.schema, c.plainLayout(l), []arrow.RecordBatch{row}); err != nil {
		return nil, fmt.Errorf("table %s: %w", gaps.id, err)
	}
	t.dead = l // the second table of the transaction, and the first where there is none
	return t, nil
}

func (c *Committer) gapRow(sc *iceberg.Schema, g engine.Gap, batch string) (arrow.RecordBatch, error) {
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", c.cfg.GapsTable, err)
	}
	mem := c.cfg.Write.Mem
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	b := array.NewRecordBuilder(mem, as)
	defer b.Release()
	topic := ledger.Topic{Name: c.source.topic.Name, ID: c.topicID()}
	if len(c.topics) > 0 {
		topic, _ = c.topics.Of(g.Partition)
	}
	texts := map[string]string{"pipeline": c.cfg.Pipeline, "topic": topic.Name, "topic_id": topic.ID, "batch_id": batch}
	numbers := map[string]int64{ledger.ColGapNext: g.Next, "missing": g.Next - g.First, ledger.ColOffset: g.First}
	for i, f := range as.Fields() {
		switch to := b.Field(i).(type) {
		case *array.StringBuilder:
			if text, ok := texts[f.Name]; ok {
				to.Append(text)
				continue
			}
		case *array.Int64Builder:
			if n, ok := numbers[f.Name]; ok {
				to.Append(n)
				continue
			}
		case *array.Int32Builder:
			if f.Name == ledger.ColPartition {
				to.Append(g.Partition)
				continue
			}
		case *array.TimestampBuilder:
			if f.Name == ledger.ColIngestedAt {
				to.Append(arrow.Timestamp(c.cfg.Now().Truncate(time.Microsecond).UnixMicro()))
				continue
			}
		}
		b.Field(i).AppendNull()
	}
	return b.NewRecordBatch(), nil
}

// ReadGaps calls fn with each stretch [first, next) that a gaps table's head names.
func ReadGaps(ctx context.Context, t *catalog.Table, wh *objstore.Warehouse, fn func(partition int32, first, next int64) error) error {
	head := t.Metadata.CurrentSnapshot()
	if head == nil {
		return nil
	}
	fail := func(err error) error { return fmt.Errorf("gaps table %s: %w", t.Identifier, err) }
	var fields []iceberg.NestedField
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset, ledger.ColGapNext} {
		f, ok := topLevel(t.Metadata.CurrentSchema().Fields(), name)
		if !ok {
			return fail(fmt.Errorf("%w: there is no column %s", ErrTable, name))
		}
		f.Required = false
		fields = append(fields, f)
	}
	files, err := snapshot.Files(ctx, wh, head, nil)
	if err != nil {
		return fail(err)
	}
	if len(files) > maxLedgerReads {
		return fail(fmt.Errorf("%w: %d: have the table compacted", errTooMany, len(files)))
	}
	want := iceberg.NewSchema(0, fields...)
	for _, f := range files {
		if err := scanFile(ctx, wh, f, want, func(b arrow.RecordBatch) error { return eachGap(b, fn) }); err != nil {
			return fail(err)
		}
	}
	return nil
}

func eachGap(b arrow.RecordBatch, fn func(int32, int64, int64) error) error {
	p, pok := b.Column(0).(*array.Int32)
	first, fok := b.Column(1).(*array.Int64)
	next, nok := b.Column(2).(*array.Int64)
	if !pok || !fok || !nok {
		return fmt.Errorf("%w: the columns of the gaps are %s, %s and %s", ErrTable, b.Column(0).DataType(), b.Column(1).DataType(), b.Column(2).DataType())
	}
	for i := range int(b.NumRows()) {
		if p.IsNull(i) || first.IsNull(i) || next.IsNull(i) {
			continue
		}
		if err := fn(p.Value(i), first.Value(i), next.Value(i)); err != nil {
			return err
		}
	}
	return nil
}
