//go:build integration

package source

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/nettest"
	"github.com/firnlake/firn/internal/offset"
)

var realLogs = flag.Int("real-logs", 6, "how many random logs are written to a real Kafka")

// kafkaScript runs the project's script for a Kafka; what it starts ends with this process.
func kafkaScript(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // on a fresh machine it fetches the jars
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{"../../scripts/services/kafka.sh"}, args...)...)
	cmd.Env = append(os.Environ(), "FIRN_OWNER="+strconv.Itoa(os.Getpid()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka.sh %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// brokerProcess is a Kafka that a test may stop and start.
type brokerProcess struct{ dir, port string }

func startBroker(t *testing.T) *brokerProcess {
	t.Helper()
	b := &brokerProcess{dir: t.TempDir(), port: strconv.Itoa(nettest.FreePorts(t, 2))} // the second is the controller's
	if err := kafkaScript("start", b.dir, b.port); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kafkaScript("stop", b.dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *brokerProcess) config() Config {
	return Config{Brokers: []string{"127.0.0.1:" + b.port}}.WithDefaults()
}

// realKafka is the cluster that FIRN_TEST_KAFKA=host:port,… names, else one of the test's own.
func realKafka(t *testing.T) Config {
	t.Helper()
	if addr := os.Getenv("FIRN_TEST_KAFKA"); addr != "" {
		return Config{Brokers: strings.Split(addr, ",")}.WithDefaults()
	}
	return startBroker(t).config()
}

func uniqueTopic(t *testing.T, cfg Config, partitions int) string {
	t.Helper()
	topic := fmt.Sprintf("firn-source-%d", time.Now().UnixNano())
	if err := EnsureTopic(within(t, 30*time.Second), cfg, topic, partitions); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
		if err != nil {
			t.Error(err)
			return
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if _, err := kadm.NewClient(cl).DeleteTopics(ctx, topic); err != nil {
			t.Error(err)
		}
	})
	return topic
}

func produceTo(t *testing.T, cl *kgo.Client, topic string, recs []*kgo.Record) {
	t.Helper()
	old := time.Since(time.UnixMilli(testTime)) // a real broker drops what is older than its retention
	for _, r := range recs {
		r.Topic = topic
		if !r.Timestamp.IsZero() {
			r.Timestamp = r.Timestamp.Add(old)
		}
	}
	produce(t, cl, recs)
}

// TestRealKafka shares one real broker among what leaves it as it is.
func TestRealKafka(t *testing.T) {
	cfg := realKafka(t)
	t.Run("codecs and transactions", func(t *testing.T) { realCodecs(t, cfg) })
	t.Run("topic recreated", func(t *testing.T) { realTopicRecreated(t, cfg) })
	t.Run("random logs", func(t *testing.T) { realRandomLogs(t, cfg) })
}

// realCodecs holds Firn's records against franz-go's for every codec and for transactions on a real broker.
func realCodecs(t *testing.T, cfg Config) {
	topic := uniqueTopic(t, cfg, 3)
	rnd := rand.New(rand.NewPCG(11, 11))
	var plain *kgo.Client
	for _, codec := range codecs {
		plain = franz(t, cfg.Brokers, kgo.ProducerBatchCompression(codec))
		produceTo(t, plain, topic, records(rnd, 2000, 3))
	}
	txn := franz(t, cfg.Brokers, kgo.TransactionalID(topic))
	for i := range 10 {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produceTo(t, txn, topic, records(rnd, 50, 3))
		produceTo(t, plain, topic, records(rnd, 50, 3))
		endTxn(within(t, 20*time.Second), t, txn, i%2 == 0)
	}
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produceTo(t, txn, topic, records(rnd, 10, 1))
	own := newProducer(t, cfg)
	var msgs []Message
	for i := range 3000 {
		msgs = append(msgs, Message{Partition: -1, Key: fmt.Append(nil, i), Value: []byte(strings.Repeat("own", 100)), TimestampMs: time.Now().UnixMilli()})
	}
	if err := own.Produce(within(t, 20*time.Second), topic, msgs); err != nil {
		t.Fatal(err)
	}
	end := stableEnds(t, plain, topic)
	s := newSource(t, cfg, Options{Topic: topic})
	for _, from := range []offset.Vector{{}, {0: end[0] / 2, 1: end[1] - 1, 2: 3}} {
		start(t, s, from)
		got := collector(from)
		got.until(t, s, end)
		sameRows(t, got.rows, oracle(t, cfg.Brokers, topic, from, end))
	}
	d, err := s.Describe(t.Context())
	if err != nil || d.ClusterID == "" || len(d.TopicID) != 22 || len(d.Partitions) != 3 {
		t.Errorf("describe: %+v, %v", d, err)
	}
	bounds, err := Bounds(t.Context(), cfg, topic)
	for p, o := range end {
		if b := bounds[p]; err != nil || b.LastStable != o || b.HighWatermark < o || b.LogStart != 0 {
			t.Errorf("partition %d: bounds %+v, %v; last stable offset %d", p, b, err, o)
		}
	}
	if err := CommitGroupOffsets(within(t, 20*time.Second), cfg, topic, topic, end); err != nil {
		t.Error(err)
	}
	at := int64(5)
	err = ReadRange(within(t, 20*time.Second), cfg, topic, 1, 5, end[1], func(f *engine.Fetch) error {
		if f.Start != at {
			t.Errorf("stretch at %d after %d", f.Start, at)
		}
		at = f.End
		return nil
	})
	if err != nil || at != end[1] {
		t.Errorf("range up to %d of %d, %v", at, end[1], err)
	}
	endTxn(within(t, 20*time.Second), t, txn, false)
}

// realTopicRecreated deletes a topic under a reading source and makes it again.
func realTopicRecreated(t *testing.T, cfg Config) {
	topic := uniqueTopic(t, cfg, 1)
	cl := franz(t, cfg.Brokers)
	produceTo(t, cl, topic, values(0, 0, 20))
	s := newSource(t, cfg, Options{Topic: topic})
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 20})
	admin := kadm.NewClient(cl)
	if _, err := admin.DeleteTopics(within(t, 20*time.Second), topic); err != nil {
		t.Fatal(err)
	}
	_, err := pollError(t, s)
	if !errors.Is(err, engine.ErrNoTopic) {
		t.Errorf("deleted: %v", err)
	}
	if err := EnsureTopic(within(t, 30*time.Second), cfg, topic, 1); err != nil {
		t.Fatal(err)
	}
	cl.ForceMetadataRefresh()
	produceTo(t, franz(t, cfg.Brokers), topic, values(0, 0, 50))
	start(t, s, offset.Vector{0: 20})
	if n, err := pollError(t, s); !errors.Is(err, engine.ErrTopicRecreated) || n != 0 {
		t.Errorf("made again: %d records, %v", n, err)
	}
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 50})
}

