package fetch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"github.com/firnlake/firn/bench/report"
)

type options struct {
	report.Options
	events, bytes, partitions int
	broker                    string
}

func (o *options) validate() error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.partitions < 1 || o.events < o.partitions || o.events%o.partitions != 0 || o.bytes < 1 || o.bytes > 1<<20 {
		return fmt.Errorf("-partitions %d, -events %d and -bytes %d: take at least 1 each, a multiple of the partitions as events, and at most 1 MiB", o.partitions, o.events, o.bytes)
	}
	return nil
}

// Main runs the benchmark with its command line and prints to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) (err error) {
	if n, err := strconv.ParseInt(os.Getenv(brokerEnv), 10, 32); err == nil {
		return serve(os.Stdin, stdout, int32(n))
	}
	var o options
	fs := flag.NewFlagSet("fetch", flag.ContinueOnError)
	o.Register(fs)
	fs.IntVar(&o.events, "events", 800_000, "events in each topic; with few, the first touch of fresh memory is most of what is measured")
	fs.IntVar(&o.bytes, "bytes", 300, "size of an event's value, at least about 250")
	fs.IntVar(&o.partitions, "partitions", 8, "partitions of each topic")
	fs.StringVar(&o.broker, "broker", "", "host:port of a broker with empty topics bench_fetch_{none,lz4,zstd}; without it one is started in a process of its own")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	addr := o.broker
	if addr == "" {
		var stop func() error
		if addr, stop, err = startBroker(ctx, o.partitions); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	rep := report.New("fetch", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	rep.Set("events", o.events)
	rep.Set("value_bytes", o.bytes)
	rep.Set("partitions", o.partitions)
	for _, c := range codecs {
		want, err := produce(ctx, addr, c.name, c.codec, o)
		if err != nil {
			return fmt.Errorf("produce with %s: %w", c.name, err)
		}
		if err := measureCodec(ctx, rep, addr, c.name, want, o); err != nil {
			return err
		}
	}
	return rep.Close()
}

// measureCodec reads a topic with every client in turn, as often as -runs says, so that the machine's moods meet all.
func measureCodec(ctx context.Context, rep *report.Report, addr, codec string, want checksum, o options) error {
	var s report.Samples
	for run := range o.Runs + 1 {
		speed := map[string]float64{}
		for _, c := range clients {
			perCPU, allocs, err := measure(ctx, c, addr, codec, want, o)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, codec, err)
			}
			if run == 0 {
				continue // pools fill, connections of the runtime open
			}
			speed[c.name] = perCPU
			s.Add(c.name, perCPU)
			s.Add(c.name+" allocs", allocs)
		}
		for _, c := range clients[1:] {
			if run > 0 {
				s.Add("over "+c.name, speed["firn"]/speed[c.name])
			}
		}
	}
	for _, c := range clients {
		lbls := map[string]any{"client": c.name, "codec": codec}
		var ref *report.Reference
		if c.name == "firn" {
			ref = &report.Reference{Name: "kafka-go", Value: s.Figure("kafka-go").Median}
		}
		if err := rep.AddFigure("events_per_cpu_second", "1/s", lbls, s.Figure(c.name), ref); err != nil {
			return err
		}
		if err := rep.AddFigure("allocs_per_event", "1", lbls, s.Figure(c.name+" allocs"), nil); err != nil {
			return err
		}
	}
	for _, c := range clients[1:] {
		if err := rep.AddFigure("firn_over_peer", "x", map[string]any{"peer": c.name, "codec": codec}, s.Figure("over "+c.name), nil); err != nil {
			return err
		}
	}
	return nil
}

func measure(ctx context.Context, c client, addr, codec string, want checksum, o options) (perCPU, allocs float64, err error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var got checksum
	u, err := report.Measure(func() error {
		var err error
		got, err = c.read(ctx, addr, topic(codec), o)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	runtime.ReadMemStats(&after)
	if got != want {
		return 0, 0, fmt.Errorf("it read %+v, %+v was written", got, want)
	}
	return u.PerCPUSecond(float64(o.events)), float64(after.Mallocs-before.Mallocs) / float64(o.events), nil
}
