package broker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/firnlake/firn/internal/units"
)

// childDir, when set, makes the test binary a broker on that directory, which its parent may kill. childFileSize bounds
// the size of every file that it writes, which is the portable full disk.
const (
	childDir      = "FIRN_BROKER_TEST_DIR"
	childFileSize = "FIRN_BROKER_TEST_FSIZE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

func child(dir string) int {
	if s := os.Getenv(childFileSize); s != "" {
		var n uint64
		if _, err := fmt.Sscan(s, &n); err != nil {
			fmt.Println(err)
			return 1
		}
		signal.Ignore(syscall.SIGXFSZ) // a write beyond the limit is then an error, as on a full disk
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	cfg := testConfig(dir)
	b, err := Start(context.Background(), cfg, nil)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	if err := b.EnsureTopic(context.Background(), testTopic, testPartitions); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(b.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // the parent lives
	return 0
}

// startChild runs a broker in a process of its own and returns its address. It ends by kill or with the test.
func startChild(t *testing.T, dir string, env ...string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childDir+"="+dir), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	kill = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	buf := make([]byte, 4096)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal("the child said nothing:", err)
	}
	addr = strings.TrimSpace(string(buf[:n]))
	if strings.Contains(addr, "error") {
		t.Fatal(addr)
	}
	return addr, kill
}

const (
	testTopic      = "events"
	testPartitions = 3
)

func testConfig(dir string) Config {
	return Config{Listen: "127.0.0.1:0", Dir: dir, SegmentBytes: 64 << 10, RetentionBytes: 1 << 20, RetentionInterval: units.Duration(20 * time.Millisecond), DiskReserve: 1}
}

func mustStart(t *testing.T, cfg Config, opt options) *Broker {
	t.Helper()
	if opt.now == nil {
		opt.now = time.Now
	}
	if opt.free == nil {
		opt.free = freeBytes
	}
	b, err := start(t.Context(), cfg, slog.New(slog.DiscardHandler), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.EnsureTopic(t.Context(), testTopic, testPartitions); err != nil {
		t.Fatal(err)
	}
	return b
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(testTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RetryTimeout(20 * time.Second), kgo.MetadataMinAge(20 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// produce writes one record and returns its offset.
func produce(t *testing.T, c *kgo.Client, partition int32, value string) int64 {
	t.Helper()
	r, err := c.ProduceSync(t.Context(), &kgo.Record{Partition: partition, Value: []byte(value)}).First()
	if err != nil {
		t.Fatal(err)
	}
	return r.Offset
}

type place struct {
	partition int32
	offset    int64
}

// readAll returns every record that the broker has, up to the ends when it began.
func readAll(t *testing.T, addr string) map[place]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ends := offsets(t, addr, -1)
	starts := offsets(t, addr, -2)
	from := map[int32]kgo.Offset{}
	want := int64(0)
	for p, end := range ends {
		if n := end - starts[p]; n > 0 {
			want += n
			from[p] = kgo.NewOffset().At(starts[p])
		}
	}
	out := map[place]string{}
	if want == 0 {
		return out
	}
	c := client(t, addr, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{testTopic: from}))
	defer c.Close()
	for int64(len(out)) < want {
		f := c.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(out), want, err)
		}
		f.EachRecord(func(r *kgo.Record) { out[place{r.Partition, r.Offset}] = string(r.Value) })
	}
	return out
}
