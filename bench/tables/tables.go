package tables

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/bench/program"
	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/sleep"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

const (
	startTimeout = 2 * time.Minute
	// endTimeout is how long the last events may take to be in the tables.
	endTimeout = time.Minute
	// warm is how long the load runs before it counts.
	warm = 5 * time.Second
	// namespace of the tables.
	namespace = "many"
)

type options struct {
	report.Options
	tables, idle, partitions, rate int
	duration                       time.Duration
	brokers, firn                  string
}

// Main runs the benchmark with its command line and prints to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	fs := flag.NewFlagSet("tables", flag.ContinueOnError)
	o.Register(fs)
	fs.IntVar(&o.tables, "tables", 20, "tables with traffic")
	fs.IntVar(&o.idle, "idle", 20, "tables without")
	fs.IntVar(&o.partitions, "partitions", 10, "partitions of each topic, with -brokers; the embedded broker's have 4")
	fs.IntVar(&o.rate, "rate", 100, "events a second and table, at least 10")
	fs.DurationVar(&o.duration, "duration", 5*time.Second, "length of each run")
	fs.StringVar(&o.brokers, "brokers", "", "Kafka `host:port,…` instead of the embedded broker; topics many_N are made there, and left")
	fs.StringVar(&o.firn, "firn", "", "program to measure; without it one is built from this tree")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.tables < 1 || o.idle < 0 || o.partitions < 1 || o.rate < loadsPerSecond || o.duration < 3*time.Second {
		return fmt.Errorf("-tables %d, -idle %d, -partitions %d, -rate %d, -duration %s: at least 1, 0, 1, %d and 3s", o.tables, o.idle, o.partitions, o.rate, o.duration, loadsPerSecond)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	rep := report.New("tables", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	rep.Set("duration", o.duration.String())
	if err := measure(ctx, rep, o); err != nil {
		return err
	}
	return rep.Close()
}

func measure(ctx context.Context, rep *report.Report, o options) (err error) {
	dir, err := os.MkdirTemp("", "firn-bench-tables-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.firn, err = program.Build(ctx, dir, o.firn); err != nil {
		return err
	}
	run := fmt.Sprint(time.Now().UnixNano()) // topics of an earlier run have its events
	config, err := o.config(dir, run)
	if err != nil {
		return err
	}
	if o.brokers != "" {
		kafka := source.Config{Brokers: strings.Split(o.brokers, ",")}
		for i := range o.tables + o.idle {
			if err := source.EnsureTopic(ctx, kafka, topic(run, i), o.partitions); err != nil {
				return err
			}
		}
	}
	data := filepath.Join(dir, "data")
	up, err := program.Start(ctx, o.firn, "up", "-c", config, "--broker-port", "0", "--catalog-port", "0", "--flight-port", "0", "--http-port", "0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Stop()) }()
	at, err := ready(ctx, up, data)
	if err != nil {
		return err
	}
	if o.brokers == "" {
		o.brokers = at.Broker
	}
	l := newLoad(o, run)
	defer func() { err = errors.Join(err, l.stop()) }()
	if err := sleep.For(ctx, warm); err != nil {
		return err
	}
	cat, err := client.New(ctx, client.Config{URI: "http://" + at.Catalog, Timeout: units.Duration(time.Minute)}, nil, nil)
	if err != nil {
		return err
	}
	defer cat.Close()
	var s report.Samples
	for range o.Runs {
		if err := o.once(ctx, cat, at.HTTP, &s); err != nil {
			return errors.Join(err, up.Ended())
		}
	}
	if err := errors.Join(l.stop(), up.Ended()); err != nil {
		return err
	}
	if err := o.check(ctx, cat, l.sent()); err != nil {
		return err
	}
	return o.report(rep, &s)
}

func (o options) report(rep *report.Report, s *report.Samples) error {
	labels := map[string]any{"tables": o.tables, "idle": o.idle, "rate": o.rate}
	var errs []error
	for _, m := range []struct{ name, unit string }{{"interval_p50_ms", "ms"}, {"interval_p99_ms", "ms"}, {"interval_max_ms", "ms"}, {"cpu_seconds_per_second", "s/s"},
		{"rss_mb", "MB"}, {"goroutines", "1"}} {
		errs = append(errs, rep.AddFigure(m.name, m.unit, labels, s.Figure(m.name), nil))
	}
	return errors.Join(errs...)
}

func topic(run string, i int) string { return fmt.Sprintf("many_%s_%d", run, i) }

func table(i int) catalog.Identifier { return catalog.Identifier{namespace, "t" + strconv.Itoa(i)} }

// config writes the contract and firn.yaml. The first o.tables pipelines get traffic.
func (o options) config(dir, run string) (string, error) {
	raw, name := events.Contract()
	if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "data: %s\n", filepath.Join(dir, "data"))
	if o.brokers != "" {
		fmt.Fprintf(&b, "kafka: {brokers: [%q]}\n", strings.Join(strings.Split(o.brokers, ","), `", "`))
	}
	b.WriteString("http: {profiles: true}\npipelines:\n")
	for i := range o.tables + o.idle {
		fmt.Fprintf(&b, "  - {name: p%d, topic: %s, schema: %s, table: %s}\n", i, topic(run, i), name, table(i))
	}
	path := filepath.Join(dir, "firn.yaml")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// ready waits until all pipelines do what they are there for, and tells where the process listens.
func ready(ctx context.Context, up *program.Process, data string) (at app.Addresses, err error) {
	err = up.Await(ctx, startTimeout, func(ctx context.Context) error {
		r, ok := app.FindRunning(data)
		if !ok {
			return errors.New("it has not said where it listens")
		}
		at = r.Addresses
		_, err := get(ctx, at.HTTP, "/readyz")
		return err
	})
	return at, err
}

// once is one run.
func (o options) once(ctx context.Context, cat catalog.Catalog, http string, s *report.Samples) error {
	before, err := usageOf(ctx, http)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := sleep.For(ctx, o.duration); err != nil {
		return err
	}
	took, ended := time.Since(began), time.Now()
	after, err := usageOf(ctx, http)
	if err != nil {
		return err
	}
	var gaps []float64
	for i := range o.tables {
		t, err := cat.LoadTable(ctx, table(i), catalog.LoadAll)
		if err != nil {
			return err
		}
		var last int64
		for _, sn := range t.Metadata.Snapshots() { // in the order in which they were made
			if sn.TimestampMs < began.UnixMilli() || sn.TimestampMs > ended.UnixMilli() {
				continue
			}
			if last != 0 {
				gaps = append(gaps, float64(sn.TimestampMs-last))
			}
			last = sn.TimestampMs
		}
		if last == 0 {
			return fmt.Errorf("table %s had no snapshot for %s", table(i), took)
		}
	}
	s.Add("interval_p50_ms", report.Percentile(gaps, 50))
	s.Add("interval_p99_ms", report.Percentile(gaps, 99))
	s.Add("interval_max_ms", report.Percentile(gaps, 100))
	s.Add("cpu_seconds_per_second", (after.cpu-before.cpu)/took.Seconds())
	s.Add("rss_mb", after.rss/1e6)
	s.Add("goroutines", after.goroutines)
	return nil
}

// check waits until each table holds what was sent, and no more.
func (o options) check(ctx context.Context, cat catalog.Catalog, sent []int64) error {
	end := time.Now().Add(endTimeout)
	for i := range o.tables + o.idle {
		for {
			t, err := cat.LoadTable(ctx, table(i), catalog.LoadRefs)
			if err != nil {
				return err
			}
			head := t.Metadata.CurrentSnapshot()
			if i >= o.tables {
				if head != nil {
					return fmt.Errorf("table %s got no event, and has snapshot %d", table(i), head.SnapshotID)
				}
				break
			}
			rows := int64(0)
			if head != nil {
				rows = snapshot.Count(head, "total-records")
			}
			if rows == sent[i] {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("table %s has %d rows, %d were sent", table(i), rows, sent[i])
			}
			if err := sleep.For(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
