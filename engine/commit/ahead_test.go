package commit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	dto "github.com/prometheus/client_model/go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

// manyRows is a batch in which each partition's range comes in stretches, in turn.
func (l *lake) manyRows(stretch, rounds int64, from offset.Vector) *engine.Batch {
	l.Helper()
	b := l.batchOf(allRows)
	for p := range from {
		b.Ranges = append(b.Ranges, rng(p, from[p], from[p]+stretch*rounds))
		b.LastRow[p] = from[p] + stretch*rounds - 1
	}
	for i := range rounds {
		for p := range from {
			one := l.batchOf(allRows, rng(p, from[p]+i*stretch, from[p]+(i+1)*stretch))
			b.Rows, b.RowCount = append(b.Rows, one.Rows...), b.RowCount+one.RowCount
		}
	}
	return b
}

// rowsAhead is how many rows were taken over into commits.
func rowsAhead(t *testing.T, c *Committer) float64 {
	t.Helper()
	var d dto.Metric
	if err := c.m.ahead.WithLabelValues(c.cfg.Pipeline).Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue()
}

// TestEncodedAhead has batches encoded ahead to any point, or not, under changes of the table in between and recoveries that forget them: the table holds
// each row once, and what could be taken over was.
func TestEncodedAhead(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer checked.AssertSize(t, 0)
	l := newLake(t, "hour(meta.at)")
	l.mem = checked
	ctx := context.Background()
	c := l.committer(l.cat)
	at := offset.Vector{0: 0, 1: 0, 2: 0}
	l.recover(c)
	taken := 0
	for i := range 60 {
		b := l.manyRows(1+rnd.Int64N(9), 1+rnd.Int64N(4), at)
		for from := 0; from < len(b.Rows) && rnd.IntN(6) > 0; {
			to := min(from+1+rnd.IntN(4), len(b.Rows))
			c.EncodeAhead(ctx, b.Rows[from:to])
			from = to
		}
		ok := c.ahead != nil && !c.ahead.void
		switch rnd.IntN(8) {
		case 0: // what came is forgotten, and comes again
			l.recover(c)
			ok = false
		case 1: // another batch than the one that was begun
			release(b)
			b, ok = l.manyRows(1+rnd.Int64N(9), 1, at), false
		case 2:
			l.update(l.rows, table.NewSetPropertiesUpdate(iceberg.Properties{"write.parquet.compression-codec": []string{"zstd", "snappy"}[i%2]}))
			l.recover(c)
			ok = false
		}
		before := rowsAhead(t, c)
		done, err := c.Commit(ctx, b)
		l.must(err)
		if took := rowsAhead(t, c) > before; took != ok {
			t.Fatalf("batch %d: what was encoded ahead was taken over: %t, want %t", i, took, ok)
		}
		if ok {
			taken++
		}
		release(b)
		at = done.Offsets
	}
	if taken == 0 {
		t.Error("nothing was ever encoded ahead")
	}
	c.dropAhead()
	l.wantRows(l.rows, at, func(int32, int64) bool { return true })
}

// TestNotEncodedAhead names the batches whose files cannot be begun before all rows are there.
func TestNotEncodedAhead(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		sortBy []string
		rows   func(l *lake) []arrow.RecordBatch
	}{
		"sorted files": {[]string{"user"}, func(l *lake) []arrow.RecordBatch { return []arrow.RecordBatch{l.rowsOf(0, 0, 1, 2)} }},
		"more partitions than files may be open": {nil, func(l *lake) []arrow.RecordBatch {
			var far []int64
			for i := range int64(maxAheadFiles + 1) {
				far = append(far, 10*i)
			}
			return []arrow.RecordBatch{l.rowsOf(0, far...)}
		}},
		"rows that the table has to grow for": {nil, func(l *lake) []arrow.RecordBatch {
			fields := append(l.as.Fields()[:l.as.NumFields():l.as.NumFields()], arrow.Field{Name: "later", Type: arrow.PrimitiveTypes.Int64, Nullable: true,
				Metadata: arrow.NewMetadata([]string{"PARQUET:field_id"}, []string{fmt.Sprint(1 << 30)})})
			l.as = arrow.NewSchema(fields, nil)
			return []arrow.RecordBatch{l.rowsOf(0, 0, 1, 2)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLake(t, "hour(meta.at)")
			com := l.laid(l.cat, nil, c.sortBy)
			rows := c.rows(l)
			com.EncodeAhead(ctx, rows)
			if com.ahead == nil || !com.ahead.void {
				t.Fatal("it was encoded ahead")
			}
			last := rows[0].NumRows() - 1
			_, o, _ := ledgerColumns(rows[0])
			end := o.Value(int(last)) + 1
			b := &engine.Batch{ID: "0198c0de-0000-7000-8000-000000000001", Ranges: []offset.Range{rng(0, 0, end)}, LastRow: offset.Vector{0: end - 1}, Rows: rows, RowCount: last + 1, Opened: l.now}
			defer release(b)
			_, err := com.Commit(ctx, b)
			l.must(err)
			if n := rowsAhead(t, com); n != 0 {
				t.Errorf("%g rows were taken over", n)
			}
			if got := len(l.offsetsIn(l.rows)[0]); got != int(last+1) {
				t.Errorf("%d rows of %d", got, last+1)
			}
		})
	}
}
