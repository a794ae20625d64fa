package commit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/evolve"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// try is one batch on its way into the table, over as many calls of Commit as it takes.
type try struct {
	batch   string
	ranges  []offset.Range // of the batch, and those carried
	next    offset.Vector  // V once it is committed
	out     leftOut        // records in ranges that are neither rows nor dead letters
	letters offset.Vector  // per partition the first dead letter in ranges
	main    *leg
	dead    *leg // nil without dead letters

	stored   time.Time // when the first of its files was begun to be put on storage; zero before
	open     bool      // a request was sent, and it is not known that it had no effect
	refused  bool      // a request met a conflict, and the tables were not looked at since
	relay    bool      // its files are made for a table that has another schema or layout by now: they are written anew first
	attempts int
	phases   timed
}

// Commit implements engine.Committer.
func (c *Committer) Commit(ctx context.Context, b *engine.Batch) (engine.Committed, error) {
	if !c.ready {
		return engine.Committed{}, fmt.Errorf("%w: the position has to be recovered first", engine.ErrRewound)
	}
	done, err := c.commit(ctx, b)
	if classify(err) == fenced {
		c.ready, c.try = false, nil
	}
	return done, err
}

func (c *Committer) commit(ctx context.Context, b *engine.Batch) (engine.Committed, error) {
	if c.try != nil && c.try.batch != b.ID {
		if c.try.open {
			return engine.Committed{}, fmt.Errorf("%w: batch %s follows batch %s, whose outcome is not known", engine.ErrRewound, b.ID, c.try.batch)
		}
		c.try = nil
	}
	if c.try == nil {
		t, err := c.begin(ctx, b)
		if err != nil {
			return engine.Committed{}, err
		}
		if t == nil {
			return engine.Committed{Offsets: c.pos.offsets().Clone(), Epoch: c.pos.epoch, At: c.cfg.Now()}, nil
		}
		c.try = t
	}
	t := c.try
	if t.relay || !t.stored.IsZero() && c.cfg.Now().Sub(t.stored) >= c.cfg.StoreAgainAfter {
		if err := c.storeAgain(ctx, t, b); err != nil {
			return engine.Committed{}, err
		}
	}
	crash.At(ctx, crash.FilesEncoded)
	if err := c.store(ctx, t); err != nil {
		return engine.Committed{}, err
	}
	crash.At(ctx, crash.ManifestsWritten)
	start, before := time.Now(), t.phases[phaseManifest]
	err := c.span(ctx, phaseCatalog, func(ctx context.Context) error { return c.deliver(ctx, t) })
	t.phases[phaseCatalog] += time.Since(start) - (t.phases[phaseManifest] - before)
	if err != nil {
		return engine.Committed{}, err
	}
	return c.finish(t), nil
}

