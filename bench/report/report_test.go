package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestFigureIsTheMedianWithItsBounds(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want Figure
	}{
		{nil, Figure{}},
		{[]float64{4}, Figure{4, 4, 4, 1}},
		{[]float64{9, 1, 5}, Figure{5, 1, 9, 3}},
		{[]float64{8, 2, 4, 6}, Figure{5, 2, 8, 4}},
	} {
		if got := Of(c.in...); got != c.want {
			t.Errorf("Of(%v) = %+v, want %+v", c.in, got, c.want)
		}
	}
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	s := []float64{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 20: 1, 50: 3, 95: 5, 100: 5} {
		if got := Percentile(s, p); got != want {
			t.Errorf("p%v = %v, want %v", p, got, want)
		}
	}
	if s[0] != 5 {
		t.Error("Percentile reordered its input")
	}
}

func TestRepeatNamesTheRunThatFailed(t *testing.T) {
	boom, n := errors.New("boom"), 0
	_, err := Repeat(3, func() (float64, error) {
		if n++; n == 2 {
			return 0, boom
		}
		return 1, nil
	})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "run 2 of 3") {
		t.Fatalf("err = %v", err)
	}
}

func TestJSONLineHasEveryKeyOfTheFormat(t *testing.T) {
	var out bytes.Buffer
	r := New("commit", &out, true)
	r.Set("seed", 7)
	if err := r.Notef("for people only"); err != nil {
		t.Fatal(err)
	}
	err := r.AddFigure("median_ms", "ms", map[string]any{"history": 86400, "store": "file"}, Of(4, 5, 6), &Reference{"peer", 3874})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Fatalf("%d lines, want 1:\n%s", n, out.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"bench": "commit", "metric": "median_ms", "value": 5.0, "unit": "ms", "min": 4.0, "max": 6.0}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %v, want %v", k, got[k], v)
		}
	}
	if ref, _ := got["reference"].(map[string]any); ref["name"] != "peer" || ref["value"] != 3874.0 {
		t.Errorf("reference = %v", got["reference"])
	}
	settings, _ := got["settings"].(map[string]any)
	for _, k := range []string{"cpu", "gomaxprocs", "go", "commit", "seed"} {
		if settings[k] == nil || settings[k] == "" {
			t.Errorf("settings.%s is missing: %v", k, settings)
		}
	}
}

func TestTableShowsTheRatio(t *testing.T) {
	var out bytes.Buffer
	r := New("fetch", &out, false)
	if err := r.AddFigure("events_per_cpu_second", "1/s", map[string]any{"client": "firn", "codec": "lz4"}, Of(300, 200, 400), &Reference{"kafka-go", 100}); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"client=firn codec=lz4", "3.00x", "kafka-go 100", "gomaxprocs="} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestAddRefusesWhatIsNoFigure(t *testing.T) {
	r := New("x", &bytes.Buffer{}, false)
	for _, m := range []Metric{{Metric: "a"}, {Unit: "ms"}, {Metric: "a", Unit: "ms", Value: math.NaN()}, {Metric: "a", Unit: "ms", Value: math.Inf(1)}} {
		if err := r.Add(m); err == nil {
			t.Errorf("%+v was taken", m)
		}
	}
	if len(r.Metrics()) != 0 {
		t.Error("a refused metric was kept")
	}
}

func TestMeasureCountsCPU(t *testing.T) {
	u, err := Measure(func() error {
		for end := CPUTime() + 20*time.Millisecond; CPUTime() < end; {
		}
		return nil
	})
	if err != nil || u.CPU < 20*time.Millisecond || u.MaxRSS <= 0 || u.PerCPUSecond(1) <= 0 || u.PerCPUSecond(1) > 50 {
		t.Fatalf("usage %+v, err %v", u, err)
	}
}
