package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/broker"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// topicNames are the topics that a pipeline reads.
func (p Pipeline) topicNames() []string {
	if len(p.Topics) > 0 {
		return p.Topics
	}
	return []string{p.Topic}
}

func (p Pipeline) topicText() string { return strings.Join(p.topicNames(), ", ") }

// checkTopics holds what is read against what else the pipeline says of it.
func (p Pipeline) checkTopics() error {
	for key, name := range map[string]string{"topic": p.Topic, "dead_letter_topic": p.DeadTopic} {
		if err := broker.CheckTopicName(name); err != nil && name != "" {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	switch {
	case p.Topic == "" && p.Topics == nil:
		return errors.New("topic is missing: name the topic, or several in topics (docs/routing.md)")
	case p.Topic != "" && p.Topics != nil:
		return errors.New("topics: topic is there too: keep one of them; a table that was made with topic keeps its rows when topics lists it")
	case p.Topic != "":
		return nil
	case len(p.Topics) == 0:
		return errors.New("topics: it is empty: name at least one")
	case len(p.Topics) > source.MaxTopics:
		return fmt.Errorf("topics: %d of them, at most %d", len(p.Topics), source.MaxTopics)
	case p.isRouted():
		return errors.New("topics: several topics that go to several tables are not built: write a pipeline with topics for each table, with transform.filter instead of routes")
	case p.Schema == "" && p.contract == nil && p.Subject == "":
		return errors.New("subject: with topics it is not known whose subject the table is made of: name it, or a schema file")
	}
	for i, name := range p.Topics {
		if err := broker.CheckTopicName(name); err != nil {
			return fmt.Errorf("topics[%d]: %w", i, err)
		}
		if slices.Index(p.Topics, name) < i {
			return fmt.Errorf("topics[%d]: %s is there twice", i, name)
		}
	}
	return nil
}

// newSource makes the source of the pipeline, and says in c what it reads.
func (r *runner) newSource(c *commit.Config) (engine.Source, error) {
	if len(r.cfg.Topics) == 0 {
		s, err := source.New(r.p.cfg.Kafka, source.Options{Topic: r.cfg.Topic}, r.log, r.sm)
		if err != nil {
			return nil, err
		}
		c.Topic = s.Describe
		return s, nil
	}
	m, err := source.NewMany(r.p.cfg.Kafka, source.ManyOptions{Topics: r.cfg.Topics, Gaps: r.cfg.OnGap == engine.GapRecord}, r.log, r.sm)
	if err != nil {
		return nil, err
	}
	c.Topics = m.DescribeAll
	return m, nil
}

// topicOf names the topic of a partition with the table's number.
func (r *runner) topicOf(number int32) string {
	r.mu.Lock()
	m := r.many
	r.mu.Unlock()
	if m == nil {
		return r.cfg.Topic
	}
	return m.TopicOf(number)
}

// committedOf is committed for each topic that the pipeline reads. One whose place in the table is not known yet is needed whole.
func (r *runner) committedOf() map[string]offset.Vector {
	v := r.committed()
	if len(r.cfg.Topics) == 0 {
		return map[string]offset.Vector{r.cfg.Topic: v}
	}
	out := map[string]offset.Vector{}
	for _, name := range r.cfg.Topics {
		out[name] = offset.Vector{}
	}
	r.mu.Lock()
	m := r.many
	r.mu.Unlock()
	if m == nil {
		return out
	}
	known := m.Known()
	for number, at := range v {
		t, p := known.Of(number)
		if mine, ok := out[t.Name]; ok {
			mine[p] = at
		}
	}
	return out
}

// feed is what goes to a table: one topic, or several in the table's places.
type feed struct {
	kafka   source.Config
	one     string
	several ledger.Topics
	read    []string // those that the configuration reads; nil: it does not say
}

// feedOf is what goes to a table, whose record says which topics it has had. Of a table without one the configuration says it.
func (c *Client) feedOf(t *catalog.Table, rec ledger.Record) feed {
	f := feed{kafka: c.cfg.Kafka, one: t.Metadata.Properties()[commit.PropTopic], several: rec.Topics}
	for _, p := range c.cfg.Pipelines {
		if rows, dead := p.tables(); !slices.Equal(rows, t.Identifier) && !slices.Equal(dead, t.Identifier) {
			continue
		}
		f.one, f.read = p.topicText(), p.topicNames()
		if len(f.several) == 0 {
			for _, name := range p.Topics {
				f.several = append(f.several, ledger.Topic{Name: name, ID: "n/a"})
			}
		}
	}
	return f
}

// String names the topics.
func (f feed) String() string {
	if len(f.several) > 0 {
		return strings.Join(f.several.Names(), ", ")
	}
	return f.one
}

// first is a topic that is read.
func (f feed) first() (name string, place int) {
	for i, t := range f.several {
		if f.read == nil || slices.Contains(f.read, t.Name) {
			return t.Name, i
		}
	}
	return f.one, 0
}

// names are the topics in the table's places.
func (f feed) names() []string {
	if len(f.several) > 0 {
		return f.several.Names()
	}
	return []string{f.one}
}

// isRead tells whether the pipeline reads a partition, as far as the configuration says.
func (f feed) isRead(number int32) bool {
	t, _ := f.several.Of(number)
	return len(f.several) == 0 || f.read == nil || slices.Contains(f.read, t.Name)
}

// spot says where a partition is in Kafka, for a table of several topics; nothing for one.
func (f feed) spot(number int32) Spot {
	if len(f.several) == 0 {
		return Spot{}
	}
	t, p := f.several.Of(number)
	return Spot{Topic: t.Name, TopicPartition: &p}
}

// Spot is the place in Kafka of a partition of a table that several topics go to. It is empty where there is one topic: the
// table's number is Kafka's then.
type Spot struct {
	Topic          string `json:"topic,omitempty"`
	TopicPartition *int32 `json:"topic_partition,omitempty"`
}

// Label is what to call the partition with the table's number.
func (s Spot) Label(number int32) string {
	if s.TopicPartition == nil {
		return fmt.Sprint(number)
	}
	return fmt.Sprintf("%d (%s/%d)", number, s.Topic, *s.TopicPartition)
}

// bounds asks Kafka for the logs' bounds, by the table's numbers. A topic that cannot be asked is in the error, and the others
// are in the result.
func (f feed) bounds(ctx context.Context) (map[int32]engine.Position, error) {
	if f.String() == "" {
		return nil, fmt.Errorf("%w: the topic is not known: name the configuration with -c", ErrUsage)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var out map[int32]engine.Position
	var failed error
	for place, name := range f.names() {
		b, err := source.Bounds(ctx, f.kafka, name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if place == 0 && len(f.several) == 0 {
			return b, nil
		}
		if out == nil {
			out = map[int32]engine.Position{}
		}
		for p, at := range b {
			out[ledger.Number(place, p)] = at
		}
	}
	return out, failed
}

// describe asks Kafka which topics go by these names now, in the table's places. Of several, one that is not there has no id.
func (c *Client) describe(ctx context.Context, f feed) ([]engine.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	out := make([]engine.Topic, len(f.names()))
	for i, name := range f.names() {
		src, err := source.New(c.cfg.Kafka, source.Options{Topic: name}, c.log, source.NewMetrics(nil))
		if err != nil {
			return nil, err
		}
		out[i], err = src.Describe(ctx)
		if err = errors.Join(err, src.Close()); err != nil && (len(f.several) == 0 || !errors.Is(err, engine.ErrNoTopic)) {
			return nil, err
		}
		out[i].Name = name
	}
	return out, nil
}

// kafkaLog is the topics as an audit reads them. It implements audit.Log.
type kafkaLog struct {
	c     *Client
	table *catalog.Table
	feed  feed // once Describe has said
}

func (k *kafkaLog) Describe(ctx context.Context, topics ledger.Topics) (clusterID string, topicIDs []string, err error) {
	k.feed = k.c.feedOf(k.table, ledger.Record{Topics: topics})
	all, err := k.c.describe(ctx, k.feed)
	for _, t := range all {
		topicIDs = append(topicIDs, t.TopicID)
	}
	return clusterOf(all), topicIDs, err
}

func (k *kafkaLog) Bounds(ctx context.Context) (map[int32]audit.LogBounds, error) {
	b, err := k.feed.bounds(ctx)
	// A topic that is not there any more is told of by partition: the log has none of them.
	if err != nil && (len(k.feed.several) == 0 || !errors.Is(err, engine.ErrNoTopic)) {
		return nil, err
	}
	out := make(map[int32]audit.LogBounds, len(b))
	for p, pos := range b {
		out[p] = audit.LogBounds{Start: pos.LogStart, End: pos.LastStable}
	}
	return out, nil
}

func (k *kafkaLog) ReadRange(ctx context.Context, partition int32, from, to int64, fn func(audit.Stretch) error) error {
	topic, p := k.feed.one, partition
	if len(k.feed.several) > 0 {
		var t ledger.Topic
		t, p = k.feed.several.Of(partition)
		topic = t.Name
	}
	var offsets []int64
	return source.ReadRange(ctx, k.c.cfg.Kafka, topic, p, from, to, func(f *engine.Fetch) error {
		offsets = offsets[:0]
		for i := range f.Records {
			offsets = append(offsets, f.Records[i].Offset)
		}
		return fn(audit.Stretch{Start: f.Start, End: f.End, Offsets: offsets, Control: f.Control, Aborted: f.Aborted})
	})
}

// topicProperty is the table's property commit.PropTopic. Several topics are named in the places that a record of the table gave
// them, and not before: until then it may hold the name of the one topic that the table was filled from.
func (p Pipeline) topicProperty(t *catalog.Table) map[string]string {
	if len(p.Topics) == 0 {
		return map[string]string{commit.PropTopic: p.Topic}
	}
	if t == nil {
		return map[string]string{}
	}
	tag := t.Metadata.SnapshotByName(ledger.TagName(p.Name))
	if tag == nil || tag.Summary == nil {
		return map[string]string{}
	}
	rec, err := ledger.ParseSummary(tag.Summary.Properties)
	if err != nil || len(rec.Topics) == 0 { // what cannot be read is recovery's to say
		return map[string]string{}
	}
	return map[string]string{commit.PropTopic: strings.Join(rec.Topics.Names(), ",")}
}
