package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Run writes marks and reads them back until cfg.Duration has passed and all marks have ended, or ctx ends, which is
// how an endless probe ends and no error. Only a Config that cannot be used is an error; what went wrong meanwhile is
// in the Result. reg may be nil.
func Run(ctx context.Context, cfg Config, p Producer, r Reader, reg prometheus.Registerer) (Result, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return Result{}, fmt.Errorf("probe: %w", err)
	}
	pr := &prober{cfg: cfg, producer: p, reader: r, metrics: newMetrics(reg, cfg.Levels), slots: make(chan struct{}, cfg.MaxInFlight),
		reads: map[string]chan struct{}{}, levels: map[string]*samples{}}
	for _, l := range cfg.Levels {
		pr.reads[l] = make(chan struct{}, cfg.MaxReads)
		pr.levels[l] = &samples{}
	}
	began := time.Now()
	pr.loop(ctx)
	pr.marks.Wait()
	return pr.result(time.Since(began)), nil
}

type prober struct {
	cfg      Config
	producer Producer
	reader   Reader
	metrics  *metrics
	slots    chan struct{}            // marks under way
	reads    map[string]chan struct{} // questions under way, per level
	marks    sync.WaitGroup

	mu     sync.Mutex
	levels map[string]*samples
	acked  samples
	counts counts
}

type counts struct {
	marks, skipped, produceErrors, readErrors int64
	lastError                                 string
}

// loop begins a mark at every interval; the first at once.
func (p *prober) loop(ctx context.Context) {
	tick := time.NewTicker(p.cfg.Interval)
	defer tick.Stop()
	began := time.Now()
	for {
		// A tick at the very end of the duration begins nothing.
		if ctx.Err() != nil || p.cfg.Duration > 0 && time.Since(began) >= p.cfg.Duration {
			return
		}
		select {
		case p.slots <- struct{}{}:
			p.marks.Go(func() {
				defer func() { <-p.slots }()
				p.mark(ctx)
			})
		default:
			p.count(func(c *counts) { c.skipped++ })
			p.metrics.skipped.Inc()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// mark writes one event and waits until every level has it.
func (p *prober) mark(ctx context.Context) {
	began := time.Now()
	markCtx, cancel := context.WithDeadline(ctx, began.Add(p.cfg.Timeout))
	defer cancel()
	key, value := p.cfg.Event("probe-"+uuid.NewString(), began)
	began = time.Now() // building the event is not freshness
	partition, offset, err := p.producer.ProduceOne(markCtx, p.cfg.Topic, key, value)
	if err != nil {
		if ctx.Err() == nil {
			p.metrics.errors.WithLabelValues("produce").Inc()
			p.count(func(c *counts) { c.produceErrors++; c.lastError = err.Error() })
		}
		return
	}
	p.mu.Lock()
	p.counts.marks++
	p.acked.add(time.Since(began))
	p.mu.Unlock()
	var levels sync.WaitGroup
	for _, l := range p.cfg.Levels {
		levels.Go(func() {
			visible := p.await(markCtx, l, partition, offset)
			p.ended(ctx, Mark{Level: l, Partition: partition, Offset: offset, Latency: time.Since(began), Lost: !visible})
		})
	}
	levels.Wait()
}

// await asks until the record is there or ctx ends.
func (p *prober) await(ctx context.Context, level string, partition int32, offset int64) bool {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
		}
		visible, err := p.ask(ctx, level, partition, offset)
		if visible {
			return true
		}
		wait := p.cfg.PollInterval
		if err != nil && ctx.Err() == nil {
			p.metrics.errors.WithLabelValues("read").Inc()
			p.count(func(c *counts) { c.readErrors++; c.lastError = level + ": " + err.Error() })
			wait *= errorPolls
		}
		pause.Reset(wait)
	}
}

func (p *prober) ask(ctx context.Context, level string, partition int32, offset int64) (bool, error) {
	reads := p.reads[level]
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case reads <- struct{}{}:
	}
	defer func() { <-reads }()
	visible, err := p.reader.Visible(ctx, level, partition, offset)
	return visible && err == nil, err
}

// ended records the outcome of a mark at a level.
func (p *prober) ended(ctx context.Context, m Mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.levels[m.Level]
	switch {
	case !m.Lost:
		s.add(m.Latency)
		p.metrics.freshness.WithLabelValues(m.Level).Observe(m.Latency.Seconds())
	case ctx.Err() != nil:
		s.unfinished++
		return
	default:
		s.lost++
		p.metrics.lost.WithLabelValues(m.Level).Inc()
	}
	if p.cfg.OnMark != nil {
		p.cfg.OnMark(m)
	}
}

func (p *prober) count(f func(*counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.counts)
}

// result is the state of everything; all marks have ended.
func (p *prober) result(elapsed time.Duration) Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Result{Topic: p.cfg.Topic, Elapsed: elapsed, Marks: p.counts.marks, Skipped: p.counts.skipped,
		ProduceErrors: p.counts.produceErrors, ReadErrors: p.counts.readErrors, LastError: p.counts.lastError, Acked: p.acked.quantiles()}
	for _, l := range p.cfg.Levels {
		s := p.levels[l]
		r.Levels = append(r.Levels, Level{Level: l, Quantiles: s.quantiles(), Lost: s.lost, Unfinished: s.unfinished})
	}
	return r
}
