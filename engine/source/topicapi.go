package source

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strconv"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/firnlake/firn/engine"
)

const noTopicID = "n/a"

// Error codes of the protocol that kafka-go has no name for, or that this package decides on.
const (
	codeNone                    = 0
	codeOffsetOutOfRange        = int16(kafka.OffsetOutOfRange)
	codeUnknownTopicOrPartition = int16(kafka.UnknownTopicOrPartition)
	codeInvalidTopic            = int16(kafka.InvalidTopic)
	codeTopicAlreadyExists      = int16(kafka.TopicAlreadyExists)
	codeDuplicateSequence       = int16(kafka.DuplicateSequenceNumber)
)

// Timestamps of ListOffsets that mean a bound instead of a time.
const (
	latestOffset   = -1
	earliestOffset = -2
)

const (
	readUncommitted = 0
	readCommitted   = 1
)

// topicMeta is a topic as one broker sees it.
type topicMeta struct {
	clusterID  string
	topicID    string // as Kafka prints it, or noTopicID
	brokers    map[int32]string
	code       int16 // of the topic; the partitions are empty unless it is 0
	partitions []partitionMeta
}

type partitionMeta struct {
	id, leader, epoch int32 // leader -1: none at present; epoch -1: unknown
}

// metadata asks any broker about a topic. Version 12 brings the topic id; brokers before 3.0 know version 8.
func (c *client) metadata(ctx context.Context, topic string) (*topicMeta, error) {
	version, err := c.api(ctx, protocol.Metadata, 12, 8)
	if err != nil {
		return nil, err
	}
	flexible := version >= 9
	var e encoder
	if flexible {
		e.uvarint(2)
		e = append(e, make([]byte, 16)...) // topic id: the name decides
		e.compact(topic)
		e.tags()
	} else {
		e.int32(1)
		e.string(topic)
	}
	e.bool(false) // never create it by asking
	if !flexible {
		e.bool(false)
	}
	e.bool(false) // no authorized operations
	if flexible {
		e.tags()
	}
	k := &call{key: protocol.Metadata, version: version, flexible: flexible, broker: -1, body: e}
	if err := c.do(ctx, k, 0); err != nil {
		c.forgetVersions()
		return nil, err
	}
	d := &decoder{b: k.reply}
	m := readMetadata12
	if !flexible {
		m = readMetadata8
	}
	got := m(d, topic)
	if d.err != nil {
		return nil, fmt.Errorf("metadata of topic %s: %w", topic, d.err)
	}
	c.mu.Lock()
	c.nodes = got.brokers
	c.mu.Unlock()
	return got, nil
}

func readMetadata8(d *decoder, topic string) *topicMeta {
	m := &topicMeta{topicID: noTopicID, brokers: map[int32]string{}, code: codeUnknownTopicOrPartition}
	d.int32() // throttle
	for n := d.array(12); n > 0; n-- {
		id, host, port := d.int32(), d.string(), d.int32()
		d.string() // rack
		m.brokers[id] = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	m.clusterID = d.string()
	d.int32() // controller
	for n := d.array(13); n > 0; n-- {
		code, name := d.int16(), d.string()
		d.int8()
		var ps []partitionMeta
		for n := d.array(26); n > 0; n-- {
			d.int16() // says in words what leader -1 says too
			p := partitionMeta{id: d.int32(), leader: d.int32(), epoch: d.int32()}
			for range 3 {
				d.take(4 * d.array(4))
			}
			ps = append(ps, p)
		}
		d.int32()
		if name == topic {
			m.code, m.partitions = code, ps
		}
	}
	return m
}

func readMetadata12(d *decoder, topic string) *topicMeta {
	m := &topicMeta{topicID: noTopicID, brokers: map[int32]string{}, code: codeUnknownTopicOrPartition}
	d.int32() // throttle
	for n := d.compactArray(11); n > 0; n-- {
		id, host, port := d.int32(), d.compactString(), d.int32()
		d.compactString() // rack
		d.tags()
		m.brokers[id] = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	m.clusterID = d.compactString()
	d.int32() // controller
	for n := d.compactArray(26); n > 0; n-- {
		code, name := d.int16(), d.compactString()
		id := [16]byte(append(d.take(16), make([]byte, 16)...)[:16])
		d.int8()
		var ps []partitionMeta
		for n := d.compactArray(18); n > 0; n-- {
			d.int16()
			p := partitionMeta{id: d.int32(), leader: d.int32(), epoch: d.int32()}
			for range 3 {
				d.take(4 * d.compactArray(4))
			}
			d.tags()
			ps = append(ps, p)
		}
		d.int32()
		d.tags()
		if name == topic {
			m.code, m.partitions = code, ps
			if id != ([16]byte{}) {
				m.topicID = base64.RawURLEncoding.EncodeToString(id[:])
			}
		}
	}
	return m
}

// check turns the topic's error code into an error.
func (m *topicMeta) check(topic string, brokers string) error {
	switch m.code {
	case codeNone:
		return nil
	case codeUnknownTopicOrPartition, codeInvalidTopic:
		return fmt.Errorf("%w: %s on kafka at %s: create it (kafka-topics.sh --create --topic %s), or correct the pipeline's topic; reading begins by itself then",
			engine.ErrNoTopic, topic, brokers, topic)
	}
	return fmt.Errorf("topic %s: %w", topic, kafka.Error(m.code))
}

// offsetAnswer is one partition's answer to ListOffsets.
type offsetAnswer struct {
	partition int32
	code      int16
	offset    int64
}

// listOffsets asks a leader where its partitions begin or end.
func (c *client) listOffsets(ctx context.Context, broker int32, topic string, partitions []int32, at int64, isolation int8) ([]offsetAnswer, error) {
	var e encoder
	e.int32(-1) // a consumer, no replica
	e.int8(isolation)
	e.int32(1)
	e.string(topic)
	e.int32(int32(len(partitions)))
	for _, p := range partitions {
		e.int32(p)
		e.int32(-1) // any leader epoch
		e.int64(at)
	}
	k := &call{key: protocol.ListOffsets, version: 4, negotiated: true, broker: broker, body: e}
	if err := c.do(ctx, k, 0); err != nil {
		return nil, err
	}
	d := decoder{b: k.reply}
	d.int32() // throttle
	var out []offsetAnswer
	for n := d.array(6); n > 0; n-- {
		d.string()
		for n := d.array(26); n > 0; n-- {
			a := offsetAnswer{partition: d.int32(), code: d.int16()}
			d.int64() // timestamp
			a.offset = d.int64()
			d.int32() // leader epoch
			out = append(out, a)
		}
	}
	if d.err != nil {
		return nil, fmt.Errorf("offsets of topic %s from broker %d: %w", topic, broker, d.err)
	}
	return out, nil
}

// listOne asks for one partition and fails on its error code.
func (c *client) listOne(ctx context.Context, broker int32, topic string, partition int32, at int64, isolation int8) (int64, error) {
	answers, err := c.listOffsets(ctx, broker, topic, []int32{partition}, at, isolation)
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if a.partition != partition {
			continue
		}
		if a.code != codeNone {
			return 0, fmt.Errorf("offsets of topic %s partition %d: %w", topic, partition, kafka.Error(a.code))
		}
		return a.offset, nil
	}
	return 0, fmt.Errorf("offsets of topic %s: the answer has no partition %d", topic, partition)
}
