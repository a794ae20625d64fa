package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the engine's Prometheus series, one set for all pipelines of a process.
type Metrics struct {
	rows, dead, skipped, bytes *prometheus.CounterVec
	filtered, duplicates       *prometheus.CounterVec
	commits, failures, ended   *prometheus.CounterVec
	unrouted                   *prometheus.CounterVec
	gaps, gapOffsets           *prometheus.CounterVec
	events, complete, broken   *prometheus.CounterVec
	freshness, commitSeconds   *prometheus.HistogramVec
	batchAge, batchRows        *prometheus.HistogramVec
}

// NewMetrics registers the engine's series; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"pipeline"}, labels...))
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, append([]string{"pipeline"}, labels...))
	}
	seconds := prometheus.ExponentialBuckets(0.005, 2, 14)
	m := &Metrics{
		rows:    counter("firn_engine_rows_total", "Rows decoded."),
		dead:    counter("firn_engine_dead_letters_total", "Records that gave no row, by reason.", "reason"),
		skipped: counter("firn_engine_skipped_offsets_total", "Offsets without a record: control, aborted or compacted away."),
		filtered: counter("firn_engine_filtered_total",
			"Records that the pipeline's filter kept out, and tombstones of an envelope: neither rows nor dead letters."),
		unrouted: counter("firn_engine_unrouted_total",
			"Records that no route takes (unrouted: drop), counted by the first route's pipeline alone; they are among the filtered of each."),
		duplicates: counter("firn_engine_duplicates_total",
			"Records that deduplication dropped, because the event is a row already: neither rows nor dead letters."),
		bytes:   counter("firn_engine_payload_bytes_total", "Payload bytes decoded."),
		commits: counter("firn_engine_commits_total", "Batches that were committed."),
		failures: counter("firn_engine_commit_failures_total",
			"Attempts to commit a batch that failed and are tried again."),
		ended:      counter("firn_engine_restarts_total", "Times that a pipeline started over from the table, by cause.", "cause"),
		gaps:       counter("firn_ingest_gaps_total", "Gaps that were noted and jumped over, because Kafka no longer held the offsets (on_gap: record)."),
		gapOffsets: counter("firn_ingest_gap_offsets_total", "Offsets in these gaps: they were never read."),
		events:     counter("firn_engine_events_total", "Events decoded: rows and dead letters, before a transform."),
		complete:   counter("firn_engine_complete_events_total", "Events with nothing missing of what the contract wants; the share of firn_engine_events_total is the SLI of completeness."),
		broken:     counter("firn_engine_contract_violations_total", "Rules of the contract that events broke, and what was done: dead_letter, null, keep_and_flag.", "column", "rule", "action"),
		freshness: histogram("firn_engine_freshness_seconds",
			"Kafka time to queryable, of the oldest row: hot when decoded into the tail, committed when in a snapshot.", seconds, "level"),
		commitSeconds: histogram("firn_engine_commit_seconds", "One batch from cut to committed.", seconds),
		batchAge:      histogram("firn_engine_batch_age_seconds", "First stretch of a batch to its commit.", seconds),
		batchRows:     histogram("firn_engine_batch_rows", "Rows of a batch.", prometheus.ExponentialBuckets(1, 8, 8)),
	}
	if reg != nil {
		reg.MustRegister(m.rows, m.dead, m.skipped, m.filtered, m.unrouted, m.duplicates, m.bytes, m.commits, m.failures, m.ended, m.gaps, m.gapOffsets, m.events, m.complete, m.broken, m.freshness, m.commitSeconds, m.batchAge, m.batchRows)
	}
	return m
}

func (m *Metrics) decoded(pipeline string, rows int64, d Decoded) {
	m.rows.WithLabelValues(pipeline).Add(float64(rows))
	m.bytes.WithLabelValues(pipeline).Add(float64(d.Bytes))
	m.skipped.WithLabelValues(pipeline).Add(float64(d.Skipped))
	m.events.WithLabelValues(pipeline).Add(float64(d.Events))
	m.complete.WithLabelValues(pipeline).Add(float64(d.Complete))
	for _, v := range d.Violations {
		m.broken.WithLabelValues(pipeline, v.Column, v.Rule, v.Action).Add(float64(v.Count))
	}
	m.filtered.WithLabelValues(pipeline).Add(float64(len(d.Filtered)))
	m.unrouted.WithLabelValues(pipeline).Add(float64(d.Unrouted))
	m.duplicates.WithLabelValues(pipeline).Add(float64(len(d.Duplicates)))
	for _, dl := range d.Dead {
		m.dead.WithLabelValues(pipeline, dl.Reason).Inc()
	}
}

func (m *Metrics) committed(pipeline string, b *Batch, c Committed, now, began time.Time) {
	m.commits.WithLabelValues(pipeline).Inc()
	if c.SnapshotID == 0 {
		return
	}
	m.commitSeconds.WithLabelValues(pipeline).Observe(now.Sub(began).Seconds())
	m.batchAge.WithLabelValues(pipeline).Observe(now.Sub(b.Opened).Seconds())
	m.batchRows.WithLabelValues(pipeline).Observe(float64(b.RowCount))
	if !b.MinKafka.IsZero() {
		m.freshness.WithLabelValues(pipeline, "committed").Observe(max(now.Sub(b.MinKafka).Seconds(), 0))
	}
}

func (m *Metrics) commitFailed(pipeline string) { m.failures.WithLabelValues(pipeline).Inc() }
func (m *Metrics) generationEnded(pipeline, cause string) {
	m.ended.WithLabelValues(pipeline, cause).Inc()
}

func (m *Metrics) gapNoted(pipeline string, g Gap) {
	m.gaps.WithLabelValues(pipeline).Inc()
	m.gapOffsets.WithLabelValues(pipeline).Add(float64(g.Missing()))
}
