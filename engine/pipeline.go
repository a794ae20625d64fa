package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/arrowmem"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/sleep"
)

// Stages are the parts that a pipeline drives. The pipeline owns their use, not their life: the app closes them.
type Stages struct {
	Source    Source
	Decoder   Decoder
	Batcher   Batcher
	Tail      Tail
	Committer Committer
	Publisher Publisher // nil: dead letters stay in their table
}

// Pipeline moves one topic, or several, into one table. Create it with New and call Run once.
type Pipeline struct {
	name   string
	cfg    Config
	st     Stages
	log    *slog.Logger
	m      *Metrics
	now    func() time.Time
	status statusBoard

	mu       sync.Mutex // guards the batcher and the fields below
	room     *sync.Cond // signalled when memory was given back or the generation ended
	inFlight int64      // Arrow bytes of the batch being committed
	pace     pace
	stopped  bool // the generation is over: reader must not add any more
	kick     chan struct{}
	more     chan struct{}       // there are AheadRows in fresh
	ahead    Ahead               // nil: batches are encoded when they are cut
	fresh    []arrow.RecordBatch // of the open batch, not given to ahead yet; retained
	freshN   int64               // rows in them

	// The commit loop's own:
	looked  time.Time // when the table was last looked at or committed to
	waiting bool      // the committer has something to note, if need be in a snapshot of its own
}

// idleCheck is how often a pipeline without anything to commit looks whether the table is still its own.
const idleCheck = 3 * time.Second

// New returns a pipeline; m may be shared by several pipelines of one process, and nil counts for nobody.
func New(name string, cfg Config, st Stages, log *slog.Logger, m *Metrics) (*Pipeline, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("pipeline %s: %w", name, err)
	}
	if m == nil {
		m = NewMetrics(nil)
	}
	p := &Pipeline{name: name, cfg: cfg, st: st, log: log.With("pipeline", name), m: m, now: time.Now, kick: make(chan struct{}, 1),
		more: make(chan struct{}, 1)}
	p.ahead, _ = st.Committer.(Ahead)
	p.room = sync.NewCond(&p.mu)
	p.status.set(func(s *Status) { s.Pipeline, s.Started = name, p.now() })
	return p, nil
}

// Run moves data until ctx ends, then drains: what was decoded is committed within DrainTimeout. Trouble with
// Kafka, storage or the catalog is retried for ever and shown by Status; Run returns nil after a clean drain and
// the commit's error otherwise.
func (p *Pipeline) Run(ctx context.Context) error {
	wait := p.cfg.RetryMin.D()
	for ctx.Err() == nil {
		err := p.generation(ctx)
		if ctx.Err() != nil {
			return err
		}
		if noted, gerr := p.recordGap(ctx, err); noted {
			wait = p.cfg.RetryMin.D()
			continue
		} else if gerr != nil {
			err = gerr
		}
		p.note(err)
		if errors.Is(err, ErrFenced) {
			p.standBy(ctx)
			wait = p.cfg.RetryMin.D()
			continue
		}
		if errors.Is(err, ErrRewound) || errors.Is(err, ErrRedriven) {
			continue
		}
		_ = sleep.For(ctx, wait)
		wait = min(2*wait, p.cfg.RetryMax.D())
	}
	return nil
}

// generation recovers the position, reads from there and commits until something ends it: the context, a fence,
// a rewind, or trouble that only a person can decide.
func (p *Pipeline) generation(ctx context.Context) error {
	st, err := p.st.Committer.Recover(ctx)
	if err != nil {
		return fmt.Errorf("recover the position from the table: %w", err)
	}
	p.st.Tail.Reset(st.Epoch, st.Offsets)
	p.status.set(func(s *Status) { s.StandsBy = false })
	if f, ok := p.st.Decoder.(Follower); ok {
		if err := f.Resume(ctx, st); err != nil {
			return fmt.Errorf("prepare to read on from the table: %w", err)
		}
	}
	if n, ok := p.st.Source.(Numbered); ok {
		n.Number(st.Topics)
	}
	if err := p.st.Source.Start(ctx, st.Offsets, st.LeaderEpochs); err != nil {
		return fmt.Errorf("start reading: %w", err)
	}
	if p.st.Publisher != nil {
		p.st.Publisher.Resume(st.Unpublished, st.Offsets)
	}
	p.log.Info("reading", "offsets", st.Offsets.String(), "epoch", st.Epoch, "snapshot", st.SnapshotID, "recovered_by", st.Source)
	p.status.recovered(st, p.now())
	p.mu.Lock()
	p.dropBatch()
	p.pace.cut()
	p.inFlight, p.stopped = 0, false
	p.mu.Unlock()
	p.waiting = len(st.Unpublished) > 0

	readCtx, stopReading := context.WithCancel(ctx)
	defer stopReading()
	readErr := make(chan error, 1)
	go func() {
		err := p.read(readCtx)
		if err != nil && readCtx.Err() == nil {
			stopReading() // a reader that cannot go on ends the generation; what it decoded is still committed
		}
		readErr <- err
	}()
	commitErr := p.commitLoop(readCtx)
	stopReading()
	p.endGeneration()
	rerr := <-readErr
	if commitErr == nil && !endedBy(ctx, rerr) {
		commitErr = rerr
	}
	p.mu.Lock()
	p.dropBatch()
	p.mu.Unlock()
	return commitErr
}

