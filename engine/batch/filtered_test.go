package batch

import (
	"testing"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/offset"
)

// Filtered offsets go with the batch that covers them, and weigh in its bounds.
func TestFilteredOffsetsAreHandedOver(t *testing.T) {
	b := New(Config{MaxRows: 8, MaxBytes: 24}, time.Now)
	for at := int64(0); at < 4; at += 2 {
		d := engine.Decoded{Range: offset.Range{Partition: 2, Start: at, End: at + 2}, LastRow: -1, Filtered: []int64{at, at + 1}}
		if err := b.Add(2, d); err != nil {
			t.Fatal(err)
		}
	}
	if !b.Full() || b.Bytes() != 32 {
		t.Errorf("%d bytes, full %v", b.Bytes(), b.Full())
	}
	out, err := b.Cut()
	if err != nil || len(out.Filtered) != 2 || out.Filtered[1].Partition != 2 || out.Filtered[1].Offsets[1] != 3 {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := b.Cut(); out != nil || err != nil || b.Bytes() != 0 {
		t.Errorf("something is left: %+v, %v", out, err)
	}
}
