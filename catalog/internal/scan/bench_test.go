package scan

import (
	"fmt"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog/internal/scan/scantest"
	"github.com/firnlake/firn/internal/objstore"
)

// BenchmarkPlan plans over 100 manifests of 100 files each, on local disk: all files, and those that a filter on a
// column leaves, which only their metrics tell.
func BenchmarkPlan(b *testing.B) {
	l := evolved(b, "2")
	store, err := objstore.NewLocal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	l.WH = &objstore.Warehouse{Store: store, URI: l.WH.URI}
	sp := specs[1]
	var groups [][]iceberg.DataFile
	for m := range int64(100) {
		var files []iceberg.DataFile
		for f := range int64(100) {
			n := m*100 + f
			files = append(files, l.DataFile(sp, []scantest.Row{{n, n * 3600e6, fmt.Sprintf("name %05d", n), float64(n), n / 24, n % 7, n, n % 2, "x"}}))
		}
		groups = append(groups, files)
	}
	at := l.Append(sp, groups...)
	limits := wide()
	limits.PageFiles, limits.Examine, limits.Readers, limits.Cache, limits.Reading = 20_000, 100_000, 8, 64<<20, 64<<20
	for name, filter := range map[string]string{"all": `true`, "id": `{"type":"and","left":{"type":"gt-eq","term":"id","value":5000},"right":{"type":"lt","term":"id","value":5050}}`,
		"day": `{"type":"eq","term":"at","value":"1970-07-27T08:00:00+00:00"}`} {
		f, err := ParseFilter([]byte(filter), l.Meta.CurrentSchema(), true, 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		s := Scan{Meta: l.Meta, Snapshot: l.Meta.SnapshotByID(at), Schema: l.Meta.CurrentSchema(), Filter: f}
		for _, warm := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/warm=%t", name, warm), func(b *testing.B) {
				p := New(l.WH, limits)
				files := 0
				for b.Loop() {
					if !warm {
						p = New(l.WH, limits)
					}
					page, rest, err := p.Plan(b.Context(), s)
					if err != nil || rest != nil {
						b.Fatal(err, rest)
					}
					files = len(page.Files)
				}
				b.ReportMetric(float64(files), "files")
				b.ReportMetric(float64(p.files.Weight()), "cached-B")
			})
		}
	}
}