// recordGap follows OnGap where err is a gap that retention has torn. noted: V stands behind it, or behind a part of
// it, and the next generation goes on from there. Otherwise its own error says why it could not be noted.
func (p *Pipeline) recordGap(ctx context.Context, err error) (noted bool, _ error) {
	var e *LogError
	if p.cfg.OnGap != GapRecord || !errors.As(err, &e) || !errors.Is(e.Kind, ErrRetentionGap) {
		return false, nil
	}
	rec, ok := p.st.Committer.(GapRecorder)
	if !ok {
		return false, nil
	}
	g, err := rec.RecordGap(ctx, e)
	if err != nil {
		return false, fmt.Errorf("note the gap of partition %d from %d on: %w", e.Partition, e.Next, err)
	}
	if g.SnapshotID == 0 {
		return true, nil
	}
	p.m.gapNoted(p.name, g)
	p.status.set(func(s *Status) {
		s.Gaps, s.GapOffsets = s.Gaps+1, s.GapOffsets+g.Missing()
		s.LastGap = fmt.Sprintf("partition %d lost [%d,%d) to kafka's retention at %s, see %s", g.Partition, g.First, g.Next, p.now().UTC().Format(time.RFC3339), g.Table)
	})
	p.log.Error("kafka no longer held what was to be read: noted and jumped over", "partition", g.Partition, "first", g.First,
		"next", g.Next, "missing", g.Missing(), "gaps_table", g.Table, "snapshot", g.SnapshotID, "known", g.Known)
	return true, nil
}

// endedBy tells that err is only how the end of ctx, or of the generation, shows in the reader.
func endedBy(ctx context.Context, err error) bool {
	return err == nil || errors.Is(err, context.Canceled) || (ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded))
}

func (p *Pipeline) endGeneration() {
	p.mu.Lock()
	p.stopped = true
	p.room.Broadcast()
	p.mu.Unlock()
}

// read polls, decodes and adds until ctx ends or the source cannot go on. On its way out it leaves what it has added.
func (p *Pipeline) read(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.mu.Lock(); p.room.Broadcast(); p.mu.Unlock() })
	defer stop()
	for {
		f, err := p.st.Source.Poll(ctx)
		if err != nil {
			return err
		}
		d, err := p.st.Decoder.Decode(f)
		fetched, left := f.FetchedAt, f.LastStable-f.End
		if f.Release != nil {
			f.Release()
		}
		if err != nil {
			return fmt.Errorf("decode partition %d [%d,%d): %w", f.Partition, f.Start, f.End, err)
		}
		if err := p.add(ctx, f.Partition, fetched, left, d); err != nil {
			return err
		}
	}
}

