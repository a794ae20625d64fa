package probe

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Quantiles of the latencies that were measured, by the nearest rank: each is one that was measured.
type Quantiles struct {
	Count              int64
	P50, P95, P99, Max time.Duration
}

// MarshalJSON writes milliseconds; a quantile of nothing is null.
func (q Quantiles) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) *float64 {
		if q.Count == 0 {
			return nil
		}
		v := math.Round(float64(d)/1e3) / 1e3 // whole microseconds
		return &v
	}
	return json.Marshal(struct {
		Count int64    `json:"count"`
		P50   *float64 `json:"p50_ms"`
		P95   *float64 `json:"p95_ms"`
		P99   *float64 `json:"p99_ms"`
		Max   *float64 `json:"max_ms"`
	}{q.Count, ms(q.P50), ms(q.P95), ms(q.P99), ms(q.Max)})
}

// Level is what was measured at one level.
type Level struct {
	Level      string    `json:"level"`
	Quantiles  Quantiles `json:"latency"`
	Lost       int64     `json:"lost"`       // not there within the timeout
	Unfinished int64     `json:"unfinished"` // the probe was ended first
}

// Result of a probe.
type Result struct {
	Topic         string        `json:"topic"`
	Elapsed       time.Duration `json:"elapsed_ns"`
	Marks         int64         `json:"marks"`   // acknowledged
	Skipped       int64         `json:"skipped"` // not begun because too many were under way
	ProduceErrors int64         `json:"produce_errors"`
	ReadErrors    int64         `json:"read_errors"`
	LastError     string        `json:"last_error,omitempty"`
	Acked         Quantiles     `json:"acked"` // event to acknowledgement
	Levels        []Level       `json:"levels"`
}

// OK tells that marks were measured at every level and none was lost, refused or left out.
func (r Result) OK() bool {
	for _, l := range r.Levels {
		if l.Quantiles.Count == 0 || l.Lost > 0 {
			return false
		}
	}
	return len(r.Levels) > 0 && r.Skipped == 0 && r.ProduceErrors == 0
}

// String is a table for people.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d marks in %s over %s\n", r.Marks, r.Topic, r.Elapsed.Round(100*time.Millisecond))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "level\tmeasured\tp50\tp95\tp99\tmax\tlost\t")
	row := func(name string, q Quantiles, lost string) {
		f := func(d time.Duration) string {
			if q.Count == 0 {
				return "-"
			}
			return fmt.Sprintf("%.1f ms", float64(d)/1e6)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", name, q.Count, f(q.P50), f(q.P95), f(q.P99), f(q.Max), lost)
	}
	row("acknowledged", r.Acked, "")
	for _, l := range r.Levels {
		row(l.Level, l.Quantiles, fmt.Sprint(l.Lost))
	}
	_ = w.Flush() // a strings.Builder takes everything
	for _, x := range []struct {
		n    int64
		what string
	}{{r.Skipped, "marks not begun: too many were under way"}, {r.ProduceErrors, "marks not acknowledged"}, {r.ReadErrors, "questions that failed"}} {
		if x.n > 0 {
			fmt.Fprintf(&b, "%d %s\n", x.n, x.what)
		}
	}
	if r.LastError != "" {
		fmt.Fprintf(&b, "last error: %s\n", r.LastError)
	}
	return b.String()
}

// samples are the latencies of one level.
type samples struct {
	latencies        []time.Duration // at most maxSamples, the latest
	count            int64
	lost, unfinished int64
}

func (s *samples) add(d time.Duration) {
	if len(s.latencies) < maxSamples {
		s.latencies = append(s.latencies, d)
	} else {
		s.latencies[s.count%maxSamples] = d
	}
	s.count++
}

func (s *samples) quantiles() Quantiles {
	q := Quantiles{Count: s.count}
	if s.count == 0 {
		return q
	}
	sorted := slices.Sorted(slices.Values(s.latencies))
	rank := func(p float64) time.Duration { return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)] }
	q.P50, q.P95, q.P99, q.Max = rank(0.50), rank(0.95), rank(0.99), sorted[len(sorted)-1]
	return q
}

type metrics struct {
	freshness *prometheus.HistogramVec
	lost      *prometheus.CounterVec
	errors    *prometheus.CounterVec
	skipped   prometheus.Counter
}

// newMetrics registers the probe's series; reg may be nil. Every label value is there from the start, so that an alert
// on a level that never was visible sees a zero and not nothing.
func newMetrics(reg prometheus.Registerer, levels []string) *metrics {
	m := &metrics{
		freshness: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firn_probe_freshness_seconds",
			Help:    "Event to readable over a query, measured by marked events.",
			Buckets: prometheus.ExponentialBuckets(0.01, 1.6, 18), NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, []string{"level"}),
		lost:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_probe_lost_total", Help: "Marks that were not readable in time."}, []string{"level"}),
		errors:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_probe_errors_total", Help: "Marks that were not acknowledged and questions that failed."}, []string{"kind"}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_probe_skipped_total", Help: "Marks that were not begun because too many were under way."}),
	}
	for _, l := range levels {
		m.freshness.WithLabelValues(l)
		m.lost.WithLabelValues(l)
	}
	m.errors.WithLabelValues("produce")
	m.errors.WithLabelValues("read")
	if reg != nil {
		reg.MustRegister(m.freshness, m.lost, m.errors, m.skipped)
	}
	return m
}
