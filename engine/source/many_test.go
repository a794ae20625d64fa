package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

func newMany(t *testing.T, c *kfake.Cluster, gaps bool, topics ...string) *Many {
	t.Helper()
	m, err := NewMany(configOf(c), ManyOptions{Topics: topics, Gaps: gaps, RefreshInterval: 50 * time.Millisecond}, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func produceIn(t *testing.T, c *kfake.Cluster, topic string, partition int32, n int) {
	t.Helper()
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, "%s %d", topic, i)})
	}
	produce(t, franz(t, c.ListenAddrs()), rs)
}

// reach polls until v stands at end in every partition of it, and holds each stretch against v and the topic that it must be of.
func reach(t *testing.T, m *Many, topics ledger.Topics, v, end offset.Vector) {
	t.Helper()
	ctx := within(t, 15*time.Second)
	for !reaches(v, end) {
		f, err := m.Poll(ctx)
		if err != nil {
			t.Fatalf("at %s: %v; health %v", v, err, m.Health())
		}
		if f.Start != v[f.Partition] || f.Topic == "" {
			t.Fatalf("partition %d of %q [%d,%d) after %s", f.Partition, f.Topic, f.Start, f.End, v)
		}
		if of, _ := topics.Of(f.Partition); of.Name != f.Topic || len(f.Records) > 0 && !strings.HasPrefix(string(f.Records[0].Value), f.Topic+" ") {
			t.Fatalf("partition %d says topic %s, and is of %s", f.Partition, f.Topic, of.Name)
		}
		v[f.Partition] = f.End
		f.Release()
	}
}

func reaches(v, end offset.Vector) bool {
	for p, at := range end {
		if v[p] < at {
			return false
		}
	}
	return true
}

func startMany(t *testing.T, m *Many, topics ledger.Topics, from offset.Vector) {
	t.Helper()
	m.Number(topics)
	if err := m.Start(t.Context(), from, nil); err != nil {
		t.Fatal(err)
	}
}

func known(t *testing.T, m *Many, names ...string) ledger.Topics {
	t.Helper()
	all, err := m.DescribeAll(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, d := range all {
		ids[d.Name] = d.TopicID
	}
	var out ledger.Topics
	for _, n := range names {
		id := ids[n]
		if id == "" {
			id = noTopicID
		}
		out = append(out, ledger.Topic{Name: n, ID: id})
	}
	return out
}

// TestManyTopicsByTheTablesNumbers: the order of the table counts, a topic that the table knows and nobody reads is left alone, and
// one that is not there yet holds nothing up and ends the generation when it comes.
func TestManyTopicsByTheTablesNumbers(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "a", "b"))
	produceIn(t, c, "a", 0, 3)
	produceIn(t, c, "a", 1, 4)
	produceIn(t, c, "b", 1, 5)
	m := newMany(t, c, false, "late", "b", "a")
	topics := known(t, m, "gone", "a", "b")
	a0, a1, b1 := ledger.Number(1, 0), ledger.Number(1, 1), ledger.Number(2, 1)
	v := offset.Vector{0: 7, a0: 1}
	startMany(t, m, topics, v.Clone())
	reach(t, m, topics, v, offset.Vector{a0: 3, a1: 4, b1: 5})
	if p := m.Positions(); len(p) != 4 || p[b1].LastStable != 5 || p[a1].LastStable != 4 {
		t.Errorf("positions %+v", p)
	}
	var held *HeldError
	eventually(t, "trouble with the topic that is not there", func() bool { return errors.As(m.Health(), &held) })
	if !errors.Is(held.Topics["late"], engine.ErrNoTopic) || held.All || !strings.Contains(held.Error(), "the other topics are") {
		t.Errorf("%+v", held)
	}
	if err := c.CreateTopic("late", 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Poll(within(t, 15*time.Second)); !errors.Is(err, engine.ErrTopicsChanged) || !strings.Contains(err.Error(), "late") {
		t.Fatalf("the topic has come: %v", err)
	}
	produceIn(t, c, "late", 0, 2)
	topics = known(t, m, "gone", "a", "b", "late")
	startMany(t, m, topics, v.Clone())
	reach(t, m, topics, v, offset.Vector{ledger.Number(3, 0): 2})
	if v[0] != 7 || m.Health() != nil {
		t.Errorf("%s, %v", v, m.Health())
	}
}

