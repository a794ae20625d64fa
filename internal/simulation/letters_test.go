package simulation

import (
	"context"
	"errors"
	"fmt"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/publish"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

// publishedEvery is of how many schedules one has a topic for its dead letters.
const publishedEvery = 4

// letterTopic is the topic of dead letters: how often it has each, by the message's key. The driver alone touches it.
type letterTopic map[string]int

var (
	errNoTopic   = errors.New("produce: the broker does not answer")
	errTopicLost = errors.New("produce: the connection was cut")
)

// newPublisher makes the writer's publisher, if there is a topic, and what its committer asks it.
func (a *writer) newPublisher() (unpublished func() offset.Vector, stage engine.Publisher) {
	if a.world.letters == nil {
		return nil, nil
	}
	a.letters = publish.New(publish.Options{Pipeline: pipeline, Topic: "events_dead", Table: a.world.dead, Catalog: &letterLine{line{a, a.m}},
		Warehouse: &objstore.Warehouse{Store: &disk{a.store, a}, URI: a.wh.URI}, Producer: letterProducer{a}, Metrics: letterMetrics})
	if a.breaks.forgetLetters {
		return a.letters.Unpublished, forgetful{a.letters}
	}
	return a.letters.Unpublished, a.letters
}

// publishing runs the publisher until stop is called.
func (a *writer) publishing() (stop func()) {
	if a.letters == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.letters.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// forgetful is a publisher that does not hear what was left to be published.
type forgetful struct{ engine.Publisher }

func (f forgetful) Resume(_, v offset.Vector) { f.Publisher.Resume(nil, v) }

// letterLine is the catalog as a writer's publisher reaches it, beside its commits.
type letterLine struct{ line }

func (l *letterLine) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	return l.load(ctx, "letters", id, how)
}

// letterProducer is the topic as one writer reaches it.
type letterProducer struct{ w *writer }

func (p letterProducer) Produce(ctx context.Context, msgs []publish.Message) error {
	return p.w.call(ctx, &call{lane: "produce", note: fmt.Sprintf("of %d letters", len(msgs)), refuse: errNoTopic, unknown: errTopicLost, run: func(context.Context) error {
		for _, m := range msgs {
			p.w.world.letters[string(m.Key)]++
		}
		return nil
	}})
}

// serveProduce decides what becomes of messages: in one case of six they, their answer, or both are lost.
func (w *world) serveProduce(c *call) {
	switch n := w.rnd.IntN(18); {
	case n > 2 || w.calm:
		c.answer(c.run(context.Background()))
	case n == 0:
		c.answer(c.refuse)
	case n == 1:
		c.answer(c.unknown)
	default:
		_ = c.run(context.Background())
		c.answer(c.unknown)
	}
}

// published tells whether the last writer has brought to the topic all that it knows of.
func (w *world) published() bool {
	a := w.slots[0]
	return a.letters == nil || len(a.letters.Unpublished()) == 0
}

// checkLetters: each dead letter of the table is in its topic, at least once, and nothing else is.
func (w *world) checkLetters(ctx context.Context) error {
	if w.letters == nil {
		return nil
	}
	dead, err := w.places(ctx, w.dead)
	if err != nil {
		return err
	}
	for at := range dead {
		if w.letters[at.letter()] == 0 {
			return fmt.Errorf("partition %d offset %d line %d is a dead letter, and its topic does not have it", at.p, at.o, at.line)
		}
	}
	if len(w.letters) != len(dead) {
		return fmt.Errorf("the topic has %d dead letters, and the table %d", len(w.letters), len(dead))
	}
	w.stats.letters = len(dead)
	return nil
}

// letter is the key that a dead letter has in the topic.
func (x place) letter() string {
	if x.line == 0 {
		return fmt.Sprintf("events/%d/%d", x.p, x.o)
	}
	return fmt.Sprintf("events/%d/%d/%d", x.p, x.o, x.line)
}
