package publish

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the Prometheus series of the publishers, one set for all pipelines of a process.
type Metrics struct {
	published, failures, leftOut *prometheus.CounterVec
	behind                       *prometheus.GaugeVec
}

// NewMetrics registers the series; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"pipeline"})
	}
	m := &Metrics{
		published: counter("firn_publish_dead_letters_total", "Messages that the topic of dead letters has taken, those that came again included."),
		failures:  counter("firn_publish_failures_total", "Attempts to bring dead letters to their topic that failed and are made again."),
		leftOut:   counter("firn_publish_values_left_out_total", "Dead letters whose record was too large for the topic: the table alone has it."),
		behind: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "firn_publish_behind_seconds",
			Help: "For how long the oldest dead letter has not been in its topic, as of the last attempt; 0 when all are."}, []string{"pipeline"}),
	}
	if reg != nil {
		reg.MustRegister(m.published, m.failures, m.leftOut, m.behind)
	}
	return m
}
