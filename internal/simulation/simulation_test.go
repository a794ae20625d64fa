package simulation

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firnlake/firn/internal/crash"
)

var (
	schedules = flag.Int("schedules", 100, "how many schedules the simulation runs")
	firstSeed = flag.Uint64("seed", 1, "seed of the first schedule; the others follow")
	turns     = flag.Int("turns", 180, "decisions in a schedule before it calms down")
)

// simulate runs one schedule in a bubble of its own.
func simulate(t *testing.T, seed uint64, b breaks) (w *world, err error) {
	synctest.Test(t, func(*testing.T) {
		if w, err = newWorld(seed, b); err == nil {
			err = w.run(*turns)
		}
	})
	return w, err
}

func report(t *testing.T, w *world, seed uint64, err error) {
	t.Helper()
	t.Errorf("%v\nthis repeats it: go test ./internal/simulation -run '^TestSimulation$' -schedules 1 -seed %d -turns %d\n%s", err, seed, *turns, w.story(60))
}

// chunk is how many schedules one parallel test runs.
const chunk = 50

// TestSimulation runs schedules and holds each against the oracle.
func TestSimulation(t *testing.T) {
	var (
		mu    sync.Mutex
		total stats
		began = time.Now()
	)
	total.points = map[crash.Point]int{}
	t.Run("schedules", func(t *testing.T) {
		for from := 0; from < *schedules; from += chunk {
			t.Run(fmt.Sprintf("seed_%d", *firstSeed+uint64(from)), func(t *testing.T) {
				t.Parallel()
				for i := range min(chunk, *schedules-from) {
					seed := *firstSeed + uint64(from+i)
					w, err := simulate(t, seed, breaks{})
					if err != nil {
						report(t, w, seed, err)
						return
					}
					mu.Lock()
					total.add(w.stats)
					mu.Unlock()
				}
			})
		}
	})
	t.Logf(">> %d schedules from seed %d in %.1f s: %d commits, %d crashes at named places, %d late requests, %d rewinds, %d stops that a person resolved, %d looks at a fenced tail, %d hot rows compared, %d duplicates, %d dead letters in their topic",
		*schedules, *firstSeed, time.Since(began).Seconds(), total.commits, total.crashes, total.late, total.rewinds, total.stops, total.fences, total.hot, total.duplicates, total.letters)
	if *schedules < chunk {
		return
	}
	for _, p := range crash.Points() {
		if total.points[p] == 0 {
			t.Errorf("no schedule came by %s", p)
		}
	}
	if least := []int{total.crashes, total.late, total.rewinds, total.fences, total.hot, total.duplicates, total.letters}; slices.Min(least) == 0 {
		t.Errorf("crashes, late requests, rewinds, looks at fenced tails, hot rows, duplicates, dead letters in their topic: %v: each should come up", least)
	}
	if total.commits < 3**schedules {
		t.Errorf("%d commits in %d schedules: too little happens", total.commits, *schedules)
	}
}

func (s *stats) add(o stats) {
	s.commits += o.commits
	s.stops += o.stops
	s.crashes += o.crashes
	s.fences += o.fences
	s.rewinds += o.rewinds
	s.hot += o.hot
	s.duplicates += o.duplicates
	s.letters += o.letters
	s.late += o.late
	for p, n := range o.points {
		s.points[p] += n
	}
}

// TestDeterminism: the same seed gives the same trace. One schedule in a hundred is run twice, and twelve at the least.
func TestDeterminism(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+uint64(max(12, *schedules/100)); seed++ {
		a, err := simulate(t, seed, breaks{})
		if err != nil {
			report(t, a, seed, err)
			return
		}
		b, err := simulate(t, seed, breaks{})
		if err != nil {
			report(t, b, seed, err)
			return
		}
		if a.hash() == b.hash() {
			continue
		}
		for i := range min(len(a.trace), len(b.trace)) {
			if a.trace[i] != b.trace[i] {
				t.Errorf("seed %d: line %d is\n%s\nand then\n%s\nafter\n%s", seed, i, a.trace[i], b.trace[i], strings.Join(a.trace[max(0, i-25):i], "\n"))
				break
			}
		}
		t.Errorf("seed %d gives %d and %d lines", seed, len(a.trace), len(b.trace))
	}
}
