package source

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTopic = "events"

var quiet = slog.New(slog.DiscardHandler)

// cluster starts an in-process Kafka that ends with the test.
func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func configOf(c *kfake.Cluster) Config {
	return Config{Brokers: c.ListenAddrs(), FetchMaxWait: units.Duration(20 * time.Millisecond), RequestTimeout: units.Duration(2 * time.Second)}
}

// franz returns the other client, which ends with the test.
func franz(t testing.TB, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func newSource(t testing.TB, cfg Config, o Options) *Source {
	t.Helper()
	if o.Topic == "" {
		o.Topic = testTopic
	}
	s, err := New(cfg, o, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// row is a record as both clients see it, with own memory.
func row(o, ts int64, key, value []byte, headers string) string {
	null := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%d@%d %s=%s %s", o, ts, null(key), null(value), headers)
}

func headersOf(t testing.TB, r engine.Record) string {
	t.Helper()
	var out []string
	at := 0
	b := r.HeaderBytes
	for range r.HeaderCount {
		n, p := varint(b, at)
		key := string(b[p : p+int(n)])
		v, q := varint(b, p+int(n))
		value := []byte(nil)
		if v >= 0 {
			value = b[q : q+int(v)]
			q += int(v)
		}
		out = append(out, fmt.Sprintf("%s:%q", key, value))
		at = q
	}
	if at != len(b) {
		t.Fatalf("headers end at %d of %d bytes", at, len(b))
	}
	return strings.Join(out, ",")
}

// log collects what a source hands out and holds it against the contract.
type collected struct {
	rows             map[int32][]string
	next             offset.Vector
	control, aborted int64
}

func collector(from offset.Vector) *collected {
	return &collected{rows: map[int32][]string{}, next: from.Clone()}
}

func (c *collected) add(t testing.TB, f *engine.Fetch) {
	t.Helper()
	if at, known := c.next[f.Partition]; known && at != f.Start {
		t.Fatalf("partition %d: a stretch starts at %d after one that ended at %d", f.Partition, f.Start, at)
	}
	if f.End <= f.Start {
		t.Fatalf("partition %d: empty stretch [%d,%d)", f.Partition, f.Start, f.End)
	}
	if f.End > f.LastStable || f.FetchedAt.IsZero() {
		t.Fatalf("partition %d: stretch ends at %d, last stable offset %d, fetched at %v", f.Partition, f.End, f.LastStable, f.FetchedAt)
	}
	last := f.Start - 1
	for _, r := range f.Records {
		if r.Offset <= last || r.Offset >= f.End {
			t.Fatalf("partition %d: offset %d after %d in [%d,%d)", f.Partition, r.Offset, last, f.Start, f.End)
		}
		last = r.Offset
		c.rows[f.Partition] = append(c.rows[f.Partition], row(r.Offset, r.TimestampMs, r.Key, r.Value, headersOf(t, r)))
	}
	c.next[f.Partition] = f.End
	c.control += f.Control
	c.aborted += f.Aborted
	f.Release()
	f.Release() // twice is once
}

// until polls until every partition has reached its end.
func (c *collected) until(t testing.TB, s *Source, end offset.Vector) {
	t.Helper()
	ctx := within(t, 15*time.Second)
	for !c.reached(end) {
		f, err := s.Poll(ctx)
		if err != nil {
			t.Fatalf("poll: %v; read %s of %s; health %v", err, c.next, end, s.Health())
		}
		c.add(t, f)
	}
}

func (c *collected) reached(end offset.Vector) bool {
	for p, o := range end {
		if c.next[p] < o && !(o == 0 && c.next[p] == 0) {
			return false
		}
	}
	return true
}

// stableEnds asks the other client for the last stable offsets.
func stableEnds(t testing.TB, cl *kgo.Client, topic string) offset.Vector {
	t.Helper()
	v := offset.Vector{}
	for attempt := 0; ; attempt++ { // leaders may have moved since the other client last looked
		ends, err := kadm.NewClient(cl).ListCommittedOffsets(within(t, 10*time.Second), topic)
		if err == nil {
			err = ends.Error()
		}
		if err == nil {
			ends.Each(func(o kadm.ListedOffset) { v[o.Partition] = o.Offset })
			break
		}
		if attempt == 20 {
			t.Fatal(err)
		}
		cl.ForceMetadataRefresh()
		time.Sleep(100 * time.Millisecond)
	}
	return v
}

// oracle reads the same log read_committed with franz-go, from the same offsets to the same ends.
func oracle(t testing.TB, brokers []string, topic string, from, end offset.Vector) map[int32][]string {
	t.Helper()
	starts := map[int32]kgo.Offset{}
	for p := range end {
		starts[p] = kgo.NewOffset().AtStart()
		if at, ok := from[p]; ok {
			starts[p] = kgo.NewOffset().At(at)
		}
	}
	cl := franz(t, brokers, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	rows, at := map[int32][]string{}, offset.Vector{}
	// Aborted records just below an end whose marker lies above it never show: then only quiet says that all was read.
	// On a slow machine a partition's first answer may take long: until then the quiet must be, too.
	deadline, seen := time.Now().Add(60*time.Second), time.Time{}
	quiet := 10 * time.Second
	for time.Now().Before(deadline) && (seen.IsZero() || time.Since(seen) < quiet) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		fs := cl.PollFetches(ctx)
		cancel()
		fs.EachRecord(func(r *kgo.Record) {
			seen = time.Now()
			at[r.Partition] = r.Offset + 1
			if r.Attrs.IsControl() || r.Offset >= end[r.Partition] {
				return
			}
			var hs []string
			for _, h := range r.Headers {
				hs = append(hs, fmt.Sprintf("%s:%q", h.Key, h.Value))
			}
			rows[r.Partition] = append(rows[r.Partition], row(r.Offset, r.Timestamp.UnixMilli(), r.Key, r.Value, strings.Join(hs, ",")))
		})
		done, shown := true, true
		for p, o := range end {
			ended := at[p] >= o || from[p] == o
			done, shown = done && ended, shown && (ended || at[p] > 0)
		}
		if done {
			break
		}
		if shown {
			quiet = 2 * time.Second
		}
	}
	cl.Close()
	return rows
}

func sameRows(t testing.TB, got, want map[int32][]string) {
	t.Helper()
	partitions := slices.Sorted(maps.Keys(want))
	for p := range got {
		if !slices.Contains(partitions, p) {
			t.Errorf("partition %d: %d records, want none", p, len(got[p]))
		}
	}
	for _, p := range partitions {
		if slices.Equal(got[p], want[p]) {
			continue
		}
		at := 0
		for at < min(len(got[p]), len(want[p])) && got[p][at] == want[p][at] {
			at++
		}
		show := func(rows []string) string {
			if at < len(rows) {
				return rows[at][:min(len(rows[at]), 200)]
			}
			return "nothing"
		}
		t.Errorf("partition %d: %d records, want %d; first difference at %d: %s, want %s", p, len(got[p]), len(want[p]), at, show(got[p]), show(want[p]))
	}
}
