package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/sleep"
)

// MaxTopics bounds the topics that one Many reads: each has Config.ReadAhead and goroutines of its own.
const MaxTopics = 100

// Pauses of Many between two looks at a topic that cannot be read.
const (
	heldMin = time.Second
	heldMax = 30 * time.Second
	// heldFor is how long a topic that was held must be read without an end before it counts as read again: with nothing to
	// read, no stretch says so.
	heldFor = 10 * time.Second
	// absentPause is the pause between two looks for a topic that is not there.
	absentPause = 2 * time.Second
)

// HeldError is what keeps some of several topics from being read until a person has decided, or the topic is there. The
// others are read on.
type HeldError struct {
	Topics map[string]error
	All    bool // no topic is read
}

// Error implements error.
func (e *HeldError) Error() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(e.Topics)) {
		parts = append(parts, fmt.Sprintf("topic %s is not read: %v", name, e.Topics[name]))
	}
	if !e.All {
		parts = append(parts, "the other topics are")
	}
	return strings.Join(parts, "; ")
}

// ManyOptions say what to read.
type ManyOptions struct {
	Topics []string
	// Gaps has a gap that retention has torn come out of Poll, for whoever can note it; otherwise the topic is held.
	Gaps bool
	// RefreshInterval and Now are those of Options.
	RefreshInterval time.Duration
	Now             func() time.Time
}

// Many reads several topics, each by a Source, as one. It implements engine.Source and engine.Numbered: the partitions have the
// table's numbers, and a Fetch names its topic.
//
// What ends the reading of one topic holds that topic alone: it shows in Health as a HeldError, and the topic is tried again
// from where it stood. A topic that the table does not know yet is looked for, and Poll gives engine.ErrTopicsChanged when it is there.
type Many struct {
	sources []*Source
	gaps    bool
	log     *slog.Logger

	life sync.Mutex // one Start or Close at a time; taken before mu

	mu     sync.Mutex
	known  ledger.Topics
	gen    *manyGeneration // nil before Start
	closed bool
	held   map[string]error
}

var (
	_ engine.Source   = (*Many)(nil)
	_ engine.Numbered = (*Many)(nil)
)

// NewMany returns a source that has not connected yet.
func NewMany(cfg Config, o ManyOptions, log *slog.Logger, m *Metrics) (*Many, error) {
	if len(o.Topics) == 0 || len(o.Topics) > MaxTopics {
		return nil, fmt.Errorf("topics: %d of them: name 1 to %d", len(o.Topics), MaxTopics)
	}
	out := &Many{gaps: o.Gaps, log: log, held: map[string]error{}}
	for _, topic := range o.Topics {
		s, err := New(cfg, Options{Topic: topic, RefreshInterval: o.RefreshInterval, Now: o.Now}, log, m)
		if err != nil {
			return nil, errors.Join(err, out.Close())
		}
		out.sources = append(out.sources, s)
	}
	return out, nil
}

// Describe implements engine.Source: the topics have no name and id in common.
func (m *Many) Describe(ctx context.Context) (engine.Topic, error) {
	all, err := m.DescribeAll(ctx)
	if err != nil {
		return engine.Topic{}, err
	}
	out := engine.Topic{ClusterID: all[0].ClusterID, TopicID: noTopicID}
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = t.Name
	}
	out.Name = strings.Join(names, ", ")
	return out, nil
}

// DescribeAll describes the topics that are there, in the order of ManyOptions. It fails when the brokers do not answer, or none is.
func (m *Many) DescribeAll(ctx context.Context) ([]engine.Topic, error) {
	var out []engine.Topic
	var absent error
	for _, s := range m.sources {
		meta, err := s.client.metadata(ctx, s.topic)
		if err != nil {
			return nil, err
		}
		if err := meta.check(s.topic, s.bootstrap()); err != nil {
			absent = errors.Join(absent, err) // Start looks for it
			continue
		}
		out = append(out, engine.Topic{Name: s.topic, ClusterID: meta.clusterID, TopicID: meta.topicID})
	}
	if len(out) == 0 {
		return nil, absent
	}
	return out, nil
}

// Number implements engine.Numbered.
func (m *Many) Number(topics ledger.Topics) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = slices.Clone(topics)
}

// TopicOf names the topic of a partition with the table's number.
func (m *Many) TopicOf(number int32) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, _ := m.known.Of(number)
	return t.Name
}

