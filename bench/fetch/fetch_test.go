package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestMain is the broker's process too: the benchmark starts its own program for it.
func TestMain(m *testing.M) {
	if os.Getenv(brokerEnv) != "" {
		if err := Main(context.Background(), nil, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A small run: every client reads what was written, and each figure is printed.
func TestMainPrintsEachClient(t *testing.T) {
	var out bytes.Buffer
	if err := Main(context.Background(), []string{"-json", "-events", "3000", "-partitions", "3"}, &out); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var m struct {
			Metric string
			Value  float64
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Value <= 0 {
			t.Fatalf("%v in %s", err, line)
		}
		seen[m.Metric]++
	}
	if seen["events_per_cpu_second"] != 9 || seen["allocs_per_event"] != 9 || seen["firn_over_peer"] != 6 {
		t.Errorf("metrics: %v", seen)
	}
}

// A reader that loses, doubles or changes a record is found out.
func TestChecksumTellsReadersApart(t *testing.T) {
	var want checksum
	records := [][]byte{[]byte("the first value"), []byte("the second value"), []byte("short")}
	for i, v := range records {
		want.add(int64(i), v)
	}
	for name, read := range map[string]func(c *checksum){
		"one is lost":    func(c *checksum) { c.add(0, records[0]); c.add(1, records[1]) },
		"one is doubled": func(c *checksum) { c.add(0, records[0]); c.add(1, records[1]); c.add(1, records[1]) },
		"one differs":    func(c *checksum) { c.add(0, []byte("the First value")); c.add(1, records[1]); c.add(2, records[2]) },
		"offsets differ": func(c *checksum) { c.add(0, records[0]); c.add(1, records[1]); c.add(3, records[2]) },
	} {
		var got checksum
		if read(&got); got == want {
			t.Errorf("%s: not found out", name)
		}
	}
}

func TestMainRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-runs", "1"}, {"-events", "0"}, {"-events", "9", "-partitions", "2"}, {"-partitions", "0"}, {"-bytes", "0"}, {"-nope"}} {
		if err := Main(context.Background(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
