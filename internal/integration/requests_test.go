//go:build integration

package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/faultproxy"
)

var (
	hold   = flag.Duration("hold", 3*time.Second, "how long a request is held back before it is delivered")
	rounds = flag.Int("rounds", 2, "how often each fault of a request is tried")
)

// isCommit tells the requests by which tables change.
func isCommit(req *http.Request) bool {
	return req.Method == http.MethodPost && (strings.HasSuffix(req.URL.Path, "/transactions/commit") || strings.Contains(req.URL.Path, "/tables/"))
}

func isRead(req *http.Request) bool {
	return req.Method == http.MethodGet || req.Method == http.MethodHead
}
func isWrite(req *http.Request) bool { return !isRead(req) }

// faults are all kinds, with delays longer than the client of the catalog waits for an answer.
func faults() []faultproxy.Fault {
	return []faultproxy.Fault{{Kind: faultproxy.Refuse}, {Kind: faultproxy.Cut}, {Kind: faultproxy.Lose}, {Kind: faultproxy.Fail}, {Kind: faultproxy.Repeat},
		{Kind: faultproxy.Again, Delay: *hold}, {Kind: faultproxy.Hold, Delay: *hold}, {Kind: faultproxy.Slow, Delay: *hold}}
}

// TestRequests: everything that can become of a request on its way to the catalog, to a catalog without transactions
// and history, and to MinIO, several times, while events arrive and the compactor works beside. Nothing is lost, nothing
// doubled, and the pipeline is well again by itself.
func TestRequests(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 5))
	r := newRig(t, "requests")
	r.prod.run(10, 20*time.Millisecond)
	for _, c := range []struct {
		name  string
		way   way
		match map[string]func(*http.Request) bool
	}{
		{"catalog", way{proxy: r.catalogProxy, interval: rigInterval}, map[string]func(*http.Request) bool{"commit": isCommit, "read": isRead}},
		{"plain-catalog", way{proxy: r.plainProxy, interval: rigInterval}, map[string]func(*http.Request) bool{"commit": isCommit}},
		{"storage", way{storage: r.storageProxy, interval: rigInterval}, map[string]func(*http.Request) bool{"write": isWrite, "read": isRead}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer r.within(t)()
			w := r.ingest(c.way)
			w.start(t)
			compact := r.compact(c.way)
			head, _, err := r.head(t.Context(), table)
			if err != nil {
				t.Fatal(err)
			}
			r.untilCommit(head, 20*time.Second)
			proxy := c.way.proxy
			if proxy == nil {
				proxy = c.way.storage
			}
			for name, match := range c.match {
				r.tryFaults(proxy, rnd, name, match)
				r.settled(c.name+" "+name+" requests", w)
			}
			r.refuseAll(proxy, w)
			r.settled(c.name+" refusing everything for a while", w)
			w.stop()
			compact.stop()
		})
	}
}

// within has what runs in a subtest report to it; the returned function ends that.
func (r *rig) within(t *testing.T) func() {
	before := r.t
	r.t = t
	return func() { r.t = before }
}

// tryFaults puts each fault on one request after the other, in a random order, and waits each time until a commit came
// after it, and in the end until everything that was held back has arrived.
func (r *rig) tryFaults(p *faultproxy.Proxy, rnd *rand.Rand, name string, match func(*http.Request) bool) {
	t := r.t
	t.Helper()
	all := slices.Repeat(faults(), *rounds)
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	rules := make([]*faultproxy.Rule, len(all))
	began := time.Now()
	for i, f := range all {
		n := 1 + rnd.IntN(2)
		rules[i] = p.Plan(n, f, match)
		until(t, fmt.Sprintf("%d %s requests to %s", n, name, f.Kind), time.Minute+2**hold, func() (bool, string) { return rules[i].Met() == n, fmt.Sprint(rules[i].Met()) })
		head, _, err := r.head(t.Context(), table)
		if err != nil {
			t.Fatal(err)
		}
		r.untilCommit(head, time.Minute+2**hold)
	}
	unseen := map[string]map[int]int{}
	for i, f := range all {
		if f.Kind == faultproxy.Refuse || f.Kind == faultproxy.Cut || f.Kind == faultproxy.Slow {
			continue
		}
		until(t, "what was held back to arrive", 10*time.Second+*hold, func() (bool, string) {
			return len(rules[i].Late()) == rules[i].Met(), fmt.Sprintf("%d of %d", len(rules[i].Late()), rules[i].Met())
		})
		if unseen[f.Kind.String()] == nil {
			unseen[f.Kind.String()] = map[int]int{}
		}
		for _, code := range rules[i].Late() {
			unseen[f.Kind.String()][code]++
		}
	}
	t.Logf("%d faults of %s requests in %s; answers that nobody saw: %v", len(all), name, time.Since(began).Round(time.Second), unseen)
}

// refuseAll answers 503 for long enough that the pipeline has to say that it cannot commit.
func (r *rig) refuseAll(p *faultproxy.Proxy, w *worker) {
	r.t.Helper()
	p.Plan(1<<30, faultproxy.Fault{Kind: faultproxy.Refuse}, nil)
	w.untilState(r.t, 30*time.Second, "degraded")
	p.Clear()
	w.untilState(r.t, 30*time.Second, "ok", "catching-up")
}
