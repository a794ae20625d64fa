package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// PropTopic is the table's property that names the topic which feeds it, or the topics in their places, separated by commas. With
// several topics the record is what counts. The property says which topic a table was filled from while it had one, and it is the last
// resort where every record that names them has expired: a person may set it.
const PropTopic = "firn.topic"

// source is what is read, as it is now: one topic, or several.
type source struct {
	clusterID string
	topic     engine.Topic   // of one
	topics    []engine.Topic // of several those that are there
}

// describe asks the brokers.
func (c *Committer) describe(ctx context.Context) (source, error) {
	if c.cfg.Topics == nil {
		t, err := c.cfg.Topic(ctx)
		return source{clusterID: t.ClusterID, topic: t}, err
	}
	all, err := c.cfg.Topics(ctx)
	if err != nil {
		return source{}, err
	}
	if len(all) == 0 {
		return source{}, fmt.Errorf("%w: none of the topics of table %s is there", engine.ErrNoTopic, c.cfg.Table)
	}
	return source{clusterID: all[0].ClusterID, topics: all}, nil
}

// number gives the topics of s their places in the table: those that any record knows keep theirs, whatever the
// configuration says of them now, and the others come behind, in the order of s.
//
// The list is as long as the longest of the record that V comes from, of the tag's and of the dead letters': a rollback of the rows
// takes no topic back, because dead letters and gaps of it are still there under its number.
func (c *Committer) number(s source, meta table.Metadata, pos position) (ledger.Topics, error) {
	stop := func(err error) error {
		return fmt.Errorf("%w: table %s: %w", engine.ErrNeedsDecision, c.cfg.Table, err)
	}
	base, err := withTopics(pos.record, c.deadRec)
	if err != nil {
		return nil, stop(err)
	}
	if base, err = named(base, pos.offsets(), meta); err != nil {
		return nil, stop(err)
	}
	known := base.Topics
	if len(s.topics) == 0 {
		if len(known) > 0 {
			return nil, stop(fmt.Errorf("it is filled from several topics (%s): write topics: [%s] instead of topic: %s", strings.Join(known.Names(), ", "), s.topic.Name, s.topic.Name))
		}
		return nil, nil
	}
	if len(known) == 0 && len(pos.offsets())+len(c.deadRec.Offsets) > 0 {
		if known, err = filledFrom(cmp.Or(pos.record.TopicID, c.deadRec.TopicID), meta, s.topics); err != nil {
			return nil, stop(err)
		}
	}
	known = slices.Clone(known)
	for _, t := range s.topics {
		switch i := known.Find(t.Name); {
		case i >= 0:
			known[i].ID = orKnown(known[i].ID, t.TopicID)
		case len(known) == ledger.MaxTopics:
			return nil, stop(fmt.Errorf("it has had %d topics, which is all that it can: write topic %s into another table", len(known), t.Name))
		default:
			known = append(known, ledger.Topic{Name: t.Name, ID: orKnown(t.TopicID, noID)})
		}
	}
	return known, nil
}

// withTopics is r with the topics that other knows beside. The ids are those of r where it has any: also that of a record from before
// the table had several topics, which is of the first.
func withTopics(r, other ledger.Record) (ledger.Record, error) {
	topics, err := r.Topics.With(other.Topics)
	if err != nil || len(topics) == 0 {
		return r, err
	}
	if len(r.Topics) == 0 && KnownID(r.TopicID) {
		topics = slices.Clone(topics)
		topics[0].ID = r.TopicID
	}
	r.Topics, r.TopicID = topics, noID
	return r, nil
}

// named is r with topics for all numbers of v: its own, or else those that the table's property names.
func named(r ledger.Record, v offset.Vector, meta table.Metadata) (ledger.Record, error) {
	if nameable(v, r.Topics) == nil {
		return r, nil
	}
	r, err := withTopics(r, ledger.Record{Topics: saidTopics(meta)})
	if err != nil {
		return r, err
	}
	return r, nameable(v, r.Topics)
}

// nameable holds that the numbers of v are of topics that are known.
func nameable(v offset.Vector, topics ledger.Topics) error {
	for _, p := range v.Partitions() {
		if place, _ := ledger.Place(p); place >= max(len(topics), 1) {
			return fmt.Errorf("partition %d is of topic %d of the table, and what is left tells of %d: set its property %s to the topics' names in the order of their numbers, separated by commas (the rows have both)", p, place, len(topics), PropTopic)
		}
	}
	return nil
}

// filledFrom is the topic that a table was filled from while it had one, whose partitions keep their numbers: the one with the id
// of the table's record, or else the one that the table's property names. A person may have named more there.
func filledFrom(id string, meta table.Metadata, now []engine.Topic) (ledger.Topics, error) {
	if KnownID(id) {
		for _, t := range now {
			if t.TopicID == id {
				return ledger.Topics{{Name: t.Name, ID: id}}, nil
			}
		}
	}
	said := saidTopics(meta)
	if len(said) == 0 {
		return nil, errors.New("it was filled from one topic, and neither an id nor its property " + PropTopic + " tells which of topics that was: set the property to the topic's name")
	}
	said[0].ID = orKnown(id, noID)
	return said, nil
}

// saidTopics are those that the table's property names.
func saidTopics(meta table.Metadata) (said ledger.Topics) {
	for name := range strings.SplitSeq(meta.Properties()[PropTopic], ",") {
		if name = strings.TrimSpace(name); name != "" {
			said = append(said, ledger.Topic{Name: name, ID: noID})
		}
	}
	return said
}

// rebound gives a record the ids that topics go by now, and tells which partitions are of the same topic as before.
func rebound(r ledger.Record, one engine.Topic, several []engine.Topic) (_ ledger.Record, same func(partition int32) bool) {
	was := r
	if len(r.Topics) == 0 {
		r.TopicID = orKnown(one.TopicID, r.TopicID)
		stays := !KnownID(was.TopicID) || r.TopicID == was.TopicID
		return r, func(int32) bool { return stays }
	}
	r.Topics = slices.Clone(r.Topics)
	for _, t := range several {
		if i := r.Topics.Find(t.Name); i >= 0 {
			r.Topics[i].ID = orKnown(t.TopicID, r.Topics[i].ID)
		}
	}
	return r, func(number int32) bool {
		before, _ := was.Topics.Of(number)
		now, _ := r.Topics.Of(number)
		return !KnownID(before.ID) || before.ID == now.ID
	}
}
