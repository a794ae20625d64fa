package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

// What stands at an offset of the log.
const (
	isRow     = 'r' // a record that gives a row by every contract
	isDead    = 'd' // a dead letter by every contract
	isVaried  = 'v' // a row by contract 0, a dead letter by contract 1
	isControl = 'c' // the end of a transaction
	isHole    = '-' // compacted away
)

// slot is one offset.
type slot struct {
	kind byte
	tx   int // of the transaction it belongs to; 0: none
}

// What became of a transaction.
const (
	txOpen = iota
	txCommitted
	txAborted
)

// topicLog is the log of one topic. Only the driver changes it.
type topicLog struct {
	parts   map[int32][]slot
	txs     []int // states, from transaction 1 on
	epoch   int32
	lined   bool // records hold several events, one a line
	deduped bool // events have ids, and some come again
}

func newTopicLog() *topicLog {
	return &topicLog{parts: map[int32][]slot{0: nil, 1: nil}, txs: []int{txCommitted}}
}

// maxParts bounds the partitions of a schedule.
const maxParts = 3

// grow is what producers and the broker do: records, transactions that begin, go on and end, partitions that are added.
func (l *topicLog) grow(r *rand.Rand) string {
	p := int32(r.IntN(len(l.parts)))
	switch n := r.IntN(100); {
	case n < 50:
		return l.produce(r, p, 0)
	case n < 60:
		l.txs = append(l.txs, txOpen)
		return l.produce(r, p, len(l.txs)-1)
	case n < 70:
		if tx := l.someOpen(r); tx != 0 {
			return l.produce(r, p, tx)
		}
		return l.produce(r, p, 0)
	case n < 92:
		if tx := l.someOpen(r); tx != 0 {
			return l.end(r, tx)
		}
		return l.produce(r, p, 0)
	case n < 96 && len(l.parts) < maxParts:
		l.parts[int32(len(l.parts))] = nil
		return fmt.Sprintf("partition %d is added", len(l.parts)-1)
	}
	l.epoch++
	return fmt.Sprintf("leader epoch %d", l.epoch)
}

func (l *topicLog) someOpen(r *rand.Rand) int {
	var open []int
	for tx, state := range l.txs {
		if state == txOpen {
			open = append(open, tx)
		}
	}
	if len(open) == 0 {
		return 0
	}
	return open[r.IntN(len(open))]
}

func (l *topicLog) produce(r *rand.Rand, p int32, tx int) string {
	n := 1 + r.IntN(5)
	for range n {
		kind := byte(isRow)
		switch k := r.IntN(20); {
		case k < 3:
			kind = isDead
		case k < 5:
			kind = isVaried
		case k < 6:
			kind = isHole
		}
		l.parts[p] = append(l.parts[p], slot{kind, tx})
	}
	return fmt.Sprintf("partition %d grows to %d, transaction %d", p, len(l.parts[p]), tx)
}

// end writes the marker of a transaction to every partition that it wrote to.
func (l *topicLog) end(r *rand.Rand, tx int) string {
	l.txs[tx] = txCommitted + r.IntN(2)
	for p, slots := range l.parts {
		if slices.ContainsFunc(slots, func(s slot) bool { return s.tx == tx }) {
			l.parts[p] = append(slots, slot{isControl, 0})
		}
	}
	return fmt.Sprintf("transaction %d ends: committed %t", tx, l.txs[tx] == txCommitted)
}

// settle ends every open transaction.
func (l *topicLog) settle(r *rand.Rand) {
	for tx := l.someOpen(r); tx != 0; tx = l.someOpen(r) {
		l.end(r, tx)
	}
}

// stable is the last stable offset: the first one of the oldest open transaction, or the end.
func (l *topicLog) stable(p int32) int64 {
	for o, s := range l.parts[p] {
		if s.tx != 0 && l.txs[s.tx] == txOpen {
			return int64(o)
		}
	}
	return int64(len(l.parts[p]))
}

// lines are what the events of the record at an offset are: the first is of the slot's kind, and which follow is told by the
// offset. A record with one event alone has line 0.
func (l *topicLog) lines(p int32, o int64) map[int32]byte {
	kind := l.parts[p][o].kind
	if !l.lined || kind == isControl || kind == isHole {
		return map[int32]byte{0: kind}
	}
	out := map[int32]byte{1: kind}
	for i := range int32(o*5+int64(p)) % 4 {
		out[i+2] = []byte{isRow, isVaried, isDead}[(int64(i)+o)%3]
	}
	return out
}

