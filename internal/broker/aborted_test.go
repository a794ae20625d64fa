package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAbortedStayHiddenInCutResponses reads transactions, every second one aborted, through responses that end by their
// size, over all partitions and within one.
func TestAbortedStayHiddenInCutResponses(t *testing.T) {
	b := mustStart(t, testConfig(t.TempDir()), options{})
	addr := b.Addr()
	prod := client(t, addr, kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	const rounds, each, partitions = 20, 5, 3
	for i := range rounds {
		if err := prod.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for p := range int32(partitions) {
			for k := range each {
				value := append(fmt.Appendf(nil, "%t ", i%2 == 0), make([]byte, 600)...)
				value = fmt.Appendf(value, " %d %d %d", p, i, k)
				// One record a batch: the answer may end after each.
				if err := prod.ProduceSync(t.Context(), &kgo.Record{Topic: testTopic, Partition: p, Value: value}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := prod.EndTransaction(t.Context(), i%2 == 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int32{1, 5_000, 40_000, 1 << 20} {
		c := client(t, addr, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(size), kgo.FetchMaxPartitionBytes(min(size, 20_000)),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{testTopic: {0: kgo.NewOffset().AtStart(), 1: kgo.NewOffset().AtStart(), 2: kgo.NewOffset().AtStart()}}))
		got := 0
		for deadline := time.Now().Add(20 * time.Second); got < rounds/2*each*partitions && time.Now().Before(deadline); {
			c.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
				if got++; string(r.Value[:5]) != "true " {
					t.Errorf("%d B: partition %d offset %d was aborted", size, r.Partition, r.Offset)
				}
			})
		}
		if got != rounds/2*each*partitions {
			t.Errorf("%d B: %d records", size, got)
		}
		c.Close()
	}
}
