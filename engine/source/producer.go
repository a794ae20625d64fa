package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/firnlake/firn/internal/sleep"
)

const (
	// produceBatchBytes bounds a batch before compression, below the broker's usual limit of 1 MiB.
	produceBatchBytes = 512 << 10
	// produceRequestBytes bounds the batches in one request to a broker.
	produceRequestBytes = 8 << 20
	// produceAttempts is how often in a row a request may fail before Produce gives up, about a minute.
	produceAttempts = 20
	// maxProducerTopics bounds the topics, and with each its connections, of one producer.
	maxProducerTopics = 64
)

// ErrMessageTooLarge reports a message that is larger than the topic, or this package, takes; which of several is not told.
var ErrMessageTooLarge = errors.New("a message is too large")

// Producer writes records with acks=all and sequence numbers, so that a batch that is sent again after a lost answer is
// stored once. Safe for concurrent use; one call at a time is on the way.
type Producer struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex
	closed bool
	topics map[string]*topicProducer
}

// NewProducer returns a producer that has not connected yet.
func NewProducer(cfg Config, log *slog.Logger) (*Producer, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka.%w", err)
	}
	return &Producer{cfg: cfg, log: log, topics: map[string]*topicProducer{}}, nil
}

// Produce writes messages and returns when the brokers have stored all of them. Messages of one partition keep their
// order. After an error some may be stored.
func (p *Producer) Produce(ctx context.Context, topic string, msgs []Message) error {
	_, err := p.produce(ctx, topic, msgs)
	return err
}

// ProduceOne writes one message and tells where it is.
func (p *Producer) ProduceOne(ctx context.Context, topic string, msg Message) (partition int32, offset int64, err error) {
	at, err := p.produce(ctx, topic, []Message{msg})
	if err != nil {
		return -1, -1, err
	}
	return at.partition, at.offset, nil
}

// Close ends the connections.
func (p *Producer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, t := range p.topics {
		t.c.close()
	}
	clear(p.topics)
	return nil
}

// produced is where the last batch of a call went.
type produced struct {
	partition int32
	offset    int64 // of its first message
}

func (p *Producer) produce(ctx context.Context, topic string, msgs []Message) (produced, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return produced{}, errors.New("the producer is closed")
	}
	t := p.topics[topic]
	if t == nil {
		if len(p.topics) >= maxProducerTopics {
			return produced{}, fmt.Errorf("topic %s: a producer writes to at most %d topics", topic, maxProducerTopics)
		}
		c, err := newClient(p.cfg, topic)
		if err != nil {
			return produced{}, err
		}
		t = &topicProducer{c: c, log: p.log.With("topic", topic), topic: topic, id: -1, sequence: map[int32]int32{}}
		p.topics[topic] = t
	}
	at, err := t.produce(ctx, msgs)
	if err != nil {
		// Whether the batches under way were stored is not known, and so neither is the next sequence number.
		t.id, t.ready = -1, false
		return produced{}, fmt.Errorf("produce to topic %s: %w", topic, err)
	}
	return at, nil
}

// topicProducer is a producer's state for one topic.
type topicProducer struct {
	c     *client
	log   *slog.Logger
	topic string
	enc   batchEncoder

	ready    bool  // id and sequences are good
	plain    bool  // the cluster does not let this client have a producer id
	id       int64 // -1: none
	epoch    int16
	sequence map[int32]int32

	layout *topicMeta // nil: to be asked for
	turn   int
}

// queue is what is left to write to one partition.
type queue struct {
	partition int32
	msgs      []*Message
	batch     int // messages in the batch under way
	raw       []byte
}

