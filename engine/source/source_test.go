package source

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

// values makes n small records of one partition.
func values(partition int32, from, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{Topic: testTopic, Partition: partition, Value: fmt.Appendf(nil, "v%d", from+i)}
	}
	return out
}

func start(t *testing.T, s *Source, from offset.Vector) {
	t.Helper()
	if err := s.Start(t.Context(), from, nil); err != nil {
		t.Fatal(err)
	}
}

// pollError polls until an error and returns the records before it.
func pollError(t *testing.T, s *Source) (n int, err error) {
	t.Helper()
	ctx := within(t, 15*time.Second)
	for {
		f, err := s.Poll(ctx)
		if err != nil {
			if ctx.Err() != nil {
				t.Fatalf("no error within the time; health %v", s.Health())
			}
			return n, err
		}
		n += len(f.Records)
		f.Release()
	}
}

// eventually waits for what a goroutine will do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 15s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestLife(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	s := newSource(t, configOf(c), Options{})
	if _, err := s.Poll(t.Context()); !errors.Is(err, errNotStarted) {
		t.Errorf("poll before start: %v", err)
	}
	if err := s.Start(t.Context(), offset.Vector{0: -1}, nil); err == nil {
		t.Error("started at a negative offset")
	}
	start(t, s, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("poll of an empty topic: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Poll(context.WithoutCancel(t.Context()))
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waiting; !errors.Is(err, errSourceClosed) {
		t.Errorf("poll under way while the source is closed: %v", err)
	}
	if err := s.Start(t.Context(), nil, nil); !errors.Is(err, errSourceClosed) {
		t.Errorf("start after close: %v", err)
	}
	if err := s.Health(); err != nil {
		t.Errorf("health after close: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	for _, version := range []string{"now", "before topic ids"} {
		t.Run(version, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(3, testTopic), kfake.ClusterID("test-cluster"))
			if version != "now" {
				c.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
					c.KeepControl()
					resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
					for key, most := range map[int16]int16{0: 8, 1: 11, 2: 5, 3: 8, 18: 2, 22: 1} {
						resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: most})
					}
					return resp, nil, true
				})
			}
			s := newSource(t, configOf(c), Options{})
			got, err := s.Describe(within(t, 10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != testTopic || got.ClusterID != "test-cluster" || !slices.Equal(got.Partitions, []int32{0, 1, 2}) {
				t.Errorf("%+v", got)
			}
			want := noTopicID
			if version == "now" {
				id := c.TopicInfo(testTopic).TopicID
				want = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(kadm.TopicID(id).String()) // as Kafka prints it
			}
			if got.TopicID != want {
				t.Errorf("topic id %q, want %q", got.TopicID, want)
			}
		})
	}
}

