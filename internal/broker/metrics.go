package broker

import "github.com/prometheus/client_golang/prometheus"

var (
	descLogBytes  = prometheus.NewDesc("firn_broker_log_bytes", "Disk that the embedded broker's log takes.", nil, nil)
	descHeldBytes = prometheus.NewDesc("firn_broker_held_bytes", "Log beyond retention_bytes that consumers still need or that cannot be cut.", nil, nil)
	descTrimmed   = prometheus.NewDesc("firn_broker_trimmed_bytes_total", "Log that retention deleted.", nil, nil)
	descFree      = prometheus.NewDesc("firn_broker_disk_free_bytes", "Free space where the log lies.", nil, nil)
	descRefusing  = prometheus.NewDesc("firn_broker_disk_low", "1 while producers are refused because the disk is nearly full.", nil, nil)
	descRefused   = prometheus.NewDesc("firn_broker_refused_requests_total", "Produce requests that were refused.", nil, nil)
	descOpen      = prometheus.NewDesc("firn_broker_open_connections", "Client connections.", nil, nil)
	descRejected  = prometheus.NewDesc("firn_broker_rejected_connections_total", "Connections that were over the limit or did not speak Kafka.", nil, nil)
)

var _ prometheus.Collector = (*Broker)(nil)

// Describe implements prometheus.Collector.
func (b *Broker) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(b, ch) }

// Collect implements prometheus.Collector.
func (b *Broker) Collect(ch chan<- prometheus.Metric) {
	low := 0.0
	if b.diskLow.Load() {
		low = 1
	}
	for _, m := range []struct {
		desc *prometheus.Desc
		kind prometheus.ValueType
		v    float64
	}{
		{descLogBytes, prometheus.GaugeValue, float64(b.logBytes.Load())},
		{descHeldBytes, prometheus.GaugeValue, float64(b.heldBytes.Load())},
		{descTrimmed, prometheus.CounterValue, float64(b.trimmed.Load())},
		{descFree, prometheus.GaugeValue, float64(b.freeBytes.Load())},
		{descRefusing, prometheus.GaugeValue, low},
		{descRefused, prometheus.CounterValue, float64(b.refused.Load())},
		{descOpen, prometheus.GaugeValue, float64(b.listener.open.Load())},
		{descRejected, prometheus.CounterValue, float64(b.listener.rejected.Load())},
	} {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.v)
	}
}
