package source

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

func TestEnsureTopic(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3))
	ctx := within(t, 15*time.Second)
	for range 2 {
		if err := EnsureTopic(ctx, configOf(c), testTopic, 5); err != nil {
			t.Fatal(err)
		}
	}
	if err := EnsureTopic(ctx, configOf(c), testTopic, 9); err != nil {
		t.Errorf("one that exists with other partitions: %v", err)
	}
	if n := len(c.PartitionInfos(testTopic)); n != 5 {
		t.Errorf("%d partitions", n)
	}
	faults := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	defer faults.Remove()
	if err := EnsureTopic(ctx, configOf(c), "other", 1); err == nil || !strings.Contains(err.Error(), "create topic other") {
		t.Errorf("without the right to: %v", err)
	}
}

func TestPing(t *testing.T) {
	c := cluster(t)
	if err := Ping(within(t, 5*time.Second), configOf(c)); err != nil {
		t.Fatal(err)
	}
	if err := Ping(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "kafka.brokers") {
		t.Errorf("without brokers: %v", err)
	}
	// The first broker of the list is down: the next one answers.
	cfg := configOf(c)
	cfg.Brokers = append([]string{"127.0.0.1:1"}, cfg.Brokers...)
	for range 5 {
		if err := Ping(within(t, 5*time.Second), cfg); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBounds(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(3, testTopic))
	produce(t, franz(t, c.ListenAddrs()), append(values(0, 0, 10), values(2, 0, 4)...))
	if err := c.DeleteRecords(testTopic, 0, 3); err != nil {
		t.Fatal(err)
	}
	open := franz(t, c.ListenAddrs(), kgo.TransactionalID("x"))
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, open, values(2, 4, 2))
	ctx := within(t, 10*time.Second)
	got, err := Bounds(ctx, configOf(c), testTopic)
	want := map[int32]engine.Position{0: {LogStart: 3, LastStable: 10, HighWatermark: 10}, 1: {}, 2: {LastStable: 4, HighWatermark: 6}}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := Bounds(ctx, configOf(c), "nowhere"); !errors.Is(err, engine.ErrNoTopic) {
		t.Errorf("no topic: %v", err)
	}
}

func TestCommitGroupOffsets(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, testTopic))
	ctx := within(t, 10*time.Second)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: "firn-x", Err: kerr.NotCoordinator})
	for _, v := range []offset.Vector{{0: 5, 1: 7}, {0: 6}} {
		if err := CommitGroupOffsets(ctx, configOf(c), "firn-x", testTopic, v); err != nil {
			t.Fatal(err)
		}
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: "denied", Err: kerr.GroupAuthorizationFailed})
	if err := CommitGroupOffsets(ctx, configOf(c), "denied", testTopic, offset.Vector{0: 1}); !errors.Is(err, kafka.GroupAuthorizationFailed) {
		t.Errorf("without the right to: %v", err)
	}
	got, err := kadm.NewClient(franz(t, c.ListenAddrs())).FetchOffsets(ctx, "firn-x")
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[int32]int64{0: 6, 1: 7} {
		if o, _ := got.Lookup(testTopic, p); o.At != want {
			t.Errorf("partition %d: offset %d, want %d", p, o.At, want)
		}
	}
}

