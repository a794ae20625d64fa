package source

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// fetchVersion is the newest version that kafka-go negotiates; Kafka 2.3 to 4.x know it.
const fetchVersion = 11

// maxOversize is by how much a response may exceed fetch_max_bytes: a broker sends the first record batch whole,
// however large, so that a consumer always gets on.
const maxOversize = 128 << 20

// fetchAsk is one partition in a fetch request.
type fetchAsk struct {
	partition int32
	epoch     int32 // current leader epoch as the metadata has it; -1 for none
	offset    int64
	maxBytes  int32
}

// fetchAnswer is one partition in a fetch response. The record set aliases the response.
type fetchAnswer struct {
	partition                           int32
	code                                int16
	highWatermark, lastStable, logStart int64
	aborted                             []abortedTxn
	records                             []byte
}

// abortedTxn is a transaction that ended in an abort, by its producer and first offset.
type abortedTxn struct{ producerID, first int64 }

// fetcher sends fetch requests of one goroutine; what it hands out is valid until the next one.
type fetcher struct {
	c       *client
	topic   string
	body    encoder
	answers []fetchAnswer
}

// fetch asks a leader for the records of its partitions, read committed. The response is read into buf, which grows as
// needed and comes back as the memory that the answers alias.
func (f *fetcher) fetch(ctx context.Context, broker int32, asks []fetchAsk, wait time.Duration, buf []byte) ([]fetchAnswer, []byte, error) {
	e := f.body[:0]
	e.int32(-1) // a consumer, no replica
	e.int32(int32(wait.Milliseconds()))
	e.int32(1) // min bytes: answer as soon as there is anything
	e.int32(int32(f.c.cfg.FetchMaxBytes))
	e.int8(readCommitted)
	e.int32(0) // no fetch session: the offsets asked for are this side's truth
	e.int32(-1)
	e.int32(1)
	e.string(f.topic)
	e.int32(int32(len(asks)))
	for _, a := range asks {
		e.int32(a.partition)
		e.int32(a.epoch)
		e.int64(a.offset)
		e.int64(-1) // log start is for replicas
		e.int32(a.maxBytes)
	}
	e.int32(0) // nothing to forget
	e.string("")
	f.body = e
	// An answer of the configured size is what is expected, so that its memory is made at once: growing to it would copy
	// it once over and leave as much again to the garbage collector, which empties the pools.
	k := &call{key: protocol.Fetch, version: fetchVersion, negotiated: true, broker: broker, body: e,
		limit: int(f.c.cfg.FetchMaxBytes) + maxOversize, step: int(f.c.cfg.FetchMaxBytes), buf: buf}
	if err := f.c.do(ctx, k, wait); err != nil {
		f.body = nil // an abandoned exchange may still write them
		return nil, nil, err
	}
	answers, err := f.parse(k.reply)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch topic %s from broker %d: %w", f.topic, broker, err)
	}
	return answers, k.buf, nil
}

func (f *fetcher) parse(b []byte) ([]fetchAnswer, error) {
	d := decoder{b: b}
	d.int32() // throttle: the broker has held the answer back already
	if code := d.int16(); code != codeNone {
		return nil, kafka.Error(code)
	}
	d.int32() // session
	out := f.answers[:0]
	for n := d.array(6); n > 0; n-- {
		d.string()
		for n := d.array(42); n > 0; n-- {
			if len(out) < cap(out) {
				out = out[:len(out)+1]
			} else {
				out = append(out, fetchAnswer{})
			}
			a := &out[len(out)-1]
			a.partition, a.code = d.int32(), d.int16()
			a.highWatermark, a.lastStable, a.logStart = d.int64(), d.int64(), d.int64()
			a.aborted = a.aborted[:0]
			for n := d.array(16); n > 0; n-- {
				a.aborted = append(a.aborted, abortedTxn{producerID: d.int64(), first: d.int64()})
			}
			d.int32() // preferred replica: only with a rack
			a.records = d.bytes()
		}
	}
	f.answers = out
	return out, d.err
}
