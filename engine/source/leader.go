package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/sleep"
)

// Pauses and bounds of the retries. Nothing here gives up on its own unless the name says so.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
	// refreshPause keeps several failing partitions from asking for the layout once each.
	refreshPause = 100 * time.Millisecond
	// idlePause is the wait of a leader's goroutine whose partitions are all in other hands or pausing.
	idlePause = 20 * time.Millisecond
	// missingRefreshes is how many answers in a row must say that the topic, or a partition that was read before, is
	// not there: a broker that has just started may know less than the cluster does.
	missingRefreshes = 3
	// corruptAttempts is how often a damaged record batch is fetched again before the reading ends: bytes may have
	// been damaged on the way.
	corruptAttempts = 3
)

// partition is the reading of one partition. The generation's lock guards the fields up to busy; whoever has set busy
// owns the rest.
type partition struct {
	id       int32
	leader   int32 // -1: none known
	epoch    int32
	headless bool // a missing leader was noted as trouble
	begun    bool // next is known
	// unverified says that the leader has not confirmed yet that its log is the one that was read.
	unverified bool
	retryAt    time.Time
	busy       bool // in the hands of a leader's goroutine

	next     int64
	seen     int32 // leader epoch of the batch below next; noEpoch when unknown
	maxBytes int32
	failures int // in a row
	corrupt  int
}

// generation is one Start: the goroutines that it began, and what they have read.
type generation struct {
	s      *Source
	from   offset.Vector
	epochs map[int32]int32 // leader epochs below from, where they are known
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	queue  *readAhead
	kick   chan struct{} // asks for a fresh layout

	mu         sync.Mutex
	partitions map[int32]*partition
	workers    map[int32]struct{} // leaders that have a goroutine
}