func TestReadRange(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	cl := franz(t, c.ListenAddrs())
	rnd := rand.New(rand.NewPCG(9, 9))
	for range 20 {
		produce(t, cl, records(rnd, 50, 1))
	}
	txn := franz(t, c.ListenAddrs(), kgo.TransactionalID("x"))
	for _, commit := range []bool{false, true} {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, txn, records(rnd, 30, 1))
		endTxn(within(t, 10*time.Second), t, txn, commit)
	}
	if err := c.DeleteRecords(testTopic, 0, 20); err != nil {
		t.Fatal(err)
	}
	end := stableEnds(t, cl, testTopic)
	want := oracle(t, c.ListenAddrs(), testTopic, offset.Vector{0: 20}, end)[0]
	ctx := within(t, 20*time.Second)
	for range 30 {
		from := 20 + rnd.Int64N(end[0]-20)
		to := from + rnd.Int64N(end[0]-from+1)
		got := collector(offset.Vector{0: from})
		at := from
		err := ReadRange(ctx, configOf(c), testTopic, 0, from, to, func(f *engine.Fetch) error {
			if f.Start != at || f.End > to {
				t.Errorf("stretch [%d,%d) at %d, to %d", f.Start, f.End, at, to)
			}
			at = f.End
			for _, r := range f.Records {
				got.rows[0] = append(got.rows[0], row(r.Offset, r.TimestampMs, r.Key, r.Value, headersOf(t, r)))
			}
			return nil
		})
		if err != nil || at != to {
			t.Fatalf("[%d,%d): ended at %d, %v", from, to, at, err)
		}
		var part []string
		for _, r := range want {
			if o := offsetOfRow(t, r); o >= from && o < to {
				part = append(part, r)
			}
		}
		sameRows(t, got.rows, map[int32][]string{0: part})
	}
	nothing := func(*engine.Fetch) error { return nil }
	if err := ReadRange(ctx, configOf(c), testTopic, 0, 10, 30, nothing); !errors.Is(err, engine.ErrRetentionGap) {
		t.Errorf("below the log's start: %v", err)
	}
	if err := ReadRange(ctx, configOf(c), testTopic, 0, 30, end[0]+1, nothing); !errors.Is(err, engine.ErrLogTruncated) {
		t.Errorf("beyond the log's end: %v", err)
	}
	if err := ReadRange(ctx, configOf(c), testTopic, 0, end[0]+5, end[0]+6, nothing); !errors.Is(err, engine.ErrLogTruncated) {
		t.Errorf("wholly beyond the log's end: %v", err)
	}
	if err := ReadRange(ctx, configOf(c), "nowhere", 0, 0, 1, nothing); !errors.Is(err, engine.ErrNoTopic) {
		t.Errorf("no topic: %v", err)
	}
	own := errors.New("own")
	calls := 0
	if err := ReadRange(ctx, configOf(c), testTopic, 0, 20, 30, func(*engine.Fetch) error { calls++; return own }); !errors.Is(err, own) || calls != 1 {
		t.Errorf("the caller's error: %v after %d calls", err, calls)
	}
	// A lost connection, a moved leader: it goes on.
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("lost"), true })
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: testTopic, Err: kerr.NotLeaderForPartition})
	if err := ReadRange(ctx, configOf(c), testTopic, 0, 20, end[0], nothing); err != nil {
		t.Errorf("with trouble in between: %v", err)
	}
}

func offsetOfRow(t *testing.T, r string) int64 {
	t.Helper()
	var o int64
	for _, d := range r[:strings.IndexByte(r, '@')] {
		o = 10*o + int64(d-'0')
	}
	return o
}

// TestReadRangeEndsInAGap asks up to an offset that was compacted away.
func TestReadRangeEndsInAGap(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	answer(c, fetched{raw: join(plainBatch(0, 2), plainBatch(50, 2)), end: 52})
	for to, rows := range map[int64]int{10: 2, 50: 2, 51: 3, 2: 2, 1: 1} {
		n, at := 0, int64(0)
		err := ReadRange(within(t, 5*time.Second), configOf(c), testTopic, 0, 0, to, func(f *engine.Fetch) error { n += len(f.Records); at = f.End; return nil })
		if err != nil || n != rows || at != to {
			t.Errorf("to %d: %d rows up to %d, %v", to, n, at, err)
		}
	}
}

func TestAdminEndsWithItsContext(t *testing.T) {
	cfg := Config{Brokers: []string{"127.0.0.1:1"}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Bounds(ctx, cfg, testTopic); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