func (t *topicProducer) produce(ctx context.Context, msgs []Message) (produced, error) {
	var at produced
	var queues []*queue
	for failures := 0; ; {
		err := t.prepare(ctx)
		if err == nil && queues == nil {
			queues, err = t.split(msgs)
			if err != nil {
				return at, err
			}
		}
		if err == nil {
			at, err = t.round(ctx, queues, at)
			// Also after a failure: a round may have stored the batches of some partitions and not of others.
			queues = slices.DeleteFunc(queues, func(q *queue) bool { return len(q.msgs) == 0 })
			switch {
			case len(queues) == 0:
				return at, nil
			case err == nil:
				failures = 0
				continue
			}
		}
		if failures++; ctx.Err() != nil || !retriable(err) || failures >= produceAttempts {
			return at, err
		}
		if failures == 1 {
			t.log.Warn("produce failed, trying again", "error", err)
		}
		t.layout = nil
		if serr := sleep.For(ctx, backoff(failures)); serr != nil {
			return at, fmt.Errorf("%w: %w", serr, err)
		}
	}
}

// prepare sees that the layout and the producer id are there.
func (t *topicProducer) prepare(ctx context.Context) error {
	if t.layout == nil {
		m, err := t.c.metadata(ctx, t.topic)
		if err != nil {
			return err
		}
		if err := m.check(t.topic, strings.Join(t.c.cfg.Brokers, ",")); err != nil {
			return err
		}
		if len(m.partitions) == 0 {
			return errMoved
		}
		t.layout = m
	}
	if t.ready || t.plain {
		return nil
	}
	var e encoder
	e.null()   // no transactions
	e.int32(0) // nor a timeout for them
	k := &call{key: protocol.InitProducerId, version: 1, negotiated: true, broker: -1, body: e}
	if err := t.c.do(ctx, k, 0); err != nil {
		return err
	}
	d := decoder{b: k.reply}
	d.int32() // throttle
	code, id, epoch := kafka.Error(d.int16()), d.int64(), d.int16()
	switch {
	case d.err != nil:
		return fmt.Errorf("producer id: %w", d.err)
	case code == kafka.ClusterAuthorizationFailed:
		t.log.Warn("the cluster grants no producer id (IDEMPOTENT_WRITE): a batch whose answer is lost may be stored twice")
		t.plain = true
		return nil
	case code != codeNone:
		return fmt.Errorf("producer id: %w", code)
	}
	t.ready, t.id, t.epoch = true, id, epoch
	clear(t.sequence)
	return nil
}

// split gives each message its partition.
func (t *topicProducer) split(msgs []Message) ([]*queue, error) {
	byID := map[int32]*queue{}
	var out []*queue
	n := len(t.layout.partitions)
	keyless := int32(t.turn % n) // one partition a call: fuller batches
	t.turn++
	for i := range msgs {
		m := &msgs[i]
		p := m.Partition
		switch {
		case p < 0 && m.Key != nil:
			p = int32(murmur2(m.Key)&0x7fffffff) % int32(n)
		case p < 0:
			p = keyless
		case int(p) >= n:
			return nil, fmt.Errorf("partition %d: the topic has %d", p, n)
		}
		if len(m.Key)+len(m.Value) > maxOversize {
			return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMessageTooLarge, len(m.Key)+len(m.Value), maxOversize)
		}
		q := byID[p]
		if q == nil {
			q = &queue{partition: p}
			byID[p] = q
			out = append(out, q)
		}
		q.msgs = append(q.msgs, m)
	}
	return out, nil
}

// round sends the next batch of each queue, one request to each leader at a time.
func (t *topicProducer) round(ctx context.Context, queues []*queue, at produced) (produced, error) {
	leaders := map[int32][]*queue{}
	for _, q := range queues {
		i := slices.IndexFunc(t.layout.partitions, func(p partitionMeta) bool { return p.id == q.partition })
		if i < 0 || t.layout.partitions[i].leader < 0 {
			return at, fmt.Errorf("partition %d has no leader at present: %w", q.partition, errMoved)
		}
		leader := t.layout.partitions[i].leader
		leaders[leader] = append(leaders[leader], q)
	}
	for leader, qs := range leaders {
		size := 0
		for i, q := range qs {
			if size > produceRequestBytes {
				qs = qs[:i]
				break
			}
			q.encode(t)
			size += len(q.raw)
		}
		where, err := t.send(ctx, leader, qs)
		if err != nil {
			return at, err
		}
		at = where
	}
	return at, nil
}

