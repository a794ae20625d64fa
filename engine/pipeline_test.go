package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/batch"
	"github.com/firnlake/firn/engine/tail"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

var ledgerSchema = arrow.NewSchema([]arrow.Field{
	{Name: ledger.ColPartition, Type: arrow.PrimitiveTypes.Int32},
	{Name: ledger.ColOffset, Type: arrow.PrimitiveTypes.Int64},
	{Name: "payload", Type: arrow.BinaryTypes.Binary},
}, nil)

// fakeSource gives one stretch of ten records per Poll, round robin over two partitions, every 100 ms.
type fakeSource struct {
	mu      sync.Mutex
	at      offset.Vector
	epochs  map[int32]int32 // as Start was told
	turn    int
	limit   int64 // offsets per partition; the source is idle after that
	fail    error // returned once by Poll
	starts  int
	stretch int64
	behind  map[int32]int64 // where the log ends, partition by partition; else with each stretch
}

func (s *fakeSource) Describe(context.Context) (engine.Topic, error) {
	return engine.Topic{Name: "t", Partitions: []int32{0, 1}}, nil
}

func (s *fakeSource) Start(_ context.Context, from offset.Vector, epochs map[int32]int32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.epochs, s.starts = from.Clone(), epochs, s.starts+1
	return nil
}

func (s *fakeSource) Poll(ctx context.Context) (*engine.Fetch, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		s.mu.Lock()
		if s.fail != nil {
			err := s.fail
			s.fail = nil
			s.mu.Unlock()
			return nil, err
		}
		p := int32(s.turn % 2)
		s.turn++
		at := s.at[p]
		if at >= s.limit {
			s.mu.Unlock()
			continue
		}
		s.at[p] = at + s.stretch
		s.mu.Unlock()
		f := &engine.Fetch{Partition: p, Start: at, End: at + s.stretch, LastStable: max(at+s.stretch, s.behind[p]), FetchedAt: time.Now()}
		for o := at; o < at+s.stretch; o++ {
			f.Records = append(f.Records, engine.Record{Offset: o, TimestampMs: time.Now().UnixMilli()})
		}
		return f, nil
	}
}

func (s *fakeSource) Positions() map[int32]engine.Position { return nil }
func (s *fakeSource) Health() error                        { return nil }
func (s *fakeSource) Close() error                         { return nil }

// fakeDecoder gives a row per record; the first row of a stretch carries pad bytes.
type fakeDecoder struct {
	alloc memory.Allocator
	pad   []byte
}

func (d *fakeDecoder) ArrowSchema() *arrow.Schema { return ledgerSchema }

func (d *fakeDecoder) Decode(f *engine.Fetch) (engine.Decoded, error) {
	b := array.NewRecordBuilder(d.alloc, ledgerSchema)
	defer b.Release()
	for i, r := range f.Records {
		b.Field(2).(*array.BinaryBuilder).Append(d.pad[:len(d.pad)*max(1-i, 0)])
		b.Field(0).(*array.Int32Builder).Append(f.Partition)
		b.Field(1).(*array.Int64Builder).Append(r.Offset)
	}
	return engine.Decoded{Range: offset.Range{Partition: f.Partition, Start: f.Start, End: f.End}, Rows: b.NewRecordBatch(),
		LastRow: f.End - 1, MinKafka: time.UnixMilli(f.Records[0].TimestampMs)}, nil
}

type rowKey struct {
	partition int32
	offset    int64
}

// fakeCommitter keeps the committed offsets of each partition and refuses a batch that does not continue them.
type fakeCommitter struct {
	mu       sync.Mutex
	state    engine.State
	rows     map[rowKey]int // → times committed
	ids      []string
	fail     func(attempt int, b *engine.Batch) error
	attempts int
	block    chan struct{}
	check    func() error
	gapErr   error // returned once by RecordGap
	hold     int   // so many commits leave their offsets for a later one
	held     []offset.Range
	unsaid   int // so many snapshots more are not the last word
	ahead    []arrow.RecordBatch
	wrong    error
	tookOver int // commits of batches of which some rows were there ahead
}

