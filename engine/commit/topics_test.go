package commit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

func topic(name, id string) engine.Topic {
	return engine.Topic{Name: name, ClusterID: "c1", TopicID: id}
}

// several is a committer of several topics.
func (l *lake) several(topics ...engine.Topic) *Committer {
	l.Helper()
	c := l.committer(l.cat)
	c.cfg.Topic, c.cfg.GapsTable = nil, l.gaps()
	c.cfg.Topics = func(context.Context) ([]engine.Topic, error) { return topics, nil }
	return c
}

func (l *lake) property(name string) {
	l.Helper()
	l.update(l.rows, table.NewSetPropertiesUpdate(iceberg.Properties{PropTopic: name}))
}

func wantTopics(t *testing.T, got ledger.Topics, want string) {
	t.Helper()
	parts := make([]string, len(got))
	for i, o := range got {
		parts[i] = o.Name + ":" + o.ID
	}
	if s := strings.Join(parts, " "); s != want {
		t.Errorf("the topics are %q, want %q", s, want)
	}
}

// TestFromOneTopicToSeveral: the topic that a table was filled from keeps its partitions' numbers, told by its id or by the table's
// property; where neither tells, nothing is read.
func TestFromOneTopicToSeveral(t *testing.T) {
	for name, tc := range map[string]struct{ id, property, want string }{
		"by its id":           {"t1", "", "events:t1 new:t9"},
		"by its id, renamed":  {"t1", "an older name", "events:t1 new:t9"},
		"by the property":     {"n/a", "events", "events:t1 new:t9"},
		"made again":          {"t0", "events", "events:t0 new:t9"},
		"not read any more":   {"t0", "other", "other:t0 new:t9 events:t1"},
		"nobody knows":        {"n/a", "", ""},
		"a person named both": {"n/a", "events, new", "events:t1 new:t9"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLake(t)
			l.topic.TopicID = tc.id
			l.property(tc.property)
			one := l.committer(l.cat)
			l.recover(one)
			l.commit(one, rng(0, 0, 5), rng(1, 0, 5))
			c := l.several(topic("new", "t9"), topic("events", "t1"))
			if tc.want == "" {
				_, err := c.Recover(t.Context())
				isErr(t, err, engine.ErrNeedsDecision)
				return
			}
			st := l.recover(c)
			wantTopics(t, st.Topics, tc.want)
			if !st.Offsets.Equal(at(5)) {
				t.Errorf("reads on at %s", st.Offsets)
			}
			l.commit(c, rng(0, 5, 7), rng(ledger.Number(st.Topics.Find("new"), 3), 0, 4))
			_, r, err := readState(t.Context(), l.cat, l.wh, l.rows, "events")
			l.must(err)
			if wantTopics(t, r.Topics, tc.want); r.TopicID != "n/a" || r.ClusterID != "c1" {
				t.Errorf("the record has %s of %s", r.TopicID, r.ClusterID)
			}
			_, err = one.Recover(t.Context())
			isErr(t, err, engine.ErrNeedsDecision)
			if !strings.Contains(err.Error(), "write topics: [events] instead") {
				t.Errorf("back to one topic: %v", err)
			}
		})
	}
}

// TestAPlaceIsForEver: a topic that has come keeps its place whatever is configured and whoever sets the table back, with the tag's
// record or, without a tag, with that of the dead letters.
func TestAPlaceIsForEver(t *testing.T) {
	l := newLake(t)
	c := l.several(topic("a", "1"))
	l.recover(c)
	first := l.commit(c, rng(0, 0, 5)).SnapshotID
	c = l.several(topic("b", "2"))
	wantTopics(t, l.recover(c).Topics, "a:1 b:2")
	b0 := ledger.Number(1, 0)
	dead := l.batchOf(func(_ int32, o int64) byte { return "rd"[o%2] }, rng(b0, 0, 4))
	defer release(dead)
	_, err := c.Commit(t.Context(), dead)
	l.must(err)

	l.rollback(l.rows, first)
	c = l.several(topic("c", "3"), topic("b", "2"))
	st := l.recover(c)
	wantTopics(t, st.Topics, "a:1 b:2 c:3")
	if !st.Offsets.Equal(offset.Vector{0: 5}) || st.Epoch != 1 || !st.IsDead(b0, 1) || st.IsDead(b0, 2) {
		t.Errorf("after a rollback: %+v", st)
	}
	l.dropTag()
	wantTopics(t, l.recover(c).Topics, "a:1 b:2 c:3")

	plan, err := PlanRewind(t.Context(), l.cat, l.wh, l.rows, "events", RewindTarget{Snapshot: first})
	l.must(err)
	l.commit(c, rng(ledger.Number(2, 0), 0, 2))
	done, err := Rewind(t.Context(), l.cat, l.wh, l.rows, "events", plan, time.Hour)
	l.must(err)
	wantTopics(t, done.Record.Topics, "a:1 b:2 c:3")
	wantTopics(t, l.recover(l.several(topic("d", "4"))).Topics, "a:1 b:2 c:3 d:4")
}

