package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firnlake/firn/internal/units"
)

// offsets asks for the offset of a timestamp; -1 is the end, -2 the start.
func offsets(t *testing.T, addr string, ts int64) map[int32]int64 {
	t.Helper()
	c := client(t, addr)
	defer c.Close()
	list := kadm.NewClient(c).ListStartOffsets
	if ts == -1 {
		list = kadm.NewClient(c).ListEndOffsets
	}
	ls, err := list(t.Context(), testTopic)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int32]int64{}
	ls.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		out[o.Partition] = o.Offset
	})
	return out
}

type identity struct {
	cluster string
	topic   kadm.TopicID
	epochs  map[int32]int32
}

func identityOf(t *testing.T, addr string) identity {
	t.Helper()
	c := client(t, addr)
	defer c.Close()
	m, err := kadm.NewClient(c).Metadata(t.Context(), testTopic)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{cluster: m.Cluster, topic: m.Topics[testTopic].ID, epochs: map[int32]int32{}}
	for p, d := range m.Topics[testTopic].Partitions {
		id.epochs[p] = d.LeaderEpoch
	}
	return id
}

func (a identity) equal(b identity) bool {
	return a.cluster == b.cluster && a.topic == b.topic && maps.Equal(a.epochs, b.epochs)
}

func TestStopAndStartLoseNothing(t *testing.T) {
	dir := t.TempDir()
	want := map[place]string{}
	var first identity
	for round := range 3 {
		b := mustStart(t, testConfig(dir), options{})
		id := identityOf(t, b.Addr())
		if round == 0 {
			first = id
			if len(first.cluster) != 22 {
				t.Errorf("cluster id %q", first.cluster)
			}
		}
		if !id.equal(first) {
			t.Errorf("identity %+v, at first %+v", id, first)
		}
		if got := readAll(t, b.Addr()); !maps.Equal(got, want) {
			t.Fatalf("round %d: %d records, want %d", round, len(got), len(want))
		}
		c := client(t, b.Addr())
		for i := range 60 {
			v := fmt.Sprintf("round %d record %d %s", round, i, strings.Repeat("x", 3000))
			p := int32(i % testPartitions)
			want[place{p, produce(t, c, p, v)}] = v
		}
		c.Close()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal("second close:", err)
		}
		if err := b.EnsureTopic(t.Context(), "x", 1); !errors.Is(err, ErrClosed) {
			t.Error("after close:", err)
		}
	}
}

// The one that matters: what was acknowledged is there, whatever the moment of the kill.
func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	acked := map[place]string{}
	var first identity
	for round := range 4 {
		addr, kill := startChild(t, dir)
		if round == 0 {
			first = identityOf(t, addr)
		} else if id := identityOf(t, addr); !id.equal(first) {
			t.Fatalf("identity %+v, at first %+v", id, first)
		}
		got := readAll(t, addr)
		for at, v := range acked {
			if got[at] != v {
				t.Fatalf("round %d: the record at %+v is %q, acknowledged was %q", round, at, got[at], v)
			}
		}
		c := client(t, addr)
		var mu sync.Mutex
		ctx, cancel := context.WithCancel(t.Context())
		var producers sync.WaitGroup
		for w := range 3 {
			producers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					v := fmt.Sprintf("%d/%d/%d %s", round, w, i, strings.Repeat("y", 1000))
					p := int32(i % testPartitions)
					r, err := c.ProduceSync(ctx, &kgo.Record{Partition: p, Value: []byte(v)}).First()
					if err != nil {
						continue
					}
					mu.Lock()
					acked[place{p, r.Offset}] = v
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(100+rng.IntN(300)) * time.Millisecond)
		kill()
		cancel()
		c.Close() // ends what waits for an acknowledgement that will not come
		producers.Wait()
	}
	if len(acked) < 100 {
		t.Fatalf("only %d records: the test proves nothing", len(acked))
	}
	b := mustStart(t, testConfig(dir), options{})
	got := readAll(t, b.Addr())
	for at, v := range acked {
		if got[at] != v {
			t.Fatalf("the record at %+v is %q, acknowledged was %q", at, got[at], v)
		}
	}
	t.Logf("%d acknowledged, %d in the log", len(acked), len(got))
}

