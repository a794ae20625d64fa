package compaction

import "github.com/prometheus/client_golang/prometheus"

// metrics of the compactor. Labels are bounded: class by errors.go, table by the catalog's tables with ledger columns.
type metrics struct {
	filesIn, filesOut, bytesIn, bytesOut, rows prometheus.Counter
	manifests, merges, manifestBytes           prometheus.Counter
	commits, conflicts                         prometheus.Counter
	expired, tags, orphans, orphanBytes        prometheus.Counter
	failures                                   *prometheus.CounterVec
	jobSeconds, commitSeconds, roundSeconds    prometheus.Histogram
	liveFiles, smallFiles, liveManifests       *prometheus.GaugeVec
	snapshots, quarantined, skipped            *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_compaction_" + name, Help: help})
		all = append(all, c)
		return c
	}
	seconds := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "firn_compaction_" + name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 18), NativeHistogramBucketFactor: 1.1})
		all = append(all, h)
		return h
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "firn_compaction_" + name, Help: help}, []string{"table"})
		all = append(all, g)
		return g
	}
	m := &metrics{
		filesIn:       counter("input_files_total", "Data files that committed rewrites replaced."),
		filesOut:      counter("output_files_total", "Data files that committed rewrites added."),
		bytesIn:       counter("input_bytes_total", "Bytes of the data files that committed rewrites replaced."),
		bytesOut:      counter("output_bytes_total", "Bytes of the data files that committed rewrites added: with ingest's bytes, the write amplification."),
		rows:          counter("rows_total", "Rows that committed rewrites moved."),
		manifests:     counter("merged_manifests_total", "Manifests that committed rewrites and merges replaced."),
		merges:        counter("manifest_merges_total", "Manifests that committed merges made of others whose entries stayed as they were."),
		manifestBytes: counter("manifest_bytes_total", "Bytes of the manifests that rewrites and merges wrote."),
		commits:       counter("commits_total", "Rewrites and merges of manifests committed."),
		conflicts:     counter("conflicts_total", "Attempts to commit that found another head."),
		expired:       counter("expired_snapshots_total", "Snapshots expired."),
		tags:          counter("snapshot_tags_total", "Tags set by the calendar on snapshots that leave the window."),
		orphans:       counter("deleted_files_total", "Files deleted because no snapshot names them."),
		orphanBytes:   counter("deleted_bytes_total", "Bytes of files deleted because no snapshot names them."),
		jobSeconds:    seconds("job_seconds", "One rewrite, from reading its inputs to its output stored."),
		commitSeconds: seconds("commit_seconds", "One commit with all its attempts."),
		roundSeconds:  seconds("round_seconds", "One round over all tables."),
		liveFiles:     gauge("live_files", "Data files of the head."),
		smallFiles:    gauge("small_files", "Data files of the head that are small enough to be merged."),
		liveManifests: gauge("live_manifests", "Manifests of the head."),
		snapshots:     gauge("snapshots", "Snapshots in the metadata, at the last expiry."),
		quarantined:   gauge("quarantined_files", "Data files left out because they cannot be read."),
		skipped:       gauge("skipped", "1 when the table is not rewritten: see the status for the reason."),
	}
	m.failures = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_compaction_failures_total", Help: "Failures, by kind of work and class of error."}, []string{"work", "class"})
	all = append(all, m.failures)
	if reg == nil {
		return m, nil
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) show(s TableStatus) {
	m.liveFiles.WithLabelValues(s.Table).Set(float64(s.LiveFiles))
	m.smallFiles.WithLabelValues(s.Table).Set(float64(s.SmallFiles))
	m.liveManifests.WithLabelValues(s.Table).Set(float64(s.Manifests))
	m.snapshots.WithLabelValues(s.Table).Set(float64(s.Snapshots))
	m.quarantined.WithLabelValues(s.Table).Set(float64(len(s.Quarantined)))
	skipped := 0.0
	if s.Skipped != "" {
		skipped = 1
	}
	m.skipped.WithLabelValues(s.Table).Set(skipped)
}

func (m *metrics) forget(table string) {
	for _, g := range []*prometheus.GaugeVec{m.liveFiles, m.smallFiles, m.liveManifests, m.snapshots, m.quarantined, m.skipped} {
		g.DeleteLabelValues(table)
	}
}
