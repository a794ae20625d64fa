package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firnlake/firn/engine"
)

func newProducer(t testing.TB, cfg Config) *Producer {
	t.Helper()
	p, err := NewProducer(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// messages makes n messages over the partitions and says what another client should read.
func messages(n, partitions int, pad string) (out []Message, want map[int32][]string) {
	want = map[int32][]string{}
	for i := range n {
		m := Message{Partition: int32(i % partitions), Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d%s", i, pad), TimestampMs: testTime - int64(i*7%50)}
		headers := ""
		switch i % 5 {
		case 0:
			m.Headers = []engine.Header{{Key: "traceparent", Value: []byte("00-1-2-3")}, {Key: "null"}, {Key: "", Value: []byte{}}}
			headers = `traceparent:"00-1-2-3",null:"",:""`
		case 1:
			m.Key = nil
		case 2:
			m.Value = nil
		case 3:
			m.Value = []byte{}
		}
		out = append(out, m)
		want[m.Partition] = append(want[m.Partition], row(int64(len(want[m.Partition])), m.TimestampMs, m.Key, m.Value, headers))
	}
	return out, want
}

func readAll(t *testing.T, c *kfake.Cluster) map[int32][]string {
	t.Helper()
	return oracle(t, c.ListenAddrs(), testTopic, nil, stableEnds(t, franz(t, c.ListenAddrs()), testTopic))
}

func TestProduce(t *testing.T) {
	for name, pad := range map[string]string{"small": "", "compressed, several rounds": strings.Repeat("abc", 700)} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(4, testTopic))
			p := newProducer(t, configOf(c))
			msgs, want := messages(3000, 4, pad)
			for part := range slices.Chunk(msgs, 1100) {
				if err := p.Produce(within(t, 20*time.Second), testTopic, part); err != nil {
					t.Fatal(err)
				}
			}
			sameRows(t, readAll(t, c), want)
		})
	}
}

func TestProduceOne(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, testTopic))
	p := newProducer(t, configOf(c))
	ctx := within(t, 10*time.Second)
	for i := range int64(3) {
		partition, at, err := p.ProduceOne(ctx, testTopic, Message{Partition: 1, Value: []byte("x"), TimestampMs: testTime})
		if err != nil || partition != 1 || at != i {
			t.Fatalf("partition %d offset %d, %v", partition, at, err)
		}
	}
	for name, m := range map[string]Message{"partition": {Partition: 2}, "size": {Value: make([]byte, maxOversize+1)}} {
		if _, _, err := p.ProduceOne(ctx, testTopic, m); err == nil {
			t.Errorf("%s beyond the topic's was taken", name)
		}
	}
	if _, _, err := p.ProduceOne(ctx, "nowhere", Message{}); !errors.Is(err, engine.ErrNoTopic) {
		t.Errorf("no topic: %v", err)
	}
	p.Close()
	if err := p.Produce(ctx, testTopic, []Message{{}}); err == nil {
		t.Error("produced after close")
	}
}

// TestPartitioner chooses as Java's clients do, which franz-go does too.
func TestPartitioner(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(7, testTopic, "reference"))
	p := newProducer(t, configOf(c))
	var msgs []Message
	var recs []*kgo.Record
	for i := range 200 {
		key := []byte(strings.Repeat("é", i%5) + fmt.Sprint(i*i))
		msgs = append(msgs, Message{Partition: -1, Key: key, TimestampMs: testTime})
		recs = append(recs, &kgo.Record{Topic: "reference", Key: key})
	}
	if err := p.Produce(within(t, 10*time.Second), testTopic, msgs); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	produce(t, cl, recs)
	got, want := map[string]int32{}, map[string]int32{}
	for _, r := range recs {
		want[string(r.Key)] = r.Partition
	}
	s := newSource(t, configOf(c), Options{})
	start(t, s, nil)
	for n := 0; n < len(msgs); {
		f, err := s.Poll(within(t, 10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Records {
			got[string(r.Key)] = f.Partition
			n++
		}
		f.Release()
	}
	if !maps.Equal(got, want) {
		t.Errorf("partitions %v, want %v", got, want)
	}
}

// TestProduceStoresOnce loses answers, connections and leaders at random places: each message is stored once, in order.
func TestProduceStoresOnce(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(3, testTopic))
	p := newProducer(t, configOf(c))
	fault := func(key kmsg.Key, e *kerr.Error, partitions ...int32) func() {
		return func() {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: testTopic, Partitions: partitions, Err: e})
		}
	}
	mishaps := []func(){
		// The connection ends before the request was looked at.
		func() {
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("lost"), true })
		},
		// The work is done, and the answer is an error.
		fault(kmsg.Produce, kerr.RequestTimedOut), fault(kmsg.Produce, kerr.NotEnoughReplicasAfterAppend),
		// Some partitions of a request are stored and others not.
		fault(kmsg.Produce, kerr.NotEnoughReplicas, 1), fault(kmsg.Produce, kerr.NotLeaderForPartition, 0, 2), fault(kmsg.Produce, kerr.RequestTimedOut, 2),
		fault(kmsg.Metadata, kerr.LeaderNotAvailable),
		c.ShufflePartitionLeaders,
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, TopLevel: true})
	msgs, want := messages(900, 3, "")
	i := 0
	for part := range slices.Chunk(msgs, 60) {
		mishaps[i%len(mishaps)]()
		if i++; i%2 == 0 {
			c.ShufflePartitionLeaders()
		}
		if err := p.Produce(within(t, 20*time.Second), testTopic, part); err != nil {
			t.Fatal(err)
		}
	}
	sameRows(t, readAll(t, c), want)
}

func TestProduceGivesUp(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	p := newProducer(t, configOf(c))
	faults := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Err: kerr.MessageTooLarge, Count: -1})
	if err := p.Produce(within(t, 5*time.Second), testTopic, []Message{{}}); err == nil || !strings.Contains(err.Error(), "partition 0") || faults.Hits() != 1 {
		t.Errorf("what cannot pass: %v after %d attempts", err, faults.Hits())
	}
	faults.Remove()
	faults = c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: testTopic, Err: kerr.NotEnoughReplicas, Count: -1})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.Produce(ctx, testTopic, []Message{{}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what would pass later: %v", err)
	}
	faults.Remove()
	if _, at, err := p.ProduceOne(within(t, 5*time.Second), testTopic, Message{}); err != nil || at != 0 {
		t.Errorf("afterwards: offset %d, %v", at, err)
	}
}

// TestProduceWithoutProducerID goes on where the cluster grants no producer id.
func TestProduceWithoutProducerID(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, testTopic))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.ClusterAuthorizationFailed, Count: -1})
	p := newProducer(t, configOf(c))
	msgs, want := messages(50, 2, "")
	if err := p.Produce(within(t, 10*time.Second), testTopic, msgs); err != nil {
		t.Fatal(err)
	}
	sameRows(t, readAll(t, c), want)
}
