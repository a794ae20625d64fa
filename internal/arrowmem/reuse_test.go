//go:build !race || !linux

package arrowmem

import (
	"testing"
	"unsafe"
)

// TestPoolReusesBlocks holds the pool to its bound, and to taking no more from the system once it has what it needs.
func TestPoolReusesBlocks(t *testing.T) {
	p := NewPool(4 << 20)
	f := p.Front()
	first := map[*byte]bool{}
	for round := range 10 {
		var bufs [][]byte
		for _, size := range []int{5 << 10, 60 << 10, 100 << 10, 300 << 10, 20 << 10} {
			b := f.Allocate(size)
			bufs = append(bufs, b)
			at := unsafe.SliceData(b)
			if round == 0 {
				first[at] = true
			} else if !first[at] {
				t.Fatalf("round %d: %d bytes are not where they were", round, size)
			}
		}
		for _, b := range bufs {
			f.Free(b)
		}
	}
	if s := p.Stats(); s.Used != 0 || s.Spare == 0 || s.Spare > 4<<20 {
		t.Fatalf("%+v", s)
	}
	f.Free(f.Allocate(8 << 20))
	if s := p.Stats(); s.Used != 0 || s.Spare > 4<<20 {
		t.Fatalf("a buffer above the bound stayed: %+v", s)
	}
}