func TestNearlyFullDiskRefusesAndRecovers(t *testing.T) {
	var mu sync.Mutex
	free := int64(1 << 30)
	set := func(n int64) { mu.Lock(); free = n; mu.Unlock() }
	cfg := testConfig(t.TempDir())
	cfg.DiskReserve = 64 << 20
	b := mustStart(t, cfg, options{free: func(string) (int64, error) { mu.Lock(); defer mu.Unlock(); return free, nil }})
	c := client(t, b.Addr())
	if off := produce(t, c, 0, "before"); off != 0 {
		t.Fatal(off)
	}
	for range 2 {
		set(63 << 20)
		waitFor(t, func() bool { return b.Health() != nil })
		if err := b.Health(); !errors.Is(err, ErrDiskLow) || !strings.Contains(err.Error(), "63MiB free, 64MiB kept in reserve") {
			t.Error(err)
		}
		resp := produceRaw(t, c, -1)
		if e := kerr.ErrorForCode(resp.ErrorCode); !errors.Is(e, kerr.KafkaStorageError) || !kerr.IsRetriable(e) || resp.ErrorMessage == nil {
			t.Fatalf("refused with %v, %v", e, resp.ErrorMessage)
		}
		if err := b.EnsureTopic(t.Context(), "another", 1); !errors.Is(err, ErrDiskLow) {
			t.Error("topic made on a full disk:", err)
		}
		if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, 1, nil, "another"); !errors.Is(err, kerr.KafkaStorageError) {
			t.Error("topic made on a full disk:", err)
		}
		set(70 << 20)
		time.Sleep(2 * diskInterval)
		if b.Health() == nil {
			t.Error("served again with hardly more than the reserve")
		}
		set(90 << 20)
		waitFor(t, func() bool { return b.Health() == nil })
		if resp := produceRaw(t, c, -1); resp.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(resp.ErrorCode))
		}
	}
	if got := len(readAll(t, b.Addr())); got != 3 {
		t.Errorf("%d records, want the three that were acknowledged", got)
	}
	if n := b.refused.Load(); n != 2 {
		t.Errorf("%d refused", n)
	}
}

// produceRaw sends one record without any retry.
func produceRaw(t *testing.T, c *kgo.Client, acks int16) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = testTopic, topicID(t, c)
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batchOf("raw")
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0]
}

func topicID(t *testing.T, c *kgo.Client) [16]byte {
	t.Helper()
	m, err := kadm.NewClient(c).Metadata(t.Context(), testTopic)
	if err != nil {
		t.Fatal(err)
	}
	return m.Topics[testTopic].ID
}

// A disk that is full in truth: files cannot grow beyond a limit. Producers get errors, nothing that was acknowledged is
// lost, readers at the end are served, nothing panics.
func TestFailedWritesAreErrorsAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	addr, kill := startChild(t, dir, childFileSize+"=50000")
	c := client(t, addr)
	acked := map[place]string{}
	failed := 0
	for i := range 40 {
		v := fmt.Sprintf("%d %s", i, strings.Repeat("w", 4000))
		r, err := c.ProduceSync(t.Context(), &kgo.Record{Value: []byte(v)}).First()
		if err != nil {
			failed++
			continue
		}
		acked[place{0, r.Offset}] = v
	}
	if failed == 0 || len(acked) == 0 {
		t.Fatalf("%d acknowledged, %d failed: the limit did not bite", len(acked), failed)
	}
	if got := readAll(t, addr); !maps.Equal(got, acked) {
		t.Errorf("%d records, acknowledged %d", len(got), len(acked))
	}
	c.Close()
	kill()
	b := mustStart(t, testConfig(dir), options{})
	if got := readAll(t, b.Addr()); !maps.Equal(got, acked) {
		t.Errorf("after the restart: %d records, acknowledged %d", len(got), len(acked))
	}
	if off := produce(t, client(t, b.Addr()), 0, "room again"); off != int64(len(acked)) {
		t.Errorf("the next record is at %d, want %d", off, len(acked))
	}
}

