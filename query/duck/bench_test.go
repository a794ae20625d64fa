//go:build cgo

package duck

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/query"
)

// What the parts of a small query cost: go test -bench . ./query/duck
func BenchmarkParts(b *testing.B) {
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := open(settings{threads: 2, memory: 256 << 20})
			if err != nil {
				b.Fatal(err)
			}
			s.close()
		}
	})
	b.Run("inspect", func(b *testing.B) {
		e := engine(b)
		for b.Loop() {
			if _, err := e.Inspect(b.Context(), "select kind, count(*), sum(payload.amount) from analytics.events group by 1"); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, n := range []int{2_000, 20_000} {
		b.Run(fmt.Sprintf("hot=%d", n), func(b *testing.B) {
			rel := relation(b)
			rel.Hot = []arrow.RecordBatch{eventRows(b, 0, n)}
			for b.Loop() {
				if _, err := hotFile(rel); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSmallHotQuery(b *testing.B) {
	e := engine(b)
	rel := relation(b)
	rel.Hot = []arrow.RecordBatch{eventRows(b, 100, 2100)}
	for b.Loop() {
		if _, err := ask(b, e, query.Statement{SQL: "select kind, count(*), sum(payload.amount) from analytics.events group by 1", Relations: []query.Relation{rel}}); err != nil {
			b.Fatal(err)
		}
	}
}
