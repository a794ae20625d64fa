package batch

import (
	"errors"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

func stretch(mem memory.Allocator, p int32, start, end int64, kafka time.Time) engine.Decoded {
	b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "o", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer b.Release()
	for o := start; o < end; o++ {
		b.Field(0).(*array.Int64Builder).Append(o)
	}
	return engine.Decoded{Range: offset.Range{Partition: p, Start: start, End: end}, Rows: b.NewRecordBatch(), LastRow: end - 1, Bytes: end - start, MinKafka: kafka}
}

func TestCutMergesWhatTouches(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	b := New(Config{MaxRows: 8, MaxBytes: 1 << 20}, time.Now)
	defer b.Drop()
	if out, err := b.Cut(); out != nil || err != nil || !b.Empty() {
		t.Fatalf("an empty batch gave %v, %v", out, err)
	}
	early, late := time.UnixMilli(1000), time.UnixMilli(2000)
	for _, d := range []engine.Decoded{stretch(mem, 1, 5, 8, late), stretch(mem, 0, 0, 2, early), stretch(mem, 1, 8, 9, late)} {
		if err := b.Add(d.Range.Partition, d); err != nil {
			t.Fatal(err)
		}
	}
	if b.Full() || b.Bytes() == 0 {
		t.Errorf("6 rows of at most 8: full %v, %d bytes", b.Full(), b.Bytes())
	}
	out, err := b.Cut()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, r := range out.Rows {
			r.Release()
		}
	}()
	want := []offset.Range{{Partition: 0, Start: 0, End: 2}, {Partition: 1, Start: 5, End: 9}}
	if len(out.Ranges) != 2 || out.Ranges[0] != want[0] || out.Ranges[1] != want[1] {
		t.Errorf("ranges %v, want %v", out.Ranges, want)
	}
	if out.RowCount != 6 || out.LastRow[1] != 8 || out.LastRow[0] != 1 || !out.MinKafka.Equal(early) || out.ID == "" {
		t.Errorf("batch %+v", out)
	}
	if !b.Empty() || b.Bytes() != 0 {
		t.Error("the builder holds something after Cut")
	}
}

func TestAddRefusesGapsAndLeavesTheRowsWithTheCaller(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	b := New(DefaultConfig(), time.Now)
	defer b.Drop()
	if err := b.Add(0, stretch(mem, 0, 0, 4, time.Time{})); err != nil {
		t.Fatal(err)
	}
	gap := stretch(mem, 0, 5, 6, time.Time{})
	defer gap.Rows.Release()
	if err := b.Add(0, gap); !errors.Is(err, offset.ErrNotContiguous) {
		t.Errorf("a gap gave %v", err)
	}
	if err := b.Add(1, gap); err == nil {
		t.Error("a stretch under another partition's name was taken")
	}
}

func TestFullByRowsOrBytes(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, cfg := range []Config{{MaxRows: 4, MaxBytes: 1 << 20}, {MaxRows: 1 << 20, MaxBytes: 32}} {
		b := New(cfg, time.Now)
		if err := b.Add(0, stretch(mem, 0, 0, 4, time.Time{})); err != nil {
			t.Fatal(err)
		}
		if !b.Full() {
			t.Errorf("%+v is not full after 4 rows of 8 bytes", cfg)
		}
		b.Drop()
		if b.Full() || !b.Empty() {
			t.Error("Drop left something")
		}
	}
}