// add waits for room, then hands the stretch to the batch and the tail. It fails when the generation is over, or
// when the stretch does not continue what the batch holds. left is how many offsets the log had behind it.
func (p *Pipeline) add(ctx context.Context, partition int32, fetched time.Time, left int64, d Decoded) error {
	size := int64(0)
	if d.Rows != nil {
		size = arrowmem.Bytes(d.Rows)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.stopped && ctx.Err() == nil && p.held() > 0 && p.held()+size > p.cfg.BatchMemory() {
		p.status.set(func(s *Status) { s.Backpressure = true })
		p.wakeCommitter()
		p.room.Wait()
	}
	if p.stopped || ctx.Err() != nil {
		d.release()
		return context.Canceled
	}
	rows := d.Rows
	if rows != nil {
		rows.Retain() // for the tail: the batch may release an empty one
		defer rows.Release()
	}
	if err := p.st.Batcher.Add(partition, d); err != nil {
		d.release()
		return fmt.Errorf("stretch refused: %w", err)
	}
	p.pace.add(p.now(), partition, d.Range.End-d.Range.Start, left)
	p.st.Tail.Append(rows, d.Range)
	p.addFresh(rows)
	p.observe(partition, fetched, d)
	if p.st.Batcher.Full() {
		p.wakeCommitter()
	}
	return nil
}

// held is the memory that counts against BatchMemory.
func (p *Pipeline) held() int64 { return p.inFlight + p.st.Batcher.Bytes() }

func (p *Pipeline) wakeCommitter() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (d Decoded) release() {
	if d.Rows != nil {
		d.Rows.Release()
	}
}

func (p *Pipeline) observe(partition int32, fetched time.Time, d Decoded) {
	now := p.now()
	var rows int64
	if d.Rows != nil {
		rows = d.Rows.NumRows()
	}
	p.m.decoded(p.name, rows, d)
	if !d.MinKafka.IsZero() && rows > 0 {
		p.m.freshness.WithLabelValues(p.name, "hot").Observe(max(now.Sub(d.MinKafka).Seconds(), 0))
	}
	p.status.set(func(s *Status) {
		s.Backpressure = false
		s.Rows += rows
		s.DeadLetters += int64(len(d.Dead))
		s.Events, s.Complete = s.Events+d.Events, s.Complete+d.Complete
		s.Filtered += int64(len(d.Filtered))
		s.Unrouted += d.Unrouted
		s.Duplicates += int64(len(d.Duplicates))
		s.LastDecode, s.LastFetch = now, fetched
		if !d.MinKafka.IsZero() {
			s.DecodedKafka = d.MinKafka
		}
		s.Consumed[partition] = d.Range.End
		s.sawSchemas(d.SchemaIDs)
		s.TailBytes = p.st.Tail.Bytes()
		s.PendingRows += rows + int64(len(d.Dead))
		if s.PendingSince.IsZero() {
			s.PendingSince = now
		}
	})
}

// commitLoop cuts a batch each interval, earlier when one is full, later when all in it is behind, and commits it. When ctx ends it drains: the
// commit under way and the last one together may take DrainTimeout, because cutting a commit off would only turn a
// known outcome into an unknown one.
func (p *Pipeline) commitLoop(ctx context.Context) error {
	commitCtx, cancel := drainable(ctx, p.cfg.DrainTimeout.D())
	defer cancel()
	interval := p.cfg.CommitInterval.D()
	first := p.cfg.firstTick(p.now())
	tick := time.NewTicker(first)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if first != interval {
				first = interval
				tick.Reset(interval)
			}
			if p.grows() {
				continue
			}
		case <-p.kick:
		case <-p.more:
			p.encodeAhead(commitCtx)
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if err := p.commitOne(commitCtx); err != nil {
			return err
		}
	}
	p.endGeneration()
	if err := p.commitOne(commitCtx); err != nil {
		return fmt.Errorf("last commit: %w (nothing is lost: the next start reads from the last commit on)", err)
	}
	return nil
}

func (p *Pipeline) grows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.st.Batcher.Full() && p.pace.grows(p.now(), p.cfg.CommitInterval.D(), p.cfg.CatchUpInterval.D())
}

// commitOne cuts the open batch and commits it, the same batch again after each failure that can be retried.
func (p *Pipeline) commitOne(ctx context.Context) error {
	p.mu.Lock()
	size := p.st.Batcher.Bytes()
	b, err := p.st.Batcher.Cut()
	p.pace.cut()
	p.dropFresh()
	p.inFlight = size
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if b == nil {
		return p.lookIfIdle(ctx)
	}
	defer func() {
		for _, r := range b.Rows {
			r.Release()
		}
		p.mu.Lock()
		p.inFlight = 0
		p.room.Broadcast()
		p.mu.Unlock()
	}()
	crash.At(ctx, crash.BatchCut)
	return p.commitRetried(ctx, b)
}

// lookIfIdle asks the committer now and then whether the table is still ours. A pipeline with something to commit finds
// out by committing; without this, one on a quiet topic would go on as before after it was set back. And offsets without
// rows (markers, aborted records) would wait for ever for a batch to go with.
func (p *Pipeline) lookIfIdle(ctx context.Context) error {
	now := p.now()
	if now.Sub(p.looked) < idleCheck {
		return nil
	}
	p.looked = now
	err := p.st.Committer.Check(ctx)
	if EndsGeneration(err) {
		return err
	}
	if err != nil && ctx.Err() == nil {
		p.log.Debug("the table could not be looked at", "error", err)
	}
	if err != nil || !p.waiting {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("batch id: %w", err)
	}
	return p.commitRetried(ctx, &Batch{ID: id.String(), Opened: now})
}

