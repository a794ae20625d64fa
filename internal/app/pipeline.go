package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/batch"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/dedup"
	"github.com/firnlake/firn/engine/publish"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/engine/tail"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

// tails finds the tail of a table among the pipelines of this process. It implements query.TailSource.
type tails struct {
	mu  sync.Mutex
	byT map[string]*tail.Tail
}

func newTails() *tails { return &tails{byT: map[string]*tail.Tail{}} }

func (t *tails) add(id catalog.Identifier, tl *tail.Tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byT[strings.Join(id, "\x1f")] = tl
}

// Cut implements query.TailSource.
func (t *tails) Cut(ctx context.Context, table catalog.Identifier, from offset.Vector, epoch int64) (*hot.Cut, error) {
	t.mu.Lock()
	tl := t.byT[strings.Join(table, "\x1f")]
	t.mu.Unlock()
	if tl == nil {
		return nil, hot.ErrNoTail
	}
	return tl.Cut(ctx, from, epoch)
}

// runner keeps one pipeline going: it prepares the parts until that succeeds, then runs the engine.
type runner struct {
	p       *Process
	cfg     Pipeline
	format  *format
	log     *slog.Logger
	em      *engine.Metrics
	sm      *source.Metrics
	cm      *commit.Metrics
	dm      *dedup.Metrics
	tail    *tail.Tail
	rate    rateMeter
	phase   units.Duration // of its commits within their interval
	letters *letterTopic   // nil: dead letters stay in their table

	mu     sync.Mutex
	cause  error // why it is not prepared
	engine *engine.Pipeline
	source engine.Source
	many   *source.Many // source, where there are several topics; else nil
}

// gcPercent is how much garbage a process with pipelines lets come together, in percent of what lives in Go's heap. Batches are outside of it, and an
// event leaves next to nothing in it: half of Go's default takes no more CPU and a seventh less memory in catching up (docs/decisions/0020-memory.md).
const gcPercent = 50

// startPipelines reads the contracts, which a person must mend, and leaves the rest to the runners.
func (p *Process) startPipelines(context.Context) error {
	if _, set := os.LookupEnv("GOGC"); !set && len(p.cfg.Pipelines) > 0 {
		debug.SetGCPercent(gcPercent)
	}
	em, sm, cm, dm := engine.NewMetrics(p.reg), source.NewMetrics(p.reg), commit.NewMetrics(p.reg), dedup.NewMetrics(p.reg)
	pm := publish.NewMetrics(p.reg)
	for i, pc := range p.cfg.Pipelines {
		log := p.log.With("pipeline", pc.Name)
		f, err := p.cfg.newFormat(pc, log)
		if err != nil {
			return err
		}
		f.mem = p.arrow.Front()
		r := &runner{p: p, cfg: pc, format: f, log: log, em: em, sm: sm, cm: cm, dm: dm,
			tail: tail.New(pc.TailGrace.D(), pc.engine().TailMemory(), time.Now), cause: errors.New("it has just begun")}
		if n := len(p.cfg.Pipelines); n > 1 { // each commits at a time of its own, or they would all wait for one another
			r.phase = pc.CommitInterval * units.Duration(i+1) / units.Duration(n)
		}
		rows, _ := pc.tables()
		if pc.DeadTopic != "" {
			if r.letters, err = newLetterTopic(p, pc, log, pm); err != nil {
				return err
			}
		}
		p.tails.add(rows, r.tail)
		p.mu.Lock()
		p.pipelines = append(p.pipelines, r)
		p.mu.Unlock()
		p.background("pipeline "+pc.Name, r.run)
	}
	return nil
}

// run prepares and runs until ctx ends. Trouble of the preparation passes or waits for a person, but never ends it.
func (r *runner) run(ctx context.Context) error {
	defer r.tail.Close()
	defer r.format.close()
	defer context.AfterFunc(ctx, r.format.close)() // a decoder that waits for the registry holds up no stop
	pause, last := waitMin, ""
	for {
		eng, src, err := r.prepare(ctx)
		if err == nil {
			r.set(eng, src, nil)
			end := r.letters.start(ctx)
			return errors.Join(eng.Run(ctx), src.Close(), end())
		}
		if ctx.Err() != nil {
			return nil
		}
		r.set(nil, nil, err)
		if msg := err.Error(); msg != last {
			r.log.Warn("pipeline waits", "error", err)
			last = msg
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, waitMax)
	}
}

func (r *runner) set(e *engine.Pipeline, s engine.Source, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engine, r.source, r.cause = e, s, cause
	r.many, _ = s.(*source.Many)
}

