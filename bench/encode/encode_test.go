package encode

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

// A small run: the contestants write what they were given and each figure is printed.
func TestMainPrintsEachWriter(t *testing.T) {
	var out bytes.Buffer
	if err := Main(context.Background(), []string{"-json", "-small", "50", "-large", "1500", "-seconds", "0.01"}, &out); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var m struct {
			Metric string         `json:"metric"`
			Value  float64        `json:"value"`
			Labels map[string]any `json:"labels"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if (m.Value <= 0 && m.Metric != "checksum_percent") || m.Labels["writer"] == nil {
			t.Errorf("no figure: %s", line)
		}
		seen[m.Metric]++
	}
	for _, name := range []string{"mb_per_cpu_second", "cpu_ms_per_file", "file_mb", "allocs_per_event"} {
		if n := seen[name]; n == 0 || n%4 != 0 {
			t.Errorf("%d figures of %s", n, name)
		}
	}
}

// A writer that loses or changes a row is no contestant.
func TestWrongFilesAreRefused(t *testing.T) {
	in, err := newInput(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	writers, err := contestants(in.schema, "zstd")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(arrow.RecordBatch) arrow.RecordBatch{
		"a row less": func(b arrow.RecordBatch) arrow.RecordBatch { return b.NewSlice(0, b.NumRows()-1) },
		"others":     func(b arrow.RecordBatch) arrow.RecordBatch { return in.rows[1] },
	} {
		w := writer{name, func(to io.Writer, rows arrow.RecordBatch) error { return writers[0].write(to, change(rows)) }}
		one := &input{schema: in.schema, rows: in.rows[:1]}
		if _, err := check(t.Context(), w, one); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestMainRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-runs", "1"}, {"-small", "0"}, {"-large", "-1"}, {"-seconds", "0"}, {"-nope"}} {
		if err := Main(context.Background(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
