package generate

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/firnlake/firn/internal/sleep"
)

// ErrPermanent is wrapped by an error of produce that no retry can pass; it ends Run.
var ErrPermanent = errors.New("cannot be sent")

const (
	// step is how often events fall due.
	step = 20 * time.Millisecond
	// maxBatch is how many records produce gets at once, some 400 bytes each.
	maxBatch = 1000
	// maxBacklog is how far behind its schedule Run may be and still send everything.
	maxBacklog = 5 * time.Second
	// minBackoff and maxBackoff bound the pause after a failed attempt, which doubles.
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// Stats is what Run did.
type Stats struct {
	Sent    int64         `json:"sent"`
	Bytes   int64         `json:"bytes"`  // keys and values
	Broken  int64         `json:"broken"` // of Sent
	Late    int64         `json:"late"`   // of Sent
	Errors  int64         `json:"errors"` // attempts to send that failed
	Behind  int64         `json:"behind"` // events of the schedule that were skipped after a stall
	Elapsed time.Duration `json:"elapsed_ns"`
}

// String is one line for people.
func (s Stats) String() string {
	rate := 0.0
	if s.Elapsed > 0 {
		rate = float64(s.Sent) / s.Elapsed.Seconds()
	}
	line := fmt.Sprintf("%d events in %s (%.0f/s, %.1f MB), %d broken, %d late", s.Sent, s.Elapsed.Round(10*time.Millisecond), rate, float64(s.Bytes)/1e6, s.Broken, s.Late)
	if s.Errors > 0 {
		line += fmt.Sprintf(", %d failed attempts", s.Errors)
	}
	if s.Behind > 0 {
		line += fmt.Sprintf(", %d skipped after stalls", s.Behind)
	}
	return line
}

// Progress is the Stats of a Run that goes on. Safe for concurrent use.
type Progress struct{ p atomic.Pointer[Stats] }

// Stats is the state after the latest batch.
func (p *Progress) Stats() Stats {
	if s := p.p.Load(); s != nil {
		return *s
	}
	return Stats{}
}

// String is one line for people.
func (p *Progress) String() string { return p.Stats().String() }

// Run makes events at cfg.Rate and hands them to produce until the count or the duration is reached or ctx ends, which
// is an error. produce is called by one goroutine, with records of any partition in the order of their making; it
// returns when all are acknowledged. When it fails Run tries the same records again for as long as ctx lasts, so a
// produce that fails after some were written doubles those; an error that wraps ErrPermanent ends Run.
func Run(ctx context.Context, cfg Config, produce func(ctx context.Context, recs []Record) error) (Stats, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return Stats{}, err
	}
	r := &run{cfg: cfg, gen: NewGenerator(cfg), produce: produce, start: cfg.Now()}
	err := r.loop(ctx)
	r.publish()
	return r.stats, err
}

type run struct {
	cfg     Config
	gen     *Generator
	produce func(ctx context.Context, recs []Record) error
	start   time.Time
	next    int64 // place of the next event in the schedule
	stats   Stats
}

// loop sends what is due, step by step.
func (r *run) loop(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, ended := r.due(r.cfg.Now().Sub(r.start))
		if n > 0 {
			if err := r.batch(ctx, int(min(n, maxBatch))); err != nil {
				return err
			}
			r.publish()
			if n > maxBatch {
				continue // more is due already
			}
		}
		if ended {
			return nil
		}
		if r.cfg.Rate == 0 {
			continue
		}
		elapsed := r.cfg.Now().Sub(r.start)
		if err := sleep.For(ctx, step-elapsed%step); err != nil {
			return err
		}
	}
}

// due is how many events should have been sent by now and were not, and whether none follow them.
func (r *run) due(elapsed time.Duration) (n int64, ended bool) {
	timeUp := r.cfg.Duration > 0 && elapsed >= r.cfg.Duration
	if r.cfg.Rate == 0 {
		n, ended = maxBatch, timeUp
		if timeUp {
			n = 0
		}
	} else {
		if timeUp {
			elapsed = r.cfg.Duration
		}
		n = int64(elapsed.Seconds()*r.cfg.Rate) - r.next
		if behind := n - max(maxBatch, int64(maxBacklog.Seconds()*r.cfg.Rate)); behind > 0 {
			r.next += behind
			r.stats.Behind += behind
			n -= behind
		}
		ended = timeUp && n <= maxBatch
	}
	if r.cfg.Count > 0 {
		if left := r.cfg.Count - r.stats.Sent; n >= left {
			return left, left <= maxBatch
		}
	}
	return n, ended
}

// batch makes n events and sends them.
func (r *run) batch(ctx context.Context, n int) error {
	r.gen.Reset()
	var late, broken int64
	now := r.cfg.Now()
	for i := range n {
		at := now
		if r.cfg.Rate > 0 {
			at = r.start.Add(time.Duration(float64(r.next+int64(i)) / r.cfg.Rate * float64(time.Second)))
		}
		l, b := r.gen.Next(at)
		if l {
			late++
		}
		if b != 0 {
			broken++
		}
	}
	if err := r.send(ctx, r.gen.Batch()); err != nil {
		return err
	}
	for _, rec := range r.gen.Batch() {
		r.stats.Bytes += int64(len(rec.Key) + len(rec.Value))
	}
	r.next += int64(n)
	r.stats.Sent += int64(n)
	r.stats.Late += late
	r.stats.Broken += broken
	return nil
}

// send tries until the records are taken.
func (r *run) send(ctx context.Context, recs []Record) error {
	pause := minBackoff
	for attempt := 1; ; attempt++ {
		err := r.produce(ctx, recs)
		if err == nil {
			if attempt > 1 {
				r.cfg.Log.Info("events are taken again", "attempts", attempt)
			}
			return nil
		}
		if ctxErr := ctx.Err(); ctxErr != nil {
			return ctxErr
		}
		r.stats.Errors++
		r.publish()
		if errors.Is(err, ErrPermanent) {
			return err
		}
		if attempt == 1 {
			r.cfg.Log.Warn("events are not taken; trying on", "err", err)
		}
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, maxBackoff)
	}
}

func (r *run) publish() {
	r.stats.Elapsed = r.cfg.Now().Sub(r.start)
	s := r.stats
	r.cfg.Progress.p.Store(&s)
}
