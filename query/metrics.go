package query

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	statements    *prometheus.CounterVec // kind: sql, describe, scan; outcome: ok or an error class
	seconds       *prometheus.HistogramVec
	planSeconds   *prometheus.HistogramVec
	running       *prometheus.GaugeVec
	rows          *prometheus.CounterVec
	repins        prometheus.Counter
	waits         prometheus.Counter
	committedOnly *prometheus.CounterVec // reason: no_tail, fenced, expired, unreachable
	files         *prometheus.CounterVec // use: read, pruned
	cache         *prometheus.CounterVec // result: hit, miss
	cacheBytes    prometheus.Gauge
	downloaded    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "firn_query_" + name, Help: help}
	}
	histogram := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: "firn_query_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), NativeHistogramBucketFactor: 1.1}
	}
	m := &metrics{
		statements:    prometheus.NewCounterVec(counter("statements_total", "Statements and scans that ended, by kind and outcome."), []string{"kind", "outcome"}),
		seconds:       prometheus.NewHistogramVec(histogram("seconds", "From the start of a statement to its last row."), []string{"kind"}),
		planSeconds:   prometheus.NewHistogramVec(histogram("plan_seconds", "From the start of a statement until its first row may be asked for."), []string{"kind"}),
		running:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "firn_query_running_statements", Help: "Statements and scans that run now."}, []string{"kind"}),
		rows:          prometheus.NewCounterVec(counter("rows_total", "Rows given to clients."), []string{"kind"}),
		repins:        prometheus.NewCounter(counter("repins_total", "Times that a table was pinned again because its tail had moved on.")),
		waits:         prometheus.NewCounter(counter("wait_polls_total", "Times that a query looked whether the offsets it waits for are visible.")),
		committedOnly: prometheus.NewCounterVec(counter("committed_only_total", "Pins that were asked for hot rows and got none, by reason."), []string{"reason"}),
		files:         prometheus.NewCounterVec(counter("files_total", "Data files of pinned snapshots, read or pruned."), []string{"use"}),
		cache:         prometheus.NewCounterVec(counter("cache_requests_total", "Data files that were asked of the local cache."), []string{"result"}),
		cacheBytes:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "firn_query_cache_bytes", Help: "Data files held in the local cache."}),
		downloaded:    prometheus.NewCounter(counter("downloaded_bytes_total", "Bytes of data files that were fetched into the local cache.")),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.statements, m.seconds, m.planSeconds, m.running, m.rows, m.repins, m.waits, m.committedOnly, m.files, m.cache, m.cacheBytes, m.downloaded} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
