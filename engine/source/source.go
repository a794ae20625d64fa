package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

var (
	errNotStarted   = errors.New("the source was not started")
	errSourceClosed = errors.New("the source is closed")
)

// Options say what to read.
type Options struct {
	Topic string
	// RefreshInterval is how often new partitions and moved leaders are looked for without a reason; default 10s.
	RefreshInterval time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Source reads one topic. It implements engine.Source.
type Source struct {
	topic   string
	cfg     Config
	refresh time.Duration
	now     func() time.Time
	log     *slog.Logger
	m       topicMetrics
	client  *client
	health  *health
	serial  int64

	life sync.Mutex // one Start or Close at a time; taken before mu

	mu        sync.Mutex
	gen       *generation // nil before Start
	closed    bool
	topicID   string                    // of the topic that rows were read from; empty before it is known
	positions map[int32]engine.Position // as of the last answers
	next      map[int32]int64           // handed out by Poll
}

var _ engine.Source = (*Source)(nil)

var serials atomic.Int64

// New returns a source that has not connected yet. m may be shared by all sources of a process; nil is none.
func New(cfg Config, o Options, log *slog.Logger, m *Metrics) (*Source, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka.%w", err)
	}
	if o.Topic == "" {
		return nil, errors.New("topic: name the topic to read")
	}
	if o.RefreshInterval <= 0 {
		o.RefreshInterval = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if m == nil {
		m = NewMetrics(nil)
	}
	c, err := newClient(cfg, o.Topic)
	if err != nil {
		return nil, err
	}
	log = log.With("topic", o.Topic)
	s := &Source{topic: o.Topic, cfg: cfg, refresh: o.RefreshInterval, now: o.Now, log: log, m: m.of(o.Topic), client: c, serial: serials.Add(1),
		health: &health{now: o.Now, log: log, troubles: map[string]*TroubleError{}}, positions: map[int32]engine.Position{}, next: map[int32]int64{}}
	m.bounds.add(s)
	return s, nil
}

// Describe implements engine.Source.
func (s *Source) Describe(ctx context.Context) (engine.Topic, error) {
	m, err := s.client.metadata(ctx, s.topic)
	if err != nil {
		return engine.Topic{}, err
	}
	if err := m.check(s.topic, s.bootstrap()); err != nil {
		return engine.Topic{}, err
	}
	t := engine.Topic{Name: s.topic, ClusterID: m.clusterID, TopicID: m.topicID}
	for _, p := range m.partitions {
		t.Partitions = append(t.Partitions, p.id)
	}
	sortIDs(t.Partitions)
	return t, nil
}

func (s *Source) bootstrap() string { return strings.Join(s.cfg.Brokers, ",") }

// Start implements engine.Source. It does not wait for the broker: what is wrong with it shows in Health, and what is
// wrong with the topic comes out of Poll.
//
// A partition in epochs gives its first record once its leader has confirmed, by OffsetForLeaderEpoch, that its log is
// the one that was read up to there; one that is not in it, or with a negative epoch, is not asked for.
func (s *Source) Start(_ context.Context, from offset.Vector, epochs map[int32]int32) error {
	return s.start(from, epochs, "")
}

// start is Start of the topic with an id; empty: the one that was read before, or any when nothing was.
func (s *Source) start(from offset.Vector, epochs map[int32]int32, id string) error {
	for p, o := range from {
		if p < 0 || o < 0 {
			return fmt.Errorf("topic %s: cannot start partition %d at offset %d", s.topic, p, o)
		}
	}
	s.life.Lock()
	defer s.life.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errSourceClosed
	}
	old, g := s.gen, newGeneration(s, from, epochs)
	s.gen = g // from here on nothing of old comes out of Poll
	switch {
	case id != "":
		s.topicID = id
	case len(from) == 0:
		s.topicID = "" // nothing depends on the topic being the same
	}
	s.next = map[int32]int64(from.Clone())
	s.mu.Unlock()
	if old != nil {
		old.end()
	}
	s.health.reset()
	g.start()
	return nil
}

// Poll implements engine.Source.
func (s *Source) Poll(ctx context.Context) (*engine.Fetch, error) {
	for {
		s.mu.Lock()
		g, closed := s.gen, s.closed
		s.mu.Unlock()
		switch {
		case closed:
			return nil, errSourceClosed
		case g == nil:
			return nil, errNotStarted
		}
		st, err := g.queue.pop(ctx)
		if errors.Is(err, errSuperseded) {
			continue // Start or Close came in between
		}
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		current := s.gen == g && !s.closed
		if current {
			s.next[st.Partition] = st.End
		}
		s.mu.Unlock()
		if !current {
			st.release()
			continue
		}
		s.m.read(st)
		return &st.Fetch, nil
	}
}

// Positions implements engine.Source.
func (s *Source) Positions() map[int32]engine.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.positions)
}

// progress is what Poll has handed out, and the memory that waits for it.
func (s *Source) progress() (next map[int32]int64, held int64) {
	s.mu.Lock()
	g := s.gen
	next = maps.Clone(s.next)
	s.mu.Unlock()
	if g != nil {
		held = g.queue.held()
	}
	return next, held
}

func (s *Source) setPosition(partition int32, p engine.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.positions[partition] = p
}

// sameTopic remembers the topic's id, or fails when it is another one than before.
func (s *Source) sameTopic(g *generation, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen != g {
		return errSuperseded
	}
	if s.topicID == "" || id == noTopicID {
		if s.topicID == "" {
			s.topicID = id
		}
		return nil
	}
	if s.topicID != noTopicID && s.topicID != id {
		return fmt.Errorf("%w: topic %s had id %s and has %s now: it was deleted and created again; its offsets mean other records (docs/exactly-once.md says how to go on)",
			engine.ErrTopicRecreated, s.topic, s.topicID, id)
	}
	return nil
}

// Health implements engine.Source; the error is a *TroubleError.
func (s *Source) Health() error { return s.health.err() }

// Close implements engine.Source.
func (s *Source) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	s.mu.Lock()
	closed, g := s.closed, s.gen
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.m.m.bounds.remove(s)
	if g != nil {
		g.cancel() // before the connections go, or their end looks like trouble with the broker
	}
	s.client.close()
	if g != nil {
		g.end()
	}
	return nil
}