func TestBusyPortAndBusyDirectory(t *testing.T) {
	dir := t.TempDir()
	b := mustStart(t, testConfig(dir), options{})
	cfg := testConfig(t.TempDir())
	cfg.Listen = b.Addr()
	_, err := Start(t.Context(), cfg, nil)
	if !errors.Is(err, ErrPortBusy) || !strings.Contains(err.Error(), b.Addr()) || !strings.Contains(err.Error(), "--broker-port") {
		t.Error(err)
	}
	_, err = Start(t.Context(), testConfig(dir), nil)
	if !errors.Is(err, ErrDirInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(err.Error(), "--data") {
		t.Error(err)
	}
	// A failed start gives everything back.
	cfg.Listen = "127.0.0.1:0"
	mustStart(t, cfg, options{})

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), testConfig(filepath.Join(file, "x")), nil); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Error(err)
	}
}

// A state that cannot be read stops the start, and gives port and directory back.
func TestDamagedStateStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	b := mustStart(t, testConfig(dir), options{})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(dir, logDirName, "meta.json")
	good, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(meta, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), testConfig(dir), nil); err == nil || !strings.Contains(err.Error(), "meta.json") || !strings.Contains(err.Error(), "move the directory away") {
		t.Error(err)
	}
	if err := os.WriteFile(meta, good, 0o644); err != nil {
		t.Fatal(err)
	}
	mustStart(t, testConfig(dir), options{})
}