// begin decides what the batch needs: nil when it holds only offsets without a record, or none, and a snapshot was made lately;
// then they wait for the next batch. Otherwise its rows are encoded, and the caller's are no longer needed.
func (c *Committer) begin(ctx context.Context, b *engine.Batch) (*try, error) {
	ranges, err := offset.Merge(append(slices.Clone(c.carried), b.Ranges...))
	if err != nil {
		return nil, fmt.Errorf("%w: batch %s: %w", engine.ErrRewound, b.ID, err)
	}
	next, err := c.pos.offsets().Advance(ranges)
	if err != nil {
		return nil, fmt.Errorf("%w: batch %s does not continue the table: %w", engine.ErrRewound, b.ID, err)
	}
	if err := checkRows(b); err != nil {
		return nil, err
	}
	in := c.withoutSticky(b)
	defer in.release()
	idle := len(ranges) == 0 && !c.publishedSince()
	if len(in.rows) == 0 && len(in.dead) == 0 && (idle || c.cfg.Now().Sub(c.since) < c.cfg.OffsetsInterval) {
		c.carried, c.carriedOut = ranges, c.leftOutOf(b)
		return nil, nil
	}
	t := &try{batch: b.ID, ranges: ranges, next: next, out: c.leftOutOf(b), letters: c.lettersBelow(next, in.dead), phases: timed{}}
	start := time.Now()
	err = c.span(ctx, phaseEncode, func(ctx context.Context) error { return c.encodeLegs(ctx, t, b, in) })
	t.phases.since(phaseEncode, start)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (c *Committer) encodeLegs(ctx context.Context, t *try, b *engine.Batch, in input) error {
	meta := c.main.head.Meta
	t.main = &leg{p: &c.main, id: snapshot.NewID(), spec: meta.PartitionSpec(), schema: meta.CurrentSchema(), record: c.record(ctx, t, b, in.last)}
	if len(in.dead) > 0 {
		meta = c.dead.head.Meta
		t.dead = &leg{p: &c.dead, id: snapshot.NewID(), spec: meta.PartitionSpec(), schema: meta.CurrentSchema(), record: c.deadRecord(t, in.dead)}
	}
	return c.encodeInput(ctx, t, in)
}

// encodeInput makes the files of the legs that did not take effect yet.
func (c *Committer) encodeInput(ctx context.Context, t *try, in input) error {
	if len(in.rows) > 0 {
		if err := c.encodeRows(ctx, t.main, in.rows); err != nil {
			return fmt.Errorf("table %s: %w", t.main.p.id, err)
		}
	}
	l := t.dead
	if l == nil || l.done {
		return nil
	}
	rows, err := c.encode(l.schema, in.dead)
	if err != nil {
		return fmt.Errorf("table %s: %w", l.p.id, err)
	}
	defer rows.Release()
	if l.files, err = encodeFiles(ctx, l.p.head.Meta, l.schema, c.plainLayout(l), []arrow.RecordBatch{rows}); err != nil {
		return fmt.Errorf("table %s: %w", l.p.id, err)
	}
	return nil
}

// encodeRows makes the files of the rows, in the schema and the layout that the table has then.
func (c *Committer) encodeRows(ctx context.Context, l *leg, rows []arrow.RecordBatch) (err error) {
	meta := l.p.head.Meta
	if l.lay, err = c.evolve(meta, shapesOf(rows)); err != nil {
		return err
	}
	l.schema, l.spec = l.lay.schema, l.lay.spec
	e, done := c.takeAhead(l, rows)
	if e == nil {
		if e, err = newEncoder(meta, l.schema, c.rowLayout(meta, l.lay)); err != nil {
			return err
		}
	}
	defer e.drop()
	ready, release, err := l.lay.ready(ctx, rows[done:])
	if err != nil {
		return err
	}
	defer release()
	if l.files, err = e.finish(ctx, ready); err != nil {
		return err
	}
	c.m.ahead.WithLabelValues(c.cfg.Pipeline).Add(float64(countRows(rows[:done])))
	return sameCount(l.files, rows)
}

// rowLayout is how rows become files of the table once it is as evo says.
func (c *Committer) rowLayout(meta table.Metadata, evo evolution) fileLayout {
	lay := layoutOf(meta, evo.schema, c.cfg.Write)
	lay.spec, lay.order = evo.spec, evo.order
	return lay
}

func countRows(rows []arrow.RecordBatch) (n int64) {
	for _, r := range rows {
		n += r.NumRows()
	}
	return n
}

// plainLayout is that of a table which the configuration says nothing of: its own.
func (c *Committer) plainLayout(l *leg) fileLayout {
	lay := layoutOf(l.p.head.Meta, l.schema, c.cfg.Write)
	lay.spec = l.spec
	return lay
}

// storeAgain replaces the files and manifests of a batch that could not be committed for so long that a sweep may have
// taken them for strays, or soon will. They get other names: a file that is named again would keep its age in the sweep's
// own books. The snapshots keep their ids, so a request that was sent before counts as this batch still.
func (c *Committer) storeAgain(ctx context.Context, t *try, b *engine.Batch) error {
	in := c.withoutSticky(b)
	defer in.release()
	if err := c.encodeInput(ctx, t, in); err != nil {
		return err
	}
	for _, l := range t.legs() {
		if !l.done {
			l.prepared, l.built = false, false
		}
	}
	why := "it could not be committed for long, and a sweep may take them for strays"
	if t.relay {
		why = "the table's schema or layout was changed by somebody else while they were to be committed with a change of it"
	}
	c.log.Warn("the files of a batch are stored again: "+why, "batch", t.batch, "age", c.cfg.Now().Sub(t.stored))
	t.stored, t.relay = time.Time{}, false
	return nil
}

// checkRows holds a batch against what a snapshot of it will claim: every row lies in the range of its partition, each
// offset once, or each of its lines once. What gets past this stands in the table for ever, so it is looked at in every build.
func checkRows(b *engine.Batch) error {
	in := make(map[int32]offset.Range, len(b.Ranges))
	for _, g := range b.Ranges {
		in[g.Partition] = g
	}
	for _, r := range inOrder(b.Rows) {
		p, o, ok := ledgerColumns(r)
		if !ok {
			return fmt.Errorf("%w: batch %s has rows without the ledger columns", ErrTable, b.ID)
		}
		lines := engine.LinesOf(r)
		for i := range int(r.NumRows()) {
			g, known := in[p.Value(i)]
			at := o.Value(i)
			if i > 0 && at == o.Value(i-1) && p.Value(i) == p.Value(i-1) && lines.At(i) > lines.At(i-1) && lines.At(i-1) > 0 {
				continue // the next line of the same record
			}
			if !known || at < g.Start || at >= g.End || p.IsNull(i) || o.IsNull(i) {
				return fmt.Errorf("%w: batch %s has a row of partition %d at %d, outside of what it moves or a second time", engine.ErrRewound, b.ID, p.Value(i), at)
			}
			g.Start = at + 1
			in[p.Value(i)] = g
		}
	}
	return nil
}

// sameCount is the check on the other side of the encoder.
func sameCount(files []*output, rows []arrow.RecordBatch) error {
	var got int64
	want := countRows(rows)
	for _, f := range files {
		got += f.stats.Rows
	}
	if got != want {
		return fmt.Errorf("%d rows were to be written, the files hold %d", want, got)
	}
	return nil
}

// record is what the snapshot of the rows carries.
func (c *Committer) record(ctx context.Context, t *try, b *engine.Batch, last offset.Vector) ledger.Record {
	prev := c.pos.record
	r := ledger.Record{Kind: ledger.KindIngest, Pipeline: c.cfg.Pipeline, BatchID: b.ID, Epoch: c.pos.epoch,
		ClusterID: orKnown(c.source.clusterID, prev.ClusterID), TopicID: c.topicID(), Topics: c.topics,
		Ranges: t.ranges, Offsets: t.next, LastRow: prev.LastRow.Clone(), Filtered: filtered(prev.Filtered).plus(t.out.filtered),
		Duplicates: filtered(prev.Duplicates).plus(t.out.duplicates), Unpublished: c.unpublished(t), Watermark: prev.Watermark, Prev: c.pos.at}
	maps.Copy(r.LastRow, last)
	if w := b.MaxEvent.Add(-c.cfg.Lateness); !b.MaxEvent.IsZero() && w.After(r.Watermark) {
		r.Watermark = w
	}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.TraceID = sc.TraceID().String()
	}
	return r
}

