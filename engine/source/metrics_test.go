package source

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firnlake/firn/internal/offset"
)

func TestMetrics(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, testTopic))
	cl := franz(t, c.ListenAddrs())
	produce(t, cl, append(values(0, 0, 10), values(1, 0, 4)...))
	if err := c.DeleteRecords(testTopic, 0, 2); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	open := func() *Source {
		s, err := New(configOf(c), Options{Topic: testTopic}, quiet, m)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	s, second := open(), open() // two of one topic are still one series
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 10, 1: 4})
	eventually(t, "positions", func() bool { return len(s.Positions()) == 2 })
	sameSeries(t, reg, map[string]float64{
		`firn_source_lag_records{partition="0"}`: 0, `firn_source_lag_records{partition="1"}`: 0,
		`firn_source_log_start_offset{partition="0"}`: 2, `firn_source_log_start_offset{partition="1"}`: 0,
		`firn_source_last_stable_offset{partition="0"}`: 10, `firn_source_high_watermark_offset{partition="1"}`: 4,
		`firn_source_next_offset{partition="0"}`:                10,
		`firn_source_retention_headroom_records{partition="0"}`: 8, `firn_source_retention_headroom_records{partition="1"}`: 4,
		`firn_source_records_total{}`: 12, `firn_source_topic_lag_records{}`: 0, `firn_source_read_ahead_bytes{}`: 0,
	})
	// What nobody polls is lag.
	produce(t, cl, values(1, 4, 6))
	eventually(t, "lag", func() bool { return s.Positions()[1].LastStable == 10 })
	sameSeries(t, reg, map[string]float64{`firn_source_lag_records{partition="1"}`: 6, `firn_source_topic_lag_records{}`: 6})
	s.Close()
	second.Close()
	if at, ok := series(t, reg)["firn_source_topic_lag_records{}"]; ok {
		t.Errorf("a closed source still has a lag of %g", at)
	}
}

// series are all counters and gauges by name and labels, the topic left out.
func series(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "topic" {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
			}
			out[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func sameSeries(t *testing.T, reg *prometheus.Registry, want map[string]float64) {
	t.Helper()
	got := series(t, reg)
	for name, v := range want {
		if at, ok := got[name]; !ok || at != v {
			t.Errorf("%s is %g (%t), want %g", name, at, ok, v)
		}
	}
}

func TestHealthShowsTheOldest(t *testing.T) {
	now := time.Unix(1000, 0)
	h := &health{now: func() time.Time { return now }, log: quiet, troubles: map[string]*TroubleError{}}
	if h.err() != nil {
		t.Error("trouble from the beginning")
	}
	h.note("a", errShort)
	now = now.Add(time.Minute)
	h.note("b", errOldBroker)
	if n := h.note("a", errWantsTLS); n != 2 {
		t.Errorf("attempt %d", n)
	}
	if got := h.err().Error(); !strings.HasPrefix(got, errWantsTLS.Error()) || !strings.Contains(got, "since 1970-01-01T00:16:40Z, attempt 2") {
		t.Errorf("%s", got)
	}
	h.clear("a")
	h.clear("c")
	if got := h.err().Error(); !strings.HasPrefix(got, errOldBroker.Error()) {
		t.Errorf("%s", got)
	}
}
