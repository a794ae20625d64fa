package broker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func benchBroker(b *testing.B, cfg Config) (*Broker, *kgo.Client) {
	b.Helper()
	br, err := Start(b.Context(), cfg, nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := br.EnsureTopic(b.Context(), testTopic, testPartitions); err != nil {
		b.Fatal(err)
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(br.Addr()), kgo.DefaultProduceTopic(testTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		b.Fatal(err)
	}
	return br, c
}

// BenchmarkStart is a start on a full log of the default size, after a stop and after a crash.
func BenchmarkStart(b *testing.B) {
	cfg := Config{Listen: "127.0.0.1:0", Dir: b.TempDir()}
	br, c := benchBroker(b, cfg)
	value := make([]byte, 400)
	const batch, batches = 40, 256 << 20 / (40 * 410) // 20 ms of 2,000 events a second each
	for i := range batches {
		recs := make([]*kgo.Record, batch)
		for j := range recs {
			recs[j] = &kgo.Record{Partition: int32(i % testPartitions), Value: value}
		}
		if err := c.ProduceSync(b.Context(), recs...).FirstErr(); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	if err := br.Close(); err != nil {
		b.Fatal(err)
	}
	for name, crashed := range map[string]bool{"stopped": false, "crashed": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if crashed {
					snapshots, err := filepath.Glob(filepath.Join(cfg.Dir, logDirName, partitionsDir, "*", "snapshot.json"))
					if err != nil || len(snapshots) != testPartitions {
						b.Fatal(snapshots, err)
					}
					for _, s := range snapshots {
						if err := os.Remove(s); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.StartTimer()
				br, err := Start(b.Context(), cfg, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(br.logBytes.Load())/(1<<20), "MiB")
				if err := br.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkProduce is one record to its acknowledgement.
func BenchmarkProduce(b *testing.B) {
	br, c := benchBroker(b, Config{Listen: "127.0.0.1:0", Dir: b.TempDir()})
	value := make([]byte, 400)
	for b.Loop() {
		if err := c.ProduceSync(b.Context(), &kgo.Record{Value: value}).FirstErr(); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	if err := br.Close(); err != nil {
		b.Fatal(err)
	}
}
