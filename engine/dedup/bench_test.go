package dedup

import (
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

// given is a decoder whose rows are there already, so that what is measured is what deduplication adds.
type given struct {
	*plain
	rows arrow.RecordBatch
}

func (g *given) Decode(f *engine.Fetch) (engine.Decoded, error) {
	g.rows.Retain()
	return engine.Decoded{Range: offset.Range{Partition: f.Partition, Start: f.Start, End: f.End}, Rows: g.rows, LastRow: f.End - 1}, nil
}

// BenchmarkDecode is a stream of new ids of 36 bytes at 10,000 a second, with a million of them in the window.
func BenchmarkDecode(b *testing.B) {
	const batch, perSecond = 10_000, 10_000
	g := &given{plain: newPlain(b, memory.DefaultAllocator)}
	now := time.Unix(0, 0)
	d, err := New(Config{Column: "id", Window: units.Duration(80 * time.Second), MaxIDs: 4_000_000}, g, &lake{dec: g.plain}, Options{Seed: 1, Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	if err := d.Resume(b.Context(), engine.State{}); err != nil {
		b.Fatal(err)
	}
	at := int64(0)
	step := func() {
		es := make([]event, batch)
		for i := range es {
			o := at + int64(i)
			es[i] = event{0, o, fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(o*2654435761), o), o * 1000 / perSecond}
		}
		g.rows = g.plain.rows(es)
		b.StartTimer()
		o, err := d.Decode(&engine.Fetch{Start: at, End: at + batch})
		b.StopTimer()
		if err != nil || len(o.Duplicates) > 0 {
			b.Fatal(err, len(o.Duplicates))
		}
		o.Rows.Release()
		g.rows.Release()
		at += batch
		d.Committed(offset.Vector{0: at})
		now = now.Add(batch * time.Second / perSecond)
	}
	for range 150 {
		step()
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	for range b.N {
		step()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/event")
	b.ReportMetric(float64(d.window.n), "ids")
	b.ReportMetric(float64(d.window.bytes())/float64(d.window.n), "B/id")
}
