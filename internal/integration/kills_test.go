//go:build integration

package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/crash"
)

// How long the fault tests go on. The defaults fit a run of everything; make faults takes the long ones.
var (
	kills   = flag.Int("kills", 40, "how often firn ingest is killed at a random moment")
	history = flag.Int("history", 300, "snapshots in the table when the recovery after a kill is measured")
)

const (
	// rigInterval is a commit interval that makes many commits, and with them many places to die in.
	rigInterval = 100 * time.Millisecond
	// hastyInterval is the shortest that is allowed: it makes a long history in a short time.
	hastyInterval = 50 * time.Millisecond
	// longestLife is the longest time between two kills: enough to start, recover and commit a few times.
	longestLife = 1200 * time.Millisecond
	// recoveryBar is the longest time from a SIGKILL to the next commit.
	recoveryBar = 3 * time.Second
	recoveries  = 5
	// inFlight is how long a commit that was sent before the kill may take to show; a new process needs longer for one.
	inFlight = 100 * time.Millisecond
)

// TestKilled: firn ingest dies at random moments, at every named place of the commit, and with a history of snapshots in
// the table, while events arrive. Nothing is lost, nothing doubled, and it is back within the bar.
func TestKilled(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 3))
	r := newRig(t, "killed")
	w := r.ingest(way{interval: rigInterval})
	plain := r.ingest(way{proxy: r.plainProxy, interval: rigInterval})
	r.compact(way{})
	r.prod.run(10, 20*time.Millisecond)

	for i := range *kills {
		w.start(t)
		life := time.Duration(rnd.Int64N(int64(longestLife)))
		time.Sleep(life)
		w.kill()
		if i%50 == 49 {
			w.start(t)
			r.settled(fmt.Sprintf("%d kills", i+1), w)
			w.kill()
		}
	}
	w.start(t)
	r.settled(fmt.Sprintf("%d kills at random moments", *kills), w)
	w.kill()

	died := 0
	for _, p := range crash.Points() {
		for _, n := range []int{1, 2 + rnd.IntN(4)} {
			for _, v := range []*worker{w, plain} {
				if (v == plain) != (p == crash.BetweenCommits) {
					continue // only a catalog without transactions comes by there
				}
				v.diesAt(t, p, n)
				died++
			}
		}
	}
	w.start(t)
	r.settled(fmt.Sprintf("%d deaths at %d named places", died, len(crash.Points())), w)
	r.recovers(w, rnd)
	r.settled("the kills with a history", w)
}

// diesAt starts the process so that it ends at the nth time that it comes by a place, and waits until it did.
func (w *worker) diesAt(t *testing.T, p crash.Point, n int) {
	t.Helper()
	w.start(t, fmt.Sprintf("%s=%s:%d", crash.Env, p, n))
	select {
	case <-w.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("firn ingest did not come by %s %d times within 30 s", p, n)
	}
	if ws, ok := w.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("at %s firn ingest ended with %v instead of SIGKILL", p, w.err)
	}
}

// recovers measures the time from a SIGKILL to the next commit, with the product's own commit interval of a second.
func (r *rig) recovers(fast *worker, rnd *rand.Rand) {
	t := r.t
	began := time.Now()
	fast.kill()
	hasty := r.ingest(way{interval: hastyInterval})
	hasty.start(t)
	until(t, fmt.Sprintf("%d snapshots", *history), 5*time.Minute, func() (bool, string) {
		n := r.snapshots()
		return n >= *history, fmt.Sprint(n)
	})
	t.Logf("%d snapshots after %s more", r.snapshots(), time.Since(began).Round(time.Second))
	hasty.kill()
	usual := r.ingest(way{interval: time.Second})
	usual.start(t)
	head, _, err := r.head(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	r.untilCommit(head, 20*time.Second)
	var worst time.Duration
	for range recoveries {
		time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Second))))
		killed := time.Now()
		usual.kill()
		usual.start(t)
		time.Sleep(inFlight)
		if head, _, err = r.head(t.Context(), table); err != nil {
			t.Fatal(err)
		}
		r.untilCommit(head, 20*time.Second)
		took := time.Since(killed)
		worst = max(worst, took)
		t.Logf("from SIGKILL to the next commit: %s, %d snapshots in the table", took.Round(time.Millisecond), r.snapshots())
	}
	if worst > recoveryBar {
		t.Errorf("the slowest of %d recoveries took %s, the bar is %s", recoveries, worst.Round(time.Millisecond), recoveryBar)
	}
	usual.kill()
	fast.start(t)
}

// snapshots is how many the table's metadata has.
func (r *rig) snapshots() int {
	ident, err := catalog.ParseIdentifier(table)
	if err != nil {
		r.t.Fatal(err)
	}
	tab, err := r.cat.LoadTable(r.t.Context(), ident, catalog.LoadAll)
	if err != nil {
		return -1
	}
	return len(tab.Metadata.Snapshots())
}
