package source

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/internal/offset"
)

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

// records makes n records over the partitions of a topic, of all shapes: null and empty keys and values, headers, large.
func records(rnd *rand.Rand, n, partitions int) []*kgo.Record {
	base := time.UnixMilli(1_780_000_000_000)
	out := make([]*kgo.Record, n)
	for i := range out {
		r := &kgo.Record{Topic: testTopic, Partition: int32(rnd.IntN(partitions)), Timestamp: base.Add(time.Duration(rnd.IntN(5000)-1000) * time.Millisecond),
			Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, i, strings.Repeat("x", rnd.IntN(300)))}
		switch rnd.IntN(12) {
		case 0:
			r.Key = nil
		case 1:
			r.Value = nil
		case 2:
			r.Key, r.Value = []byte{}, []byte{}
		case 3:
			r.Headers = []kgo.RecordHeader{{Key: "traceparent", Value: []byte("00-abc-def-01")}, {Key: "", Value: nil}, {Key: "e", Value: []byte{}}}
		case 4:
			r.Value = fmt.Appendf(nil, "%x", rnd.Perm(2000))
		}
		out[i] = r
	}
	return out
}

func produce(t testing.TB, cl *kgo.Client, recs []*kgo.Record) {
	t.Helper()
	if err := cl.ProduceSync(within(t, 20*time.Second), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// TestCodecs holds Firn's records against franz-go's for each codec, from the beginning and from the middle.
func TestCodecs(t *testing.T) {
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(7, 7))
			c := cluster(t, kfake.SeedTopics(3, testTopic))
			cl := franz(t, c.ListenAddrs(), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5*time.Millisecond))
			for range 4 {
				produce(t, cl, records(rnd, 700, 3))
			}
			end := stableEnds(t, cl, testTopic)
			middle := offset.Vector{0: end[0] / 3, 1: end[1], 2: 1}
			for _, from := range []offset.Vector{{}, middle} {
				s := newSource(t, configOf(c), Options{})
				if err := s.Start(t.Context(), from, nil); err != nil {
					t.Fatal(err)
				}
				got := collector(from)
				got.until(t, s, end)
				sameRows(t, got.rows, oracle(t, c.ListenAddrs(), testTopic, from, end))
				if !maps.Equal(got.next, end) {
					t.Errorf("read up to %s, want %s", got.next, end)
				}
			}
		})
	}
}

// TestTransactions lets several producers commit and abort at random while others write without transactions, and
// leaves one transaction open.
func TestTransactions(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := cluster(t, kfake.SeedTopics(2, testTopic))
	plain := franz(t, c.ListenAddrs())
	var txns []*kgo.Client
	for i := range 3 {
		txns = append(txns, franz(t, c.ListenAddrs(), kgo.TransactionalID(fmt.Sprint("txn-", i)), kgo.ProducerBatchCompression(kgo.Lz4Compression())))
	}
	ctx := within(t, 30*time.Second)
	open := make([]bool, len(txns))
	for range 60 {
		i := rnd.IntN(len(txns) + 1)
		if i == len(txns) {
			produce(t, plain, records(rnd, 1+rnd.IntN(20), 2))
			continue
		}
		if !open[i] {
			if err := txns[i].BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			open[i] = true
		}
		produce(t, txns[i], records(rnd, 1+rnd.IntN(20), 2))
		if rnd.IntN(2) == 0 {
			endTxn(ctx, t, txns[i], rnd.IntN(2) == 0)
			open[i] = false
		}
	}
	for i, o := range open {
		if o && i > 0 {
			endTxn(ctx, t, txns[i], i == 1)
			open[i] = false
		}
	}
	// One stays open: nothing at or above its first offset may come out.
	if !open[0] {
		if err := txns[0].BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, txns[0], records(rnd, 30, 2))
	}
	produce(t, plain, records(rnd, 40, 2))
	end := stableEnds(t, plain, testTopic)
	s := newSource(t, configOf(c), Options{})
	check := func(from offset.Vector) *collected {
		if err := s.Start(t.Context(), from, nil); err != nil {
			t.Fatal(err)
		}
		got := collector(from)
		got.until(t, s, end)
		sameRows(t, got.rows, oracle(t, c.ListenAddrs(), testTopic, from, end))
		return got
	}
	got := check(offset.Vector{})
	if got.control == 0 {
		t.Error("no control offsets were counted")
	}
	for range 5 {
		check(offset.Vector{0: rnd.Int64N(end[0] + 1), 1: rnd.Int64N(end[1] + 1)})
	}
	if at := s.Positions()[0]; at.LastStable != end[0] || at.HighWatermark < at.LastStable || at.LogStart != 0 {
		t.Errorf("positions of partition 0: %+v, last stable offset %d", at, end[0])
	}
	// The open transaction ends: the rest comes out in the same generation.
	before := collector(end)
	if err := s.Start(t.Context(), end, nil); err != nil {
		t.Fatal(err)
	}
	endTxn(ctx, t, txns[0], true)
	after := stableEnds(t, plain, testTopic)
	before.until(t, s, after)
	sameRows(t, before.rows, oracle(t, c.ListenAddrs(), testTopic, end, after))
}

func endTxn(ctx context.Context, t *testing.T, cl *kgo.Client, commit bool) {
	t.Helper()
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
}