// EncodeAhead implements engine.Ahead.
func (c *fakeCommitter) EncodeAhead(_ context.Context, rows []arrow.RecordBatch) {
	c.ahead = append(c.ahead, rows...)
}

// checkAhead holds what came ahead against the batch.
func (c *fakeCommitter) checkAhead(b *engine.Batch) error {
	if len(c.ahead) > len(b.Rows) || !slices.Equal(c.ahead, b.Rows[:len(c.ahead)]) {
		return fmt.Errorf("%d batches of rows came ahead that are not the first of the %d of batch %s", len(c.ahead), len(b.Rows), b.ID)
	}
	if len(c.ahead) > 0 {
		c.tookOver++
	}
	return nil
}

func (c *fakeCommitter) Check(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.check == nil {
		return nil
	}
	return c.check()
}

func (c *fakeCommitter) Recover(context.Context) (engine.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = nil
	st := c.state
	st.Offsets = st.Offsets.Clone()
	return st, nil
}

func (c *fakeCommitter) Commit(ctx context.Context, b *engine.Batch) (engine.Committed, error) {
	if c.block != nil {
		select {
		case <-c.block:
		case <-ctx.Done():
			return engine.Committed{}, ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	c.ids = append(c.ids, b.ID)
	if err := c.checkAhead(b); err != nil {
		c.wrong = errors.Join(c.wrong, err)
	}
	if c.fail != nil {
		if err := c.fail(c.attempts, b); err != nil {
			return engine.Committed{}, err
		}
	}
	if c.hold > 0 {
		c.hold, c.held = c.hold-1, append(c.held, b.Ranges...)
		return engine.Committed{Offsets: c.state.Offsets.Clone(), Epoch: c.state.Epoch, At: time.Now()}, nil
	}
	ranges, err := offset.Merge(append(c.held, b.Ranges...))
	if err != nil {
		return engine.Committed{}, err
	}
	c.held = nil
	v, err := c.state.Offsets.Advance(ranges)
	if err != nil {
		return engine.Committed{}, fmt.Errorf("%w: %w", engine.ErrFenced, err)
	}
	for _, r := range b.Rows {
		for i := range int(r.NumRows()) {
			c.rows[rowKey{r.Column(0).(*array.Int32).Value(i), r.Column(1).(*array.Int64).Value(i)}]++
		}
	}
	c.state.Offsets, c.state.SnapshotID, c.ahead = v, c.state.SnapshotID+1, nil
	c.unsaid = max(c.unsaid-1, 0)
	return engine.Committed{SnapshotID: c.state.SnapshotID, Offsets: v.Clone(), Epoch: c.state.Epoch, At: time.Now(), Waiting: c.unsaid > 0, DeadLetters: offset.Vector{9: c.state.SnapshotID}}, nil
}

type rig struct {
	src  *fakeSource
	dec  *fakeDecoder
	com  *fakeCommitter
	tail *tail.Tail
	pub  *fakePublisher
	p    *engine.Pipeline
}

// fakePublisher notes what it is told.
type fakePublisher struct {
	resumed []string
	dead    []offset.Vector
}

func (p *fakePublisher) Resume(unpublished, v offset.Vector) {
	p.resumed = append(p.resumed, unpublished.String()+" of "+v.String())
}

func (p *fakePublisher) Committed(dead, _ offset.Vector) { p.dead = append(p.dead, dead) }

func newRig(t *testing.T, limit int64, change func(*engine.Config)) rig {
	t.Helper()
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	cfg := engine.DefaultConfig()
	cfg.AheadRows = 25 // two stretches and a half
	if change != nil {
		change(&cfg)
	}
	r := rig{
		src:  &fakeSource{limit: limit, stretch: 10},
		dec:  &fakeDecoder{alloc: alloc},
		com:  &fakeCommitter{rows: map[rowKey]int{}, state: engine.State{Offsets: offset.Vector{0: 0, 1: 0}, LeaderEpochs: map[int32]int32{1: 4}}},
		tail: tail.New(time.Second, 1<<30, time.Now),
		pub:  &fakePublisher{},
	}
	t.Cleanup(func() {
		r.tail.Close()
		alloc.AssertSize(t, 0)
		if r.com.wrong != nil {
			t.Error(r.com.wrong)
		}
	})
	p, err := engine.New("p", cfg, engine.Stages{Source: r.src, Decoder: r.dec, Batcher: batch.New(batch.DefaultConfig(), time.Now),
		Tail: r.tail, Committer: r.com, Publisher: r.pub}, slog.New(slog.DiscardHandler), engine.NewMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	r.p = p
	return r
}

// run runs the pipeline for d of virtual time and returns what Run returned.
func (r rig) run(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.p.Run(ctx)
}

func (r rig) wantRows(t *testing.T, perPartition int64) {
	t.Helper()
	if got, want := len(r.com.rows), int(2*perPartition); got != want {
		t.Errorf("%d distinct rows committed, want %d", got, want)
	}
	for k, n := range r.com.rows {
		if n != 1 {
			t.Fatalf("row %v was committed %d times", k, n)
		}
	}
}

func TestPipelineCommitsEachSecondAndDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 150, nil)
		if err := r.run(2450 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		r.wantRows(t, 120) // 24 polls of 10 rows by 2.4 s: the drain commits what came after the second tick
		if r.com.attempts != 3 || r.com.tookOver != 3 {
			t.Errorf("%d commits, %d of them with rows that came ahead, want 3", r.com.attempts, r.com.tookOver)
		}
		if r.src.epochs[1] != 4 {
			t.Errorf("the source was told leader epochs %v", r.src.epochs)
		}
	})
}

