package commit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMain lets this program be the catalog that it measures.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "commit" {
		if err := Main(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A small run of tables that commit each second: all commits are made, and each figure is printed.
func TestTables(t *testing.T) {
	var out bytes.Buffer
	if err := Main(t.Context(), []string{"-json", "-tables", "3", "-seconds", "1"}, &out); err != nil {
		t.Fatal(err)
	}
	seen := map[string]float64{}
	for line := range strings.Lines(out.String()) {
		var m struct {
			Metric string
			Value  float64
			Labels map[string]any
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Labels["tables"] != 3.0 || m.Labels["store"] != "sqlite file" {
			t.Fatalf("%v in %s", err, line)
		}
		seen[m.Metric] = m.Value
	}
	for _, name := range []string{"median_ms", "p99_ms", "commits_per_second", "catalog_cpu_ms", "max_rss_mb", "refs_load_ms"} {
		if seen[name] <= 0 {
			t.Errorf("%s is %v", name, seen[name])
		}
	}
	if r := seen["commits_per_second"]; r > 4 {
		t.Errorf("three tables that commit once a second make %.1f commits a second", r)
	}
}

// A table that does not stand at its last commit is no figure.
func TestALostCommitIsRefused(t *testing.T) {
	p, err := startCatalog(t.Context(), t.TempDir(), "sqlite::memory:", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	f := &fleet{p: p, http: newHTTP(1)}
	defer f.http.CloseIdleConnections()
	if err := f.make(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := f.check(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if err := f.check(t.Context(), 2); err == nil {
		t.Error("a commit too few is taken")
	}
	f.tables[0].id++
	if err := f.check(t.Context(), 1); err == nil {
		t.Error("another head is taken")
	}
}
