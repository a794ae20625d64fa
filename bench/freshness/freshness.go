package freshness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firnlake/firn/bench/program"
	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/internal/sleep"
)

const (
	startTimeout = time.Minute
	// warm is how long the load runs before it counts: a schema is made, caches are filled.
	warm = 3 * time.Second
	// leastShare is the part of its rate that the load must have reached.
	leastShare = 0.9
)

type options struct {
	report.Options
	rate     int
	duration time.Duration
	config   string
	table    string
	topic    string
	firn     string
}

// Main runs the benchmark with its command line and prints to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) error {
	var o options
	fs := flag.NewFlagSet("freshness", flag.ContinueOnError)
	o.Register(fs)
	fs.IntVar(&o.rate, "rate", 2000, "events a second")
	fs.DurationVar(&o.duration, "duration", 10*time.Second, "how long marks are written in each run")
	fs.StringVar(&o.config, "config", "", "firn.yaml that names a Kafka and a warehouse; without it all is embedded")
	fs.StringVar(&o.table, "table", "analytics.user_events", "table of that configuration whose pipeline is measured")
	fs.StringVar(&o.topic, "topic", "user_events", "its topic")
	fs.StringVar(&o.firn, "firn", "", "program to measure; without it one is built from this tree")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.rate < 1 || o.duration < time.Second {
		return fmt.Errorf("-rate %d and -duration %s: at least 1, and 1s", o.rate, o.duration)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	rep := report.New("freshness", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	rep.Set("duration", o.duration.String())
	if err := measure(ctx, rep, o); err != nil {
		return err
	}
	return rep.Close()
}

// measured is what one probe prints, as far as it is needed here.
type measured struct {
	Marks  int64 `json:"marks"`
	Levels []struct {
		Level   string `json:"level"`
		Latency struct {
			P50 *float64 `json:"p50_ms"`
			P95 *float64 `json:"p95_ms"`
			P99 *float64 `json:"p99_ms"`
		} `json:"latency"`
		Lost int64 `json:"lost"`
	} `json:"levels"`
}

func measure(ctx context.Context, rep *report.Report, o options) (err error) {
	dir, err := os.MkdirTemp("", "firn-bench-freshness-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.firn, err = program.Build(ctx, dir, o.firn); err != nil {
		return err
	}
	up, err := program.Start(ctx, o.firn, slices.Concat([]string{"up"}, o.where(dir), o.ports())...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Stop()) }()
	answers := func(ctx context.Context) error {
		_, err := o.ask(ctx, dir, "sql", "SELECT 1")
		return err
	}
	if err := up.Await(ctx, startTimeout, answers); err != nil {
		return err
	}
	load, err := program.Start(ctx, o.firn, append(append([]string{"generate"}, o.where(dir)...), "--topic", o.topic, "--rate", strconv.Itoa(o.rate), "--seed", strconv.FormatInt(o.Seed, 10), "--broken", "0")...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.Stop()) }()
	if err := sleep.For(ctx, warm); err != nil {
		return err
	}
	first, err := o.rows(ctx, dir)
	if err != nil {
		return err
	}
	began := time.Now()
	var s report.Samples
	for range o.Runs {
		if err := o.probe(ctx, dir, &s); err != nil {
			return errors.Join(err, up.Ended(), load.Ended())
		}
	}
	last, err := o.rows(ctx, dir)
	if err != nil {
		return err
	}
	if got := float64(last-first) / time.Since(began).Seconds(); got < float64(o.rate)*leastShare {
		return fmt.Errorf("%.0f rows a second came instead of %d: the load fell behind, so these figures are of a smaller one", got, o.rate)
	}
	if err := errors.Join(up.Ended(), load.Stop()); err != nil {
		return err
	}
	if err := o.audit(ctx, dir); err != nil {
		return err
	}
	rows, err := o.rows(ctx, dir)
	if err != nil {
		return err
	}
	if err := up.Stop(); err != nil {
		return err
	}
	return o.report(rep, &s, up, rows)
}

func (o options) report(rep *report.Report, s *report.Samples, up *program.Process, rows int64) error {
	var errs []error
	for _, level := range []string{"hot", "committed"} {
		for _, q := range []string{"p50_ms", "p95_ms", "p99_ms"} {
			errs = append(errs, rep.AddFigure(q, "ms", map[string]any{"level": level, "rate": o.rate}, s.Figure(level+" "+q), nil))
		}
	}
	labels := map[string]any{"rate": o.rate}
	cpu := up.CPU.Seconds()
	// Of the process's whole life, its start among it.
	errs = append(errs, rep.AddFigure("cpu_us_per_event", "us", labels, report.Of(cpu*1e6/float64(rows)), nil),
		rep.AddFigure("max_rss_mb", "MB", labels, report.Of(float64(up.MaxRSS)/1e6), nil))
	return errors.Join(errs...)
}

// where tells a verb of firn which Firn is meant.
func (o options) where(dir string) []string {
	args := []string{"--data", filepath.Join(dir, "data")}
	if o.config != "" {
		args = append(args, "-c", o.config)
	}
	return args
}

func (o options) ports() []string {
	if o.config != "" {
		return nil // the file says them, and the verbs look there
	}
	return []string{"--broker-port", "0", "--catalog-port", "0", "--flight-port", "0", "--http-port", "0"}
}

// ask runs a verb of firn and returns what it prints.
func (o options) ask(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, o.firn, append(args, o.where(dir)...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("firn %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out, nil
}

func (o options) probe(ctx context.Context, dir string, s *report.Samples) error {
	out, err := o.ask(ctx, dir, "probe", o.table, "--duration", o.duration.String(), "--interval", "170ms", "-o", "json")
	if err != nil {
		return err
	}
	var m measured
	if err := json.Unmarshal(out, &m); err != nil {
		return fmt.Errorf("firn probe: %w", err)
	}
	for _, l := range m.Levels {
		if l.Lost > 0 || l.Latency.P99 == nil {
			return fmt.Errorf("%s: %d of %d marks were lost", l.Level, l.Lost, m.Marks)
		}
		s.Add(l.Level+" p50_ms", *l.Latency.P50)
		s.Add(l.Level+" p95_ms", *l.Latency.P95)
		s.Add(l.Level+" p99_ms", *l.Latency.P99)
	}
	return nil
}

// audit waits until the rest is committed, then has the table proved against its topic.
func (o options) audit(ctx context.Context, dir string) error {
	if err := sleep.For(ctx, 2*time.Second); err != nil {
		return err
	}
	_, err := o.ask(ctx, dir, "audit", o.table, "--kafka")
	return err
}

func (o options) rows(ctx context.Context, dir string) (int64, error) {
	out, err := o.ask(ctx, dir, "sql", "-o", "csv", "SELECT count(*) AS n FROM "+o.table)
	if err != nil {
		return 0, err
	}
	lines := strings.Fields(string(out))
	if len(lines) != 2 {
		return 0, fmt.Errorf("firn sql: %q is no count", out)
	}
	return strconv.ParseInt(lines[1], 10, 64)
}
