package ingest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/batch"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/tail"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

const (
	distinct     = 100_000 // events, repeated at new offsets
	fetchEvents  = 2000
	pollInterval = 20 * time.Millisecond
)

type options struct {
	report.Options
	events     int64
	partitions int
	interval   time.Duration
	config     string
	table      string
	firn       string
}

// Main runs the benchmark with its command line and prints to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	fs := flag.NewFlagSet("ingest", flag.ContinueOnError)
	o.Register(fs)
	fs.Int64Var(&o.events, "events", 1_000_000, "events of each run")
	fs.IntVar(&o.partitions, "partitions", 8, "partitions of the topic")
	fs.DurationVar(&o.interval, "interval", time.Second, "commit interval")
	fs.StringVar(&o.config, "config", "", "instead: catch-up of the program itself on the Kafka and the warehouse that this firn.yaml names")
	fs.StringVar(&o.table, "table", "analytics.user_events", "with -config: table whose topic, which must be empty, gets the events")
	fs.StringVar(&o.firn, "firn", "", "with -config: program to measure; without it one is built from this tree")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.partitions < 1 || o.events < int64(o.partitions) || o.interval < 10*time.Millisecond {
		return fmt.Errorf("-events %d, -partitions %d and -interval %s: at least an event for each partition, and 10ms", o.events, o.partitions, o.interval)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	o.events -= o.events % int64(o.partitions)
	rep := report.New("ingest", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	rep.Set("events", o.events)
	rep.Set("partitions", o.partitions)
	log := events.New(o.Seed, int(min(distinct, max(o.events/int64(o.partitions), 1))), fetchEvents)
	if o.config != "" {
		return errors.Join(catchUp(ctx, rep, log, o), rep.Close())
	}
	rep.Set("interval", o.interval.String())
	return errors.Join(measure(ctx, rep, log, o), rep.Close())
}

func measure(ctx context.Context, rep *report.Report, log *events.Log, o options) error {
	var s report.Samples
	for range o.Runs {
		dec, enc, err := limits(log)
		if err != nil {
			return err
		}
		r, err := once(ctx, log, o)
		if err != nil {
			return err
		}
		s.Add("decode", dec)
		s.Add("encode", enc)
		s.Add("both", 1/(1/dec+1/enc))
		s.Add("mb", r.use.PerCPUSecond(float64(r.bytes))/1e6)
		s.Add("events", r.use.PerSecond(float64(o.events)))
		s.Add("rss", float64(r.use.MaxRSS)/1e6)
		s.Add("allocs", float64(r.allocs)/float64(o.events))
		s.Add("snapshots", float64(r.snapshots))
	}
	labels := map[string]any{"format": "json"}
	stage := func(name string) map[string]any { return map[string]any{"format": "json", "stage": name} }
	return errors.Join(
		rep.AddFigure("mb_per_cpu_second", "MB/s", labels, s.Figure("mb"), &report.Reference{Name: "decode and encode alone", Value: s.Figure("both").Median}),
		rep.AddFigure("events_per_second", "1/s", labels, s.Figure("events"), nil),
		rep.AddFigure("stage_limit_mb_per_cpu_second", "MB/s", stage("decode"), s.Figure("decode"), nil),
		rep.AddFigure("stage_limit_mb_per_cpu_second", "MB/s", stage("encode"), s.Figure("encode"), nil),
		rep.AddFigure("max_rss_mb", "MB", labels, s.Figure("rss"), nil),
		rep.AddFigure("allocs_per_event", "1", labels, s.Figure("allocs"), nil),
		rep.AddFigure("snapshots", "1", labels, s.Figure("snapshots"), nil))
}

// limits is what decoding and encoding alone reach, in MB of JSON per CPU-second. The first pass warms up.
func limits(log *events.Log) (dec, enc float64, err error) {
	d, sc, err := decoder()
	if err != nil {
		return 0, 0, err
	}
	const passes = 3
	var decoded, encoded time.Duration
	for pass := range passes + 1 {
		var rows []arrow.RecordBatch
		use, err := report.Measure(func() error {
			for _, f := range log.Fetches {
				out, err := d.Decode(f)
				if err != nil {
					return err
				}
				rows = append(rows, out.Rows)
			}
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
		write, err := report.Measure(func() error {
			_, err := datafile.Write(io.Discard, sc, rows, datafile.DefaultWriteOptions())
			return err
		})
		if err != nil {
			return 0, 0, err
		}
		for _, r := range rows {
			r.Release()
		}
		if pass > 0 {
			decoded, encoded = decoded+use.CPU, encoded+write.CPU
		}
	}
	mb := float64(log.Bytes) * passes / 1e6
	return report.Usage{CPU: decoded}.PerCPUSecond(mb), report.Usage{CPU: encoded}.PerCPUSecond(mb), nil
}

func decoder() (*decode.JSON, *iceberg.Schema, error) {
	c, err := decode.LoadContract(events.Contract())
	if err != nil {
		return nil, nil, err
	}
	sc := c.IcebergSchema()
	d, err := decode.NewJSON(c, sc, decode.Options{})
	return d, sc, err
}

type result struct {
	use       report.Usage
	bytes     int64
	allocs    uint64
	snapshots int64
}

// once ingests the events into a new table and audits it.
func once(ctx context.Context, log *events.Log, o options) (r result, err error) {
	dir, err := os.MkdirTemp("", "firn-bench-ingest-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	wh, err := objstore.Open(ctx, "file://"+filepath.ToSlash(dir)+"/warehouse", objstore.Options{})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, wh.Close()) }()
	srv, err := server.New(ctx, server.Config{Store: "sqlite://" + filepath.ToSlash(dir) + "/catalog.db"}, wh, nil, nil)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, srv.Close(ctx)) }()
	src := newSource(log, o.partitions, o.events)
	p, err := pipeline(ctx, srv.Service(), wh, src, o)
	if err != nil {
		return r, err
	}
	for _, f := range log.Fetches {
		for i := range f.Records {
			r.bytes += int64(len(f.Records[i].Value))
		}
	}
	r.bytes = int64(float64(r.bytes) * float64(o.events) / float64(log.Events))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if r.use, err = report.Measure(func() error { return drain(ctx, p, o) }); err != nil {
		return r, err
	}
	runtime.ReadMemStats(&after)
	r.allocs, r.snapshots = after.Mallocs-before.Mallocs, p.Status().Snapshots
	a, err := audit.Table(ctx, srv.Service(), wh, mainTable, audit.Options{DeadLetters: deadTable})
	if err != nil {
		return r, err
	}
	if !a.Clean() || a.Rows != o.events {
		return r, fmt.Errorf("%d rows of %d events:\n%s", a.Rows, o.events, a)
	}
	return r, nil
}

var (
	mainTable = catalog.Identifier{"bench", "events"}
	deadTable = catalog.Identifier{"bench", "events_dead"}
)

func pipeline(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, src *source, o options) (*engine.Pipeline, error) {
	c, err := decode.LoadContract(events.Contract())
	if err != nil {
		return nil, err
	}
	if err := cat.CreateNamespace(ctx, mainTable.Namespace(), nil); err != nil {
		return nil, err
	}
	t, err := commit.EnsureTable(ctx, cat, mainTable, c.IcebergSchema(), nil, nil)
	if err != nil {
		return nil, err
	}
	if _, err := commit.EnsureTable(ctx, cat, deadTable, decode.DeadLetterSchema(false), nil, nil); err != nil {
		return nil, err
	}
	d, err := decode.NewJSON(c, t.Metadata.CurrentSchema(), decode.Options{})
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	com, err := commit.New(commit.Config{Pipeline: "bench", Table: mainTable, DeadTable: deadTable, Topic: src.Describe}, cat, wh,
		func(sc *iceberg.Schema, dead []engine.Dead) (arrow.RecordBatch, error) {
			return decode.DeadRows(memory.DefaultAllocator, sc, func(int32) string { return "bench" }, dead, time.Now())
		}, quiet, nil)
	if err != nil {
		return nil, err
	}
	cfg := engine.DefaultConfig()
	cfg.CommitInterval = units.Duration(o.interval)
	return engine.New("bench", cfg, engine.Stages{Source: src, Decoder: d, Batcher: batch.New(batch.DefaultConfig(), time.Now),
		Tail: tail.New(0, 1<<30, time.Now), Committer: com}, quiet, engine.NewMetrics(nil))
}

// drain runs the pipeline until all is committed.
func drain(ctx context.Context, p *engine.Pipeline, o options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("the pipeline ended by itself: %w", errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
		st := p.Status()
		if st.Problem != nil {
			stop()
			return errors.Join(st.Problem, <-ended)
		}
		done := int64(0)
		for _, at := range st.Committed {
			done += at
		}
		if done == o.events {
			stop()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		}
	}
}
