package simulation

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
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
	"github.com/firnlake/firn/engine/tail"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

// writer is one process: a pipeline from its start to its end.
type writer struct {
	*world
	id        int
	contract  int
	pipe      *engine.Pipeline
	tail      *tail.Tail
	letters   *publish.Publisher // nil without a topic of dead letters
	cancel    context.CancelFunc
	ended     chan struct{}
	dead      atomic.Bool // it crashed: nothing that it does takes effect any more
	stopping  bool        // it was asked to end
	overtaken bool        // another one's rows were committed since its own: it will be fenced
	paused    int         // the turn until which none of its requests is served

	refusals  int // conflicts in a row while the tables stood at refusedAt
	refusedAt int64

	crashAt crash.Point
	left    int
	doomed  bool          // it stands where it is to crash; under mine
	killed  chan struct{} // closed when it is dead

	mine sync.Mutex
	hits map[crash.Point]int
	keys []string // of data files that it wrote
}

func (w *world) start(slot int) error {
	a := &writer{world: w, id: len(w.all), ended: make(chan struct{}), killed: make(chan struct{}), hits: map[crash.Point]int{}}
	if !w.oneWay {
		a.contract = w.rnd.IntN(2)
	}
	if !w.calm && w.rnd.IntN(3) > 0 {
		ps := crash.Points()
		a.crashAt, a.left = ps[w.rnd.IntN(len(ps))], 1+w.rnd.IntN(4)
	}
	w.slots[slot], w.all = a, append(w.all, a)
	w.note("writer %d starts: contract %d", a.id, a.contract)
	return a.run()
}

func (a *writer) run() error {
	write := datafile.DefaultWriteOptions()
	write.Codec = "none" // what compression costs would be most of a schedule
	src := &reader{w: a, log: a.log}
	unpublished, publisher := a.newPublisher()
	c, err := commit.New(commit.Config{Pipeline: pipeline, Table: a.rows, DeadTable: a.world.dead, Write: write, MaxUploads: 1,
		Topic: src.Describe, Unpublished: unpublished, OffsetsInterval: time.Second, UnknownTimeout: time.Second, StoreAgainAfter: storeAgain},
		&line{a, a.m}, &objstore.Warehouse{Store: &disk{a.store, a}, URI: a.wh.URI}, a.encodeDead, nil, commitMetrics)
	if err != nil {
		return err
	}
	if a.breaks.committer != nil {
		a.breaks.committer(c)
	}
	d, err := decode.NewJSON(a.contracts[a.contract], a.schema, decode.Options{})
	if err != nil {
		return err
	}
	var dec engine.Decoder = d
	if a.log.deduped {
		seen := commit.NewSeen(&seenLine{line{a, a.m}}, &objstore.Warehouse{Store: &disk{a.store, a}, URI: a.wh.URI}, a.rows, pipeline, "id")
		if dec, err = dedup.New(dedup.Config{Column: "id", Window: units.Duration(dedupWindow)}, d, seen, dedup.Options{Seed: 1, Now: time.Now}); err != nil {
			return err
		}
	}
	a.tail = tail.New(time.Second, 1<<30, time.Now)
	var shown engine.Tail = a.tail
	if a.breaks.showFenced {
		shown = keeps{a.tail}
	}
	cfg := engine.DefaultConfig()
	cfg.AheadRows = 2 // so that batches of a few rows are encoded ahead, too
	cfg.CommitInterval, cfg.DrainTimeout, cfg.Standby = units.Duration(2*tick), units.Duration(time.Second), units.Duration(time.Second)
	cfg.RetryMax = units.Duration(time.Second)
	a.pipe, err = engine.New(pipeline, cfg, engine.Stages{Source: src, Decoder: dec, Batcher: batch.New(batch.Config{MaxRows: maxRows, MaxBytes: 1 << 20}, time.Now),
		Tail: shown, Committer: c, Publisher: publisher}, slog.New(slog.DiscardHandler), engineMetrics)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(crash.With(context.Background(), a.passes))
	a.cancel = cancel
	go func() {
		defer close(a.ended)
		stop := a.publishing()
		_ = a.pipe.Run(ctx) // how it ended shows in the tables
		stop()
		a.tail.Close()
	}()
	return nil
}

// keeps is a tail that is not told that its writer was fenced.
type keeps struct{ engine.Tail }

func (k keeps) Reset(epoch int64, v offset.Vector) {
	if epoch >= 0 {
		k.Tail.Reset(epoch, v)
	}
}

func (a *writer) encodeDead(sc *iceberg.Schema, dead []engine.Dead) (arrow.RecordBatch, error) {
	return decode.DeadRows(memory.DefaultAllocator, sc, func(int32) string { return "events" }, dead, time.Now())
}

// commits executes its commit at the catalog.
func (a *writer) commits(ctx context.Context, cs []catalog.TableCommit, do func(context.Context, []catalog.TableCommit) error) error {
	err := a.world.commits(ctx, cs, do)
	if err == nil && slices.ContainsFunc(cs, func(c catalog.TableCommit) bool { return key(c.Identifier) == key(a.rows) }) {
		for _, o := range a.all {
			o.overtaken = o != a
		}
	}
	return err
}

// passes is called where the engine comes by a named place; it is the writer's own goroutine. Where the writer is to crash,
// it stands until the driver has seen it: how far its other goroutines come meanwhile must not depend on who is faster.
func (a *writer) passes(p crash.Point) {
	if a.comesBy(p) {
		<-a.killed
	}
}

func (a *writer) comesBy(p crash.Point) (crashes bool) {
	a.mine.Lock()
	defer a.mine.Unlock()
	if a.dead.Load() {
		return false
	}
	a.hits[p]++
	a.doomed = a.doomed || p == a.crashAt && a.hits[p] == a.left
	return a.doomed
}

// crashes cuts the writer off if it stands where it is to crash.
func (a *writer) crashes() bool {
	a.mine.Lock()
	defer a.mine.Unlock()
	if !a.doomed || a.dead.Load() {
		return false
	}
	a.die()
	return true
}

// die cuts the writer off.
func (a *writer) die() {
	if a.dead.CompareAndSwap(false, true) {
		close(a.killed)
		a.cancel()
	}
}

func (a *writer) puts(k string) {
	a.mine.Lock()
	defer a.mine.Unlock()
	a.keys = append(a.keys, k)
}

// putKeys gives the data files written since it was asked last.
func (a *writer) putKeys() []string {
	a.mine.Lock()
	defer a.mine.Unlock()
	ks := a.keys
	a.keys = nil
	return ks
}

func (a *writer) over() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}
