package commit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// BenchmarkCommit is one batch of 2,000 rows from 8 Kafka partitions, from Arrow to a snapshot in Firn's own catalog
// on SQLite, with the warehouse on local disk. The phases are reported per commit. Manifests are not merged here, as
// compaction would: a list grows to b.N manifests.
func BenchmarkCommit(b *testing.B) {
	for _, by := range [][]string{nil, {"day(meta.at)"}} {
		for _, how := range []string{"alone", "beside"} {
			b.Run(fmt.Sprintf("rows=2000/by=%d/%s", len(by), how), func(b *testing.B) {
				dir := b.TempDir()
				wh, err := objstore.Open(b.Context(), "file://"+dir+"/warehouse", objstore.Options{})
				if err != nil {
					b.Fatal(err)
				}
				s, err := server.New(b.Context(), server.Config{Store: "sqlite://" + dir + "/catalog.db"}, wh, nil, nil)
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close(context.Background())
				l := lakeIn(b, s.Service(), wh, by...)
				c := l.committer(l.cat)
				l.recover(c)
				phases := map[string]time.Duration{}
				at := int64(0)
				for b.Loop() {
					b.StopTimer()
					batch := l.batchOf(allRows, rng(0, at, at+250), rng(1, at, at+250), rng(2, at, at+250), rng(3, at, at+250),
						rng(4, at, at+250), rng(5, at, at+250), rng(6, at, at+250), rng(7, at, at+250))
					at += 250
					if how == "beside" { // a foreign commit before each of ours: a conflict and a second attempt
						l.rewrite(l.rows, false)
					}
					b.StartTimer()
					got, err := c.Commit(b.Context(), batch)
					b.StopTimer()
					release(batch)
					if err != nil {
						b.Fatal(err)
					}
					for p, d := range got.Phases {
						phases[p] += d
					}
					b.StartTimer()
				}
				for p, d := range phases {
					b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), p+"-ms/op")
				}
				b.ReportMetric(float64(2000*b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
