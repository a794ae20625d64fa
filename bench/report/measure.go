package report

import (
	"fmt"
	"slices"
	"time"
)

// Figure is the median of several runs of one measurement and their bounds.
type Figure struct {
	Median, Min, Max float64
	Runs             int
}

// Of gives the figure of the samples; with an even number the median is the mean of the middle two.
func Of(samples ...float64) Figure {
	if len(samples) == 0 {
		return Figure{}
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	n := len(s)
	median := s[n/2]
	if n%2 == 0 {
		median = (s[n/2-1] + s[n/2]) / 2
	}
	return Figure{Median: median, Min: s[0], Max: s[n-1], Runs: n}
}

// Percentile is the nearest-rank percentile of the samples, p within 0 to 100.
func Percentile(samples []float64, p float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	rank := int(p/100*float64(len(s))+0.9999999) - 1
	return s[min(max(rank, 0), len(s)-1)]
}

// Repeat runs f n times and gives the figure of its results; the first error ends it.
func Repeat(n int, f func() (float64, error)) (Figure, error) {
	samples := make([]float64, 0, n)
	for i := range n {
		v, err := f()
		if err != nil {
			return Figure{}, fmt.Errorf("run %d of %d: %w", i+1, n, err)
		}
		samples = append(samples, v)
	}
	return Of(samples...), nil
}

// Samples collects several figures of the same runs by name, in the order of their first appearance.
type Samples struct {
	names  []string
	values map[string][]float64
}

// Add takes one run's value of the named figure.
func (s *Samples) Add(name string, v float64) {
	if s.values == nil {
		s.values = map[string][]float64{}
	}
	if _, seen := s.values[name]; !seen {
		s.names = append(s.names, name)
	}
	s.values[name] = append(s.values[name], v)
}

// Names returns the figures in order of their first value.
func (s *Samples) Names() []string { return slices.Clone(s.names) }

// Figure returns the named figure over the runs so far.
func (s *Samples) Figure(name string) Figure { return Of(s.values[name]...) }

// Usage is what a stretch of work took.
type Usage struct {
	// Wall is elapsed time, CPU user + system time of this process, MaxRSS its largest resident set so far in bytes.
	Wall, CPU time.Duration
	MaxRSS    int64
}

// PerCPUSecond is n per CPU-second, PerSecond n per second of wall time; 0 when no time was counted.
func (u Usage) PerCPUSecond(n float64) float64 { return rate(n, u.CPU) }
func (u Usage) PerSecond(n float64) float64    { return rate(n, u.Wall) }

func rate(n float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return n / d.Seconds()
}

// Measure runs f and tells what it took. Other work of the process counts too: measure one thing at a time.
func Measure(f func() error) (Usage, error) {
	cpu, began := CPUTime(), time.Now()
	err := f()
	return Usage{Wall: time.Since(began), CPU: CPUTime() - cpu, MaxRSS: MaxRSS()}, err
}
