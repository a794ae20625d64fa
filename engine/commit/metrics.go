package commit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Phases of a commit, in order.
const (
	phaseEncode   = "encode"
	phaseUpload   = "upload"
	phaseManifest = "manifest"
	phaseCatalog  = "catalog"
)

// Metrics are the committers' Prometheus series, one set for all pipelines of a process.
type Metrics struct {
	seconds   *prometheus.HistogramVec
	outcomes  *prometheus.CounterVec
	files     *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	recovered *prometheus.CounterVec
	sticky    *prometheus.CounterVec
	schema    *prometheus.CounterVec
	ahead     *prometheus.CounterVec
}

// NewMetrics registers the series; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"pipeline"}, labels...))
	}
	m := &Metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firn_commit_phase_seconds",
			Help:    "Time of one batch in each phase of its commit: encode, upload, manifest, catalog.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, []string{"pipeline", "phase"}),
		outcomes:  counter("firn_commit_attempts_total", "Requests to commit, by outcome: committed, conflict, unknown, unavailable, gone, fatal.", "outcome"),
		files:     counter("firn_commit_files_total", "Data files written, by table: rows or dead_letters.", "table"),
		bytes:     counter("firn_commit_file_bytes_total", "Bytes of the data files written, by table.", "table"),
		recovered: counter("firn_commit_recoveries_total", "Recoveries of the offsets from the table, by the step that answered; stopped when none did.", "step"),
		sticky:    counter("firn_commit_sticky_total", "Records that were in the dead-letter table already when they came again, and were left out."),
		schema:    counter("firn_commit_schema_changes_total", "Changes of the table's schema that a commit made for rows that needed them: add, widen.", "change"),
	}
	m.ahead = counter("firn_commit_ahead_rows_total", "Rows that were encoded while their batch was still being filled.")
	if reg != nil {
		reg.MustRegister(m.seconds, m.outcomes, m.files, m.bytes, m.recovered, m.sticky, m.schema, m.ahead)
	}
	return m
}

func (m *Metrics) phase(pipeline, phase string, d time.Duration) {
	m.seconds.WithLabelValues(pipeline, phase).Observe(d.Seconds())
}
