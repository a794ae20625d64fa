package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/publish"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/offset"
)

// letterTopic brings the dead letters of one pipeline to their topic. A nil one does nothing.
type letterTopic struct {
	*publish.Publisher
	topic string
	prod  *source.Producer // of its own: another pipeline's topic may hold it up
}

func newLetterTopic(p *Process, pl Pipeline, log *slog.Logger, m *publish.Metrics) (*letterTopic, error) {
	prod, err := source.NewProducer(p.cfg.Kafka, log)
	if err != nil {
		return nil, err
	}
	l := &letterTopic{topic: pl.DeadTopic, prod: prod}
	_, dead := pl.tables()
	l.Publisher = publish.New(publish.Options{Pipeline: pl.Name, Topic: pl.DeadTopic, Table: dead, Catalog: p.catalog, Warehouse: p.warehouse,
		Producer: l, Log: log, Metrics: m})
	return l, nil
}

// Produce implements publish.Producer.
func (l *letterTopic) Produce(ctx context.Context, msgs []publish.Message) error {
	out := make([]source.Message, len(msgs))
	for i, m := range msgs {
		out[i] = source.Message{Partition: -1, Key: m.Key, Value: m.Value, Headers: m.Headers, TimestampMs: m.TimestampMs}
	}
	err := l.prod.Produce(ctx, l.topic, out)
	if errors.Is(err, source.ErrMessageTooLarge) {
		return fmt.Errorf("%w: %w", publish.ErrTooLarge, err)
	}
	return err
}

// stage is what the committer and the engine have to know.
func (l *letterTopic) stage() (func() offset.Vector, engine.Publisher) {
	if l == nil {
		return nil, nil
	}
	return l.Unpublished, l.Publisher
}

// start publishes until ctx ends and end was called, which waits for it. What is left then is published by the next start.
func (l *letterTopic) start(ctx context.Context) (end func() error) {
	if l == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	return func() error {
		cancel()
		<-done
		return l.prod.Close()
	}
}

func (l *letterTopic) status() *publish.Status {
	if l == nil {
		return nil
	}
	s := l.Status()
	return &s
}