// prepare makes sure of storage, tables and topic, in the order in which their absence is the clearest message.
func (r *runner) prepare(ctx context.Context) (*engine.Pipeline, engine.Source, error) {
	cat, wh := r.p.catalog, r.p.warehouse
	if err := wh.Check(ctx); err != nil {
		return nil, nil, fmt.Errorf("warehouse %s: %w", wh.URI, err)
	}
	rows, dead := r.cfg.tables()
	contract, err := r.format.contractNow(ctx)
	if err != nil {
		return nil, nil, err
	}
	schema, err := r.format.schema(contract)
	if err != nil {
		return nil, nil, err
	}
	props, err := r.claim(ctx, rows)
	if err != nil {
		return nil, nil, err
	}
	own := r.cfg.Layout.Properties(r.cfg.Codec)
	maps.Copy(own, props)
	wanted, err := r.wanted(ctx, rows, contract, schema)
	if err != nil {
		return nil, nil, err
	}
	t, err := commit.EnsureTable(ctx, cat, rows, wanted, r.cfg.Partition, own)
	if err != nil {
		return nil, nil, err
	}
	if err := r.checkLayout(schema, t.Metadata.CurrentSchema()); err != nil {
		return nil, nil, err
	}
	if _, err := commit.EnsureOwnTable(ctx, cat, dead, decode.DeadLetterSchema(contract.Lines()), props, decode.DeadLetterLater...); err != nil {
		return nil, nil, err
	}
	dec, err := r.format.decoder(contract, t.Metadata.CurrentSchema(), r.cfg.OnIncompatible)
	if err != nil {
		return nil, nil, err
	}
	if dec, err = r.deduplicated(dec, rows); err != nil {
		return nil, nil, err
	}
	unpublished, publisher := r.letters.stage()
	cc := commit.Config{Pipeline: r.cfg.Name, Table: rows, DeadTable: dead, GapsTable: r.cfg.gapsTable(), Lateness: r.cfg.Lateness.D(),
		PartitionBy: append([]string{}, r.cfg.Partition...), SortBy: append([]string{}, r.cfg.SortBy...),
		Unpublished: unpublished, StoreAgainAfter: min(commit.DefaultStoreAgainAfter, r.p.cfg.Compaction.StrayGrace.D()/2)}
	src, err := r.newSource(&cc)
	if err != nil {
		return nil, nil, err
	}
	com, err := commit.New(cc, cat, wh, r.deadRows, r.log, r.cm)
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	ec := r.cfg.engine()
	ec.Phase = r.phase
	eng, err := engine.New(r.cfg.Name, ec, engine.Stages{Source: src, Decoder: dec, Batcher: batch.New(r.cfg.batch(), time.Now),
		Tail: r.tail, Committer: com, Publisher: publisher}, r.p.log, r.em)
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	return eng, src, nil
}

// checkLayout holds what the configuration says of columns against a schema of the registry, and against the table, which has the
// columns of earlier ones; that of a file was held against it before the process started. Rows cannot be sorted by a column
// that is in neither. Without the others they are written, and a column may come with a later schema.
func (r *runner) checkLayout(schemas ...*iceberg.Schema) error {
	if r.format.contract != nil {
		return nil
	}
	anyFits := func(check func(*iceberg.Schema) error) (err error) {
		for _, sc := range schemas {
			if err = check(sc); err == nil {
				return nil
			}
		}
		return err
	}
	if err := anyFits(r.cfg.Layout.Check); err != nil {
		r.log.Warn("the layout names a column that neither the schema nor the table has; files are written without it", "error", err)
	}
	return anyFits(func(sc *iceberg.Schema) error { return commit.CheckSortBy(sc, r.cfg.SortBy) })
}

// claim gives the properties that say what feeds the tables: none where another pipeline has written the rows, whose they are.
// What to do then is recovery's to say.
func (r *runner) claim(ctx context.Context, rows catalog.Identifier) (map[string]string, error) {
	t, err := r.p.catalog.LoadTable(ctx, rows, catalog.LoadRefs)
	if err != nil && !errors.Is(err, catalog.ErrNoSuchTable) && !errors.Is(err, catalog.ErrNoSuchNamespace) {
		return nil, fmt.Errorf("table %s: %w", rows, err)
	}
	if err == nil {
		if writers := writersOf(t); len(writers) > 0 && !slices.Contains(writers, r.cfg.Name) {
			return nil, nil
		}
	}
	props := r.cfg.topicProperty(t)
	props[propPipeline] = r.cfg.Name
	return props, nil
}