// TestResolveOneOfSeveral: a topic that was made again keeps the id that its rows are of until a person says otherwise, of that
// topic alone.
func TestResolveOneOfSeveral(t *testing.T) {
	l := newLake(t)
	c := l.several(topic("a", "1"), topic("b", "2"))
	l.recover(c)
	b0 := ledger.Number(1, 0)
	out := l.batchOf(allRows, rng(0, 0, 3), rng(b0, 0, 3))
	defer release(out)
	out.Filtered = []engine.Filtered{{Partition: 0, Offsets: []int64{1}}, {Partition: b0, Offsets: []int64{1}}}
	_, err := c.Commit(t.Context(), out)
	l.must(err)
	c = l.several(topic("a", "1"), topic("b", "new"))
	wantTopics(t, l.recover(c).Topics, "a:1 b:2")
	_, err = Resolve(t.Context(), l.cat, l.wh, l.rows, "events", Resolution{To: offset.Vector{0: 3, b0: 3, ledger.Number(2, 0): 1}})
	isErr(t, err, ErrResolve)
	got, err := Resolve(t.Context(), l.cat, l.wh, l.rows, "events", Resolution{Topics: []engine.Topic{topic("b", "new"), {Name: "a"}}})
	l.must(err)
	_, r, err := readState(t.Context(), l.cat, l.wh, l.rows, "events")
	l.must(err)
	if wantTopics(t, r.Topics, "a:1 b:new"); len(r.Filtered) != 1 || r.Filtered[0].Count != 1 || !got.Offsets.Equal(offset.Vector{0: 3, b0: 3}) {
		t.Errorf("%+v", r)
	}
}

func TestAGapNamesItsTopic(t *testing.T) {
	l := newLake(t)
	c := l.several(topic("a", "1"), topic("b", "2"))
	b0 := ledger.Number(1, 0)
	l.recover(c)
	l.commit(c, rng(0, 0, 3), rng(b0, 0, 3))
	_, err := c.RecordGap(t.Context(), retention(b0, 3, 9))
	l.must(err)
	row, err := c.gapRow(GapsSchema(), engine.Gap{Partition: b0, First: 3, Next: 9}, "batch")
	l.must(err)
	defer row.Release()
	if got := fmt.Sprint(row.Column(1), row.Column(2), row.Column(6)); got != `["b"] ["2"] [1048576]` {
		t.Errorf("topic, id and partition are %s", got)
	}
	wantTopics(t, l.recover(c).Topics, "a:1 b:2")
}

func TestNumbersThatNobodyCanName(t *testing.T) {
	l := newLake(t)
	c := l.several(topic("a", "1"))
	l.recover(c)
	_, err := c.number(source{topics: []engine.Topic{topic("a", "1")}}, c.main.head.Meta, position{record: ledger.Record{Offsets: offset.Vector{ledger.Number(1, 0): 3}}})
	isErr(t, err, engine.ErrNeedsDecision)
	other := position{record: ledger.Record{Topics: ledger.Topics{{Name: "a", ID: "1"}}}}
	c.deadRec.Topics = ledger.Topics{{Name: "b", ID: "2"}}
	_, err = c.number(source{topics: []engine.Topic{topic("a", "1")}}, c.main.head.Meta, other)
	isErr(t, err, ledger.ErrTopics)
}

// topicWorld is a table whose topics come and go while others act on it.
type topicWorld struct {
	*lake
	rng    *rand.Rand
	c      *Committer
	st     engine.State
	places map[string]int // of topics that a commit has told of
	trail  []string
}

var worldTopics = []engine.Topic{topic("a", "1"), topic("b", "2"), topic("c", "3"), topic("d", "4")}

// kind says what a record gives, by its topic, Kafka's partition and offset alone.
func (w *topicWorld) kind(number int32, o int64) byte {
	of, p := w.st.Topics.Of(number)
	return "rrrd-"[(int64(of.Name[0])*31+int64(p)*7+o*13)%5]
}

// restart begins a new process with some of the topics, in any order.
func (w *topicWorld) restart() {
	some := slices.Clone(worldTopics)
	w.rng.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	w.c = w.several(some[:1+w.rng.IntN(len(some))]...)
	w.recovered()
}

