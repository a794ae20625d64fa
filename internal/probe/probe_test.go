package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lake is a producer and a reader whose records become visible after a delay that a test chooses.
type lake struct {
	ack     time.Duration
	query   time.Duration
	delay   func(level string, n int) time.Duration // of the n-th record; negative is never
	refuse  func(n int) error
	failing func(level string) error

	mu      sync.Mutex
	written []time.Time
	ids     map[string]bool
	reading map[string]int
	most    map[string]int // reads at a time
	asked   int
}

func (l *lake) ProduceOne(ctx context.Context, topic string, _, value []byte) (int32, int64, error) {
	began := time.Now()
	if err := wait(ctx, l.ack); err != nil {
		return 0, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.written)
	if l.ids == nil {
		l.ids = map[string]bool{}
	}
	if topic != "events" || l.ids[string(value)] || !strings.HasPrefix(string(value), "probe-") {
		return 0, 0, fmt.Errorf("topic %s, value %s", topic, value)
	}
	l.ids[string(value)] = true
	l.written = append(l.written, began)
	if l.refuse != nil {
		if err := l.refuse(n); err != nil {
			return 0, 0, err
		}
	}
	return int32(n % 3), int64(n), nil
}

func (l *lake) Visible(ctx context.Context, level string, partition int32, offset int64) (bool, error) {
	l.enter(level, 1)
	defer l.enter(level, -1)
	if err := wait(ctx, l.query); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.failing != nil {
		if err := l.failing(level); err != nil {
			return false, err
		}
	}
	if partition != int32(offset%3) {
		return false, errors.New("no such place")
	}
	d := l.delay(level, int(offset))
	return d >= 0 && time.Since(l.written[offset]) >= d, nil
}

func (l *lake) enter(level string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading == nil {
		l.reading, l.most = map[string]int{}, map[string]int{}
	}
	l.reading[level] += n
	l.most[level] = max(l.most[level], l.reading[level])
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func event(id string, _ time.Time) (key, value []byte) { return nil, []byte(id) }

func config() Config { return Config{Topic: "events", Event: event, Duration: 10 * time.Second} }

// series renders the counters, or the counts of the histograms, of one name.
func series(t *testing.T, reg *prometheus.Registry, name string) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			v := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			out = append(out, fmt.Sprintf("%s{%s=%q} %g", name, m.GetLabel()[0].GetName(), m.GetLabel()[0].GetValue(), v))
		}
	}
	return strings.Join(out, " ")
}

func levelOf(t *testing.T, r Result, name string) Level {
	t.Helper()
	for _, l := range r.Levels {
		if l.Level == name {
			return l
		}
	}
	t.Fatalf("no level %s in %+v", name, r)
	return Level{}
}

func TestLatencyIsFromEventToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lake{ack: 5 * time.Millisecond, query: 2 * time.Millisecond, delay: func(level string, n int) time.Duration {
			if level == LevelHot {
				return time.Duration(n+1) * 100 * time.Millisecond // 100 ms … 1 s
			}
			return 2500 * time.Millisecond // three marks overlap
		}}
		reg := prometheus.NewPedanticRegistry()
		cfg := config()
		var told int
		cfg.OnMark = func(Mark) { told++ }
		r, err := Run(t.Context(), cfg, l, l, reg)
		if err != nil || !r.OK() || r.Marks != 10 || told != 20 {
			t.Fatalf("%+v, told of %d: %v", r, told, err)
		}
		// An answer is late by at most a poll interval and a query.
		const slack = 20 * time.Millisecond
		near := func(what string, got, want time.Duration) {
			t.Helper()
			if got < want || got > want+slack {
				t.Errorf("%s: %v, want %v to %v", what, got, want, want+slack)
			}
		}
		hot, com := levelOf(t, r, LevelHot), levelOf(t, r, LevelCommitted)
		near("hot p50", hot.Quantiles.P50, 500*time.Millisecond)
		near("hot p95", hot.Quantiles.P95, time.Second)
		near("hot max", hot.Quantiles.Max, time.Second)
		near("committed p50", com.Quantiles.P50, 2500*time.Millisecond)
		near("committed p99", com.Quantiles.P99, 2500*time.Millisecond)
		if r.Acked.Count != 10 || r.Acked.Max != 5*time.Millisecond {
			t.Errorf("acknowledged: %+v", r.Acked)
		}
		near("elapsed", r.Elapsed, 9*time.Second+2500*time.Millisecond)
		want := `firn_probe_freshness_seconds{level="committed"} 10 firn_probe_freshness_seconds{level="hot"} 10`
		if got := series(t, reg, "firn_probe_freshness_seconds"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestLostMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lake{delay: func(level string, n int) time.Duration {
			if level == LevelCommitted && n%2 == 1 {
				return -1
			}
			return 0
		}}
		cfg := config()
		cfg.Timeout = 3 * time.Second
		reg := prometheus.NewPedanticRegistry()
		r, err := Run(t.Context(), cfg, l, l, reg)
		com := levelOf(t, r, LevelCommitted)
		if err != nil || r.OK() || r.Marks != 10 || com.Lost != 5 || com.Quantiles.Count != 5 || levelOf(t, r, LevelHot).Lost != 0 {
			t.Errorf("%+v: %v", r, err)
		}
		if want := 12 * time.Second; r.Elapsed != want {
			t.Errorf("took %v, want %v: the last mark's timeout", r.Elapsed, want)
		}
		want := `firn_probe_lost_total{level="committed"} 5 firn_probe_lost_total{level="hot"} 0`
		if got := series(t, reg, "firn_probe_lost_total"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestErrorsAreCountedAndOutlived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := &lake{
			delay:  func(string, int) time.Duration { return 0 },
			refuse: func(n int) error { return map[bool]error{true: errors.New("no leader")}[n < 2] },
			failing: func(level string) error {
				return map[bool]error{true: errors.New("connection refused")}[level == LevelHot && time.Since(began) < 5*time.Second]
			},
		}
		r, err := Run(t.Context(), config(), l, l, nil)
		hot := levelOf(t, r, LevelHot)
		if err != nil || r.OK() || r.ProduceErrors != 2 || r.Marks != 8 || hot.Quantiles.Count != 8 || hot.Lost != 0 {
			t.Errorf("%+v: %v", r, err)
		}
		if r.ReadErrors < 3 || r.ReadErrors > 60 || r.LastError != "hot: connection refused" {
			t.Errorf("%d read errors, the last %q", r.ReadErrors, r.LastError)
		}
		if hot.Quantiles.Max < 3*time.Second {
			t.Errorf("a mark of 2 s that became visible at 5 s took %v", hot.Quantiles.Max)
		}
	})
}

// A lake that shows nothing does not make the probe grow: marks and questions are bounded, and what was left out counts.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lake{query: 40 * time.Millisecond, delay: func(string, int) time.Duration { return -1 }}
		cfg := config()
		cfg.Interval, cfg.MaxInFlight, cfg.MaxReads, cfg.Timeout = 100*time.Millisecond, 5, 2, 4*time.Second
		r, err := Run(t.Context(), cfg, l, l, nil)
		if err != nil || r.OK() || r.Marks+r.Skipped != 100 || r.Skipped < 50 {
			t.Errorf("%+v: %v", r, err)
		}
		for level, n := range l.most {
			if n > 2 {
				t.Errorf("%d questions at a time at %s", n, level)
			}
		}
		if len(l.written) > 15+1 {
			t.Errorf("%d marks with 5 under way for 4 s each in 10 s", len(l.written))
		}
	})
}

func TestAnEndlessProbeEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		l := &lake{delay: func(level string, _ int) time.Duration {
			return map[string]time.Duration{LevelCommitted: 2 * time.Second}[level]
		}}
		cfg := config()
		cfg.Duration = 0
		r, err := Run(ctx, cfg, l, l, nil)
		com := levelOf(t, r, LevelCommitted)
		if err != nil || !r.OK() || r.Marks != 5 || com.Quantiles.Count != 3 || com.Unfinished != 2 || com.Lost != 0 || r.ReadErrors != 0 {
			t.Errorf("%+v: %v", r, err)
		}
	})
}