// realRandomLogs is TestRandomLogs on a real broker, whose cleaner compacts the logs of its own accord.
func realRandomLogs(t *testing.T, cfg Config) {
	admin := kadm.NewClient(franz(t, cfg.Brokers))
	soon := "200"
	res, err := admin.AlterBrokerConfigs(within(t, 20*time.Second), []kadm.AlterConfig{{Name: "log.cleaner.backoff.ms", Value: &soon}})
	if err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
	k := kafkaUnderTest{cfg: cfg, full: true, roll: 300 * time.Millisecond,
		segment: map[string]string{"segment.ms": "200", "min.cleanable.dirty.ratio": "0.0", "max.compaction.lag.ms": "1000", "delete.retention.ms": "0"},
		compact: func(t *testing.T, topic string, written offset.Vector) { awaitCompaction(t, cfg, topic, written) }}
	compacted := 0
	for i := range *realLogs {
		seed := *logSeed + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			l := newRandomLog(t, k, fmt.Sprintf("firn-random-%d-%d", seed, time.Now().UnixNano()), rand.New(rand.NewPCG(seed, 4)))
			if l.compacted {
				compacted++
			}
			l.check()
		})
	}
	if compacted == 0 {
		t.Error("no log was compacted: take other seeds")
	}
}

// awaitCompaction waits until records are missing from what was written, ends the compacting and waits for what of it is
// under way.
func awaitCompaction(t *testing.T, cfg Config, topic string, written offset.Vector) {
	t.Helper()
	gaps := func() (n int64) {
		for p, end := range written {
			n += end
			err := ReadRange(within(t, 20*time.Second), cfg, topic, p, 0, end, func(f *engine.Fetch) error {
				n -= int64(len(f.Records)) + f.Control + f.Aborted
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	deadline := time.Now().Add(30 * time.Second)
	for gaps() == 0 {
		if time.Now().After(deadline) {
			t.Fatalf("nothing of %s was compacted within 30s", written)
		}
		time.Sleep(50 * time.Millisecond)
	}
	policy, forever := "delete", "-1"
	admin := kadm.NewClient(franz(t, cfg.Brokers))
	res, err := admin.AlterTopicConfigs(within(t, 20*time.Second), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}, {Name: "retention.ms", Value: &forever}}, topic)
	if err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
	for last := int64(-1); ; time.Sleep(400 * time.Millisecond) {
		now := gaps()
		if now == last {
			t.Logf("%d of %s compacted away", now, written)
			return
		}
		if last = now; time.Now().After(deadline) {
			t.Fatal("the compacting does not end")
		}
	}
}

// TestRealBrokerRestart restarts the broker while a source reads and a producer writes: all of it arrives once.
func TestRealBrokerRestart(t *testing.T) {
	broker := startBroker(t)
	cfg := broker.config()
	topic := uniqueTopic(t, cfg, 4)
	s := newSource(t, cfg, Options{Topic: topic})
	start(t, s, nil)
	p := newProducer(t, cfg)
	const rounds, each = 60, 500
	done := make(chan error, 1)
	go func() {
		for i := range rounds {
			var msgs []Message
			for j := range each {
				msgs = append(msgs, Message{Partition: int32(j % 4), Value: fmt.Appendf(nil, "%d-%d", i, j), TimestampMs: time.Now().UnixMilli()})
			}
			if err := p.Produce(context.WithoutCancel(t.Context()), topic, msgs); err != nil {
				done <- err
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		done <- nil
	}()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(time.Second)
		if err := kafkaScript("stop", broker.dir); err != nil {
			t.Error(err)
			return
		}
		time.Sleep(time.Second)
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), cfg.Brokers[0]) {
			t.Errorf("health without a broker: %v", err)
		}
		if err := kafkaScript("start", broker.dir, broker.port); err != nil {
			t.Error(err)
		}
	})
	got := collector(offset.Vector{})
	seen := map[string]int{}
	var epochs []int32 // of partition 0, as they changed
	ctx := within(t, 120*time.Second)
	for n := 0; n < rounds*each; {
		f, err := s.Poll(ctx)
		if err != nil {
			t.Fatalf("after %d records: %v; health %v", n, err, s.Health())
		}
		for _, r := range f.Records {
			seen[string(r.Value)]++
			n++
		}
		if k := len(epochs); f.Partition == 0 && (k == 0 || epochs[k-1] != f.LeaderEpoch) {
			epochs = append(epochs, f.LeaderEpoch)
		}
		got.add(t, f)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for v, n := range seen {
		if n != 1 {
			t.Fatalf("%s came %d times", v, n)
		}
	}
	if len(seen) != rounds*each {
		t.Errorf("%d values", len(seen))
	}
	eventually(t, "health", func() bool { return s.Health() == nil })
	// The restart made a new leader epoch: the log is what was read with it, and not what an older epoch alone could give.
	if len(epochs) < 2 || epochs[0] < 0 {
		t.Fatalf("leader epochs %v", epochs)
	}
	last := epochs[len(epochs)-1]
	for epoch, diverged := range map[int32]bool{last: false, epochs[0]: true, last + 100: true} {
		if err := s.Start(ctx, offset.Vector{0: got.next[0] - 1}, map[int32]int32{0: epoch}); err != nil {
			t.Fatal(err)
		}
		f, err := s.Poll(ctx)
		if err == nil && f.Release != nil {
			f.Release()
		}
		if diverged != errors.Is(err, engine.ErrLogTruncated) || !diverged && err != nil {
			t.Errorf("offset %d as of leader epoch %d of %v: %v", got.next[0]-1, epoch, epochs, err)
		}
	}
}