// recovered reads the position, and holds the places against those that were told before. A place may be given anew only where
// nothing of it is in the tables.
func (w *topicWorld) recovered() {
	st, err := w.c.Recover(context.Background())
	if errors.Is(err, engine.ErrNeedsDecision) {
		w.trail = append(w.trail, "resolve")
		if _, err = Resolve(context.Background(), w.cat, w.wh, w.rows, "events", Resolution{}); errors.Is(err, ErrResolve) {
			w.tell()
			_, err = Resolve(context.Background(), w.cat, w.wh, w.rows, "events", Resolution{})
		}
		w.must(err)
		if st, err = w.c.Recover(context.Background()); errors.Is(err, engine.ErrNeedsDecision) {
			w.tell()
			st, err = w.c.Recover(context.Background())
		}
	}
	w.must(err)
	w.st = st
	for name, place := range w.places {
		if w.st.Topics.Find(name) == place {
			continue
		}
		for p := range int32(2) {
			for _, id := range []catalog.Identifier{w.rows, w.dead} {
				if len(w.offsetsIn(id)[ledger.Number(place, p)]) > 0 {
					w.Fatalf("topic %s has lost its place %d to %v, and %s has rows of it", name, place, st.Topics, id)
				}
			}
		}
		delete(w.places, name)
	}
}

// tell is what a person does where every record that names the topics is gone.
func (w *topicWorld) tell() {
	names := make([]string, len(worldTopics))
	for name, place := range w.places {
		names[place] = name
	}
	names = slices.DeleteFunc(names, func(s string) bool { return s == "" })
	w.trail = append(w.trail, "name "+strings.Join(names, ","))
	w.property(strings.Join(names, ","))
}

func (w *topicWorld) write() {
	described, _ := w.c.cfg.Topics(context.Background())
	var ranges []offset.Range
	for _, d := range described {
		p := ledger.Number(w.st.Topics.Find(d.Name), w.rng.Int32N(2))
		start := w.st.Offsets[p]
		ranges = append(ranges, rng(p, start, start+1+w.rng.Int64N(4)))
	}
	slices.SortFunc(ranges, func(a, b offset.Range) int { return int(a.Partition - b.Partition) })
	b := w.batchOf(w.kind, ranges...)
	defer release(b)
	got, err := w.c.Commit(context.Background(), b)
	if errors.Is(err, engine.ErrRewound) || errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrNeedsDecision) {
		w.recovered()
		return
	}
	w.must(err)
	w.st.Offsets = got.Offsets
	if got.SnapshotID != 0 {
		for i, o := range w.st.Topics {
			w.places[o.Name] = i
		}
	}
}

func (w *topicWorld) act() {
	snaps := w.meta(w.rows).Snapshots()
	what := []string{"write", "write", "write", "restart", "roll back", "drop the tag", "rewrite", "expire"}[w.rng.IntN(8)]
	if len(snaps) == 0 && what != "restart" {
		what = "write"
	}
	w.trail = append(w.trail, what)
	switch what {
	case "write":
		w.write()
	case "restart":
		w.restart()
	case "roll back":
		w.rollback(w.rows, snaps[w.rng.IntN(len(snaps))].SnapshotID)
		w.recovered()
	case "drop the tag":
		if refID(w.meta(w.rows), ledger.TagName("events")) != nil {
			w.dropTag()
		}
		w.recovered()
	case "rewrite":
		w.rewrite(w.rows, false)
	case "expire":
		w.expire(w.rows)
	}
}

// TestTopicsUnderOthersActs: topics come and go in any order while others set the table back, rewrite it and expire its snapshots.
// No place is ever given to a second topic while anything of the first is there, and each record below V is a row, or a dead letter, once.
func TestTopicsUnderOthersActs(t *testing.T) {
	const schedules, acts = 8, 25
	seed := rand.Uint64()
	for i := range uint64(schedules) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) {
			w := &topicWorld{lake: newLake(t), rng: rand.New(rand.NewPCG(seed+i, 0)), places: map[string]int{}}
			defer func() {
				if t.Failed() {
					t.Logf("seed %d: %s", seed+i, strings.Join(w.trail, ", "))
				}
			}()
			w.restart()
			for range acts {
				w.act()
			}
			w.restart()
			w.wantRows(w.rows, w.st.Offsets, func(p int32, o int64) bool { return w.kind(p, o) == 'r' })
			for p, held := range w.offsetsIn(w.dead) {
				for o, n := range held {
					if n != 1 || w.kind(p, o) != 'd' {
						t.Errorf("dead letter %d:%d stands there %d times", p, o, n)
					}
				}
			}
		})
	}
}
