package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/bench/program"
	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	kafka "github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/sleep"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

const (
	startTimeout = time.Minute
	// stallTimeout is how long no row may come.
	stallTimeout = time.Minute
)

// catchUp has `firn ingest` read a topic that was filled before, with `firn catalog` beside it, each run into a new table.
func catchUp(ctx context.Context, rep *report.Report, log *events.Log, o options) (err error) {
	cfg, _, err := app.LoadConfig(o.config)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(cfg.Pipelines, func(p app.Pipeline) bool { return p.Table == o.table })
	if at < 0 {
		return fmt.Errorf("%s has no pipeline of the table %s: name another with -table", o.config, o.table)
	}
	dir, err := os.MkdirTemp("", "firn-bench-ingest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.firn, err = program.Build(ctx, dir, o.firn); err != nil {
		return err
	}
	bytes, err := fill(ctx, cfg.Kafka, cfg.Pipelines[at].Topic, log, o)
	if err != nil {
		return err
	}
	var s report.Samples
	for i := range o.Runs {
		r, err := o.run(ctx, filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return err
		}
		s.Add("mb", float64(bytes)/1e6/(r.ingest.CPU+r.catalog.CPU).Seconds())
		s.Add("events", float64(o.events)/r.took.Seconds())
		s.Add("rss", float64(r.ingest.MaxRSS)/1e6)
		s.Add("catalog", r.catalog.CPU.Seconds())
	}
	labels := map[string]any{"format": "json", "source": "kafka"}
	return errors.Join(rep.AddFigure("mb_per_cpu_second", "MB/s", labels, s.Figure("mb"), nil),
		rep.AddFigure("events_per_second", "1/s", labels, s.Figure("events"), nil),
		rep.AddFigure("max_rss_mb", "MB", labels, s.Figure("rss"), nil),
		rep.AddFigure("catalog_cpu_seconds", "s", labels, s.Figure("catalog"), nil))
}

// fill writes the events into the topic, spread evenly, and returns their bytes.
func fill(ctx context.Context, cfg kafka.Config, topic string, log *events.Log, o options) (bytes int64, err error) {
	if err := kafka.EnsureTopic(ctx, cfg, topic, o.partitions); err != nil {
		return 0, err
	}
	p, err := kafka.NewProducer(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	msgs := make([]kafka.Message, 0, fetchEvents)
	for sent, n := int64(0), 0; sent < o.events; n++ {
		f := log.Fetches[n%len(log.Fetches)]
		msgs = msgs[:0]
		now := time.Now().UnixMilli()
		for i := 0; i < len(f.Records) && sent < o.events; i++ {
			msgs = append(msgs, kafka.Message{Partition: int32(n % o.partitions), Value: f.Records[i].Value, TimestampMs: now})
			bytes += int64(len(f.Records[i].Value))
			sent++
		}
		if err := p.Produce(ctx, topic, msgs); err != nil {
			return 0, fmt.Errorf("fill topic %s: %w", topic, err)
		}
	}
	return bytes, nil
}

type caughtUp struct {
	ingest, catalog *program.Process // ended
	took            time.Duration
}

// run is one run: its catalog is new, so the table is new too, and begins with the topic's first offset.
func (o options) run(ctx context.Context, data string) (r caughtUp, err error) {
	listen, err := freeAddress(ctx)
	if err != nil {
		return r, err
	}
	env := []string{"FIRN_DATA=" + data, "FIRN_CATALOG_LISTEN=" + listen, "FIRN_HTTP_LISTEN=127.0.0.1:0"}
	if r.catalog, err = program.StartWith(ctx, env, o.firn, "catalog", "-c", o.config); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, r.catalog.Stop()) }()
	var cat *client.Client
	connect := func(ctx context.Context) (err error) {
		cat, err = client.New(ctx, client.Config{URI: "http://" + listen, Timeout: units.Duration(time.Minute)}, nil, nil)
		return err
	}
	if err := r.catalog.Await(ctx, startTimeout, connect); err != nil {
		return r, err
	}
	defer cat.Close()
	began := time.Now()
	if r.ingest, err = program.StartWith(ctx, env, o.firn, "ingest", "-c", o.config); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, r.ingest.Stop()) }()
	id, err := catalog.ParseIdentifier(o.table)
	if err != nil {
		return r, err
	}
	if err := o.wait(ctx, cat, id, r.ingest); err != nil {
		return r, err
	}
	r.took = time.Since(began)
	if err := r.ingest.Stop(); err != nil {
		return r, err
	}
	audit := exec.CommandContext(ctx, o.firn, "audit", o.table, "--kafka", "-c", o.config)
	audit.Env = append(os.Environ(), env...)
	if out, err := audit.CombinedOutput(); err != nil {
		return r, fmt.Errorf("firn audit: %w\n%s", err, out)
	}
	// The next run is not to find a disk that is full of this one.
	if err := cat.DropTable(ctx, id, true); err != nil {
		return r, err
	}
	return r, r.catalog.Stop()
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// wait returns when the table has all events.
func (o options) wait(ctx context.Context, cat catalog.Catalog, id catalog.Identifier, p *program.Process) error {
	var had int64
	moved := time.Now()
	for {
		if ended := p.Ended(); ended != nil {
			return ended
		}
		rows, err := rowsOf(ctx, cat, id)
		switch {
		case err != nil:
			return err
		case rows > o.events:
			return fmt.Errorf("%s has %d rows, %d events were written: the topic was not empty", id, rows, o.events)
		case rows == o.events:
			return nil
		case rows > had:
			had, moved = rows, time.Now()
		case time.Since(moved) > stallTimeout:
			return fmt.Errorf("%s stands at %d of %d rows for %s", id, rows, o.events, stallTimeout)
		}
		if err := sleep.For(ctx, pollInterval); err != nil {
			return err
		}
	}
}

func rowsOf(ctx context.Context, cat catalog.Catalog, id catalog.Identifier) (int64, error) {
	t, err := cat.LoadTable(ctx, id, catalog.LoadRefs)
	if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	head := t.Metadata.CurrentSnapshot()
	if head == nil {
		return 0, nil
	}
	return snapshot.Count(head, "total-records"), nil
}