func newGeneration(s *Source, from offset.Vector, epochs map[int32]int32) *generation {
	g := &generation{s: s, from: from.Clone(), epochs: maps.Clone(epochs), queue: newReadAhead(int64(s.cfg.ReadAhead)), kick: make(chan struct{}, 1),
		partitions: map[int32]*partition{}, workers: map[int32]struct{}{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

func (g *generation) start() {
	g.wg.Go(g.watch)
}

// end stops the goroutines, waits for them and drops what Poll has not taken.
func (g *generation) end() {
	g.cancel()
	g.queue.fail(errSuperseded)
	g.wg.Wait()
}

// fail ends the reading: Poll gives what is in the queue, then err.
func (g *generation) fail(err error) {
	if g.ctx.Err() != nil {
		return
	}
	g.s.m.failed(classFinal)
	g.s.log.Error("reading ends", "error", err)
	g.queue.fail(err)
	g.cancel()
}

// refreshSoon asks watch for a fresh layout.
func (g *generation) refreshSoon() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// pause waits and tells whether the generation goes on.
func (g *generation) pause(d time.Duration) bool {
	return sleep.For(g.ctx, d) == nil
}

func backoff(failures int) time.Duration {
	return min(retryMin<<min(max(failures-1, 0), 10), retryMax)
}

const layout = "topic layout"

// watch keeps the layout fresh: at once, each refresh interval, and whenever a leader's goroutine asks.
func (g *generation) watch() {
	missing := 0
	for {
		settled, err := g.refresh(&missing)
		wait := g.s.refresh
		switch {
		case g.ctx.Err() != nil:
			return
		case isFinal(err):
			g.fail(err)
			return
		case err != nil:
			g.s.m.failed(classMetadata)
			wait = backoff(g.s.health.note(layout, err))
		default:
			g.s.health.clear(layout)
			if !settled {
				wait = retryMin
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-g.kick:
			if !g.pause(refreshPause) {
				t.Stop()
				return
			}
		case <-g.ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}

// isFinal tells the errors that only a person can end.
func isFinal(err error) bool {
	for _, final := range []error{engine.ErrNoTopic, engine.ErrTopicRecreated, engine.ErrLogTruncated, engine.ErrRetentionGap,
		ErrCorrupt, ErrOldFormat, ErrBatchTooLarge} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// refresh reads the layout once and acts on it. settled is false when it should be read again soon; missing counts the
// answers in a row that lacked the topic or a known partition.
func (g *generation) refresh(missing *int) (settled bool, err error) {
	g.s.m.refreshes.Inc()
	m, err := g.s.client.metadata(g.ctx, g.s.topic)
	if err != nil {
		return false, err
	}
	if err := m.check(g.s.topic, g.s.bootstrap()); err != nil {
		return false, g.patient(missing, err)
	}
	if err := g.s.sameTopic(g, m.topicID); err != nil {
		return false, err
	}
	if err := g.checkKnown(m); err != nil {
		return false, g.patient(missing, err)
	}
	*missing = 0
	settled = g.assign(m)
	if err := g.begin(m); err != nil {
		return false, err
	}
	return settled, nil
}

// patient hides a final error until it was seen often enough.
func (g *generation) patient(missing *int, err error) error {
	if *missing++; *missing < missingRefreshes && isFinal(err) {
		return fmt.Errorf("topic %s: kafka does not know it, or all of its partitions, at present", g.s.topic)
	}
	return err
}

// checkKnown fails when a partition that was read before is not in the topic any more: Kafka never takes partitions away.
func (g *generation) checkKnown(m *topicMeta) error {
	for _, p := range g.from.Partitions() {
		if !slices.ContainsFunc(m.partitions, func(q partitionMeta) bool { return q.id == p }) {
			return &engine.LogError{Kind: engine.ErrTopicRecreated, Partition: p, Next: g.from[p], LogStart: -1, LogEnd: -1,
				Remedy: fmt.Sprintf("topic %s has %d partitions and had this one; docs/exactly-once.md", g.s.topic, len(m.partitions))}
		}
	}
	return nil
}

// assign takes over leaders and epochs, and tells whether all partitions have a leader.
func (g *generation) assign(m *topicMeta) (settled bool) {
	settled = true
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, pm := range m.partitions {
		p := g.partitions[pm.id]
		if p == nil {
			p = &partition{id: pm.id, leader: -1, epoch: noEpoch, seen: noEpoch, maxBytes: int32(g.s.cfg.PartitionMaxBytes)}
			p.next, p.begun = g.from[pm.id]
			if epoch, known := g.epochs[pm.id]; known && p.next > 0 {
				p.seen = epoch
			}
			g.partitions[pm.id] = p
		}
		if pm.epoch >= 0 && pm.epoch < p.epoch && m.topicID != noTopicID {
			settled = settled && p.leader >= 0
			continue // this broker's picture is older than what is known
		}
		if pm.epoch != p.epoch {
			p.unverified = true
		}
		p.leader, p.epoch = pm.leader, pm.epoch
		switch {
		case pm.leader < 0:
			settled, p.headless = false, true
			g.s.health.note(headName(pm.id), fmt.Errorf("topic %s partition %d has no leader at present", g.s.topic, pm.id))
		case p.headless:
			p.headless = false
			g.s.health.clear(headName(pm.id))
		}
	}
	return settled
}

// begin finds the first offset of partitions that have none yet, and sees that each leader has a goroutine.
func (g *generation) begin(m *topicMeta) error {
	fresh := map[int32][]int32{}
	g.mu.Lock()
	for id, p := range g.partitions {
		if !p.begun && p.leader >= 0 {
			fresh[p.leader] = append(fresh[p.leader], id)
		}
	}
	g.mu.Unlock()
	var failed error
	for leader, ids := range fresh {
		answers, err := g.s.client.listOffsets(g.ctx, leader, g.s.topic, ids, earliestOffset, readUncommitted)
		if err != nil {
			failed = err
			continue
		}
		for _, a := range answers {
			if a.code != codeNone {
				failed = fmt.Errorf("first offset of topic %s partition %d: %w", g.s.topic, a.partition, kafka.Error(a.code))
				continue
			}
			g.mu.Lock()
			if p := g.partitions[a.partition]; p != nil && !p.begun {
				p.next, p.begun = a.offset, true
			}
			g.mu.Unlock()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.partitions {
		if _, running := g.workers[p.leader]; p.leader >= 0 && p.begun && !running && g.ctx.Err() == nil {
			g.workers[p.leader] = struct{}{}
			leader := p.leader
			g.wg.Go(func() { g.lead(leader) })
		}
	}
	return failed
}

func partName(partition int32) string { return fmt.Sprintf("partition %d", partition) }
func headName(partition int32) string { return fmt.Sprintf("leader of partition %d", partition) }
func brokerName(broker int32) string  { return fmt.Sprintf(brokerPrefix+"%d", broker) }

const brokerPrefix = "broker "

// take claims the partitions of a leader that can be fetched now, with what to ask for them. stay is false, and the
// goroutine deregistered, when the leader has none left.
func (g *generation) take(l *leading) (stay bool) {
	now := time.Now()
	l.ps, l.asks = l.ps[:0], l.asks[:0]
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.partitions {
		if p.leader != l.leader {
			continue
		}
		stay = true
		if !p.busy && p.begun && !now.Before(p.retryAt) {
			p.busy = true
			l.ps = append(l.ps, p)
			l.asks = append(l.asks, fetchAsk{partition: p.id, epoch: p.epoch, offset: p.next, maxBytes: p.maxBytes})
		}
	}
	if !stay {
		delete(g.workers, l.leader)
	}
	return stay
}

func (g *generation) giveBack(ps []*partition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range ps {
		p.busy = false
	}
}

// lead fetches from one leader until it leads nothing any more.
func (g *generation) lead(leader int32) {
	l := &leading{g: g, leader: leader, fetcher: fetcher{c: g.s.client, topic: g.s.topic}}
	defer l.unzip.close()
	defer g.s.health.clear(brokerName(leader))
	l.set.unzip, l.unzip.limit = &l.unzip, int(g.s.cfg.MaxBatchBytes)
	failures := 0
	for g.ctx.Err() == nil {
		if !g.take(l) {
			return
		}
		if len(l.ps) == 0 {
			g.pause(idlePause)
			continue
		}
		err := l.round()
		g.giveBack(l.ps)
		switch {
		case g.ctx.Err() != nil:
			return
		case err != nil:
			g.s.m.failed(classFetch)
			failures = g.s.health.note(brokerName(leader), err)
			g.refreshSoon()
			g.pause(backoff(failures))
		case failures > 0:
			failures = 0
			g.s.health.clear(brokerName(leader))
		}
	}
}

// leading is the state of one leader's goroutine.
type leading struct {
	g       *generation
	leader  int32
	turn    int
	fetcher fetcher
	ps      []*partition // in this goroutine's hands
	asks    []fetchAsk   // for each of them
	order   []fetchAsk
	doubts  []epochAsk
	set     recordSet
	unzip   decompressor
}

// round is one fetch request and what becomes of its answer. The error is about the broker as a whole.
func (l *leading) round() error {
	if err := l.verify(); err != nil || len(l.asks) == 0 {
		return err
	}
	// Brokers fill a response in the order of the request, up to its size: everyone comes first in turn.
	slices.SortFunc(l.asks, func(a, b fetchAsk) int { return int(a.partition) - int(b.partition) })
	l.turn = (l.turn + 1) % len(l.asks)
	l.order = append(append(l.order[:0], l.asks[l.turn:]...), l.asks[:l.turn]...)
	r := newReply()
	began := time.Now()
	answers, buf, err := l.fetcher.fetch(l.g.ctx, l.leader, l.order, l.g.s.cfg.FetchMaxWait.D(), r.buf)
	if err != nil {
		return err // the reply's memory may still be written to, so it does not go back to the pool
	}
	r.buf = buf
	defer r.release()
	m := &l.g.s.m
	m.requests.Inc()
	m.bytes.Add(float64(len(buf)))
	m.seconds.Observe(time.Since(began).Seconds())
	for i := range answers {
		a := &answers[i]
		at := slices.IndexFunc(l.ps, func(p *partition) bool { return p.id == a.partition })
		if at < 0 {
			return fmt.Errorf("broker %d answered for partition %d, which was not asked for", l.leader, a.partition)
		}
		if l.g.ctx.Err() != nil {
			return nil
		}
		l.settle(l.ps[at], l.read(l.ps[at], a, r))
	}
	return nil
}

// settle decides what the outcome of a partition's answer means for its next fetch.
func (l *leading) settle(p *partition, err error) {
	g := l.g
	if err == nil {
		if p.failures > 0 {
			g.s.health.clear(partName(p.id))
		}
		p.failures, p.corrupt = 0, 0
		return
	}
	if g.ctx.Err() != nil {
		return
	}
	class := classBroker
	final := isFinal(err)
	moved := errors.Is(err, errMoved)
	switch {
	case moved:
		class = classMoved
	case errors.Is(err, ErrCorrupt):
		class = classCorrupt
		p.corrupt++
		final = p.corrupt >= corruptAttempts
	}
	if final {
		g.fail(fmt.Errorf("topic %s partition %d: %w", g.s.topic, p.id, err))
		return
	}
	g.s.m.failed(class)
	g.s.health.note(partName(p.id), fmt.Errorf("topic %s partition %d: %w", g.s.topic, p.id, err))
	p.failures++
	g.mu.Lock()
	p.retryAt = time.Now().Add(backoff(p.failures))
	if moved && p.leader == l.leader {
		p.leader = -1 // until the layout says who it is
	}
	g.mu.Unlock()
	g.refreshSoon()
}

// errMoved marks answers that say: ask another broker, or with a newer leader epoch.
var errMoved = errors.New("the leader has moved")

// movedCodes are the error codes that a fresh layout mends.
var movedCodes = []kafka.Error{kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.ReplicaNotAvailable,
	kafka.KafkaStorageError, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch}

// read hands the records of a partition's answer to the queue.
func (l *leading) read(p *partition, a *fetchAnswer, r *reply) error {
	g := l.g
	switch code := kafka.Error(a.code); {
	case a.code == codeOffsetOutOfRange:
		return l.outOfRange(p)
	case slices.Contains(movedCodes, code):
		return fmt.Errorf("%w: %w", errMoved, code)
	case a.code != codeNone:
		return code
	}
	at := engine.Position{LogStart: a.logStart, LastStable: a.lastStable, HighWatermark: a.highWatermark}
	if at.LastStable < 0 {
		at.LastStable = at.HighWatermark
	}
	g.s.setPosition(p.id, at)
	l.set.reset(a.records, p.next, at.LastStable, a.aborted)
	if base, ok := l.set.firstBase(); at.LogStart > p.next && (!ok || base > p.next) {
		return gap(p.id, p.next, at.LogStart)
	}
	if err := l.enlarge(p); err != nil {
		return err
	}
	for more := true; more; {
		st := newStretch(p.id, r)
		st.LogStart, st.LastStable, st.FetchedAt = at.LogStart, at.LastStable, g.s.now()
		var err error
		if more, err = l.set.fill(st); err != nil || st.End == st.Start {
			st.release()
			return err
		}
		end, epoch := st.End, st.LeaderEpoch // the stretch is Poll's from here on
		if err := g.queue.push(g.ctx, st); err != nil {
			st.release()
			return err
		}
		p.next, p.seen = end, epoch
	}
	return nil
}

// enlarge asks for more the next time when the answer holds only the beginning of a batch, as brokers before
// Kafka 0.10.1 send them.
func (l *leading) enlarge(p *partition) error {
	need := l.set.needs()
	switch {
	case need == 0:
		p.maxBytes = int32(l.g.s.cfg.PartitionMaxBytes)
		return nil
	case need > maxOversize:
		return fmt.Errorf("%w: it has %d bytes, and at most %d can be fetched", ErrBatchTooLarge, need, maxOversize)
	}
	p.maxBytes = max(p.maxBytes, int32(need))
	return nil
}

func gap(partition int32, next, logStart int64) error {
	return &engine.LogError{Kind: engine.ErrRetentionGap, Partition: partition, Next: next, LogStart: logStart, LogEnd: -1,
		Remedy: "lengthen the topic's retention; on_gap: record notes the gap and goes on; docs/exactly-once.md"}
}

func truncated(partition int32, next, logStart, logEnd int64) error {
	return &engine.LogError{Kind: engine.ErrLogTruncated, Partition: partition, Next: next, LogStart: logStart, LogEnd: logEnd,
		Remedy: "docs/exactly-once.md says how to go on"}
}

// outOfRange finds out on which side of the log the next offset lies.
func (l *leading) outOfRange(p *partition) error {
	g := l.g
	first, err := g.s.client.listOne(g.ctx, l.leader, g.s.topic, p.id, earliestOffset, readUncommitted)
	if err != nil {
		return err
	}
	end, err := g.s.client.listOne(g.ctx, l.leader, g.s.topic, p.id, latestOffset, readUncommitted)
	if err != nil {
		return err
	}
	g.s.setPosition(p.id, engine.Position{LogStart: first, LastStable: end, HighWatermark: end})
	switch {
	case first > p.next:
		return gap(p.id, p.next, first)
	case end < p.next:
		return truncated(p.id, p.next, first, end)
	}
	return fmt.Errorf("%w: offset %d is out of range and within [%d,%d] at once", errMoved, p.next, first, end)
}
