//go:build integration

package integration

import (
	"flag"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

var takeovers = flag.Int("takeovers", 4, "how often a process takes the place of another that stands still")

// TestZombies: a process that stood still while another took its place, in the middle of whatever it did; and two
// processes of one name that were started at once. One of them commits, the other knows that it must not.
func TestZombies(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 6))
	r := newRig(t, "zombies")
	a, b := r.ingest(way{interval: rigInterval}), r.ingest(way{interval: rigInterval})
	r.prod.run(10, 20*time.Millisecond)
	a.start(t)
	r.commits(t, 3)

	// A second process takes the place of one that stands still at once: there is no lease to wait for.
	for range *takeovers {
		time.Sleep(time.Duration(rnd.Int64N(int64(400 * time.Millisecond))))
		a.signal(t, syscall.SIGSTOP)
		b.start(t)
		r.commits(t, 3)
		a.signal(t, syscall.SIGCONT)
		a.untilState(t, 20*time.Second, "fenced")
		r.commits(t, 3)
		a.kill()
		a, b = b, a
	}
	r.settled("zombies whose successor started anew", a)

	// Both live. The fenced one watches, and takes over when the other stands still for longer than standby.
	b.start(t)
	for range (*takeovers + 1) / 2 {
		leader, follower := r.oneLeads(t, a, b)
		r.commits(t, 5)
		leader.signal(t, syscall.SIGSTOP)
		began := time.Now()
		follower.untilState(t, 30*time.Second, "ok", "catching-up")
		r.commits(t, 3)
		t.Logf("the follower commits %s after the leader stood still, standby is %s", time.Since(began).Round(time.Millisecond), rigStandby)
		leader.signal(t, syscall.SIGCONT)
		leader.untilState(t, 20*time.Second, "fenced")
	}
	leader, _ := r.oneLeads(t, a, b)
	r.settled("two processes of one name", leader)

	a.kill()
	b.kill()
	for range (*takeovers + 1) / 2 {
		a.start(t)
		b.start(t)
		r.oneLeads(t, a, b)
		r.commits(t, 10)
		leader, follower := r.oneLeads(t, a, b)
		leader.kill()
		r.commits(t, 3)
		follower.untilState(t, 20*time.Second, "ok", "catching-up")
		follower.kill()
	}
	a.start(t)
	r.settled("two processes started at once", a)
}

// commits waits for n commits.
func (r *rig) commits(t *testing.T, n int) {
	t.Helper()
	head, _, err := r.head(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		head = r.untilCommit(head, 20*time.Second)
	}
}

// oneLeads waits until one of two processes is well and the other is fenced.
func (r *rig) oneLeads(t *testing.T, a, b *worker) (leader, follower *worker) {
	t.Helper()
	until(t, "one that leads and one that is fenced", 30*time.Second, func() (bool, string) {
		states := make([]string, 2)
		for i, w := range []*worker{a, b} {
			state, _, err := w.verdict(t.Context())
			if err != nil {
				return false, err.Error()
			}
			states[i] = state
		}
		leader, follower = a, b
		if states[0] == "fenced" {
			leader, follower = b, a
			slices.Reverse(states)
		}
		return states[0] == "ok" && states[1] == "fenced", states[0] + " and " + states[1]
	})
	return leader, follower
}
