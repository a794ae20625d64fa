package client

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the client. Labels are bounded: op is the name of a request, outcome one word of errors.go.
type metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	failovers prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firn_catalog_client_requests_total",
			Help: "Requests to the catalog by what they asked and how they ended."}, []string{"op", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firn_catalog_client_request_seconds",
			Help: "Time until the catalog had answered.", NativeHistogramBucketFactor: 1.1, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}, []string{"op"}),
		failovers: prometheus.NewCounter(prometheus.CounterOpts{Name: "firn_catalog_client_failovers_total",
			Help: "Times that the catalog failed at one of its addresses and the next one's turn began."}),
	}
	if reg == nil {
		return m, nil
	}
	var err error
	if m.requests, err = register(reg, m.requests); err != nil {
		return nil, err
	}
	if m.seconds, err = register(reg, m.seconds); err != nil {
		return nil, err
	}
	m.failovers, err = register(reg, m.failovers)
	return m, err
}

// register lets the clients of one process share their metrics.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	var have prometheus.AlreadyRegisteredError
	if errors.As(err, &have) {
		if old, ok := have.ExistingCollector.(C); ok {
			return old, nil
		}
	}
	return c, err
}

func (m *metrics) observe(op string, err error, took time.Duration) {
	m.requests.WithLabelValues(op, outcome(err)).Inc()
	m.seconds.WithLabelValues(op).Observe(took.Seconds())
}
