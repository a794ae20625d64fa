package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/internal/offset"
)

// A small run: every event arrives and each figure is printed.
func TestMainPrintsTheFigures(t *testing.T) {
	var out bytes.Buffer
	if err := Main(context.Background(), []string{"-json", "-events", "5003", "-partitions", "3", "-interval", "50ms"}, &out); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var m struct {
			Metric string  `json:"metric"`
			Value  float64 `json:"value"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Value <= 0 {
			t.Fatalf("%v in %s", err, line)
		}
		seen[m.Metric]++
	}
	for name, n := range map[string]int{"mb_per_cpu_second": 1, "events_per_second": 1, "stage_limit_mb_per_cpu_second": 2, "max_rss_mb": 1, "allocs_per_event": 1, "snapshots": 1} {
		if seen[name] != n {
			t.Errorf("%d figures of %s", seen[name], name)
		}
	}
}

func TestTheSourceIsContiguous(t *testing.T) {
	s := newSource(events.New(1, 5000, fetchEvents), 3, 30_000)
	if err := s.Start(t.Context(), offset.Vector{1: 9_999}, nil); err != nil {
		t.Fatal(err)
	}
	next := offset.Vector{0: 0, 1: 9_999, 2: 0}
	for f := s.fetch(); f != nil; f = s.fetch() {
		if f.Start != next[f.Partition] || f.End != f.Start+int64(len(f.Records)) || f.Records[0].Offset != f.Start {
			t.Fatalf("stretch [%d,%d) of %d records of partition %d at %d", f.Start, f.End, len(f.Records), f.Partition, next[f.Partition])
		}
		next[f.Partition] = f.End
	}
	if !next.Equal(offset.Vector{0: 10_000, 1: 10_000, 2: 10_000}) {
		t.Errorf("the log was read up to %s", next)
	}
}

func TestMainRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-runs", "1"}, {"-events", "0"}, {"-partitions", "0"}, {"-interval", "1ms"}, {"-nope"}, {"-config", "no/such.yaml"},
		{"-config", "../../examples/user-events/firn.yaml", "-table", "analytics.of_nobody"}} {
		if err := Main(context.Background(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
