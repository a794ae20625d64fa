//go:build integration

package freshness

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
)

// TestMainPrintsBothLevels: the program is built, measured and audited.
func TestMainPrintsBothLevels(t *testing.T) {
	var out bytes.Buffer
	if err := Main(t.Context(), []string{"-json", "-rate", "200", "-duration", "1s"}, &out); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(&out); ; {
		var m struct {
			Metric string
			Labels map[string]any
			Value  float64
		}
		if err := dec.Decode(&m); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if m.Value <= 0 {
			t.Errorf("%s %v is %v", m.Metric, m.Labels, m.Value)
		}
		level, _ := m.Labels["level"].(string)
		seen[level+" "+m.Metric] = true
	}
	for _, want := range []string{"hot p99_ms", "committed p50_ms", " cpu_us_per_event", " max_rss_mb"} {
		if !seen[want] {
			t.Errorf("%q is missing in %v", want, seen)
		}
	}
}
