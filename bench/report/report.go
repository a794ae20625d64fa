package report

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Reference is the peer or the limit that a figure is held against, measured in the same run.
type Reference struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// Metric is one figure. Value is the median of the runs, Min and Max bound them.
type Metric struct {
	Bench  string `json:"bench"`
	Metric string `json:"metric"`
	// Labels tell figures of one metric apart; values are strings or numbers.
	Labels    map[string]any `json:"labels,omitempty"`
	Value     float64        `json:"value"`
	Unit      string         `json:"unit"`
	Min       float64        `json:"min"`
	Max       float64        `json:"max"`
	Runs      int            `json:"runs,omitempty"`
	Reference *Reference     `json:"reference,omitempty"`
	Settings  *Settings      `json:"settings,omitempty"`
}

// Options are the flags that every benchmark has.
type Options struct {
	// JSON prints one object a line and nothing else.
	JSON bool
	// Runs is how often each measurement is repeated; at least 3.
	Runs int
	// Seed gives the input; the same seed gives the same bytes.
	Seed int64
}

// Register adds -json, -runs and -seed to fs.
func (o *Options) Register(fs *flag.FlagSet) {
	fs.BoolVar(&o.JSON, "json", false, "print one JSON object a line and nothing else")
	fs.IntVar(&o.Runs, "runs", 3, "runs of each measurement, at least 3; the median is reported")
	fs.Int64Var(&o.Seed, "seed", 1, "seed of the input; the same seed gives the same bytes")
}

// Validate refuses values that would give no figure.
func (o *Options) Validate() error {
	if o.Runs < 3 {
		return fmt.Errorf("-runs is %d: a figure is the median of at least 3 runs", o.Runs)
	}
	return nil
}

// Report collects the metrics of one benchmark and prints them.
type Report struct {
	bench    string
	out      io.Writer
	json     bool
	settings *Settings
	metrics  []Metric
}

// New starts a report of the named benchmark. With asJSON each metric is written by Add, at once; otherwise
// Close prints the table.
func New(bench string, out io.Writer, asJSON bool) *Report {
	return &Report{bench: bench, out: out, json: asJSON, settings: CurrentSettings()}
}

// Set adds a setting of this benchmark (sizes, seed, addresses) to what stands beside every figure.
func (r *Report) Set(name string, value any) {
	if r.settings.Extra == nil {
		r.settings.Extra = map[string]any{}
	}
	r.settings.Extra[name] = value
}

// Notef tells people something between the figures; JSON output stays clean of it.
func (r *Report) Notef(format string, args ...any) error {
	if r.json {
		return nil
	}
	_, err := fmt.Fprintf(r.out, format+"\n", args...)
	return err
}

// Add takes a figure. A metric without a name or unit, or one that is not a number, is a fault of the benchmark.
func (r *Report) Add(m Metric) error {
	m.Bench = r.bench
	m.Settings = r.settings
	if m.Metric == "" || m.Unit == "" {
		return fmt.Errorf("bench %s: metric %q with unit %q: both must be set", r.bench, m.Metric, m.Unit)
	}
	if m.Runs <= 1 && m.Min == 0 && m.Max == 0 {
		m.Min, m.Max = m.Value, m.Value
	}
	for _, v := range []float64{m.Value, m.Min, m.Max} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("bench %s: metric %s%s is %v: nothing was measured", r.bench, m.Metric, labels(m.Labels), v)
		}
	}
	r.metrics = append(r.metrics, m)
	if !r.json {
		return nil
	}
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("bench %s: metric %s: %w", r.bench, m.Metric, err)
	}
	_, err = r.out.Write(append(line, '\n'))
	return err
}

// AddFigure takes the figure of several runs.
func (r *Report) AddFigure(metric, unit string, lbls map[string]any, f Figure, ref *Reference) error {
	return r.Add(Metric{Metric: metric, Unit: unit, Labels: lbls, Value: f.Median, Min: f.Min, Max: f.Max, Runs: f.Runs, Reference: ref})
}

// Metrics returns what was added so far, for a benchmark's own checks.
func (r *Report) Metrics() []Metric { return slices.Clone(r.metrics) }

// Close prints the table, unless the figures went out as JSON.
func (r *Report) Close() error {
	if r.json {
		return nil
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "metric\tlabels\tmedian\tmin\tmax\tunit\treference\tratio\n")
	for _, m := range r.metrics {
		ref, ratio := "", ""
		if m.Reference != nil {
			ref = m.Reference.Name + " " + number(m.Reference.Value)
			if m.Reference.Value != 0 {
				ratio = fmt.Sprintf("%.2fx", m.Value/m.Reference.Value)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Metric, labels(m.Labels), number(m.Value),
			number(m.Min), number(m.Max), m.Unit, ref, ratio)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(r.out, "%s\n", r.settings)
	return err
}

// labels prints them in order of their names, so that two runs compare line by line.
func labels(m map[string]any) string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	parts := make([]string, len(names))
	for i, k := range names {
		parts[i] = fmt.Sprintf("%s=%v", k, m[k])
	}
	return strings.Join(parts, " ")
}

// number keeps three significant digits of small figures and whole numbers of large ones.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}
