//go:build integration

package tables

import (
	"bytes"
	"strings"
	"testing"
)

// TestMainCountsEachEvent: the program is built, fed and checked.
func TestMainCountsEachEvent(t *testing.T) {
	var out bytes.Buffer
	if err := Main(t.Context(), []string{"-json", "-tables", "2", "-idle", "1", "-duration", "3s"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"interval_p99_ms", "cpu_seconds_per_second", "rss_mb", "goroutines"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %s", want, &out)
		}
	}
}
