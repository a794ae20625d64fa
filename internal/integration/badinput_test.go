//go:build integration

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/nettest"
)

// TestBusyPort: a port that is taken ends the start at once, with the way out.
func TestBusyPort(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := strconv.Itoa(busy.Addr().(*net.TCPAddr).Port)
	run(t, nil, "version") // the program is built on first use, which is no part of the time below
	for _, flag := range []string{"broker-port", "catalog-port", "flight-port", "http-port"} {
		args := []string{"up", "--data", t.TempDir(), "--for", "30s"}
		for _, f := range []string{"broker-port", "catalog-port", "flight-port", "http-port"} {
			if f == flag {
				args = append(args, "--"+f, port)
			} else {
				args = append(args, "--"+f, "0")
			}
		}
		began := time.Now()
		r := run(t, nil, args...)
		if r.code != 1 || !strings.Contains(r.err, port) || !strings.Contains(r.err, flag) {
			t.Errorf("--%s on a busy port: exit code %d: %s", flag, r.code, r.err)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("--%s on a busy port took %s to say so", flag, took)
		}
	}
}

// TestUnknownKey: the place and the nearest right key, and an exit code of its own.
func TestUnknownKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "firn.yaml")
	if err := os.WriteFile(path, []byte("warehouse: s3://lake/warehouse\nkafka:\n  brokrs: [\"127.0.0.1:9092\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ingest"}, {"up"}, {"config", "validate"}} {
		r := run(t, nil, append(args, "-c", path)...)
		if r.code != 3 || !strings.Contains(r.err, "firn.yaml:3:3") || !strings.Contains(r.err, "brokers") {
			t.Errorf("firn %v: exit code %d: %s", args, r.code, r.err)
		}
	}
}

// TestBrokerAway: firn waits for a broker that is not there and for one that goes away, and goes on by itself.
func TestBrokerAway(t *testing.T) {
	kafka := &server{kind: "kafka", dir: t.TempDir(), port: nettest.FreePorts(t, 2)}
	t.Cleanup(func() { kafka.stop(t) })
	l := newLake(t, lakeOptions{warehouse: "file://" + t.TempDir() + "/warehouse", kafka: kafka.addr(), topic: "away"})
	l.role("up")
	l.untilState("up", "waiting", kafka.addr())
	kafka.start(t)
	l.generate(2000)
	l.untilCommitted(2000, time.Minute)
	l.untilState("up", "ok", "")
	kafka.stop(t)
	l.untilState("up", "waiting", kafka.addr())
	kafka.start(t)
	l.generate(3000, "--seed", "2")
	l.untilCommitted(5000, time.Minute)
	l.audit()
}

// TestWrongPassword: the storage refuses the keys; a restart with the right ones goes on.
func TestWrongPassword(t *testing.T) {
	kafka, minio := sharedServer(t, "kafka"), sharedServer(t, "minio")
	minio.makeBucket(t, "password")
	o := lakeOptions{warehouse: "s3://password/warehouse", kafka: kafka.addr(), topic: "password", minio: minio, secret: "wrong-secret-canary"}
	l := newLake(t, o)
	l.generate(1000)
	p := l.role("up")
	l.untilState("up", "waiting", "denied")
	p.stop()
	if strings.Contains(p.out.String(), "wrong-secret-canary") {
		t.Error("the secret is in the log")
	}
	_, secret := minio.keys(t)
	l.env = append(l.env, "S3_SECRET="+secret)
	l.role("up")
	l.untilCommitted(1000, time.Minute)
	l.audit()
}

// TestMissingBucket: named, waited for, and used once it is there.
func TestMissingBucket(t *testing.T) {
	kafka, minio := sharedServer(t, "kafka"), sharedServer(t, "minio")
	l := newLake(t, lakeOptions{warehouse: "s3://not-yet/warehouse", kafka: kafka.addr(), topic: "bucket", minio: minio})
	l.generate(1000)
	l.role("up")
	l.untilState("up", "waiting", "not-yet")
	minio.makeBucket(t, "not-yet")
	l.untilCommitted(1000, time.Minute)
	l.audit()
}

// TestMissingTopic: named, waited for, and read once it is there.
func TestMissingTopic(t *testing.T) {
	kafka := sharedServer(t, "kafka")
	l := newLake(t, lakeOptions{warehouse: "file://" + t.TempDir() + "/warehouse", kafka: kafka.addr(), topic: "late-topic"})
	l.role("up")
	l.untilState("up", "waiting", "late-topic")
	l.generate(1000)
	l.untilCommitted(1000, time.Minute)
	l.audit()
}

// TestRandomBytes: 10,000 records that are no events become 10,000 dead letters, with their bytes, and what comes
// after them is ingested.
func TestRandomBytes(t *testing.T) {
	const records = 10_000
	kafka := sharedServer(t, "kafka")
	l := newLake(t, lakeOptions{warehouse: "file://" + t.TempDir() + "/warehouse", kafka: kafka.addr(), topic: "noise", deadTopic: "noise.dead"})
	brokers := source.Config{Brokers: []string{kafka.addr()}}
	if err := source.EnsureTopic(t.Context(), brokers, "noise.dead", 3); err != nil {
		t.Fatal(err)
	}
	l.generate(500)
	produceNoise(t, kafka.addr(), "noise", records)
	l.generate(500, "--seed", "2")
	l.role("up")
	l.untilCommitted(1000, time.Minute)
	until(t, "dead letters", time.Minute, func() (bool, string) {
		n, err := l.committed(table + "_dead")
		return n == records, fmt.Sprint(n, " ", err)
	})
	n, err := l.count("select count(distinct (_kafka_partition, _kafka_offset)) from "+table+"_dead", "--level", "committed")
	if err != nil || n != records {
		t.Errorf("%d distinct dead letters, %v", n, err)
	}
	l.untilState("up", "ok", "")
	until(t, "the topic of dead letters", 30*time.Second, func() (bool, string) {
		at, err := source.Bounds(t.Context(), brokers, "noise.dead")
		var n int64
		for _, p := range at {
			n += p.LastStable
		}
		return n >= records, fmt.Sprint(n, " messages ", err)
	})
	l.audit()
}

func produceNoise(t *testing.T, addr, topic string, records int) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rnd := rand.New(rand.NewPCG(seed(t), 2))
	batch := make([]*kgo.Record, records)
	for i := range batch {
		b := make([]byte, rnd.IntN(300))
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		batch[i] = &kgo.Record{Value: b}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: a warehouse that is full stops commits, says so, and loses nothing: with room again they go on.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("this test needs to mount a small tmpfs (root): mount %v: %v: %s", args, err, out)
		}
	}
	mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	kafka := sharedServer(t, "kafka")
	l := newLake(t, lakeOptions{warehouse: "file://" + dir + "/warehouse", kafka: kafka.addr(), topic: "full"})
	l.role("up")
	sent := 0
	until(t, "a full disk", 2*time.Minute, func() (bool, string) {
		l.generate(20_000, "--seed", strconv.Itoa(sent+1))
		sent += 20_000
		s, err := l.status("up")
		if err != nil || len(s.Pipelines) != 1 {
			return false, fmt.Sprintf("%+v, %v", s, err)
		}
		v := s.Pipelines[0].Verdict
		return v.State == "degraded" && strings.Contains(v.Cause, "no space"), fmt.Sprintf("%+v", v)
	})
	mount("-o", "remount,size=512m", dir)
	l.untilCommitted(int64(sent), 2*time.Minute)
	l.untilState("up", "ok", "")
	l.audit()
}
