package source

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

var (
	logCount = flag.Int("logs", 12, "how many random logs are read by both clients")
	logSeed  = flag.Uint64("seed", 1, "seed of the first random log; the others follow")
)

// kafkaUnderTest is where a random log is written: an in-process Kafka or a real one.
type kafkaUnderTest struct {
	cfg  Config
	move func() // gives partitions other leaders; nil where there is one broker
	// compact runs when the part of a log that may be compacted is written, and a segment has begun behind it.
	// Nothing is compacted afterwards.
	compact func(t *testing.T, topic string, written offset.Vector)
	segment map[string]string // what makes a compacted topic's segments small
	roll    time.Duration     // until the next record begins a segment
	// full lets responses be cut at fetch_max_bytes. The in-process Kafka forgets to name the aborted transactions of
	// such a response.
	full bool
}

// randomLog is a log being written, from a seed.
type randomLog struct {
	t          *testing.T
	k          kafkaUnderTest
	rnd        *rand.Rand
	topic      string
	partitions int
	compacted  bool
	shift      time.Duration // of all timestamps: a real broker drops what is older than its retention
	plain      []*kgo.Client
	txns       []*kgo.Client
	open       []bool
}

func newRandomLog(t *testing.T, k kafkaUnderTest, topic string, rnd *rand.Rand) *randomLog {
	t.Helper()
	l := &randomLog{t: t, k: k, rnd: rnd, topic: topic, partitions: 1 + rnd.IntN(3), compacted: rnd.IntN(3) == 0}
	l.shift = time.Since(time.UnixMilli(1_780_000_000_000))
	config := map[string]*string{"max.message.bytes": new("4000000")}
	if rnd.IntN(4) == 0 {
		config["message.timestamp.type"] = new("LogAppendTime")
	}
	if l.compacted {
		config["cleanup.policy"] = new("compact")
		for key, value := range k.segment {
			config[key] = &value
		}
	}
	admin := kadm.NewClient(franz(t, k.cfg.Brokers))
	if _, err := admin.CreateTopic(within(t, 20*time.Second), int32(l.partitions), 1, config, topic); err != nil {
		t.Fatal(err)
	}
	if err := EnsureTopic(within(t, 20*time.Second), k.cfg, topic, l.partitions); err != nil {
		t.Fatal(err)
	}
	batch := int32(2000 << rnd.IntN(11)) // a batch may be smaller or larger than what is asked for at once
	for _, name := range slices.Sorted(maps.Keys(codecs)) {
		codec := codecs[name]
		l.plain = append(l.plain, franz(t, k.cfg.Brokers, kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(max(batch, 1_200_000)),
			kgo.ProducerLinger(time.Duration(rnd.IntN(2))*time.Millisecond)))
		if batch < 1_200_000 && rnd.IntN(2) == 0 {
			l.plain = append(l.plain, franz(t, k.cfg.Brokers, kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(batch+30_000)))
		}
	}
	for i := range 3 {
		l.txns = append(l.txns, franz(t, k.cfg.Brokers, kgo.TransactionalID(fmt.Sprint(topic, "-", i)),
			kgo.ProducerBatchCompression([]kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[i])))
	}
	l.open = make([]bool, len(l.txns))
	return l
}

// records makes n records as this topic takes them.
func (l *randomLog) records(n int) []*kgo.Record {
	out := records(l.rnd, n, l.partitions)
	for _, r := range out {
		r.Topic, r.Timestamp = l.topic, r.Timestamp.Add(l.shift)
		if l.compacted && r.Key == nil {
			r.Key = []byte("a topic that is compacted takes no null")
		}
	}
	return out
}

// large is a record of up to 1 MB, half of which does not compress.
func (l *randomLog) large() *kgo.Record {
	r := l.records(1)[0]
	r.Value = make([]byte, 1_000_000-l.rnd.IntN(600_000))
	for i := range len(r.Value) / 2 {
		r.Value[i] = byte(l.rnd.Uint32())
	}
	return r
}

