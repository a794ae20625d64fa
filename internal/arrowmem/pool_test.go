package arrowmem

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestPoolKeepsBuffersApart makes, grows, shrinks and frees buffers at random, each full of bytes of its own.
func TestPoolKeepsBuffersApart(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	p := NewPool(1 << 20)
	type held struct {
		front *Front
		buf   []byte
		fill  byte
	}
	fronts := []*Front{p.Front(), p.Front(), p.Front()}
	var all []held
	check := func(h held) {
		t.Helper()
		if n := bytes.Count(h.buf, []byte{h.fill}); n != len(h.buf) {
			t.Fatalf("a buffer of %d bytes has %d that are not its own", len(h.buf), len(h.buf)-n)
		}
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(h.buf))); at%alignment != 0 {
			t.Fatalf("a buffer lies at %#x", at)
		}
	}
	for i := range 4000 {
		size := 1 + rnd.IntN(16<<10)
		if i%10 == 0 {
			size = 1 + rnd.IntN(2*blockBytes)
		}
		switch {
		case len(all) < 50 || (len(all) < 200 && rnd.IntN(3) == 0):
			h := held{front: fronts[rnd.IntN(len(fronts))], fill: byte(rnd.Uint32())}
			h.buf = h.front.Allocate(size)
			all = append(all, h)
			fill(h.buf, 0, h.fill)
		case rnd.IntN(3) == 0:
			h := &all[rnd.IntN(len(all))]
			check(*h)
			was := len(h.buf)
			h.buf = h.front.Reallocate(size, h.buf)
			if len(h.buf) != size {
				t.Fatalf("asked for %d bytes, got %d", size, len(h.buf))
			}
			check(held{buf: h.buf[:min(was, size)], fill: h.fill})
			fill(h.buf, min(was, size), h.fill)
		default:
			k := rnd.IntN(len(all))
			check(all[k])
			all[k].front.Free(all[k].buf)
			all[k] = all[len(all)-1]
			all = all[:len(all)-1]
		}
	}
	for _, h := range all {
		check(h)
		h.front.Free(h.buf)
	}
	if s := p.Stats(); s.Used != 0 || s.Spare > 1<<20 || len(p.live) != 0 {
		t.Fatalf("after all was freed: %+v, %d buffers", s, len(p.live))
	}
}

func fill(b []byte, from int, v byte) {
	for i := from; i < len(b); i++ {
		b[i] = v
	}
}

// TestFrontInArrow lets Arrow's own builders work on a front, with Arrow's count of what was not given back.
func TestFrontInArrow(t *testing.T) {
	mem := memory.NewCheckedAllocator(NewPool(1 << 20).Front())
	defer mem.AssertSize(t, 0)
	b := array.NewStringBuilder(mem)
	defer b.Release()
	for i := range 20_000 {
		b.Append("value " + string(rune('a'+i%26)))
	}
	a := b.NewArray()
	defer a.Release()
	r := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil), []arrow.Array{a}, int64(a.Len()))
	defer r.Release()
	for i := range a.Len() {
		if want := "value " + string(rune('a'+i%26)); a.(*array.String).Value(i) != want {
			t.Fatalf("row %d is %q", i, a.(*array.String).Value(i))
		}
	}
	if got := Bytes(r); got < 20_000*(4+7) {
		t.Fatalf("%d bytes", got)
	}
}