// TestStartOver starts again and again from random offsets, also while stretches wait, and never sees an earlier start.
func TestStartOver(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	c := cluster(t, kfake.SeedTopics(2, testTopic))
	cl := franz(t, c.ListenAddrs(), kgo.ProducerBatchMaxBytes(4096), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for p := range int32(2) {
		produce(t, cl, values(p, 0, 3000))
	}
	end := stableEnds(t, cl, testTopic)
	s := newSource(t, configOf(c), Options{})
	for range 20 {
		from := offset.Vector{0: rnd.Int64N(3000), 1: rnd.Int64N(3000)}
		start(t, s, from)
		got := collector(from)
		if rnd.IntN(2) == 0 {
			f, err := s.Poll(within(t, 10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			got.add(t, f)
			continue
		}
		got.until(t, s, end)
		if n := int64(len(got.rows[0]) + len(got.rows[1])); n != 6000-from[0]-from[1] {
			t.Fatalf("%d records from %s", n, from)
		}
	}
}

// TestReadAheadIsBounded lets the reader fall behind: what waits stays within the bound, and all of it arrives.
func TestReadAheadIsBounded(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(4, testTopic))
	cl := franz(t, c.ListenAddrs(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	var recs []*kgo.Record
	for i := range 4000 {
		recs = append(recs, &kgo.Record{Topic: testTopic, Partition: int32(i % 4), Value: []byte(strings.Repeat("y", 2000))})
	}
	produce(t, cl, recs)
	cfg := configOf(c)
	cfg.ReadAhead = 2 << 20
	s := newSource(t, cfg, Options{})
	start(t, s, nil)
	got := collector(offset.Vector{})
	const atMost = 2<<20 + 2*stretchBytes // the bound, or one stretch where it alone is beyond
	eventually(t, "read ahead", func() bool { _, held := s.progress(); return held > 1<<20 })
	for i := 0; !got.reached(offset.Vector{0: 1000, 1: 1000, 2: 1000, 3: 1000}); i++ {
		time.Sleep(2 * time.Millisecond)
		if _, held := s.progress(); held > atMost {
			t.Fatalf("%d bytes wait", held)
		}
		f, err := s.Poll(within(t, 10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		got.add(t, f)
	}
}

func TestNoTopic(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "another"))
	s := newSource(t, configOf(c), Options{})
	_, err := s.Describe(within(t, 10*time.Second))
	if !errors.Is(err, engine.ErrNoTopic) || !strings.Contains(err.Error(), testTopic) || !strings.Contains(err.Error(), c.ListenAddrs()[0]) {
		t.Errorf("describe: %v", err)
	}
	start(t, s, nil)
	if _, err := pollError(t, s); !errors.Is(err, engine.ErrNoTopic) {
		t.Errorf("poll: %v", err)
	}
	if err := c.CreateTopic(testTopic, 1, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, franz(t, c.ListenAddrs()), values(0, 0, 3))
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 3})
	if err := c.DeleteTopic(testTopic); err != nil {
		t.Fatal(err)
	}
	if _, err := pollError(t, s); !errors.Is(err, engine.ErrNoTopic) {
		t.Errorf("poll after the topic was deleted: %v", err)
	}
}

func TestRetentionGap(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	cl := franz(t, c.ListenAddrs())
	produce(t, cl, values(0, 0, 10))
	produce(t, cl, values(0, 10, 10))
	s := newSource(t, configOf(c), Options{})
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 20})
	if err := c.DeleteRecords(testTopic, 0, 15); err != nil {
		t.Fatal(err)
	}
	start(t, s, offset.Vector{0: 12})
	if _, err := pollError(t, s); !errors.Is(err, engine.ErrRetentionGap) || !strings.Contains(err.Error(), "3 offsets are gone") || !strings.Contains(err.Error(), "partition 0") {
		t.Errorf("from 12, the log starts at 15: %v", err)
	}
	start(t, s, offset.Vector{0: 12})
	var le *engine.LogError
	if _, err := pollError(t, s); !errors.As(err, &le) || le.Partition != 0 || le.Next != 12 || le.LogStart != 15 {
		t.Errorf("as a LogError: %+v", le)
	}
	if p := s.Positions()[0]; p.LogStart != 15 {
		t.Errorf("positions %+v", p)
	}
	// At the log's start and without an offset it goes on.
	for _, from := range []offset.Vector{{0: 15}, {}} {
		start(t, s, from)
		got := collector(offset.Vector{0: 15})
		got.until(t, s, offset.Vector{0: 20})
		if len(got.rows[0]) != 5 {
			t.Errorf("from %s: %d records", from, len(got.rows[0]))
		}
	}
}

// TestSilentGap is a broker that answers an offset below its log's start with what lies behind, instead of an error.
func TestSilentGap(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	answer(c, fetched{raw: join(plainBatch(20, 2)), logStart: 20, end: 22})
	s := newSource(t, configOf(c), Options{})
	start(t, s, offset.Vector{0: 10})
	if n, err := pollError(t, s); !errors.Is(err, engine.ErrRetentionGap) || n != 0 {
		t.Errorf("%d records, %v", n, err)
	}
	// A log's start that moved while the records at the offset were read whole is no gap.
	c = cluster(t, kfake.SeedTopics(1, testTopic))
	answer(c, fetched{raw: join(plainBatch(8, 4)), logStart: 11, end: 12})
	s = newSource(t, configOf(c), Options{})
	start(t, s, offset.Vector{0: 10})
	got := collector(offset.Vector{0: 10})
	got.until(t, s, offset.Vector{0: 12})
	if len(got.rows[0]) != 2 {
		t.Errorf("rows %v", got.rows[0])
	}
}

// fetched is an answer to give to every fetch of partition 0.
type fetched struct {
	raw           []byte
	logStart, end int64
	stable        int64 // 0: end
	code          int16
}

// answer makes a cluster answer all fetches so. The records come once; then there is nothing new.
func answer(c *kfake.Cluster, a fetched) {
	if a.stable == 0 {
		a.stable = a.end
	}
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		p := kmsg.NewFetchResponseTopicPartition()
		p.ErrorCode, p.LogStartOffset, p.HighWatermark, p.LastStableOffset = a.code, a.logStart, a.end, a.stable
		if fetch.Topics[0].Partitions[0].FetchOffset < a.stable {
			p.RecordBatches = a.raw
		}
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = testTopic
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
}