// deduplicated wraps the decoder of the table's rows where the pipeline says so.
func (r *runner) deduplicated(dec engine.Decoder, rows catalog.Identifier) (engine.Decoder, error) {
	if !r.cfg.Dedup.Active() {
		return dec, nil
	}
	seen := commit.NewSeen(r.p.catalog, r.p.warehouse, rows, r.cfg.Name, r.cfg.Dedup.Column)
	return dedup.New(r.cfg.Dedup, dec, seen, dedup.Options{Pipeline: r.cfg.Name, Mem: r.format.mem, Log: r.log, Metrics: r.dm})
}

// wanted is the schema that is asked of the table: schema, which is the contract's after the transform. Where fields that do not fit get columns of their own, which
// those are is the table's to say.
func (r *runner) wanted(ctx context.Context, id catalog.Identifier, c *decode.Contract, schema *iceberg.Schema) (*iceberg.Schema, error) {
	if r.cfg.OnIncompatible != decode.NewColumn {
		return schema, nil
	}
	t, err := r.p.catalog.LoadTable(ctx, id, catalog.LoadRefs)
	switch {
	case errors.Is(err, catalog.ErrNoSuchTable), errors.Is(err, catalog.ErrNoSuchNamespace):
		return schema, nil
	case err != nil:
		return nil, fmt.Errorf("table %s: %w", id, err)
	}
	return c.OntoTable(t.Metadata.CurrentSchema()).IcebergSchema(), nil
}

func (r *runner) deadRows(sc *iceberg.Schema, dead []engine.Dead) (arrow.RecordBatch, error) {
	return decode.DeadRows(memory.DefaultAllocator, sc, r.topicOf, dead, time.Now())
}

// committed is the vector of the last commit; empty while it is not known.
func (r *runner) committed() offset.Vector {
	r.mu.Lock()
	eng := r.engine
	r.mu.Unlock()
	if eng == nil {
		return offset.Vector{}
	}
	return eng.Status().Committed
}

// Status tells how the pipeline is.
func (r *runner) Status(now time.Time) PipelineStatus {
	r.mu.Lock()
	eng, src, cause := r.engine, r.source, r.cause
	r.mu.Unlock()
	f := facts{now: now, interval: r.cfg.CommitInterval.D(), catchUp: r.cfg.CatchUp.D(), table: r.cfg.Table, prepare: cause, registry: r.format.health(), lag: -1}
	if eng != nil {
		f.engine, f.source = eng.Status(), src.Health()
		f.lag = lagOf(f.engine, src.Positions())
		if f.lag > 0 && !f.engine.DecodedKafka.IsZero() {
			f.lagTime = now.Sub(f.engine.DecodedKafka)
		}
	}
	v, s := judge(f), f.engine
	out := PipelineStatus{Name: r.cfg.Name, Topic: r.cfg.topicText(), Table: r.cfg.Table, Verdict: v, EventsPerSecond: r.rate.per(now, s.Rows+s.DeadLetters+s.Filtered+s.Duplicates),
		Rows: s.Rows, DeadLetters: s.DeadLetters, Filtered: s.Filtered, Unrouted: s.Unrouted, Duplicates: s.Duplicates, Events: s.Events, CompleteEvents: s.Complete, Snapshots: s.Snapshots, PendingRows: s.PendingRows, TailBytes: s.TailBytes,
		LagRecords: f.lag, LagSeconds: f.lagTime.Seconds(), Backpressure: s.Backpressure, SnapshotID: s.SnapshotID, Epoch: s.Epoch,
		RecoveredBy: s.RecoveredBy, CommitSeconds: s.CommitSeconds, FreshP50: s.CommittedFreshness.Quantile(0.5).Seconds(),
		FreshP95: s.CommittedFreshness.Quantile(0.95).Seconds(), LastFetch: s.LastFetch, LastDecode: s.LastDecode, LastCommit: s.LastCommit,
		Consumed: s.Consumed.String(), Committed: s.Committed.String(), Stages: stages(f, v, phases(s.Phases))}
	out.Gaps, out.GapOffsets, out.LastGap = s.Gaps, s.GapOffsets, s.LastGap
	out.SchemaIDs, out.TableSchema, out.SchemaChanges, out.LastSchemaChange = s.SchemaIDs, s.SchemaID, s.SchemaChanges, s.LastSchemaChange
	out.DeadTopic = r.letters.status()
	if !s.PendingSince.IsZero() {
		out.PendingSeconds = now.Sub(s.PendingSince).Seconds()
	}
	return out
}
