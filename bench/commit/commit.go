package commit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/firnlake/firn/bench/report"
)

type options struct {
	report.Options
	history   []int
	commits   int
	reference int

	day     int
	rows    []int
	tables  []int
	seconds int
	store   string
	profile string
}

// Main runs the benchmark with its command line and prints to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) (err error) {
	var o options
	fs := flag.NewFlagSet("commit", flag.ContinueOnError)
	o.Register(fs)
	history := fs.String("history", "0,1000,10000", "snapshots in the metadata before the first commit, separated by commas")
	fs.IntVar(&o.commits, "commits", 50, "commits of each run")
	fs.IntVar(&o.reference, "reference", 1, "commits of each run by the reference, which takes seconds for one with a long history")
	tables := fs.String("tables", "", "instead: tables that commit each second to one catalog, as in 100,1000")
	fs.IntVar(&o.seconds, "seconds", 5, "length of each run of -tables, in seconds")
	fs.StringVar(&o.store, "store", "", "database of the catalog of -tables, as in postgres://firn@127.0.0.1:5432/firn, with PGPASSWORD set; default SQLite")
	fs.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile: of the whole run, with -tables and -day of the catalog")
	fs.IntVar(&o.day, "day", 0, "instead: commits of one table, one for each second of a time of its own, with the compactor beside it; 86400 for a day")
	rows := fs.String("rows", "", "instead: commits of history in the database, of which the metadata holds the window, as in 100,10000,86400,604800")
	warehouse := fs.String("serve", "", "be that catalog, over a warehouse in this directory, until the input ends")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *warehouse != "" {
		return serve(ctx, *warehouse, o.store, o.profile, os.Stdin, stdout)
	}
	if o.history, err = numbers("history", *history, 0); err != nil {
		return err
	}
	if *rows != "" {
		if o.rows, err = numbers("rows", *rows, 1); err != nil {
			return err
		}
	}
	if *tables != "" {
		if o.tables, err = numbers("tables", *tables, 1); err != nil {
			return err
		}
	}
	if o.day < 0 {
		return fmt.Errorf("-day %d is negative", o.day)
	}
	if o.commits < 1 || o.reference < 1 || o.seconds < 1 {
		return fmt.Errorf("-commits %d, -reference %d and -seconds %d must be positive", o.commits, o.reference, o.seconds)
	}
	if err := o.Validate(); err != nil {
		return err
	}
	if len(o.tables) == 0 && o.day == 0 {
		stop, err := profileCPU(o.profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	rep := report.New("commit", stdout, o.JSON)
	rep.Set("seed", o.Seed)
	if o.day > 0 {
		return errors.Join(measureDay(ctx, rep, o), rep.Close())
	}
	if len(o.tables) > 0 {
		rep.Set("seconds", o.seconds)
		for _, n := range o.tables {
			if err := measureTables(ctx, rep, n, o); err != nil {
				return fmt.Errorf("%d tables: %w", n, err)
			}
		}
		return rep.Close()
	}
	rep.Set("commits", o.commits)
	if len(o.rows) > 0 {
		first := 0.0
		for _, n := range o.rows {
			if first, err = measureRows(ctx, rep, n, first, o); err != nil {
				return fmt.Errorf("history of %d: %w", n, err)
			}
		}
		return rep.Close()
	}
	for _, n := range o.history {
		if err := measure(ctx, rep, n, o); err != nil {
			return fmt.Errorf("history of %d: %w", n, err)
		}
	}
	return rep.Close()
}

// numbers reads a list of numbers, each at least least.
func numbers(flag, list string, least int) (out []int, err error) {
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < least {
			return nil, fmt.Errorf("-%s %q: %q is no number from %d on", flag, list, s, least)
		}
		out = append(out, n)
	}
	return out, nil
}

// contestant is one way to commit to one table.
type contestant interface {
	// append makes one snapshot with one data file more.
	append(ctx context.Context) error
	// verify loads the table anew and returns its snapshots and rows, and the bytes of its metadata as JSON.
	verify(ctx context.Context) (snapshots int, rows, metadata int64, err error)
}

func measure(ctx context.Context, rep *report.Report, history int, o options) (err error) {
	dir, err := os.MkdirTemp("", "firn-bench-commit-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := newLake(ctx, dir, history)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close(ctx)) }()
	ref, err := newReference(ctx, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ref.close()) }()
	var s report.Samples
	for range o.Runs {
		db, err := l.dbBytes(ctx)
		if err != nil {
			return err
		}
		written := l.written.Load()
		times, err := run(ctx, l, o.commits)
		if err != nil {
			return err
		}
		s.Add("median_ms", report.Of(times...).Median)
		s.Add("p99_ms", report.Percentile(times, 99))
		s.Add("bytes_written", float64(l.written.Load()-written)/float64(o.commits))
		after, err := l.dbBytes(ctx)
		if err != nil {
			return err
		}
		s.Add("db_bytes_per_commit", float64(after-db)/float64(o.commits))
		if times, err = run(ctx, ref, o.reference); err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		s.Add("reference_ms", report.Of(times...).Median)
	}
	size, err := check(ctx, l, history+o.Runs*o.commits)
	if err != nil {
		return err
	}
	if _, err := check(ctx, ref, history+o.Runs*o.reference); err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	labels := map[string]any{"history": history, "store": "sqlite file"}
	add := func(metric, unit string, f report.Figure, r *report.Reference) {
		err = errors.Join(err, rep.AddFigure(metric, unit, labels, f, r))
	}
	add("median_ms", "ms", s.Figure("median_ms"), &report.Reference{Name: "iceberg-go, metadata.json each commit", Value: s.Figure("reference_ms").Median})
	add("p99_ms", "ms", s.Figure("p99_ms"), nil)
	add("bytes_written", "B", s.Figure("bytes_written"), nil)
	add("db_bytes_per_commit", "B", s.Figure("db_bytes_per_commit"), nil)
	add("metadata_mb", "MB", report.Of(float64(size)/1e6), nil)
	add("live_manifests", "1", report.Of(float64(l.manifests)), nil)
	return err
}

func run(ctx context.Context, c contestant, commits int) ([]float64, error) {
	times := make([]float64, 0, commits)
	for range commits {
		began := time.Now()
		if err := c.append(ctx); err != nil {
			return nil, err
		}
		times = append(times, float64(time.Since(began).Microseconds())/1e3)
	}
	return times, nil
}

// check holds a table against what was committed to it.
func check(ctx context.Context, c contestant, want int) (metadata int64, err error) {
	snapshots, rows, size, err := c.verify(ctx)
	if err != nil {
		return 0, err
	}
	if snapshots != want || rows != int64(want)*rowsOfFile {
		return 0, fmt.Errorf("the table has %d snapshots and %d rows, %d commits of %d rows were made", snapshots, rows, want, rowsOfFile)
	}
	return size, nil
}