func TestResultForms(t *testing.T) {
	r := Result{Topic: "user_events", Elapsed: time.Minute, Marks: 60, Skipped: 2, ReadErrors: 1, LastError: "hot: gone",
		Acked: Quantiles{60, 2 * time.Millisecond, 3 * time.Millisecond, 4 * time.Millisecond, 5 * time.Millisecond},
		Levels: []Level{{Level: "hot", Quantiles: Quantiles{60, 210 * time.Millisecond, 350 * time.Millisecond, 402500 * time.Microsecond, 500 * time.Millisecond}},
			{Level: "committed", Lost: 3}}}
	const table = `60 marks in user_events over 1m0s
         level  measured       p50       p95       p99       max  lost
  acknowledged        60    2.0 ms    3.0 ms    4.0 ms    5.0 ms      
           hot        60  210.0 ms  350.0 ms  402.5 ms  500.0 ms     0
     committed         0         -         -         -         -     3
2 marks not begun: too many were under way
1 questions that failed
last error: hot: gone
`
	if got := r.String(); got != table {
		t.Errorf("got\n%s\nwant\n%s", got, table)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const doc = `{"topic":"user_events","elapsed_ns":60000000000,"marks":60,"skipped":2,"produce_errors":0,"read_errors":1,"last_error":"hot: gone",` +
		`"acked":{"count":60,"p50_ms":2,"p95_ms":3,"p99_ms":4,"max_ms":5},"levels":[` +
		`{"level":"hot","latency":{"count":60,"p50_ms":210,"p95_ms":350,"p99_ms":402.5,"max_ms":500},"lost":0,"unfinished":0},` +
		`{"level":"committed","latency":{"count":0,"p50_ms":null,"p95_ms":null,"p99_ms":null,"max_ms":null},"lost":3,"unfinished":0}]}`
	if string(raw) != doc {
		t.Errorf("got\n%s\nwant\n%s", raw, doc)
	}
}

// At least a share q of the samples is at or below its quantile, and fewer are below it.
func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Int64Range(0, 50), 1, 300).Draw(t, "samples")
		var s samples
		for _, v := range in {
			s.add(time.Duration(v))
		}
		got := s.quantiles()
		for q, v := range map[float64]time.Duration{0.5: got.P50, 0.95: got.P95, 0.99: got.P99, 1: got.Max} {
			var below, atMost int
			for _, x := range in {
				if time.Duration(x) < v {
					below++
				}
				if time.Duration(x) <= v {
					atMost++
				}
			}
			if n := float64(len(in)); float64(atMost) < q*n-1e-9 || float64(below) >= q*n+1e-9 {
				t.Fatalf("quantile %v of %d is %d: %d below, %d at most", q, len(in), v, below, atMost)
			}
		}
	})
	var s samples
	for i := range maxSamples + 10 {
		s.add(time.Duration(i))
	}
	if q := s.quantiles(); len(s.latencies) != maxSamples || q.Count != maxSamples+10 || q.Max != maxSamples+9 {
		t.Errorf("%d kept, %+v", len(s.latencies), q)
	}
}

func TestConfig(t *testing.T) {
	good := config().WithDefaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"level: \"warm\"": func(c *Config) { c.Levels = []string{"warm"} },
		"named twice":     func(c *Config) { c.Levels = []string{LevelHot, LevelHot} },
		"topic: ":         func(c *Config) { c.Topic = "" },
		"event: ":         func(c *Config) { c.Event = nil },
		"interval: ":      func(c *Config) { c.Interval = 1 },
		"duration: ":      func(c *Config) { c.Duration = -1 },
		"timeout: ":       func(c *Config) { c.Timeout = 1 },
		"poll_interval: ": func(c *Config) { c.PollInterval = 1 },
		"max_in_flight: ": func(c *Config) { c.MaxInFlight = -1 },
		"max_reads: ":     func(c *Config) { c.MaxReads = -1 },
	} {
		c := good
		change(&c)
		if _, err := Run(t.Context(), c, nil, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
