package source

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxPartitionSeries bounds the partitions of a topic that get series of their own; the topic's sum has all of them.
const maxPartitionSeries = 256

// Classes of errors in firn_source_errors_total.
const (
	classMetadata = "metadata" // the topic's layout could not be read
	classFetch    = "fetch"    // no answer from a leader
	classMoved    = "moved"    // the leader moved, or is not elected
	classBroker   = "broker"   // any other error code of a partition
	classCorrupt  = "corrupt"  // damaged or unreadable record batch
	classFinal    = "final"    // ended the reading until the next start
)

// Metrics are the Prometheus series of all sources of a process.
type Metrics struct {
	requests, bytes, payload, records, control, aborted, refreshes *prometheus.CounterVec
	errors                                                         *prometheus.CounterVec
	seconds                                                        *prometheus.HistogramVec
	bounds                                                         *boundsCollector
}

// NewMetrics registers the series; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"topic"}, labels...))
	}
	m := &Metrics{
		requests:  counter("firn_source_fetch_requests_total", "Fetch requests that a broker answered."),
		bytes:     counter("firn_source_fetch_bytes_total", "Bytes of fetch responses, compressed as they came."),
		payload:   counter("firn_source_payload_bytes_total", "Bytes of keys, values and headers that were read."),
		records:   counter("firn_source_records_total", "Records that were read."),
		control:   counter("firn_source_control_offsets_total", "Offsets of transaction markers, which hold no record."),
		aborted:   counter("firn_source_aborted_offsets_total", "Offsets of aborted transactions, which are not read."),
		refreshes: counter("firn_source_metadata_refreshes_total", "Times that the topic's layout was asked for."),
		errors:    counter("firn_source_errors_total", "Failures of fetching, by class; all but final are retried.", "class"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firn_source_fetch_seconds",
			Help: "Time of a fetch request, the wait for new data included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, []string{"topic"}),
		bounds: newBoundsCollector(),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.bytes, m.payload, m.records, m.control, m.aborted, m.refreshes, m.errors, m.seconds, m.bounds)
	}
	return m
}

// topicMetrics are the series of one source, looked up once.
type topicMetrics struct {
	m                                                              *Metrics
	topic                                                          string
	requests, bytes, payload, records, control, aborted, refreshes prometheus.Counter
	seconds                                                        prometheus.Observer
}

func (m *Metrics) of(topic string) topicMetrics {
	get := func(v *prometheus.CounterVec) prometheus.Counter { return v.WithLabelValues(topic) }
	return topicMetrics{m: m, topic: topic, requests: get(m.requests), bytes: get(m.bytes), payload: get(m.payload), records: get(m.records),
		control: get(m.control), aborted: get(m.aborted), refreshes: get(m.refreshes), seconds: m.seconds.WithLabelValues(topic)}
}

func (t topicMetrics) failed(class string) { t.m.errors.WithLabelValues(t.topic, class).Inc() }

func (t topicMetrics) read(s *stretch) {
	t.records.Add(float64(len(s.Records)))
	t.payload.Add(float64(s.Bytes))
	t.control.Add(float64(s.Control))
	t.aborted.Add(float64(s.Aborted))
}

// boundsCollector tells at scrape time where each source and its log stand.
type boundsCollector struct {
	lag, topicLag, headroom, logStart, lastStable, highWatermark, next, held *prometheus.Desc

	mu      sync.Mutex
	sources map[*Source]struct{}
}

func newBoundsCollector() *boundsCollector {
	perPartition := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"topic", "partition"}, nil)
	}
	return &boundsCollector{sources: map[*Source]struct{}{},
		lag:           perPartition("firn_source_lag_records", "Offsets up to the last stable one that were not handed to the decoder yet."),
		headroom:      perPartition("firn_source_retention_headroom_records", "Offsets between the log's start and the next one to read: what retention may drop before rows are lost."),
		logStart:      perPartition("firn_source_log_start_offset", "First offset that Kafka still holds."),
		lastStable:    perPartition("firn_source_last_stable_offset", "Where readable records end."),
		highWatermark: perPartition("firn_source_high_watermark_offset", "Where replicated records end, open transactions included."),
		next:          perPartition("firn_source_next_offset", "Next offset to hand to the decoder."),
		topicLag:      prometheus.NewDesc("firn_source_topic_lag_records", "Sum of firn_source_lag_records over all partitions.", []string{"topic"}, nil),
		held:          prometheus.NewDesc("firn_source_read_ahead_bytes", "Memory of records that were read and wait for the decoder.", []string{"topic"}, nil),
	}
}

func (c *boundsCollector) add(s *Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sources[s] = struct{}{}
}

func (c *boundsCollector) remove(s *Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sources, s)
}

// Describe implements prometheus.Collector.
func (c *boundsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.lag, c.topicLag, c.headroom, c.logStart, c.lastStable, c.highWatermark, c.next, c.held} {
		out <- d
	}
}

// Collect implements prometheus.Collector. Two sources of one topic would give a series twice, so the first one counts.
func (c *boundsCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	byTopic := map[string]*Source{}
	for s := range c.sources {
		if other := byTopic[s.topic]; other == nil || s.serial < other.serial {
			byTopic[s.topic] = s
		}
	}
	c.mu.Unlock()
	for topic, s := range byTopic {
		gauge := func(d *prometheus.Desc, v int64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), append([]string{topic}, labels...)...)
		}
		next, held := s.progress()
		var sum int64
		for p, at := range s.Positions() {
			n, known := next[p]
			if !known {
				n = at.LogStart
			}
			lag := max(at.LastStable-n, 0)
			sum += lag
			if p >= maxPartitionSeries {
				continue
			}
			label := strconv.Itoa(int(p))
			gauge(c.lag, lag, label)
			gauge(c.headroom, max(n-at.LogStart, 0), label)
			gauge(c.logStart, at.LogStart, label)
			gauge(c.lastStable, at.LastStable, label)
			gauge(c.highWatermark, at.HighWatermark, label)
			gauge(c.next, n, label)
		}
		gauge(c.topicLag, sum)
		gauge(c.held, held)
	}
}
