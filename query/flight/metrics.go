package flight

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics of the service. Labels are bounded: methods of the Flight service and gRPC codes.
type metrics struct {
	reg      prometheus.Registerer
	all      []prometheus.Collector
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	rows     *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	streams  prometheus.Gauge
	watches  prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reg: reg,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firn_flight_requests_total", Help: "Calls that ended, by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "firn_flight_request_seconds", Help: "Time from the start of a call to its end, streams included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10), NativeHistogramBucketFactor: 1.1,
			NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"method"}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firn_flight_sent_rows_total", Help: "Rows sent to clients, by kind of stream.",
		}, []string{"stream"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firn_flight_sent_bytes_total", Help: "Bytes of Arrow messages sent to clients, by kind of stream.",
		}, []string{"stream"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "firn_flight_active_streams", Help: "Queries, scans and tails that are being sent now.",
		}),
		watches: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "firn_flight_active_watches", Help: "Watches of tables that run now.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firn_flight_panics_total", Help: "Calls that ended in a panic of the server; each is a bug.",
		}),
	}
	m.all = []prometheus.Collector{m.requests, m.seconds, m.rows, m.bytes, m.streams, m.watches, m.panics}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			for _, done := range m.all[:i] {
				reg.Unregister(done)
			}
			var twice prometheus.AlreadyRegisteredError
			if errors.As(err, &twice) {
				return nil, fmt.Errorf("flight: two servers on one registry: give each its own prefix or labels: %w", err)
			}
			return nil, fmt.Errorf("flight: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

// refused counts a call that never reached its handler.
func (m *metrics) refused(method string, code codes.Code) {
	m.requests.WithLabelValues(method, code.String()).Inc()
}

func (m *metrics) done(method string, code codes.Code, took time.Duration) {
	m.requests.WithLabelValues(method, code.String()).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}

// methodName is the bare method of a full gRPC name, "other" for what is not Flight's.
func methodName(full string) string {
	name, ok := strings.CutPrefix(full, "/arrow.flight.protocol.FlightService/")
	if !ok {
		return "other"
	}
	switch name {
	case "Handshake", "ListFlights", "GetFlightInfo", "PollFlightInfo", "GetSchema", "DoGet", "DoPut", "DoExchange", "DoAction", "ListActions":
		return name
	}
	return "other"
}