// topicID is what the record has of one topic.
func (c *Committer) topicID() string {
	if len(c.topics) > 0 {
		return noID // each has its own
	}
	return orKnown(c.source.topic.TopicID, c.pos.record.TopicID)
}

// orKnown keeps what the table knows when the broker does not say.
func orKnown(now, before string) string {
	switch {
	case KnownID(now):
		return now
	case KnownID(before):
		return before
	}
	return noID
}

// store puts the batch's files and manifests on storage. What is there already is not written again.
func (c *Committer) store(ctx context.Context, t *try) error {
	files := t.main.files
	if t.dead != nil {
		files = append(slices.Clone(files), t.dead.files...)
	}
	if t.stored.IsZero() {
		t.stored = c.cfg.Now()
	}
	start := time.Now()
	err := c.span(ctx, phaseUpload, func(ctx context.Context) error { return c.upload(ctx, files) })
	t.phases.since(phaseUpload, start)
	if err != nil {
		return err
	}
	crash.At(ctx, crash.FilesUploaded)
	start = time.Now()
	err = c.span(ctx, phaseManifest, func(ctx context.Context) error {
		for _, l := range t.legs() {
			if err := c.manifest(ctx, l); err != nil {
				return fmt.Errorf("table %s: %w", l.p.id, err)
			}
		}
		return nil
	})
	t.phases.since(phaseManifest, start)
	return err
}

