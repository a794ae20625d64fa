package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog/internal/scan"
	"github.com/firnlake/firn/catalog/sqlstore"
)

// metrics of the catalog. Labels are bounded: route is the name of an endpoint, code an HTTP status.
type metrics struct {
	requests         *prometheus.CounterVec
	requestSeconds   *prometheus.HistogramVec
	commitSeconds    prometheus.Histogram
	commits          prometheus.Counter
	conflicts        prometheus.Counter
	stale            prometheus.Counter
	materialized     prometheus.Counter
	materializedSize prometheus.Counter
	materializeFails prometheus.Counter
	audited          *prometheus.CounterVec
	auditLost        prometheus.Counter
	lent             *prometheus.CounterVec
	planManifests    *prometheus.CounterVec
	planFiles        *prometheus.CounterVec
	vetted           *prometheus.CounterVec
	vetSeconds       prometheus.Histogram
	asOfSeconds      *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, store *sqlstore.Store) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_catalog_requests_total",
			Help: "Requests by endpoint and HTTP status."}, []string{"route", "code"}),
		requestSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firn_catalog_request_seconds",
			Help: "Time to answer, by endpoint.", NativeHistogramBucketFactor: 1.1, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"route"}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "firn_catalog_commit_seconds",
			Help: "Time of a commit until it was durable, without the metadata file.", NativeHistogramBucketFactor: 1.1, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		commits: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_commits_total",
			Help: "Commits that took effect."}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_conflicts_total",
			Help: "Commits refused because a requirement did not hold."}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_stale_retries_total",
			Help: "Commits evaluated again because another process had moved the table."}),
		materialized: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_materializations_total",
			Help: "Metadata files written."}),
		materializedSize: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_materialized_bytes_total",
			Help: "Bytes of metadata files written."}),
		materializeFails: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_materialization_failures_total",
			Help: "Metadata files that could not be written."}),
		audited: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_catalog_audit_entries_total",
			Help: "Entries of the audit trail by outcome: done, refused, failed."}, []string{"outcome"}),
		auditLost: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_audit_lost_total",
			Help: "Audit entries that the sink did not keep; the log has them."}),
	}
	m.lent = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_catalog_storage_grants_total",
		Help: "Access to a table's files: temporary keys (keys) and signed requests (signature), by outcome: given, refused, failed."}, []string{"kind", "outcome"})
	m.vetted = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_catalog_manifest_checks_total",
		Help: "Commits whose new manifests were looked into, by outcome: passed, refused, failed."}, []string{"outcome"})
	m.vetSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "firn_catalog_manifest_check_seconds",
		Help: "Time to look into the new manifests of a commit.", NativeHistogramBucketFactor: 1.1, Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14)})
	m.asOfSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firn_catalog_as_of_seconds",
		Help:                        "Time to load a table as of a time, by outcome: found with its files written before, made, refused, failed.",
		NativeHistogramBucketFactor: 1.1, Buckets: prometheus.ExponentialBuckets(0.001, 2, 18)}, []string{"outcome"})
	m.planManifests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_catalog_plan_manifests_total",
		Help: "Manifests that planning a scan came upon, by outcome: skipped by their summary, read, or cached."}, []string{"outcome"})
	m.planFiles = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_catalog_plan_files_total",
		Help: "Data files that planning a scan came upon, by outcome: skipped by partition or column metrics, or planned."}, []string{"outcome"})
	if reg == nil {
		return m, nil
	}
	db := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "firn_catalog_db_bytes",
		Help: "Size of the catalog's database with its log."}, func() float64 { return float64(store.Bytes()) })
	statements := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "firn_catalog_db_statements_total",
		Help: "Statements sent to the catalog's database, with those that begin and end transactions; on Postgres each is a round trip, and what commits of several tables share counts once."},
		func() float64 { return float64(store.Statements()) })
	for _, c := range []prometheus.Collector{m.requests, m.requestSeconds, m.commitSeconds, m.commits, m.conflicts,
		m.stale, m.materialized, m.materializedSize, m.materializeFails, m.audited, m.auditLost, m.lent, m.planManifests, m.planFiles, m.vetted, m.vetSeconds, m.asOfSeconds, db, statements} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) countPlan(c scan.Counts) {
	m.planManifests.WithLabelValues("skipped").Add(float64(c.ManifestsSkipped))
	m.planManifests.WithLabelValues("read").Add(float64(c.ManifestsRead))
	m.planManifests.WithLabelValues("cached").Add(float64(c.ManifestsCached))
	m.planFiles.WithLabelValues("skipped").Add(float64(c.FilesSkipped))
	m.planFiles.WithLabelValues("planned").Add(float64(c.FilesPlanned))
}
