//go:build integration || interop

package interop

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/internal/generate"
	"github.com/firnlake/firn/internal/offset"
)

const (
	partitions = 4
	// brokenShare becomes dead letters, so that most commits are of two tables.
	brokenShare = 0.05
)

// fate is what is to become of a record.
type fate byte

const (
	isRow fate = iota
	isDead
	isDeleted // by the other engine, on purpose
)

// producer writes events and knows what is to become of each offset.
type producer struct {
	t   *testing.T
	cl  *kgo.Client
	gen *generate.Generator

	mu    sync.Mutex // held while a batch is on its way, and while paused
	fates [partitions][]fate
	own   int64 // rows that the other engine wrote
	end   chan struct{}
	ended sync.WaitGroup
}

func newProducer(t *testing.T, addr string) *producer {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	p := &producer{t: t, cl: cl, gen: generate.NewGenerator(generate.Config{Seed: 1, Partitions: partitions, BrokenShare: brokenShare}.WithDefaults())}
	t.Cleanup(func() {
		p.stop()
		cl.Close()
	})
	return p
}

// write writes n events.
func (p *producer) write(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gen.Reset()
	fates := make([]fate, 0, n)
	for range n {
		f := isRow
		if _, broken := p.gen.Next(time.Now()); broken != 0 {
			f = isDead
		}
		fates = append(fates, f)
	}
	var recs []*kgo.Record
	for _, r := range p.gen.Batch() {
		recs = append(recs, &kgo.Record{Partition: r.Partition, Key: r.Key, Value: r.Value})
	}
	if err := p.cl.ProduceSync(p.t.Context(), recs...).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	for i, r := range recs {
		if at := int64(len(p.fates[r.Partition])); r.Offset != at {
			return fmt.Errorf("partition %d: a record went to offset %d, %d is next", r.Partition, r.Offset, at)
		}
		p.fates[r.Partition] = append(p.fates[r.Partition], fates[i])
	}
	return nil
}

// run writes n events each pace until stop.
func (p *producer) run(n int, pace time.Duration) {
	end := make(chan struct{})
	p.end = end
	p.ended.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if err := p.write(n); err != nil && p.t.Context().Err() == nil {
					p.t.Error(err)
					return
				}
			}
		}
	})
}

func (p *producer) stop() {
	if p.end != nil {
		close(p.end)
		p.ended.Wait()
		p.end = nil
	}
}

// removed notes what another engine deletes: the rows of one partition within [first, end).
func (p *producer) removed(partition int32, first, end int64) {
	of := p.fates[partition][first:end]
	for i, f := range of {
		if f == isRow {
			of[i] = isDeleted
		}
	}
}

func (p *producer) deleted() (n int64) {
	for _, of := range p.fates {
		for _, f := range of {
			if f == isDeleted {
				n++
			}
		}
	}
	return n
}

// ends are the log's end offsets, with the producer paused.
func (p *producer) ends() offset.Vector {
	v := offset.Vector{}
	for part, of := range p.fates {
		if len(of) > 0 {
			v[int32(part)] = int64(len(of))
		}
	}
	return v
}

// runs are a table's rows, as the other engine tells them: [first, end) of offsets by partition.
type runs struct {
	Rows, Own, Doubled int64
	Parts              map[int32][][2]int64
}

// expected is what the table is to hold, with the producer paused.
func (p *producer) expected() runs {
	return p.expectedBelow(p.ends(), p.own)
}

// expectedBelow is what the table held when offsets were committed, and own rows of the other engine.
func (p *producer) expectedBelow(offsets offset.Vector, own int64) runs {
	want := runs{Own: own, Rows: own, Parts: map[int32][][2]int64{}}
	for part, of := range p.fates {
		var out [][2]int64
		for o, f := range of[:offsets[int32(part)]] {
			if f != isRow {
				continue
			}
			want.Rows++
			if n := len(out); n > 0 && out[n-1][1] == int64(o) {
				out[n-1][1]++
			} else {
				out = append(out, [2]int64{int64(o), int64(o) + 1})
			}
		}
		if out != nil {
			want.Parts[int32(part)] = out
		}
	}
	return want
}

// diff names the first difference; empty when there is none.
func (r runs) diff(got runs) string {
	if got.Doubled != 0 {
		return fmt.Sprintf("%d rows are doubled", got.Doubled)
	}
	for p := range int32(partitions) {
		if a, b := r.Parts[p], got.Parts[p]; !slices.Equal(a, b) {
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					return fmt.Sprintf("partition %d: offsets %v were expected, %v are there", p, a[i:min(i+3, len(a))], b[i:min(i+3, len(b))])
				}
			}
			return fmt.Sprintf("partition %d: %d stretches of offsets were expected, %d are there", p, len(a), len(b))
		}
	}
	if r.Own != got.Own || r.Rows != got.Rows {
		return fmt.Sprintf("%d rows, %d of them without ledger, were expected; %d and %d are there", r.Rows, r.Own, got.Rows, got.Own)
	}
	if extra := slices.DeleteFunc(slices.Collect(maps.Keys(got.Parts)), func(p int32) bool { return p < partitions }); len(extra) > 0 {
		return fmt.Sprintf("partitions %v do not exist", extra)
	}
	return ""
}