// encode makes the batch under way, the same one again after a failure as long as the producer id is the same.
func (q *queue) encode(t *topicProducer) {
	if q.batch == 0 {
		size := 0
		for q.batch < len(q.msgs) && (q.batch == 0 || size+len(q.msgs[q.batch].Value)+len(q.msgs[q.batch].Key) <= produceBatchBytes) {
			m := q.msgs[q.batch]
			size += len(m.Key) + len(m.Value) + minRecordBytes
			for _, h := range m.Headers {
				size += len(h.Key) + len(h.Value)
			}
			q.batch++
		}
	}
	id, epoch, sequence := int64(-1), int16(-1), int32(-1)
	if t.ready {
		id, epoch, sequence = t.id, t.epoch, t.sequence[q.partition]
	}
	q.raw = t.enc.append(q.raw[:0], q.msgs[:q.batch], id, epoch, sequence)
}

// send is one produce request. Batches that were stored leave their queues; the first other outcome is the error.
func (t *topicProducer) send(ctx context.Context, leader int32, qs []*queue) (at produced, err error) {
	var e encoder
	e.null()    // no transaction
	e.int16(-1) // acks=all
	e.int32(int32(t.c.cfg.RequestTimeout.D().Milliseconds()))
	e.int32(1)
	e.string(t.topic)
	e.int32(int32(len(qs)))
	for _, q := range qs {
		e.int32(q.partition)
		e.bytes(q.raw)
	}
	k := &call{key: protocol.Produce, version: 7, negotiated: true, broker: leader, body: e}
	if err := t.c.do(ctx, k, t.c.cfg.RequestTimeout.D()); err != nil {
		return at, err
	}
	d := decoder{b: k.reply}
	answered := 0
	for n := d.array(6); n > 0; n-- {
		d.string()
		for n := d.array(30); n > 0; n-- {
			p, code, base := d.int32(), kafka.Error(d.int16()), d.int64()
			d.int64() // append time
			d.int64() // log start
			i := slices.IndexFunc(qs, func(q *queue) bool { return q.partition == p })
			if i < 0 || d.err != nil {
				return at, fmt.Errorf("the answer is not about what was sent: %w", errShort)
			}
			answered++
			switch {
			case code == codeNone, int16(code) == codeDuplicateSequence:
				at = produced{partition: p, offset: base}
				t.stored(qs[i])
			case code == kafka.OutOfOrderSequenceNumber || code == kafka.UnknownProducerId || code == kafka.InvalidProducerEpoch:
				t.ready = false // begin again with another id
				err = errors.Join(err, fmt.Errorf("partition %d: %w", p, code))
			case code == kafka.MessageSizeTooLarge || code == kafka.RecordListTooLarge:
				err = errors.Join(err, fmt.Errorf("partition %d: %w: %w", p, ErrMessageTooLarge, code))
			default:
				err = errors.Join(err, fmt.Errorf("partition %d: %w", p, code))
			}
		}
	}
	if err == nil && answered != len(qs) {
		err = errShort
	}
	return at, err
}

func (t *topicProducer) stored(q *queue) {
	t.sequence[q.partition] = (t.sequence[q.partition] + int32(q.batch)) & 0x7fffffff
	q.msgs, q.batch = q.msgs[q.batch:], 0
}

// retriable tells whether sending again can help. Everything that is not an answer of a broker is: connections come back.
func retriable(err error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		return !isFinal(err) && !errors.Is(err, errOldBroker) && !errors.Is(err, errWantsTLS)
	}
	switch code {
	case kafka.OutOfOrderSequenceNumber, kafka.UnknownProducerId, kafka.InvalidProducerEpoch, kafka.NotEnoughReplicasAfterAppend, kafka.BrokerNotAvailable:
		return true
	}
	return code.Temporary() || slices.Contains(movedCodes, code)
}