// write appends by one random act.
func (l *randomLog) write() {
	t, rnd := l.t, l.rnd
	t.Helper()
	cl := l.plain[rnd.IntN(len(l.plain))]
	switch act := rnd.IntN(16); {
	case act < 5:
		produce(t, cl, l.records(1+rnd.IntN(60)))
	case act < 6:
		produce(t, l.plain[0], []*kgo.Record{l.large()})
	case act < 7:
		empty := l.records(200)
		for _, r := range empty {
			r.Headers, r.Value = nil, []byte{}
		}
		produce(t, cl, empty)
	case act < 8 && l.k.move != nil:
		l.k.move()
	default:
		i := rnd.IntN(len(l.txns))
		l.begin(i)
		produce(t, l.txns[i], l.records(1+rnd.IntN(20)))
		if rnd.IntN(2) == 0 {
			l.end(i, rnd.IntN(2) == 0)
		}
	}
}

func (l *randomLog) begin(i int) {
	l.t.Helper()
	if l.open[i] {
		return
	}
	if err := l.txns[i].BeginTransaction(); err != nil {
		l.t.Fatal(err)
	}
	l.open[i] = true
}

func (l *randomLog) end(i int, commit bool) {
	l.t.Helper()
	if l.open[i] {
		endTxn(within(l.t, 30*time.Second), l.t, l.txns[i], commit)
		l.open[i] = false
	}
}

// seal writes a visible record to each partition, by whose offset the oracle knows that it has read everything.
func (l *randomLog) seal() {
	l.t.Helper()
	for p := range l.partitions {
		produce(l.t, l.plain[0], []*kgo.Record{{Topic: l.topic, Partition: int32(p), Key: fmt.Append(nil, "seal", l.rnd.Uint64()),
			Value: []byte("sealed"), Timestamp: time.Now().Add(10 * time.Second)}}) // above all others, by which Kafka begins segments
	}
}

// drop makes the broker drop the first records, unless the log is compacted, and returns where it begins then.
func (l *randomLog) drop(end offset.Vector) offset.Vector {
	l.t.Helper()
	bounds, err := Bounds(within(l.t, 20*time.Second), l.k.cfg, l.topic)
	if err != nil {
		l.t.Fatal(err)
	}
	first := offset.Vector{}
	for p, b := range bounds {
		first[p] = b.LogStart // the in-process Kafka moves it when it compacts
	}
	if l.compacted || l.rnd.IntN(3) > 0 {
		return first
	}
	var at kadm.Offsets
	for _, p := range first.Partitions() {
		first[p] = l.rnd.Int64N(end[p])
		at.Add(kadm.Offset{Topic: l.topic, Partition: p, At: first[p]})
	}
	res, err := kadm.NewClient(l.plain[0]).DeleteRecords(within(l.t, 20*time.Second), at)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return first
}

// config is how the reader under test is set this time: also with less room than one batch takes.
func (l *randomLog) config() Config {
	cfg := l.k.cfg
	cfg.FetchMaxBytes = 32 << 20
	if l.k.full {
		cfg.FetchMaxBytes = []units.Bytes{minFetchBytes, 1 << 20, 32 << 20}[l.rnd.IntN(3)]
	}
	cfg.PartitionMaxBytes = max(minFetchBytes, cfg.FetchMaxBytes>>(3*l.rnd.IntN(4)))
	cfg.ReadAhead = []units.Bytes{minFetchBytes, 32 << 20}[l.rnd.IntN(2)]
	return cfg
}

// rowsFrom cuts rows at a start.
func rowsFrom(t *testing.T, rows map[int32][]string, from offset.Vector) map[int32][]string {
	t.Helper()
	out := map[int32][]string{}
	for p, all := range rows {
		at := 0
		for at < len(all) && offsetOfRow(t, all[at]) < from[p] {
			at++
		}
		out[p] = all[at:]
	}
	return out
}

