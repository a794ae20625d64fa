//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

const (
	millionEvents = 1_000_000
	millionRate   = 25_000 // events a second, so that the writing lasts longer than the crashes
	millionKills  = 5
)

// seed is the environment's or a new one; it is printed either way.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("FIRN_TEST_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("FIRN_TEST_SEED: %v", err)
		}
		s = n
	}
	t.Logf("seed %d: FIRN_TEST_SEED=%d repeats it", s, s)
	return s
}

// TestMillionEvents: a million events into 8 partitions of a real Kafka, ingested into MinIO with a commit a second by
// a process that is killed five times at random moments. Nothing is lost and nothing doubled, says every engine.
func TestMillionEvents(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 0))
	kafka, minio := sharedServer(t, "kafka"), sharedServer(t, "minio")
	minio.makeBucket(t, "million")
	l := newLake(t, lakeOptions{warehouse: "s3://million/warehouse", kafka: kafka.addr(), topic: "million", minio: minio})
	l.generate(0 + 1) // the topic is made with its 8 partitions; the first event counts
	l.role("catalog")
	l.role("compact")
	l.role("query")
	ingest := l.role("ingest")

	began := time.Now()
	gen := launch(t, l.env, "generate", "-c", l.config, "--topic", "million", "--count", strconv.Itoa(millionEvents-1), "--rate", strconv.Itoa(millionRate), "--broken", "0", "--seed", "7")
	lasts := time.Duration(millionEvents/millionRate) * time.Second
	moments := make([]time.Duration, millionKills)
	for i := range moments {
		moments[i] = time.Duration(rnd.Int64N(int64(lasts)))
	}
	slices.Sort(moments)
	for _, at := range moments {
		time.Sleep(time.Until(began.Add(at)))
		ingest.kill()
		t.Logf("killed ingest after %s", time.Since(began).Round(time.Millisecond))
		ingest = l.role("ingest")
	}
	<-gen.done
	if gen.err != nil {
		t.Fatalf("firn generate: %v\n%s", gen.err, gen.out)
	}
	t.Logf("%d events written in %s", millionEvents, time.Since(began).Round(time.Millisecond))
	l.untilCommitted(millionEvents, 5*time.Minute)
	t.Logf("all of them committed after %s", time.Since(began).Round(time.Millisecond))
	ingest.stop()

	const pairs = "select count(distinct (_kafka_partition, _kafka_offset)) from " + table
	if n, err := l.count(pairs, "--level", "committed"); err != nil || n != millionEvents {
		t.Errorf("firn sql: %d distinct partition and offset, %v", n, err)
	}
	access, secret := minio.keys(t)
	var others map[string][2]int64
	out := pythonRun(t, "count.py", l.catalogURI(), table, "http://"+minio.addr(), access, secret)
	if err := json.Unmarshal([]byte(out), &others); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, engine := range []string{"pyiceberg", "duckdb"} {
		if got, want := others[engine], [2]int64{millionEvents, millionEvents}; got != want {
			t.Errorf("%s: %d rows, %d distinct partition and offset", engine, got[0], got[1])
		}
	}
	l.audit()
	fmt.Println("million events:", l.must("tables"))
}
