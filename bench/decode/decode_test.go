package decode

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// A small run: the contestants agree and each figure is printed.
func TestMainPrintsEachDecoder(t *testing.T) {
	var out bytes.Buffer
	if err := Main(context.Background(), []string{"-json", "-events", "500", "-batch", "100", "-seconds", "0.01"}, &out); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var m struct {
			Metric string  `json:"metric"`
			Value  float64 `json:"value"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		seen[m.Metric]++
	}
	if seen["mb_per_cpu_second"] != 7 || seen["allocs_per_event"] != 7 || seen["events_per_cpu_second"] != 7 || seen["firn_over_peer"] != 4 || seen["events_over_json"] != 2 {
		t.Errorf("metrics: %v", seen)
	}
}

func TestMainRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-runs", "1"}, {"-events", "0"}, {"-batch", "-1"}, {"-seconds", "0"}, {"-nope"}} {
		if err := Main(context.Background(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