// check writes a log at random and holds what the source reads against franz-go's read_committed, from the beginning,
// while it is written and from random offsets, and over a last stable offset that stands still.
func (l *randomLog) check() {
	t := l.t
	t.Helper()
	live := newSource(t, l.config(), Options{Topic: l.topic})
	start(t, live, nil)
	for range 10 + l.rnd.IntN(30) {
		l.write()
	}
	for i := range l.txns {
		l.end(i, l.rnd.IntN(2) == 0)
	}
	if l.compacted {
		written := stableEnds(t, l.plain[0], l.topic)
		time.Sleep(l.k.roll)
		l.seal()
		l.k.compact(t, l.topic, written)
	}
	l.seal()
	hanging := -1
	if l.rnd.IntN(2) == 0 {
		hanging = l.rnd.IntN(len(l.txns))
		l.begin(hanging)
		produce(t, l.txns[hanging], l.records(1+l.rnd.IntN(10)))
		produce(t, l.plain[0], l.records(1+l.rnd.IntN(10)))
	}
	end := stableEnds(t, l.plain[0], l.topic)
	if !l.compacted { // what it read before the compaction, the oracle cannot see any more
		want := oracle(t, l.k.cfg.Brokers, l.topic, nil, end)
		got := collector(offset.Vector{})
		got.until(t, live, end)
		sameRows(t, got.rows, want)
	}
	first := l.drop(end)
	want := oracle(t, l.k.cfg.Brokers, l.topic, first, end)
	s := newSource(t, l.config(), Options{Topic: l.topic})
	for round := range 4 {
		from := first.Clone()
		for _, p := range from.Partitions() {
			if round > 0 {
				from[p] += l.rnd.Int64N(end[p] - from[p] + 1)
			}
		}
		start(t, s, from)
		got := collector(from)
		got.until(t, s, end)
		sameRows(t, got.rows, rowsFrom(t, want, from))
	}
	if hanging >= 0 {
		l.checkHanging(s, hanging, end)
	}
}

// checkHanging reads at a last stable offset that does not move, until the transaction above it ends.
func (l *randomLog) checkHanging(s *Source, hanging int, end offset.Vector) {
	t := l.t
	t.Helper()
	start(t, s, end)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	if f, err := s.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("behind an open transaction: %+v, %v", f, err)
	}
	l.end(hanging, l.rnd.IntN(2) == 0)
	l.seal()
	after := stableEnds(t, l.plain[0], l.topic)
	got := collector(end)
	got.until(t, s, after)
	sameRows(t, got.rows, oracle(t, l.k.cfg.Brokers, l.topic, end, after))
}

// TestRandomLogs writes logs at random: all codecs, sizes from nothing to 1 MB, nulls, headers, transactions that commit,
// abort, overlap and stay open, leaders that move, compaction, records that were dropped. For each, Firn's records are
// franz-go's, offset by offset. -seed and -logs choose which and how many.
func TestRandomLogs(t *testing.T) {
	for i := range *logCount {
		seed := *logSeed + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(2))
			k := kafkaUnderTest{cfg: configOf(c), move: c.ShufflePartitionLeaders, segment: map[string]string{"segment.bytes": "4096", "min.cleanable.dirty.ratio": "0.0"},
				compact: func(*testing.T, string, offset.Vector) { c.Compact() }}
			newRandomLog(t, k, testTopic, rand.New(rand.NewPCG(seed, 4))).check()
		})
	}
}

// TestRowsDiffer shows that the comparison of two clients' records sees what it is for.
func TestRowsDiffer(t *testing.T) {
	base := func() []string {
		return []string{row(3, 5, nil, []byte{}, ""), row(4, 5, []byte("k"), bytes.Repeat([]byte("v"), 10), `h:""`)}
	}
	for name, other := range map[string]string{"offset": row(5, 5, []byte("k"), []byte("vvvvvvvvvv"), `h:""`), "timestamp": row(4, 6, []byte("k"), []byte("vvvvvvvvvv"), `h:""`),
		"key": row(4, 5, []byte("j"), []byte("vvvvvvvvvv"), `h:""`), "null": row(4, 5, nil, []byte("vvvvvvvvvv"), `h:""`), "value": row(4, 5, []byte("k"), []byte("vvvvvvvvv"), `h:""`),
		"header": row(4, 5, []byte("k"), []byte("vvvvvvvvvv"), "")} {
		changed := base()
		if changed[1] = other; strings.Join(changed, "\n") == strings.Join(base(), "\n") {
			t.Errorf("another %s is not seen", name)
		}
	}
}
