package dedup

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the Prometheus series of deduplication, one set for all pipelines of a process. How many events were dropped is the
// engine's to count: firn_engine_duplicates_total.
type Metrics struct {
	ids, bytes       *prometheus.GaugeVec
	forgotten, loads *prometheus.CounterVec
	unread           *prometheus.CounterVec
}

// NewMetrics registers the series; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"pipeline"})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"pipeline"})
	}
	m := &Metrics{
		ids:       gauge("firn_dedup_held_ids", "Ids of the deduplication window that are in memory."),
		bytes:     gauge("firn_dedup_held_bytes", "Memory of these ids."),
		forgotten: counter("firn_dedup_forgotten_ids_total", "Ids that were forgotten although their window had not passed, because of dedup.max_ids: events with them become rows again."),
		unread:    counter("firn_dedup_unread_stretches_total", "Stretches of time, near the timestamps of what was decoded, that were not read back from the table, because the timestamps leap too much: events there are held against memory alone."),
		loads:     counter("firn_dedup_read_ids_total", "Ids that were read back from the table."),
	}
	if reg != nil {
		reg.MustRegister(m.ids, m.bytes, m.forgotten, m.loads, m.unread)
	}
	return m
}

func (m *Metrics) held(pipeline string, w *window) {
	m.ids.WithLabelValues(pipeline).Set(float64(w.n))
	m.bytes.WithLabelValues(pipeline).Set(float64(w.bytes()))
}
