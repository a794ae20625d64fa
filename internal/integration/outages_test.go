//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/faultproxy"
)

// TestOutages: Kafka, MinIO and the catalog are killed and started again, at random moments, and MinIO is slow for a
// while. The pipeline says that it waits, and goes on by itself.
func TestOutages(t *testing.T) {
	const times, kafkaTimes = 3, 2 // a broker takes 10 s to come back
	rnd := rand.New(rand.NewPCG(seed(t), 7))
	r := newRigKeeping(t, "outages", 5*time.Second)
	w := r.ingest(way{storage: r.storageProxy, interval: rigInterval})
	w.start(t)
	compact := r.compact(way{})
	r.prod.run(10, 20*time.Millisecond)
	r.commits(t, 3)
	moment := func() { time.Sleep(time.Duration(rnd.Int64N(int64(time.Second)))) }

	for range 3 * times {
		moment()
		r.catalogRole.kill()
		r.startCatalog()
		r.commits(t, 2)
	}
	r.settled(fmt.Sprintf("%d kills of the catalog", 3*times), w)

	for _, p := range crash.CatalogPoints() {
		r.catalogDiesAt(p, 1+rnd.IntN(5))
	}
	for _, p := range crash.CompactionPoints() {
		compact.kill()
		compact.diesAt(t, p, 1)
	}
	compact.start(t)
	r.settled("deaths of catalog and compactor at named places", w)

	for range times {
		moment()
		r.minio.kill(t)
		w.untilState(t, 20*time.Second, "degraded")
		r.minio.start(t)
		r.commits(t, 2)
	}
	r.settled(fmt.Sprintf("%d kills of MinIO", times), w)

	for range kafkaTimes {
		moment()
		r.kafka.kill(t)
		w.untilState(t, 20*time.Second, "waiting")
		r.kafka.start(t)
		r.commits(t, 2)
	}
	r.settled(fmt.Sprintf("%d kills of Kafka", kafkaTimes), w)

	const slowRequests = 40
	slow := r.storageProxy.Plan(slowRequests, faultproxy.Fault{Kind: faultproxy.Slow, Delay: 300 * time.Millisecond}, nil)
	until(t, "slow requests", time.Minute, func() (bool, string) { return slow.Met() == slowRequests, fmt.Sprint(slow.Met()) })
	r.settled("slow storage", w)
}

// catalogDiesAt has the catalog end at the nth time that it comes by a place, and starts it again.
func (r *rig) catalogDiesAt(p crash.Point, n int) {
	t := r.t
	t.Helper()
	r.catalogRole.kill()
	r.catalogRole.quiet = true
	env := r.env
	r.env = append(slices.Clone(env), fmt.Sprintf("%s=%s:%d", crash.Env, p, n))
	r.catalogRole = r.role("catalog")
	r.env = env
	until(t, "the catalog to end at "+string(p), 30*time.Second, func() (bool, string) {
		select {
		case <-r.catalogRole.done:
			return true, ""
		default:
		}
		// An engine that is not Firn's is given a metadata file, which has to be written first.
		_, code, err := get(t.Context(), r.catalogURI()+"/v1/namespaces/analytics/tables/user_events")
		return false, fmt.Sprint("a foreign load gives ", code, " ", err)
	})
	r.startCatalog()
	r.commits(t, 2)
}

// kill ends a server by SIGKILL and waits until it is gone.
func (s *server) kill(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", s.kind, err)
	}
	until(t, s.kind+" is gone", 10*time.Second, func() (bool, string) {
		cmd, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err != nil || len(cmd) == 0, "it is there"
	})
}