// gives says what a line of an offset below the last stable one gives by a contract: isRow, isDead, or isHole for nothing.
func (l *topicLog) gives(p int32, o int64, kind byte, contract int) byte {
	switch {
	case kind == isControl, kind == isHole, l.txs[l.parts[p][o].tx] != txCommitted:
		return isHole
	case kind == isVaried && contract == 0:
		return isRow
	case kind == isVaried:
		return isDead
	}
	return kind
}

// payload is the value of the record at an offset.
func (l *topicLog) payload(p int32, o int64) []byte {
	lines := l.lines(p, o)
	if id := l.id(p, o); id != "" && lines[0] == isRow {
		return fmt.Appendf(nil, `{"user":"ada","n":1,"id":%q}`, id)
	}
	if !l.lined {
		return payloads[lines[0]]
	}
	var out []byte
	for i := range len(lines) {
		out = append(append(out, payloads[lines[int32(i+1)]]...), '\n')
	}
	return out
}

var payloads = map[byte][]byte{
	isRow:    []byte(`{"user":"ada","n":1}`),
	isDead:   []byte(`{"user":"ada","n":`),
	isVaried: []byte(`{"user":"ada","n":7}`),
}

// id is that of the event at an offset, if it has one.
func (l *topicLog) id(p int32, o int64) string {
	if k := (o*o + 3*int64(p)) % 11; l.deduped && k != 0 {
		return fmt.Sprint("event ", k)
	}
	return ""
}

// at is the time of the record at an offset, in milliseconds.
func (l *topicLog) at(o int64) int64 {
	if l.deduped {
		return 1_000 + o*slotTime.Milliseconds()
	}
	return 1_000 + o
}

// stretch is a read of at most n offsets from at on, read-committed.
func (l *topicLog) stretch(p int32, at int64, n int, now time.Time) *engine.Fetch {
	stable := l.stable(p)
	f := &engine.Fetch{Partition: p, Start: at, End: min(at+int64(n), stable), LeaderEpoch: l.epoch, LastStable: stable, FetchedAt: now}
	for o := at; o < f.End; o++ {
		s := l.parts[p][o]
		switch {
		case s.kind == isControl:
			f.Control++
		case s.kind == isHole:
		case l.txs[s.tx] == txAborted:
			f.Aborted++
		default:
			v := l.payload(p, o)
			f.Records = append(f.Records, engine.Record{Offset: o, TimestampMs: l.at(o), Value: v})
			f.Bytes += int64(len(v))
		}
	}
	return f
}

// ends is the vector at which everything has been read.
func (l *topicLog) ends() offset.Vector {
	v := offset.Vector{}
	for p := range l.parts {
		v[p] = l.stable(p)
	}
	return v
}

// readTo tells that nothing is left to be read at or beyond v. A partition where nothing was ever written is in no vector.
func (l *topicLog) readTo(v offset.Vector) bool {
	for p, end := range l.ends() {
		if v[p] != end {
			return false
		}
	}
	return true
}

// reader is the engine.Source of one writer.
type reader struct {
	w   *writer
	log *topicLog

	mu sync.Mutex
	at offset.Vector
}

var _ engine.Source = (*reader)(nil)

func (r *reader) Describe(context.Context) (engine.Topic, error) {
	return engine.Topic{Name: "events", ClusterID: "cluster", TopicID: "topic"}, nil
}

func (r *reader) Start(_ context.Context, from offset.Vector, _ map[int32]int32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = from.Clone()
	return nil
}

// Poll waits at the gate until the driver gives it a stretch.
func (r *reader) Poll(ctx context.Context) (f *engine.Fetch, err error) {
	err = r.w.call(ctx, &call{lane: "poll", poll: r, run: func(context.Context) error { return nil }, fetched: &f})
	return f, err
}

// next are the partitions with something to read.
func (r *reader) next() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []int32
	for p := range int32(len(r.log.parts)) {
		if r.at[p] < r.log.stable(p) {
			out = append(out, p)
		}
	}
	return out
}

// read takes the next stretch; the driver calls it.
func (r *reader) read(rnd *rand.Rand) *engine.Fetch {
	ps := r.next()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := ps[rnd.IntN(len(ps))]
	f := r.log.stretch(p, r.at[p], 1+rnd.IntN(6), time.Now())
	r.at[p] = f.End
	return f
}

func (r *reader) Positions() map[int32]engine.Position { return nil }
func (r *reader) Health() error                        { return nil }
func (r *reader) Close() error                         { return nil }
