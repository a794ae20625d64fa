package source

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

// TestDivergedAnswers is what each answer to OffsetForLeaderEpoch means.
func TestDivergedAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		ask      epochAsk
		got      epochAnswer
		diverged bool
		end      int64
	}{
		"the leader's own epoch reaches further":   {epochAsk{current: 5, epoch: 5, next: 10}, epochAnswer{epoch: 5, end: 30}, false, 0},
		"it ends just there":                       {epochAsk{current: 7, epoch: 5, next: 10}, epochAnswer{epoch: 5, end: 10}, false, 0},
		"it ends below":                            {epochAsk{current: 7, epoch: 5, next: 10}, epochAnswer{epoch: 5, end: 9}, true, 9},
		"the epoch is not there, the one below is": {epochAsk{current: 7, epoch: 5, next: 10}, epochAnswer{epoch: 3, end: 6}, true, 6},
		"an older epoch, and the log begins later": {epochAsk{current: 7, epoch: 1, next: 10}, epochAnswer{epoch: 1, end: 20}, false, 0},
		"the leader is older than what was read":   {epochAsk{current: 2, epoch: 5, next: 10}, epochAnswer{epoch: noEpoch, end: -1}, true, -1},
		"undefined, which a leader never says":     {epochAsk{current: 7, epoch: 5, next: 10}, epochAnswer{epoch: noEpoch, end: -1}, false, 0},
		"about an epoch that was not asked for":    {epochAsk{current: 7, epoch: 5, next: 10}, epochAnswer{epoch: 7, end: 0}, false, 0},
	} {
		err := c.ask.diverged(c.got)
		var le *engine.LogError
		switch {
		case !c.diverged && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.diverged && (!errors.As(err, &le) || !errors.Is(err, engine.ErrLogTruncated) || le.LogEnd != c.end || le.Next != c.ask.next):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// epochsOf writes rounds of n records to partition 0 with a new leader before each but the first, and returns the leader
// epoch of each round.
func epochsOf(t *testing.T, c *kfake.Cluster, rounds, n int) []int32 {
	t.Helper()
	var epochs []int32
	for i := range rounds {
		if i > 0 {
			moveLeader(t, c)
		}
		produce(t, franz(t, c.ListenAddrs()), values(0, i*n, n))
		epochs = append(epochs, c.PartitionInfo(testTopic, 0).Epoch)
	}
	for i := 1; i < rounds; i++ {
		if epochs[i] <= epochs[i-1] {
			t.Fatalf("leader epochs %v", epochs)
		}
	}
	return epochs
}

func moveLeader(t *testing.T, c *kfake.Cluster) {
	t.Helper()
	if err := c.MoveTopicPartition(testTopic, 0, 1-c.LeaderFor(testTopic, 0)); err != nil {
		t.Fatal(err)
	}
}

// TestStartWithEpochs checks the epochs below the start before anything comes out.
func TestStartWithEpochs(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, testTopic))
	epochs := epochsOf(t, c, 2, 10)
	s := newSource(t, configOf(c), Options{})
	f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetForLeaderEpoch}, Topic: testTopic, Err: kerr.UnknownLeaderEpoch, Count: 1})
	defer f.Remove()
	for _, q := range []struct {
		from    int64
		epoch   int32
		records int // -1: diverged
	}{{10, epochs[0], 10}, {15, epochs[1], 5}, {15, epochs[0], -1}, {5, epochs[1] + 3, -1}, {15, noEpoch, 5}, {0, epochs[1] + 3, 20}} {
		if err := s.Start(t.Context(), offset.Vector{0: q.from}, map[int32]int32{0: q.epoch}); err != nil {
			t.Fatal(err)
		}
		if q.records < 0 {
			if n, err := pollError(t, s); !errors.Is(err, engine.ErrLogTruncated) || n != 0 {
				t.Errorf("%d@%d of epochs %v: %d records, %v", q.from, q.epoch, epochs, n, err)
			}
			continue
		}
		got := collector(offset.Vector{0: q.from})
		got.until(t, s, offset.Vector{0: 20})
		if len(got.rows[0]) != q.records {
			t.Errorf("%d@%d: %d records", q.from, q.epoch, len(got.rows[0]))
		}
	}
	if f.Hits() != 1 {
		t.Errorf("%d faults", f.Hits())
	}
}

// TestAnotherLeaderWroteOver moves the leader under a reading source to one whose log ended earlier, and has grown since.
func TestAnotherLeaderWroteOver(t *testing.T) {
	for _, lost := range []bool{false, true} {
		c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, testTopic))
		produce(t, franz(t, c.ListenAddrs()), values(0, 0, 10))
		s := newSource(t, configOf(c), Options{})
		start(t, s, nil)
		got := collector(offset.Vector{})
		got.until(t, s, offset.Vector{0: 10})
		asked := make(chan int32, 100)
		epoch := c.PartitionInfo(testTopic, 0).Epoch
		c.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			asked <- req.(*kmsg.OffsetForLeaderEpochRequest).Topics[0].Partitions[0].LeaderEpoch
			if !lost {
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.LeaderEpoch, p.EndOffset = epoch, 7
			topic := kmsg.NewOffsetForLeaderEpochResponseTopic()
			topic.Topic, topic.Partitions = testTopic, append(topic.Partitions, p)
			resp.Topics = append(resp.Topics, topic)
			return resp, nil, true
		})
		moveLeader(t, c)
		produce(t, franz(t, c.ListenAddrs()), values(0, 10, 10))
		if !lost {
			got.until(t, s, offset.Vector{0: 20})
		} else {
			var le *engine.LogError
			if n, err := pollError(t, s); !errors.As(err, &le) || !errors.Is(err, engine.ErrLogTruncated) || le.Next != 10 || le.LogEnd != 7 || n != 0 {
				t.Errorf("%d records, %v", n, err)
			}
		}
		if n := len(asked); n == 0 || <-asked != epoch {
			t.Errorf("lost %v: the leader was asked %d times", lost, n)
		}
	}
}

// TestWithoutEpochs reads from a cluster that cannot be asked.
func TestWithoutEpochs(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, testTopic))
	produce(t, franz(t, c.ListenAddrs()), values(0, 0, 10))
	c.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		for key, most := range map[int16]int16{0: 8, 1: 11, 2: 5, 3: 8, 18: 2} {
			resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: most})
		}
		return resp, nil, true
	})
	s := newSource(t, configOf(c), Options{})
	if err := s.Start(t.Context(), offset.Vector{0: 5}, map[int32]int32{0: 77}); err != nil {
		t.Fatal(err)
	}
	collector(offset.Vector{0: 5}).until(t, s, offset.Vector{0: 10})
}