func TestCorruptLog(t *testing.T) {
	bad := plainBatch(2, 2).bytes()
	bad[len(bad)-1] ^= 1
	for name, a := range map[string]struct {
		raw  []byte
		want error
		says string
		rows int
	}{
		"checksum":     {append(join(plainBatch(0, 2)), bad...), ErrCorrupt, "partition 0: corrupt record batch at offset 2", 2},
		"old messages": {patched(bad, batchMagicAt, 1), ErrOldFormat, "partition 0: offset 2: records cannot be read: message format", 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, testTopic))
			answer(c, fetched{raw: a.raw, end: 10})
			s := newSource(t, configOf(c), Options{})
			start(t, s, nil)
			n, err := pollError(t, s)
			if !errors.Is(err, a.want) || !strings.Contains(err.Error(), a.says) || n != a.rows {
				t.Errorf("%d records, then %v", n, err)
			}
			if _, again := s.Poll(t.Context()); !errors.Is(again, a.want) {
				t.Errorf("the error is not final: %v", again)
			}
		})
	}
}

// TestPartialBatch is a broker that cuts the first batch at the size asked for, as those before Kafka 0.10.1: Firn asks
// for more.
func TestPartialBatch(t *testing.T) {
	big := plainBatch(0, 1)
	big.value = strings.Repeat("z", 3<<20)
	raw := big.bytes()
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		ask := req.(*kmsg.FetchRequest).Topics[0].Partitions[0]
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.LastStableOffset = 1, 1
		if ask.FetchOffset == 0 {
			p.RecordBatches = raw[:min(len(raw), int(ask.PartitionMaxBytes))]
		}
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.Partitions = testTopic, []kmsg.FetchResponseTopicPartition{p}
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	s := newSource(t, configOf(c), Options{})
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 1})
}

func TestLogTruncated(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	produce(t, franz(t, c.ListenAddrs()), values(0, 0, 10))
	s := newSource(t, configOf(c), Options{})
	start(t, s, offset.Vector{0: 11})
	if _, err := pollError(t, s); !errors.Is(err, engine.ErrLogTruncated) || !strings.Contains(err.Error(), "11") {
		t.Errorf("from 11, the log ends at 10: %v", err)
	}
	start(t, s, offset.Vector{0: 10})
	produce(t, franz(t, c.ListenAddrs()), values(0, 10, 1))
	collector(offset.Vector{0: 10}).until(t, s, offset.Vector{0: 11})
}

func TestTopicRecreated(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, testTopic))
	produce(t, franz(t, c.ListenAddrs()), append(values(0, 0, 10), values(1, 0, 10)...))
	s := newSource(t, configOf(c), Options{RefreshInterval: 50 * time.Millisecond})
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 10, 1: 10})
	if err := c.DeleteTopic(testTopic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(testTopic, 2, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := pollError(t, s); !errors.Is(err, engine.ErrTopicRecreated) && !errors.Is(err, engine.ErrLogTruncated) {
		t.Errorf("while reading: %v", err)
	}
	// Long enough a log does not make it the same topic.
	produce(t, franz(t, c.ListenAddrs()), append(values(0, 0, 30), values(1, 0, 30)...))
	start(t, s, offset.Vector{0: 10, 1: 10})
	if n, err := pollError(t, s); !errors.Is(err, engine.ErrTopicRecreated) || n != 0 {
		t.Errorf("started again: %d records, %v", n, err)
	}
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 30, 1: 30})
	start(t, s, offset.Vector{5: 1})
	if _, err := pollError(t, s); !errors.Is(err, engine.ErrTopicRecreated) || !strings.Contains(err.Error(), "partition 5") {
		t.Errorf("a partition that is gone: %v", err)
	}
}

func TestNewPartitions(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	cl := franz(t, c.ListenAddrs())
	produce(t, cl, values(0, 0, 5))
	s := newSource(t, configOf(c), Options{RefreshInterval: 30 * time.Millisecond})
	start(t, s, nil)
	got := collector(offset.Vector{})
	got.until(t, s, offset.Vector{0: 5})
	if _, err := kadm.NewClient(cl).CreatePartitions(within(t, 10*time.Second), 2, testTopic); err != nil {
		t.Fatal(err)
	}
	produce(t, franz(t, c.ListenAddrs()), append(values(1, 0, 7), values(2, 0, 7)...))
	got.until(t, s, offset.Vector{1: 7, 2: 7})
	if len(got.rows[1]) != 7 || len(got.rows[2]) != 7 {
		t.Errorf("rows of the new partitions: %d and %d", len(got.rows[1]), len(got.rows[2]))
	}
}

