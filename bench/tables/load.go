package tables

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/sleep"
)

const (
	// loadsPerSecond is how often each table gets events.
	loadsPerSecond = 10
	// payloads is how many different events there are.
	payloads = 4096
)

// load writes events into the topics until it is stopped.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	counts []int64
	errs   []error
}

func newLoad(o options, run string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, counts: make([]int64, o.tables), errs: make([]error, o.tables)}
	var values [][]byte
	for _, f := range events.New(o.Seed, payloads, payloads).Fetches {
		for i := range f.Records {
			values = append(values, f.Records[i].Value)
		}
	}
	begin := time.Now()
	for i := range o.tables {
		l.wg.Go(func() {
			// Spread over the tenth of a second, as producers that know nothing of one another are.
			first := begin.Add(time.Second / loadsPerSecond * time.Duration(i) / time.Duration(o.tables))
			l.errs[i] = l.feed(ctx, strings.Split(o.brokers, ","), topic(run, i), first, o.rate/loadsPerSecond, values, &l.counts[i])
		})
	}
	return l
}

// feed writes n events each time, the ones that it is late with at once.
func (l *load) feed(ctx context.Context, brokers []string, topic string, due time.Time, n int, values [][]byte, sent *int64) (err error) {
	p, err := source.NewProducer(source.Config{Brokers: brokers}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	msgs := make([]source.Message, n)
	for ; sleep.For(ctx, time.Until(due)) == nil; due = due.Add(time.Second / loadsPerSecond) {
		now := time.Now().UnixMilli()
		for k := range msgs {
			msgs[k] = source.Message{Partition: -1, Value: values[(int(*sent)+k)%len(values)], TimestampMs: now}
		}
		// Not under ctx: what was cut off could have been stored or not.
		if err := p.Produce(context.Background(), topic, msgs); err != nil {
			return fmt.Errorf("load of topic %s: %w", topic, err)
		}
		*sent += int64(n)
	}
	return nil
}

// stop ends the load; sent is known afterwards.
func (l *load) stop() error {
	l.once.Do(func() { l.cancel(); l.wg.Wait() })
	return errors.Join(l.errs...)
}

func (l *load) sent() []int64 { return l.counts }

// usage is what a process says of itself.
type usage struct{ cpu, rss, goroutines float64 }

func usageOf(ctx context.Context, addr string) (u usage, err error) {
	raw, err := get(ctx, addr, "/metrics")
	if err != nil {
		return u, err
	}
	wanted := map[string]*float64{"process_cpu_seconds_total": &u.cpu, "process_resident_memory_bytes": &u.rss, "go_goroutines": &u.goroutines}
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if to := wanted[name]; to != nil {
			if *to, err = strconv.ParseFloat(value, 64); err != nil {
				return u, fmt.Errorf("metric %s: %w", name, err)
			}
			delete(wanted, name)
		}
	}
	if len(wanted) > 0 {
		return u, fmt.Errorf("firn does not tell its CPU time, memory and goroutines on this system: %d of 3 are missing", len(wanted))
	}
	return u, nil
}

// maxAnswer bounds what is read of a page.
const maxAnswer = 64 << 20

func get(ctx context.Context, addr, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", path, res.Status, raw)
	}
	return raw, err
}
