package fetch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/offset"
)

// client reads a topic of events once, from its start to its end.
type client struct {
	name string
	read func(ctx context.Context, addr, topic string, o options) (checksum, error)
}

var clients = []client{{"firn", readFirn}, {"kafka-go", readKafkaGo}, {"franz-go", readFranz}}

func readFirn(ctx context.Context, addr, topic string, o options) (sum checksum, err error) {
	s, err := source.New(source.Config{Brokers: []string{addr}}, source.Options{Topic: topic}, slog.New(slog.DiscardHandler), source.NewMetrics(nil))
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	from := offset.Vector{}
	for p := range int32(o.partitions) {
		from[p] = 0
	}
	if err := s.Start(ctx, from, nil); err != nil {
		return sum, err
	}
	for sum.events < int64(o.events) {
		f, err := s.Poll(ctx)
		if err != nil {
			return sum, err
		}
		for i := range f.Records {
			sum.add(f.Records[i].Offset, f.Records[i].Value)
		}
		if f.Release != nil {
			f.Release()
		}
	}
	return sum, nil
}

func readKafkaGo(ctx context.Context, addr, topic string, o options) (checksum, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total checksum
		first error
	)
	for p := range o.partitions {
		wg.Go(func() {
			sum, err := readPartition(ctx, addr, topic, p, int64(o.events/o.partitions))
			mu.Lock()
			defer mu.Unlock()
			total.merge(sum)
			if err != nil && first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	return total, first
}

func readPartition(ctx context.Context, addr, topic string, p int, events int64) (sum checksum, err error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: topic, Partition: p, MinBytes: 1, MaxBytes: 10 << 20,
		MaxWait:       100 * time.Millisecond, // as Firn's; its default holds Close up for 10 s
		QueueCapacity: 1000, IsolationLevel: kafka.ReadCommitted})
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.SetOffset(0); err != nil {
		return sum, err
	}
	for sum.events < events {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return sum, fmt.Errorf("partition %d: %w", p, err)
		}
		sum.add(m.Offset, m.Value)
	}
	return sum, nil
}

func readFranz(ctx context.Context, addr, topic string, o options) (sum checksum, err error) {
	at := map[int32]kgo.Offset{}
	for p := range int32(o.partitions) {
		at[p] = kgo.NewOffset().At(0)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return sum, err
	}
	defer cl.Close()
	for sum.events < int64(o.events) {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return sum, err
		}
		for _, e := range fs.Errors() {
			return sum, fmt.Errorf("partition %d: %w", e.Partition, e.Err)
		}
		fs.EachRecord(func(r *kgo.Record) { sum.add(r.Offset, r.Value) })
	}
	return sum, nil
}