// TestLeadersMove writes while leaders move all the time, and holds the result against the oracle.
func TestLeadersMove(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(6, testTopic))
	cl := franz(t, c.ListenAddrs())
	s := newSource(t, configOf(c), Options{})
	start(t, s, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 1))
		for range 15 {
			if err := cl.ProduceSync(t.Context(), records(rnd, 60, 6)...).FirstErr(); err != nil {
				t.Error(err)
				return
			}
			c.ShufflePartitionLeaders()
			time.Sleep(30 * time.Millisecond)
		}
	})
	got := collector(offset.Vector{})
	for range 10 {
		f, err := s.Poll(within(t, 20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		got.add(t, f)
	}
	wg.Wait()
	end := stableEnds(t, cl, testTopic)
	got.until(t, s, end)
	sameRows(t, got.rows, oracle(t, c.ListenAddrs(), testTopic, nil, end))
	eventually(t, "health", func() bool { return s.Health() == nil })
}

// TestFaults answers fetches and layout requests with each passing error in turn; every record arrives once.
func TestFaults(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(2, testTopic))
	produce(t, franz(t, c.ListenAddrs()), append(values(0, 0, 10), values(1, 0, 10)...))
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.UnknownTopicOrPartition,
		kerr.KafkaStorageError, kerr.UnknownServerError, kerr.TopicAuthorizationFailed, kerr.OffsetOutOfRange, kerr.CorruptMessage} {
		t.Run(e.Message, func(t *testing.T) {
			faults := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: testTopic, Err: e, Count: 2})
			defer faults.Remove()
			s := newSource(t, configOf(c), Options{})
			start(t, s, nil)
			got := collector(offset.Vector{})
			got.until(t, s, offset.Vector{0: 10, 1: 10})
			if n := len(got.rows[0]) + len(got.rows[1]); n != 20 || faults.Hits() != 2 {
				t.Errorf("%d records, %d faults", n, faults.Hits())
			}
			eventually(t, "health", func() bool { return s.Health() == nil })
		})
	}
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Metadata, kmsg.ListOffsets} {
		t.Run("connection lost at "+key.Name(), func(t *testing.T) {
			s := newSource(t, configOf(c), Options{})
			c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("lost"), true })
			start(t, s, nil)
			collector(offset.Vector{}).until(t, s, offset.Vector{0: 10, 1: 10})
		})
	}
}

func TestAuthorizationShowsInHealth(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	faults := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: testTopic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	s := newSource(t, configOf(c), Options{})
	start(t, s, nil)
	eventually(t, "trouble", func() bool { return s.Health() != nil })
	var trouble *TroubleError
	if err := s.Health(); !errors.As(err, &trouble) || !strings.Contains(err.Error(), "partition 0") || !strings.Contains(err.Error(), "uthoriz") || trouble.Since.IsZero() {
		t.Errorf("health: %v", err)
	}
	faults.Remove()
	produce(t, franz(t, c.ListenAddrs()), values(0, 0, 1))
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 1})
	eventually(t, "health", func() bool { return s.Health() == nil })
}

// TestCompactedLog lets the broker compact, and reads over its gaps.
func TestCompactedLog(t *testing.T) {
	c := cluster(t)
	segment, compact := "512", "compact"
	if err := c.CreateTopic(testTopic, 1, map[string]string{"cleanup.policy": compact, "segment.bytes": segment, "min.cleanable.dirty.ratio": "0.0"}); err != nil {
		t.Fatal(err)
	}
	cl := franz(t, c.ListenAddrs())
	for i := range 40 {
		var recs []*kgo.Record
		for j := range 5 {
			recs = append(recs, &kgo.Record{Topic: testTopic, Key: fmt.Appendf(nil, "k%d", (i*j)%7), Value: fmt.Appendf(nil, "%d-%d", i, j)})
		}
		produce(t, cl, recs)
	}
	c.Compact()
	end := stableEnds(t, cl, testTopic)
	want := oracle(t, c.ListenAddrs(), testTopic, nil, end)
	if len(want[0]) >= 200 {
		t.Fatalf("nothing was compacted: %d records", len(want[0]))
	}
	s := newSource(t, configOf(c), Options{})
	for _, from := range []offset.Vector{{}, {0: c.PartitionInfo(testTopic, 0).LogStartOffset + 1}} {
		start(t, s, from)
		got := collector(from)
		got.until(t, s, end)
		if n := len(got.rows[0]); n == 0 || int64(n) >= end[0]-c.PartitionInfo(testTopic, 0).LogStartOffset {
			t.Errorf("from %s: %d records, no gap among them", from, n)
		}
		sameRows(t, got.rows, oracle(t, c.ListenAddrs(), testTopic, from, end))
	}
}
