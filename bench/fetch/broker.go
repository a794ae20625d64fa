package fetch

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// brokerEnv makes this program the broker, in a process of its own, until its standard input ends.
const brokerEnv = "FIRN_BENCH_BROKER"

// serve is the broker's process. It prints its address.
func serve(stdin io.Reader, stdout io.Writer, partitions int32) error {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics()...))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintln(stdout, c.ListenAddrs()[0]); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// startBroker starts this program as a broker and returns its address and how to end it.
func startBroker(ctx context.Context, partitions int) (addr string, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "fetch")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", brokerEnv, partitions))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("the broker did not say where it is: %w", err), stop())
	}
	return strings.TrimSpace(line), stop, nil
}

// codecs are the compressions that are measured.
var codecs = []struct {
	name  string
	codec kgo.CompressionCodec
}{{"none", kgo.NoCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}}

func topic(codec string) string { return "bench_fetch_" + codec }

func topics() []string {
	out := make([]string, len(codecs))
	for i, c := range codecs {
		out[i] = topic(c.name)
	}
	return out
}

// checksum is what a reader must have seen.
type checksum struct {
	events  int64
	offsets int64  // sum
	values  uint64 // sum of each value's length and its first and last 8 bytes
}

func (c *checksum) add(offset int64, value []byte) {
	c.events++
	c.offsets += offset
	c.values += uint64(len(value))
	if len(value) >= 8 {
		c.values += binary.LittleEndian.Uint64(value) + binary.LittleEndian.Uint64(value[len(value)-8:])
	}
}

func (c *checksum) merge(o checksum) {
	c.events += o.events
	c.offsets += o.offsets
	c.values += o.values
}

// produce fills the topic of a codec from a seed and returns what a reader must see. The values are JSON-like text, so
// that they compress about as events do.
func produce(ctx context.Context, addr, name string, codec kgo.CompressionCodec, o options) (checksum, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(512<<10), kgo.MaxBufferedRecords(20_000))
	if err != nil {
		return checksum{}, err
	}
	defer cl.Close()
	rnd := rand.New(rand.NewPCG(uint64(o.Seed), 1))
	var want checksum
	var first error
	for i := range o.events {
		value := event(rnd, o.bytes)
		want.add(int64(i/o.partitions), value)
		cl.Produce(ctx, &kgo.Record{Topic: topic(name), Partition: int32(i % o.partitions), Key: fmt.Appendf(nil, "u%d", rnd.IntN(10_000)), Value: value},
			func(_ *kgo.Record, err error) {
				if err != nil && first == nil {
					first = err
				}
			})
	}
	if err := cl.Flush(ctx); err != nil {
		return checksum{}, err
	}
	return want, first
}

// event is a value of n bytes.
func event(rnd *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+64)
	b = fmt.Appendf(b, `{"schema_version":3,"event_id":"%016x%016x","event_type":"page_view","key":{"user_id":"u%d","session_id":"s%d"},"payload":{"page":"/p/%d","referrer":"google"},"metadata":{"event_timestamp":"2026-06-04T11:01:%02d.%03dZ","source":"web-frontend"},"pad":"`,
		rnd.Uint64(), rnd.Uint64(), rnd.IntN(100_000), rnd.IntN(1_000_000), rnd.IntN(500), rnd.IntN(60), rnd.IntN(1000))
	for len(b) < n-2 {
		b = append(b, byte('a'+rnd.IntN(16)))
	}
	return append(b, `"}`...)
}