func (t *try) legs() []*leg {
	if t.dead == nil {
		return []*leg{t.main}
	}
	return []*leg{t.dead, t.main}
}

// deliver commits the legs: together where the catalog can, else the dead letters first. Then a crash in between
// leaves dead letters beyond V, which recovery finds and which stay what they are (sticky).
func (c *Committer) deliver(ctx context.Context, t *try) error {
	if t.dead == nil || t.dead.done {
		return c.attempt(ctx, t, t.main)
	}
	if !c.noTx {
		err := c.attempt(ctx, t, t.dead, t.main)
		if !errors.Is(err, catalog.ErrUnsupported) {
			return err
		}
		c.noTx, t.open = true, false
		c.log.Warn("the catalog commits one table at a time: dead letters are committed before the rows", "error", err)
	}
	// Whoever is fenced should not leave dead letters either: ask before the first of two commits.
	meta, err := c.load(ctx, c.main.id)
	if err != nil {
		return err
	}
	if !sameID(refID(meta, ledger.TagName(c.cfg.Pipeline)), c.main.tag) && !c.broken.blindRebase {
		return c.fenced(ctx, t, t.main, meta)
	}
	if err := c.attempt(ctx, t, t.dead); err != nil {
		return err
	}
	t.open = false
	crash.At(ctx, crash.BetweenCommits)
	return c.attempt(ctx, t, t.main)
}

// finish takes the committed batch as the position to go on from.
func (c *Committer) finish(t *try) engine.Committed {
	now := c.cfg.Now()
	done := engine.Committed{SnapshotID: t.main.id, Offsets: t.next.Clone(), Epoch: c.pos.epoch, Attempts: t.attempts, Phases: t.phases, At: now,
		DeadLetters: t.letters, Waiting: len(t.main.record.Unpublished) > 0}
	for _, l := range t.legs() {
		label := "rows"
		if l == t.dead {
			label = "dead_letters"
		}
		var bytes int64
		for _, f := range l.files {
			bytes += f.stats.Bytes
		}
		done.Files += len(l.files)
		done.FileBytes += bytes
		c.m.files.WithLabelValues(c.cfg.Pipeline, label).Add(float64(len(l.files)))
		c.m.bytes.WithLabelValues(c.cfg.Pipeline, label).Add(float64(bytes))
	}
	for phase, d := range t.phases {
		c.m.phase(c.cfg.Pipeline, phase, d)
	}
	done.SchemaID = t.main.schema.ID
	for _, ch := range t.main.lay.changes {
		c.m.schema.WithLabelValues(c.cfg.Pipeline, string(ch.Kind)).Inc()
		done.SchemaChanges = append(done.SchemaChanges, ch.String())
	}
	if len(done.SchemaChanges) > 0 {
		c.log.Info("the table's schema has grown with this commit", "schema", done.SchemaID, "changes", evolve.Describe(t.main.lay.changes), "snapshot", t.main.id, "batch", t.batch)
	}
	c.pos = position{record: t.main.record, at: t.main.id, epoch: c.pos.epoch, step: StepHead}
	if t.dead != nil {
		c.deadRec, c.deadAt = t.dead.record, t.dead.id
	}
	c.sticky.forget(t.next)
	c.try, c.carried, c.carriedOut, c.since = nil, nil, leftOut{}, now
	return done
}

// span runs one phase as a child of the batch's trace.
func (c *Committer) span(ctx context.Context, name string, fn func(context.Context) error) error {
	ctx, s := otel.Tracer("firn/commit").Start(ctx, name)
	defer s.End()
	err := fn(ctx)
	if err != nil {
		s.SetStatus(codes.Error, err.Error())
	}
	return err
}