// Known are the topics of the table as the last Number said.
func (m *Many) Known() ledger.Topics {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

// manyGeneration is one Start.
type manyGeneration struct {
	m      *Many
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	out    chan *engine.Fetch // unbuffered: each topic holds one stretch besides its read-ahead
	failed chan error         // has room for the first error, which ends the generation
}

// Start implements engine.Source.
func (m *Many) Start(_ context.Context, from offset.Vector, epochs map[int32]int32) error {
	m.life.Lock()
	defer m.life.Unlock()
	g := &manyGeneration{m: m, out: make(chan *engine.Fetch), failed: make(chan error, 1)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		g.cancel()
		return errSourceClosed
	}
	old, known := m.gen, m.known
	m.gen = g
	m.held = map[string]error{}
	m.mu.Unlock()
	if old != nil {
		old.end()
	}
	for _, s := range m.sources {
		place := known.Find(s.topic)
		if place < 0 {
			g.wg.Go(func() { g.await(s) })
			continue
		}
		r := &reading{s: s, place: place, id: known[place].ID, next: offset.Vector{}, epochs: map[int32]int32{}}
		for number, at := range from {
			if i, p := ledger.Place(number); i == place {
				r.next[p] = at
			}
		}
		for number, epoch := range epochs {
			if i, p := ledger.Place(number); i == place {
				r.epochs[p] = epoch
			}
		}
		g.wg.Go(func() { g.read(r) })
	}
	return nil
}

func (g *manyGeneration) end() {
	g.cancel()
	g.wg.Wait()
}

// fail ends the generation.
func (g *manyGeneration) fail(err error) {
	select {
	case g.failed <- err:
	default:
	}
}

// hold notes why a topic is not read; nil: it is.
func (g *manyGeneration) hold(topic string, err error) {
	m := g.m
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.held[topic]
	switch {
	case m.gen != g || err == nil && was == nil:
	case err == nil:
		delete(m.held, topic)
		m.log.Info("the topic is read again", "topic", topic)
	default:
		if was == nil {
			m.log.Error("the topic is not read; the other topics of the table are", "topic", topic, "error", err)
		}
		m.held[topic] = err
	}
}

// await looks for a topic that the table does not know.
func (g *manyGeneration) await(s *Source) {
	for g.ctx.Err() == nil {
		_, err := s.Describe(g.ctx)
		if err == nil {
			g.fail(fmt.Errorf("%w: %s", engine.ErrTopicsChanged, s.topic))
			return
		}
		if g.ctx.Err() == nil {
			g.hold(s.topic, err)
		}
		_ = sleep.For(g.ctx, absentPause)
	}
}

// reading is where one topic stands, by Kafka's partitions.
type reading struct {
	s      *Source
	place  int
	id     string
	next   offset.Vector
	epochs map[int32]int32
	read   bool // something was, since the last Start of s
}

// read reads one topic until the generation ends.
func (g *manyGeneration) read(r *reading) {
	wait := heldMin
	for g.ctx.Err() == nil {
		err := g.pump(r)
		if g.ctx.Err() != nil {
			return
		}
		if g.m.gaps && errors.Is(err, engine.ErrRetentionGap) {
			g.fail(err)
			return
		}
		if r.read {
			wait = heldMin
		}
		g.hold(r.s.topic, err)
		_ = sleep.For(g.ctx, wait)
		wait = min(2*wait, heldMax)
	}
}

// pump hands on what the topic's source reads, until that ends.
func (g *manyGeneration) pump(r *reading) error {
	r.read = false
	if err := r.s.start(r.next, r.epochs, r.id); err != nil {
		return err
	}
	t := time.AfterFunc(heldFor, func() { g.hold(r.s.topic, nil) })
	defer t.Stop()
	for {
		f, err := r.s.Poll(g.ctx)
		if err != nil {
			return r.numbered(err)
		}
		if !r.read {
			r.read = true
			g.hold(r.s.topic, nil)
		}
		p := f.Partition
		if p >= ledger.TopicStride {
			f.Release()
			return fmt.Errorf("topic %s has a partition %d, a topic of several in one table can have %d: give it a table of its own", r.s.topic, p, ledger.TopicStride)
		}
		end, epoch := f.End, f.LeaderEpoch
		f.Topic, f.Partition = r.s.topic, ledger.Number(r.place, p)
		select {
		case g.out <- f:
			r.next[p] = end
			if delete(r.epochs, p); epoch >= 0 {
				r.epochs[p] = epoch
			}
		case <-g.ctx.Done():
			f.Release()
			return g.ctx.Err()
		}
	}
}

// numbered is an error of the topic's source with the table's number of the partition.
func (r *reading) numbered(err error) error {
	var e *engine.LogError
	if !errors.As(err, &e) {
		return err
	}
	of := *e
	of.Place = fmt.Sprintf("%s/%d", r.s.topic, e.Partition)
	of.Partition = ledger.Number(r.place, e.Partition)
	return &of
}

// Poll implements engine.Source.
func (m *Many) Poll(ctx context.Context) (*engine.Fetch, error) {
	for {
		m.mu.Lock()
		g, closed := m.gen, m.closed
		m.mu.Unlock()
		switch {
		case closed:
			return nil, errSourceClosed
		case g == nil:
			return nil, errNotStarted
		}
		select {
		case f := <-g.out:
			if g.ctx.Err() != nil {
				f.Release()
				continue // Start or Close came in between
			}
			return f, nil
		case err := <-g.failed:
			g.fail(err) // it comes again until the next Start
			return nil, err
		case <-g.ctx.Done():
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Positions implements engine.Source.
func (m *Many) Positions() map[int32]engine.Position {
	known := m.Known()
	out := map[int32]engine.Position{}
	for _, s := range m.sources {
		place := known.Find(s.topic)
		if place < 0 {
			continue
		}
		for p, at := range s.Positions() {
			out[ledger.Number(place, p)] = at
		}
	}
	return out
}

// Health implements engine.Source. A HeldError comes before trouble that passes by itself.
func (m *Many) Health() error {
	m.mu.Lock()
	held := maps.Clone(m.held)
	m.mu.Unlock()
	if len(held) > 0 {
		return &HeldError{Topics: held, All: len(held) == len(m.sources)}
	}
	for _, s := range m.sources {
		if err := s.Health(); err != nil {
			return err
		}
	}
	return nil
}

// Close implements engine.Source.
func (m *Many) Close() error {
	m.life.Lock()
	defer m.life.Unlock()
	m.mu.Lock()
	closed, g := m.closed, m.gen
	m.closed = true
	m.mu.Unlock()
	if closed {
		return nil
	}
	if g != nil {
		g.end()
	}
	var errs []error
	for _, s := range m.sources {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