// EndsGeneration tells that the table is not where the committer left it: nothing goes on but by a new recovery.
func EndsGeneration(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, ErrRewound) || errors.Is(err, ErrRedriven) || errors.Is(err, ErrNeedsDecision) ||
		errors.Is(err, ErrIncompatibleSchema)
}

func (p *Pipeline) commitRetried(parent context.Context, b *Batch) error {
	ctx, span := startBatchSpan(parent, p.name, b)
	wait := p.cfg.RetryMin.D()
	for {
		began := p.now()
		c, err := p.st.Committer.Commit(ctx, b)
		if err == nil {
			crash.At(ctx, crash.Committed)
			p.committed(b, c, began)
			p.looked, p.waiting = p.now(), c.SnapshotID == 0 || c.Waiting
			span.finish(c.SnapshotID, nil)
			return nil
		}
		p.m.commitFailed(p.name)
		p.status.set(func(s *Status) { s.CommitError, s.CommitErrorAt = err.Error(), p.now() })
		if EndsGeneration(err) || ctx.Err() != nil {
			span.finish(0, err)
			return err
		}
		p.log.Warn("commit failed, trying again", "batch", b.ID, "error", err, "wait", wait)
		_ = sleep.For(ctx, wait)
		wait = min(2*wait, p.cfg.RetryMax.D())
	}
}

func (p *Pipeline) committed(b *Batch, c Committed, began time.Time) {
	now := p.now()
	p.st.Tail.Committed(c.Offsets)
	if f, ok := p.st.Decoder.(Follower); ok {
		f.Committed(c.Offsets)
	}
	if p.st.Publisher != nil && c.SnapshotID != 0 {
		p.st.Publisher.Committed(c.DeadLetters, c.Offsets)
	}
	p.m.committed(p.name, b, c, now, began)
	p.status.set(func(s *Status) {
		s.Committed = c.Offsets
		s.Epoch = c.Epoch
		s.PendingRows -= b.RowCount + int64(len(b.Dead))
		s.PendingSince = time.Time{}
		if s.PendingRows > 0 {
			s.PendingSince = now
		}
		s.CommitError = ""
		s.TailBytes = p.st.Tail.Bytes()
		s.Problem, s.ProblemKind = nil, ""
		if c.SnapshotID != 0 {
			s.SnapshotID, s.LastCommit, s.Snapshots = c.SnapshotID, now, s.Snapshots+1
			s.schemaChanged(c, now)
			s.CommitSeconds, s.Phases = now.Sub(began).Seconds(), c.Phases
			if !b.MinKafka.IsZero() {
				s.CommittedFreshness.add(now.Sub(b.MinKafka))
			}
		}
	})
	p.log.Debug("committed", "batch", b.ID, "snapshot", c.SnapshotID, "rows", b.RowCount, "dead_letters", len(b.Dead),
		"files", c.Files, "bytes", c.FileBytes, "attempts", c.Attempts, "seconds", now.Sub(began).Seconds())
}

// standBy watches the writer that fenced this one, and returns when the table stood still for the Standby time: then
// the other is gone or has nothing to do, and taking over is safe either way, because the tag decides again.
func (p *Pipeline) standBy(ctx context.Context) {
	if p.st.Publisher != nil {
		p.st.Publisher.Resume(nil, nil) // the other writer's to do
	}
	p.st.Tail.Reset(-1, offset.Vector{}) // rows of a fenced writer must not be shown: no snapshot has epoch -1
	p.status.set(func(s *Status) { s.StandsBy = true })
	var seen State
	for ctx.Err() == nil {
		_ = sleep.For(ctx, p.cfg.Standby.D())
		st, err := p.st.Committer.Recover(ctx)
		if err != nil {
			p.note(err)
			continue
		}
		if seen.Offsets != nil && st.SnapshotID == seen.SnapshotID && st.Offsets.Equal(seen.Offsets) {
			p.log.Info("the other writer stood still; taking over", "snapshot", st.SnapshotID)
			return
		}
		seen = st
	}
}

// note records why a generation ended. What needs a person is said at error level, with the remedy in the error.
func (p *Pipeline) note(err error) {
	if err == nil {
		return
	}
	kind := problemKind(err)
	p.status.set(func(s *Status) { s.Problem, s.ProblemKind, s.ProblemAt = err, kind, p.now() })
	p.m.generationEnded(p.name, kind)
	if kind == KindTransient || kind == KindRewound {
		p.log.Warn("starting over", "cause", kind, "error", err)
		return
	}
	p.log.Error("pipeline does not run", "state", kind, "error", err)
}

// drainable returns a context that outlives parent by at most d.
func drainable(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}