// TestPipelinesCommitEachAtItsTime: synctest's time begins with a whole second.
func TestPipelinesCommitEachAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(850 * time.Millisecond)
		r := newRig(t, 1000, func(c *engine.Config) { c.Phase = units.Duration(200 * time.Millisecond) })
		var at []time.Duration
		r.com.fail = func(int, *engine.Batch) error {
			at = append(at, time.Duration(time.Now().UnixNano())%time.Second)
			return nil
		}
		if err := r.run(2 * time.Second); err != nil {
			t.Fatal(err)
		}
		if want := []time.Duration{200 * time.Millisecond, 200 * time.Millisecond, 850 * time.Millisecond}; !slices.Equal(at, want) {
			t.Errorf("commits at %v of a second, want %v, the last one by the end of the run", at, want)
		}
	})
}

// TestPipelineBehindMakesFewSnapshots: while all partitions are behind, batches grow for CatchUpInterval; near the end of the
// log, or beside a partition that is live, there is a commit each second.
func TestPipelineBehindMakesFewSnapshots(t *testing.T) {
	for name, c := range map[string]struct {
		behind   map[int32]int64
		catchUp  time.Duration
		snapshot int64
	}{
		"live":                   {nil, 5 * time.Second, 20},
		"behind":                 {map[int32]int64{0: 10_000, 1: 10_000}, 5 * time.Second, 4},
		"one is live":            {map[int32]int64{0: 10_000}, 5 * time.Second, 20},
		"the end comes in sight": {map[int32]int64{0: 520, 1: 520}, 5 * time.Second, 13}, // at 5, 8, 10 and each second from then on
		"not wanted":             {map[int32]int64{0: 10_000, 1: 10_000}, 0, 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 1000, func(c2 *engine.Config) { c2.CatchUpInterval = units.Duration(c.catchUp) })
				r.src.behind = c.behind
				if err := r.run(19*time.Second + 950*time.Millisecond); err != nil {
					t.Fatal(err)
				}
				if r.com.state.SnapshotID != c.snapshot {
					t.Errorf("%d snapshots, want %d", r.com.state.SnapshotID, c.snapshot)
				}
				if got, want := int64(len(r.com.rows)), r.com.state.Offsets[0]+r.com.state.Offsets[1]; got != want || want < 1980 {
					t.Errorf("%d rows of %d offsets", got, want)
				}
			})
		})
	}
}

func TestPipelineRetriesTheSameBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 100, nil)
		r.com.fail = func(n int, _ *engine.Batch) error {
			if n <= 3 {
				return errors.New("503 from the catalog")
			}
			return nil
		}
		if err := r.run(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		r.wantRows(t, 100)
		if r.com.ids[0] != r.com.ids[3] || r.com.ids[3] == r.com.ids[4] {
			t.Errorf("batch ids %v: the first four attempts must be one batch", r.com.ids)
		}
	})
}

func TestFencedPipelineStandsByAndHidesItsTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1000, nil)
		fenced := false
		r.com.fail = func(n int, _ *engine.Batch) error {
			if n == 2 && !fenced {
				fenced = true
				r.com.state.Offsets = offset.Vector{0: 200, 1: 200} // the other writer came that far
				r.com.state.SnapshotID = 77
				return engine.ErrFenced
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.p.Run(ctx) }()
		time.Sleep(5 * time.Second)
		if _, err := r.tail.Cut(ctx, offset.Vector{}, 0); !errors.Is(err, hot.ErrFenced) {
			t.Errorf("tail of a fenced writer answered %v, want ErrFenced", err)
		}
		if k := r.p.Status().ProblemKind; k != engine.KindFenced {
			t.Errorf("state %q, want fenced", k)
		}
		time.Sleep(30 * time.Second) // the other writer is silent: taken over
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if r.com.state.Offsets[0] <= 200 {
			t.Errorf("offsets %v: the pipeline did not take over", r.com.state.Offsets)
		}
		for k, n := range r.com.rows {
			if n != 1 {
				t.Fatalf("row %v was committed %d times", k, n)
			}
		}
	})
}

func TestPipelineStopsLoudlyAndGoesOnWhenTheCauseIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 100, nil)
		r.src.fail = fmt.Errorf("partition 1: %w", engine.ErrRetentionGap)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.p.Run(ctx) }()
		time.Sleep(150 * time.Millisecond)
		if st := r.p.Status(); st.ProblemKind != engine.KindStopped {
			t.Errorf("status %+v, want stopped", st)
		}
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r.wantRows(t, 100)
		if st := r.p.Status(); st.Problem != nil {
			t.Errorf("problem %q still shows after commits", st.Problem)
		}
	})
}

// RecordGap implements engine.GapRecorder.
func (c *fakeCommitter) RecordGap(_ context.Context, e *engine.LogError) (engine.Gap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gapErr != nil {
		err := c.gapErr
		c.gapErr = nil
		return engine.Gap{}, err
	}
	g := engine.Gap{Partition: e.Partition, First: c.state.Offsets[e.Partition], Next: e.LogStart, Table: "gaps", SnapshotID: 1}
	c.state.Offsets[e.Partition] = e.LogStart
	return g, nil
}

// TestGapPolicies: what Kafka dropped is jumped over only where that was asked for, also when the first try to note it fails.
func TestGapPolicies(t *testing.T) {
	gap := &engine.LogError{Kind: engine.ErrRetentionGap, Partition: 1, Next: 0, LogStart: 40, LogEnd: -1}
	for _, policy := range []string{engine.GapStop, engine.GapRecord} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 100, func(c *engine.Config) { c.OnGap = policy })
			r.src.fail = fmt.Errorf("topic t: %w", gap)
			if err := r.run(20 * time.Second); err != nil {
				t.Fatal(err)
			}
			st, jumped := r.p.Status(), policy == engine.GapRecord
			if (st.Gaps == 1) != jumped || (st.GapOffsets == 40) != jumped || (st.LastGap != "") != jumped {
				t.Errorf("%s: %d gaps of %d offsets, %q", policy, st.Gaps, st.GapOffsets, st.LastGap)
			}
			if n := len(r.com.rows); (n == 160) != jumped || (n == 200) == jumped {
				t.Errorf("%s: %d rows", policy, n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 100, func(c *engine.Config) { c.OnGap = engine.GapRecord })
		r.src.fail, r.com.gapErr = gap, errors.New("503 from the catalog")
		if err := r.run(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		if st := r.p.Status(); st.Gaps != 0 || len(r.com.rows) != 200 || r.com.gapErr != nil {
			t.Errorf("a gap that could not be noted was jumped over: %+v", st)
		}
	})
	if err := (engine.Config{CommitInterval: units.Duration(time.Second), MaxMemory: 16 << 20, OnGap: "jump"}).Validate(); err == nil || !strings.Contains(err.Error(), "on_gap") {
		t.Errorf("on_gap jump: %v", err)
	}
}

func TestMemoryBoundHoldsTheReaderBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10_000, func(c *engine.Config) { c.MaxMemory = 16 << 20 })
		r.dec.pad = make([]byte, 6<<20)
		r.com.block = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.p.Run(ctx) }()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		st := r.p.Status()
		if got := st.Consumed[0] + st.Consumed[1]; got > 30 || !st.Backpressure {
			t.Errorf("%d offsets decoded under a stuck commit, backpressure %v: the bound of 16 MiB holds two stretches", got, st.Backpressure)
		}
		close(r.com.block)
		time.Sleep(3 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if v := r.com.state.Offsets; v[0]+v[1] <= 30 {
			t.Errorf("offsets %v: reading did not go on after the commit", v)
		}
	})
}

func TestShutdownEndsWithinTheDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1000, func(c *engine.Config) { c.DrainTimeout = units.Duration(2 * time.Second) })
		r.com.block = make(chan struct{})
		began := time.Now()
		if err := r.run(1500 * time.Millisecond); err == nil {
			t.Error("a last commit that never ended gave no error")
		}
		if took := time.Since(began); took > 3600*time.Millisecond {
			t.Errorf("shutdown took %s after 1.5 s of work", took)
		}
	})
}

// TestOffsetsThatWaitAreCommittedOnAQuietTopic: what the committer has put off gets its snapshot without another record.
func TestOffsetsThatWaitAreCommittedOnAQuietTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10, nil)
		r.com.hold = 4
		if err := r.run(time.Minute); err != nil {
			t.Fatal(err)
		}
		if st := r.p.Status(); !st.Committed.Equal(offset.Vector{0: 10, 1: 10}) || r.com.attempts != 5 {
			t.Errorf("committed %s after %d commits", st.Committed, r.com.attempts)
		}
	})
}

// TestPublisherIsTold of each generation, of each snapshot, and that another writer has taken over; and a committer that has
// more to say than its last snapshot is asked on a quiet topic.
func TestPublisherIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 10, nil)
		r.com.state.Unpublished, r.com.hold, r.com.unsaid = offset.Vector{1: 7}, 1, 3
		r.com.fail = func(n int, _ *engine.Batch) error {
			if n == 5 {
				return engine.ErrFenced
			}
			return nil
		}
		r.com.state.Offsets = offset.Vector{0: 0, 1: 8}
		if err := r.run(time.Minute); err != nil {
			t.Fatal(err)
		}
		if want := []offset.Vector{{9: 1}, {9: 2}, {9: 3}}; fmt.Sprint(r.pub.dead) != fmt.Sprint(want) {
			t.Errorf("told of %v, want %v", r.pub.dead, want)
		}
		if got := strings.Join(r.pub.resumed, ", "); got != "1:7 of 0:0 1:8" {
			t.Errorf("resumed with %s", got)
		}
	})
}

// TestIdlePipelineLooks: with nothing to commit, the pipeline still finds out that the table was set back and reads on
// from there; a look that fails changes nothing.
func TestIdlePipelineLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 30, nil)
		looks := 0
		r.com.check = func() error {
			if looks++; looks < 3 {
				return errors.New("no answer")
			}
			if looks == 3 {
				r.com.state.Offsets, r.com.state.Epoch = offset.Vector{0: 10, 1: 10}, 1
				r.com.rows = map[rowKey]int{}
				return fmt.Errorf("%w: by a person", engine.ErrRewound)
			}
			return nil
		}
		if err := r.run(time.Minute); err != nil {
			t.Fatal(err)
		}
		if looks < 10 || looks > 25 {
			t.Errorf("%d looks in a minute", looks)
		}
		st := r.p.Status()
		if st.Epoch != 1 || !st.Committed.Equal(offset.Vector{0: 30, 1: 30}) || len(r.com.rows) != 40 {
			t.Errorf("epoch %d, committed %s, %d rows read again", st.Epoch, st.Committed, len(r.com.rows))
		}
	})
}
