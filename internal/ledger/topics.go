package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A table that several topics go to numbers their partitions anew: those of the topic at place i in its list, which never
// changes, have the numbers from i·TopicStride on. The first topic's numbers are Kafka's own, so that a table of one topic can
// become one of several. docs/format/summary.md.
const (
	TopicStride = 1 << 20
	// MaxTopics is how many topics a table can ever have had: the numbers are 32 bits with a sign.
	MaxTopics = 1<<31/TopicStride - 1
	// maxTopicsText bounds the text of a list that is read: 2,047 names of at most 249 characters with an id each.
	maxTopicsText = 1 << 20
)

// ErrTopics reports two lists of topics that cannot be of one table.
var ErrTopics = errors.New("two records number the topics of the table differently")

// Topic is one of the topics of a table. Its place in the list is part of its partitions' numbers.
type Topic struct {
	Name string `json:"name"`
	ID   string `json:"id"` // "n/a" where the broker gives none
}

// Topics are the topics that a table has ever had, in the order in which they came. None is ever taken out.
type Topics []Topic

// Number is what the table calls a partition of the topic at place.
func Number(place int, partition int32) int32 { return int32(place)*TopicStride + partition }

// Place is the inverse of Number.
func Place(number int32) (place int, partition int32) {
	return int(number / TopicStride), number % TopicStride
}

// Find is the place of a topic; -1 when it is none of the table's.
func (t Topics) Find(name string) int {
	return slices.IndexFunc(t, func(o Topic) bool { return o.Name == name })
}

// Of tells which partition of which topic a number stands for. Without topics the number is Kafka's, and the name empty.
func (t Topics) Of(number int32) (Topic, int32) {
	place, partition := Place(number)
	switch {
	case len(t) == 0:
		return Topic{}, number
	case place >= len(t):
		return Topic{Name: fmt.Sprintf("topic %d of the table", place)}, partition
	}
	return t[place], partition
}

// Names lists the topics' names.
func (t Topics) Names() []string {
	out := make([]string, len(t))
	for i := range t {
		out[i] = t[i].Name
	}
	return out
}

// With is t, and behind it what longer knows beside: the list only ever grows, so of two records of a table one begins with
// the other. The ids are those of t where it has the topic.
func (t Topics) With(longer Topics) (Topics, error) {
	for i := range min(len(t), len(longer)) {
		if t[i].Name != longer[i].Name {
			return nil, fmt.Errorf("%w: topic %d is %s in one of them and %s in the other", ErrTopics, i, t[i].Name, longer[i].Name)
		}
	}
	if len(longer) <= len(t) {
		return t, nil
	}
	return append(slices.Clone(t), longer[len(t):]...), nil
}

// encode gives the list as name:id, separated by commas. Neither a topic's name nor its id can have one of these.
func (t Topics) encode() (string, error) {
	if err := t.check(); err != nil {
		return "", err
	}
	parts := make([]string, len(t))
	for i, o := range t {
		parts[i] = o.Name + ":" + o.ID
	}
	return strings.Join(parts, ","), nil
}

func decodeTopics(text string) (Topics, error) {
	if len(text) > maxTopicsText {
		return nil, fmt.Errorf("%d bytes, at most %d", len(text), maxTopicsText)
	}
	var out Topics
	for _, part := range strings.Split(text, ",") {
		name, id, ok := strings.Cut(part, ":")
		if !ok {
			return nil, fmt.Errorf("%q is not name:id", part)
		}
		out = append(out, Topic{Name: name, ID: id})
	}
	return out, out.check()
}

func (t Topics) check() error {
	if len(t) > MaxTopics {
		return fmt.Errorf("%d topics, a table can have %d", len(t), MaxTopics)
	}
	seen := make(map[string]bool, len(t))
	for i, o := range t {
		switch {
		case o.Name == "" || o.ID == "" || strings.ContainsAny(o.Name+o.ID, ":,"):
			return fmt.Errorf("topic %d has the name %q and the id %q: neither may be empty, or have a colon or a comma", i, o.Name, o.ID)
		case seen[o.Name]:
			return fmt.Errorf("topic %s is there twice", o.Name)
		}
		seen[o.Name] = true
	}
	return nil
}
