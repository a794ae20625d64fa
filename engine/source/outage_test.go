package source

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firnlake/firn/internal/nettest"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

// TestBrokerGoesAndComesBack starts without a broker, gets one, loses it, and gets it again with its log.
func TestBrokerGoesAndComesBack(t *testing.T) {
	port, dir := nettest.FreePorts(t, 1), t.TempDir()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	cfg := Config{Brokers: []string{addr}, FetchMaxWait: units.Duration(20 * time.Millisecond), DialTimeout: units.Duration(500 * time.Millisecond)}
	s := newSource(t, cfg, Options{})
	if err := Ping(within(t, 5*time.Second), cfg); err == nil || !strings.Contains(err.Error(), "broker "+addr+" unreachable: ") {
		t.Errorf("ping: %v", err)
	}
	start(t, s, nil)
	unreachable := func() bool {
		err := s.Health()
		return err != nil && strings.Contains(err.Error(), "broker "+addr+" unreachable: ")
	}
	eventually(t, "unreachable", unreachable)
	up := func() *kfake.Cluster {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(1, testTopic), kfake.DataDir(dir), kfake.SyncWrites())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := up()
	cl := franz(t, c.ListenAddrs())
	produce(t, cl, values(0, 0, 5))
	got := collector(offset.Vector{})
	got.until(t, s, offset.Vector{0: 5})
	eventually(t, "health", func() bool { return s.Health() == nil })
	c.Close()
	eventually(t, "unreachable again", unreachable)
	c = up()
	defer c.Close()
	produce(t, cl, values(0, 5, 5))
	got.until(t, s, offset.Vector{0: 10})
	if len(got.rows[0]) != 10 {
		t.Errorf("%d records", len(got.rows[0]))
	}
	eventually(t, "health", func() bool { return s.Health() == nil })
}

// TestSilentBroker accepts connections and never answers: Close does not wait for it.
func TestSilentBroker(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := Config{Brokers: []string{l.Addr().String()}, DialTimeout: units.Duration(200 * time.Millisecond), RequestTimeout: units.Duration(300 * time.Millisecond)}
	s := newSource(t, cfg, Options{})
	start(t, s, offset.Vector{0: 1})
	eventually(t, "trouble", func() bool { return s.Health() != nil })
	if _, err := s.Describe(within(t, 5*time.Second)); err == nil {
		t.Error("described")
	}
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("close took %s", took)
	}
}