func TestForeignBytesEndOneConnectionOnly(t *testing.T) {
	cfg := testConfig(t.TempDir())
	b := mustStart(t, cfg, options{})
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for name, bytes := range map[string][]byte{
		"http":            []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"tls":             {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 0x00},
		"noise":           noise,
		"unknown key":     {0, 0, 0, 16, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0},
		"negative key":    {0, 0, 0, 16, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0},
		"unknown version": {0, 0, 0, 16, 0, 3, 0x7f, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0},
		"too short":       {0, 0, 0, 4, 0, 3, 0, 0},
		"cut metadata":    {0, 0, 0, 12, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
	} {
		c, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(bytes); err != nil {
			t.Fatal(name, err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		var one [1]byte
		if _, err := c.Read(one[:]); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is not closed: %v", name, err)
		}
		_ = c.Close()
	}
	produce(t, client(t, b.Addr()), 0, "still here")
	waitFor(t, func() bool { return b.listener.rejected.Load() >= 6 })
}

func TestConnectionsAreBounded(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.MaxConnections = 3
	b := mustStart(t, cfg, options{})
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	waitFor(t, func() bool { return b.listener.open.Load() == 3 })
	c, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	var one [1]byte
	if _, err := c.Read(one[:]); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a fourth connection is kept:", err)
	}
	_ = c.Close()
	for _, c := range open {
		_ = c.Close()
	}
	waitFor(t, func() bool { return b.listener.open.Load() == 0 })
	produce(t, client(t, b.Addr()), 0, "room")
}

// A fetch that waits is woken by a record, not by its deadline.
func TestFetchWakesOnProduce(t *testing.T) {
	b := mustStart(t, testConfig(t.TempDir()), options{})
	const maxWait = 5 * time.Second
	c := client(t, b.Addr(), kgo.FetchMaxWait(maxWait), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{testTopic: {0: kgo.NewOffset().At(0)}}))
	p := client(t, b.Addr())
	var took []time.Duration
	for i := range 60 {
		time.Sleep(3 * time.Millisecond) // the fetch waits again
		began := time.Now()
		produce(t, p, 0, fmt.Sprint(i))
		f := c.PollFetches(t.Context())
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		if f.NumRecords() != 1 || string(f.Records()[0].Value) != fmt.Sprint(i) {
			t.Fatalf("%d records", f.NumRecords())
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("produce to fetched: p50 %v p95 %v max %v", took[30], took[57], took[59])
	if took[30] > maxWait/20 {
		t.Errorf("half of the records took longer than %v", took[30])
	}
}

func TestTopicsAreChecked(t *testing.T) {
	b := mustStart(t, testConfig(t.TempDir()), options{})
	for name, parts := range map[string]int{"": 1, ".": 1, "a/b": 1, "a b": 1, strings.Repeat("x", 250): 1, "ok": 0, "ok2": maxPartitions + 1} {
		if err := b.EnsureTopic(t.Context(), name, parts); err == nil {
			t.Errorf("topic %q with %d partitions was made", name, parts)
		}
	}
	if err := b.EnsureTopic(t.Context(), testTopic, 7); err != nil {
		t.Error("a topic that is there:", err)
	}
	if n := len(offsets(t, b.Addr(), -1)); n != testPartitions {
		t.Errorf("%d partitions", n)
	}
	adm := kadm.NewClient(client(t, b.Addr()))
	if _, err := adm.CreateTopic(t.Context(), maxPartitions+1, 1, nil, "large"); !errors.Is(err, kerr.InvalidPartitions) {
		t.Error(err)
	}
	for range 3 { // a control that is replaced at each request still works
		if res, err := adm.CreatePartitions(t.Context(), maxPartitions, testTopic); err != nil || !errors.Is(res[testTopic].Err, kerr.InvalidPartitions) {
			t.Error(err, res)
		}
	}
	if _, err := adm.CreateTopic(t.Context(), 2, 1, nil, "from-a-client"); err != nil {
		t.Error(err)
	}
	if c := client(t, b.Addr(), kgo.UnknownTopicRetries(0), kgo.AllowAutoTopicCreation()); c.ProduceSync(t.Context(), &kgo.Record{Topic: "unknown", Value: []byte("x")}).FirstErr() == nil {
		t.Error("a topic was made by producing into it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.EnsureTopic(ctx, "late", 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAdvertisedAddress(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Advertise = "broker.example:19092"
	b := mustStart(t, cfg, options{})
	if b.Addr() != cfg.Advertise {
		t.Error(b.Addr())
	}
	c := client(t, b.listener.Listener.Addr().String())
	m, err := kadm.NewClient(c).BrokerMetadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := m.Brokers[0]; d.Host != "broker.example" || d.Port != 19092 {
		t.Errorf("%+v", d)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Dir: "x"}.WithDefaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if again := good.WithDefaults(); again != good {
		t.Errorf("%+v", again)
	}
	for want, change := range map[string]func(*Config){
		"listen: ":             func(c *Config) { c.Listen = "x" },
		"no port":              func(c *Config) { c.Listen = "127.0.0.1:99999" },
		"allow_anonymous":      func(c *Config) { c.Listen = "192.0.2.1:9092" },
		"advertise: ":          func(c *Config) { c.Listen, c.AllowAnonymous = "0.0.0.0:9092", true },
		"is not host:port":     func(c *Config) { c.Advertise = "host" },
		"within 1 to 65535":    func(c *Config) { c.Advertise = "host:0" },
		"dir: ":                func(c *Config) { c.Dir = "" },
		"segment_bytes: ":      func(c *Config) { c.SegmentBytes = 1 },
		"retention_bytes: ":    func(c *Config) { c.RetentionBytes = c.SegmentBytes },
		"retention_time: ":     func(c *Config) { c.RetentionTime = units.Duration(time.Millisecond) },
		"retention_interval: ": func(c *Config) { c.RetentionInterval = units.Duration(2 * time.Hour) },
		"disk_reserve: ":       func(c *Config) { c.DiskReserve = -1 },
		"max_connections: ":    func(c *Config) { c.MaxConnections = -1 },
		"max_request_bytes: ":  func(c *Config) { c.MaxRequestBytes = 1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	wide := good
	wide.Listen, wide.Advertise, wide.AllowAnonymous = "0.0.0.0:9092", "host:9092", true
	if err := wide.Validate(); err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

func diskUse(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}
