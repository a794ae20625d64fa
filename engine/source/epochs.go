package source

import (
	"context"
	"fmt"
	"slices"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/firnlake/firn/engine"
)

// A leader that did not have all of the log (an unclean election, a broker restored from an older disk) ends it earlier
// and writes other records at the same offsets. The end of the log does not show that once it has grown again. What
// shows it is the leader epoch of the record below the next offset: the leader is asked where its log up to that epoch
// ends, and when that is below the next offset, the records that were read are not the ones that it has (KIP-320).

const (
	// epochVersion is OffsetForLeaderEpoch as Kafka 2.3 to 4.x know it; kafka-go does not speak it.
	epochVersion = 3
	// noEpochAPI is the version of brokers that cannot be asked.
	noEpochAPI = -1

	noEpoch = -1
)

// epochAsk is one partition of a question where the log up to an epoch ends.
type epochAsk struct {
	partition int32
	current   int32 // leader epoch as the metadata has it: another leader answers with an error
	epoch     int32 // of the record below next
	next      int64
}

type epochAnswer struct {
	partition int32
	code      int16
	epoch     int32 // greatest epoch up to the one asked for; noEpoch when the leader knows none
	end       int64
}

// diverged tells whether the answer says that the log is not the one that was read below a.next.
//
// An undefined answer means that the leader has no epoch as high as the one asked for. While its own is as high, that
// cannot be, and brokers that say so regardless (an empty log, a test broker) say nothing: whether the log reaches next
// is then found out by the fetch.
func (a epochAsk) diverged(got epochAnswer) error {
	end := got.end
	switch {
	case got.epoch > a.epoch:
		return nil
	case got.epoch == noEpoch || end < 0:
		if a.epoch <= a.current {
			return nil
		}
		end = -1
	case end >= a.next:
		return nil
	}
	return &engine.LogError{Kind: engine.ErrLogTruncated, Partition: a.partition, Next: a.next, LogStart: -1, LogEnd: end,
		Remedy: fmt.Sprintf("its records up to leader epoch %d end there, and offset %d was read with that epoch: another leader wrote over it; docs/exactly-once.md says how to go on", a.epoch, a.next-1)}
}

// epochEnds asks a leader. ok is false when its cluster cannot be asked.
func (c *client) epochEnds(ctx context.Context, leader int32, topic string, asks []epochAsk) (answers []epochAnswer, ok bool, err error) {
	version, err := c.api(ctx, protocol.OffsetForLeaderEpoch, epochVersion, noEpochAPI)
	if err != nil || version == noEpochAPI {
		return nil, false, err
	}
	var e encoder
	e.int32(-1) // a consumer, no replica
	e.int32(1)
	e.string(topic)
	e.int32(int32(len(asks)))
	for _, a := range asks {
		e.int32(a.partition)
		e.int32(a.current)
		e.int32(a.epoch)
	}
	k := &call{key: protocol.OffsetForLeaderEpoch, version: version, broker: leader, body: e}
	if err := c.do(ctx, k, 0); err != nil {
		c.forgetVersions()
		return nil, false, err
	}
	if answers, err = parseEpochEnds(k.reply); err != nil {
		return nil, false, fmt.Errorf("leader epochs of topic %s from broker %d: %w", topic, leader, err)
	}
	return answers, true, nil
}

func parseEpochEnds(b []byte) ([]epochAnswer, error) {
	d := decoder{b: b}
	d.int32() // throttle
	var out []epochAnswer
	for n := d.array(6); n > 0; n-- {
		d.string()
		for n := d.array(18); n > 0; n-- {
			a := epochAnswer{code: d.int16(), partition: d.int32(), epoch: d.int32()}
			a.end = d.int64()
			out = append(out, a)
		}
	}
	return out, d.err
}

// checkEpoch is the answer for one partition among several, as an error.
func checkEpoch(a epochAsk, answers []epochAnswer) error {
	at := slices.IndexFunc(answers, func(got epochAnswer) bool { return got.partition == a.partition })
	if at < 0 {
		return fmt.Errorf("the answer about leader epochs has no partition %d", a.partition)
	}
	switch code := kafka.Error(answers[at].code); {
	case answers[at].code == codeNone:
		return a.diverged(answers[at])
	case slices.Contains(movedCodes, code):
		return fmt.Errorf("%w: %w", errMoved, code)
	default:
		return code
	}
}

// verify asks about the partitions in hand whose leader has changed, and drops those from the asks of this round whose
// log is in doubt. The error is about the broker as a whole.
func (l *leading) verify() error {
	g := l.g
	l.doubts = l.doubts[:0]
	g.mu.Lock()
	for i, p := range l.ps {
		switch {
		case !p.unverified:
		case p.seen >= 0:
			l.doubts = append(l.doubts, epochAsk{partition: p.id, current: l.asks[i].epoch, epoch: p.seen, next: p.next})
		case p.epoch == l.asks[i].epoch:
			p.unverified = false // nothing was read from another leader
		}
	}
	g.mu.Unlock()
	if len(l.doubts) == 0 {
		return nil
	}
	answers, ok, err := g.s.client.epochEnds(g.ctx, l.leader, g.s.topic, l.doubts)
	if err != nil {
		return err
	}
	for _, a := range l.doubts {
		p := l.ps[slices.IndexFunc(l.ps, func(p *partition) bool { return p.id == a.partition })]
		if ok {
			err = checkEpoch(a, answers)
		}
		if err != nil {
			l.asks = slices.DeleteFunc(l.asks, func(f fetchAsk) bool { return f.partition == a.partition })
			l.settle(p, err)
			continue
		}
		g.mu.Lock()
		if p.epoch == a.current {
			p.unverified = false
		}
		g.mu.Unlock()
	}
	return nil
}
