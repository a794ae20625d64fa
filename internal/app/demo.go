package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/generate"
)

// Demo is what firn up --demo adds.
type Demo struct {
	Rate, Broken float64
	Seed         uint64
}

// Demo generates events into the first pipeline's topic until Stop.
func (p *Process) Demo(ctx context.Context, d Demo) error {
	topic := p.cfg.Pipelines[0].topicNames()[0]
	cfg := generate.Config{Rate: d.Rate, BrokenShare: d.Broken, LateShare: generate.DefaultLateShare, Seed: d.Seed, Partitions: demoPartitions}.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: --demo: %w", ErrUsage, err)
	}
	if !p.opt.Broker {
		if err := p.wait(ctx, "topic "+topic, func() error { return source.EnsureTopic(ctx, p.cfg.Kafka, topic, demoPartitions) }); err != nil {
			return err
		}
	}
	prod, err := source.NewProducer(p.cfg.Kafka, p.log.With("part", "generator"))
	if err != nil {
		return err
	}
	p.background("generator", func(ctx context.Context) error {
		_, err := generate.Run(ctx, cfg, producer(prod, topic))
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, prod.Close())
	})
	return nil
}

// Generate is firn generate: events into a topic of any Kafka, until the count, the duration or ctx ends it.
func (c *Client) Generate(ctx context.Context, topic string, cfg generate.Config) (generate.Stats, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return generate.Stats{}, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if err := source.EnsureTopic(ctx, c.cfg.Kafka, topic, cfg.Partitions); err != nil {
		return generate.Stats{}, err
	}
	prod, err := source.NewProducer(c.cfg.Kafka, c.log)
	if err != nil {
		return generate.Stats{}, err
	}
	st, err := generate.Run(ctx, cfg, producer(prod, topic))
	return st, errors.Join(err, prod.Close())
}

// producer hands generated records to Kafka. The generator calls it from one goroutine, so the buffer is used again.
func producer(prod *source.Producer, topic string) func(context.Context, []generate.Record) error {
	var buf []source.Message
	return func(ctx context.Context, recs []generate.Record) error {
		buf = buf[:0]
		for _, r := range recs {
			m := source.Message{Partition: r.Partition, Key: r.Key, Value: r.Value, TimestampMs: r.TimestampMs}
			for _, h := range r.Headers {
				m.Headers = append(m.Headers, engine.Header{Key: h.Key, Value: h.Value})
			}
			buf = append(buf, m)
		}
		return prod.Produce(ctx, topic, buf)
	}
}
