package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/internal/arrowmem"
)

// spareArrow is how many bytes of memory for batches, outside of Go's heap, wait for the next ones when they are free.
const spareArrow = 32 << 20

// arrowGauges show a pool.
func arrowGauges(p *arrowmem.Pool) []prometheus.Collector {
	gauge := func(state string, of func(arrowmem.Stats) int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "firn_arrow_bytes", ConstLabels: prometheus.Labels{"state": state},
			Help: "Memory of decoded batches outside of Go's heap: used by at least one, or spare for the next.",
		}, func() float64 { return float64(of(p.Stats())) })
	}
	return []prometheus.Collector{
		gauge("used", func(s arrowmem.Stats) int64 { return s.Used }),
		gauge("spare", func(s arrowmem.Stats) int64 { return s.Spare }),
	}
}

// collector shows the pipelines' status as gauges, read when they are asked for.
type collector struct {
	p                                               *Process
	state, lag, lagSeconds, pending, pendingSeconds *prometheus.Desc
	tailBytes, commitAge                            *prometheus.Desc
}

func newCollector(p *Process) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"pipeline"}, labels...), nil)
	}
	return &collector{p: p,
		state:          d("firn_pipeline_state", "1 at the word that the pipeline is in, 0 at the others.", "state"),
		lag:            d("firn_pipeline_lag_records", "Records between what was consumed and the log's stable end; absent until the broker has said."),
		lagSeconds:     d("firn_pipeline_lag_seconds", "Age of the newest decoded stretch while records wait in the log; 0 when none do."),
		pending:        d("firn_pipeline_pending_rows", "Rows and dead letters decoded and not yet committed."),
		pendingSeconds: d("firn_pipeline_pending_seconds", "Age of the batch being filled."),
		tailBytes:      d("firn_pipeline_tail_bytes", "Arrow bytes held for fresh queries."),
		commitAge:      d("firn_pipeline_last_commit_age_seconds", "Time since the last snapshot of this process; absent before the first."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.state, c.lag, c.lagSeconds, c.pending, c.pendingSeconds, c.tailBytes, c.commitAge} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.p.Status().Pipelines {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
		}
		for _, w := range states {
			v := 0.0
			if w == s.Verdict.State {
				v = 1
			}
			gauge(c.state, v, string(w))
		}
		if s.LagRecords >= 0 {
			gauge(c.lag, float64(s.LagRecords))
			gauge(c.lagSeconds, s.LagSeconds)
		}
		gauge(c.pending, float64(s.PendingRows))
		gauge(c.pendingSeconds, s.PendingSeconds)
		gauge(c.tailBytes, float64(s.TailBytes))
		if !s.LastCommit.IsZero() {
			gauge(c.commitAge, time.Since(s.LastCommit).Seconds())
		}
	}
}