// TestATopicsTroubleIsItsOwn: what only a person can decide of one topic holds that one alone, also when it is found while all are
// read, and is over when the table is told otherwise. A gap comes out for whoever notes gaps, with the table's number.
func TestATopicsTroubleIsItsOwn(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "a", "b"))
	produceIn(t, c, "a", 0, 3)
	produceIn(t, c, "b", 0, 3)
	m := newMany(t, c, false, "a", "b")
	topics, v, b := known(t, m, "a", "b"), offset.Vector{}, ledger.Number(1, 0)
	startMany(t, m, topics, nil)
	reach(t, m, topics, v, offset.Vector{0: 3, b: 3})
	if err := errors.Join(c.DeleteTopic("b"), c.CreateTopic("b", 1, nil)); err != nil {
		t.Fatal(err)
	}
	produceIn(t, c, "b", 0, 9)
	var held *HeldError
	eventually(t, "the topic that was made again is held", func() bool { return errors.As(m.Health(), &held) })
	if err := held.Topics["b"]; !errors.Is(err, engine.ErrTopicRecreated) && !errors.Is(err, engine.ErrLogTruncated) || len(held.Topics) != 1 {
		t.Errorf("%v", held)
	}
	for i := range int64(2) { // also after a start, which knows the id from the table alone
		produceIn(t, c, "a", 0, 2)
		reach(t, m, topics, v, offset.Vector{0: 5 + 2*i})
		if v[b] != 3 {
			t.Fatalf("the other log's records were read: %s", v)
		}
		startMany(t, m, topics, v.Clone())
		eventually(t, "the topic is held by its id", func() bool {
			return errors.As(m.Health(), &held) && errors.Is(held.Topics["b"], engine.ErrTopicRecreated)
		})
	}
	topics = known(t, m, "a", "b")
	startMany(t, m, topics, v.Clone())
	reach(t, m, topics, v, offset.Vector{b: 9})
	if err := m.Health(); err != nil {
		t.Errorf("after the decision: %v", err)
	}

	if err := c.DeleteRecords("b", 0, 5); err != nil {
		t.Fatal(err)
	}
	produceIn(t, c, "a", 0, 1)
	from := offset.Vector{0: 7, b: 2}
	startMany(t, m, topics, from.Clone())
	reach(t, m, topics, from, offset.Vector{0: 8})
	eventually(t, "the topic with a gap is held", func() bool { return errors.As(m.Health(), &held) })
	if !errors.Is(held.Topics["b"], engine.ErrRetentionGap) {
		t.Errorf("%v", held)
	}
	noting := newMany(t, c, true, "b")
	startMany(t, noting, topics, offset.Vector{b: 2})
	var gap *engine.LogError
	if _, err := noting.Poll(within(t, 15*time.Second)); !errors.As(err, &gap) || gap.Partition != b || gap.LogStart != 5 || !strings.Contains(err.Error(), "b/0") {
		t.Errorf("%+v", gap)
	}
}

func TestManyEnds(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "a"))
	m := newMany(t, c, false, "a", "nowhere")
	if _, err := m.Poll(t.Context()); !errors.Is(err, errNotStarted) {
		t.Errorf("before a start: %v", err)
	}
	startMany(t, m, known(t, m, "a"), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := m.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nothing to read: %v", err)
	}
	done := make(chan error, 1)
	go func() { _, err := m.Poll(context.Background()); done <- err }()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, errSourceClosed) {
		t.Errorf("closed under a poll: %v", err)
	}
	if err := m.Start(t.Context(), nil, nil); !errors.Is(err, errSourceClosed) {
		t.Errorf("a start after the close: %v", err)
	}
	if _, err := NewMany(configOf(c), ManyOptions{}, quiet, nil); err == nil {
		t.Error("no topics")
	}
}
