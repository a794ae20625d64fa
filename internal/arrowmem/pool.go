package arrowmem

import (
	"sync"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// garbage fills new memory under the race detector: nobody may rely on zeros.
const garbage = 0xa5

func soil(b []byte) {
	for i := range b {
		b[i] = garbage
	}
}

const (
	// minPooled is the smallest buffer in bytes that a pool takes care of. Quiet tables make many that are smaller, and Go's heap is
	// made for those.
	minPooled = 4 << 10
	// blockBytes is a block that buffers share. Those of one batch go together, so that a block comes back as a whole.
	blockBytes = 512 << 10
	// maxShared is the largest buffer in bytes that shares a block; a larger one is a block.
	maxShared = blockBytes / 8
	// alignment of buffers in bytes, as Arrow recommends it.
	alignment = 64
)

// Pool gives Arrow buffers memory outside of Go's heap and reuses it. Safe for concurrent use.
type Pool struct {
	most int64 // spare bytes at most

	mu    sync.Mutex
	live  map[*byte]*block // by the first byte of a buffer
	spare []*block         // free, the one that has waited longest first
	stats Stats
}

// Stats of a pool.
type Stats struct {
	Used  int64 // bytes of blocks in which a buffer lives
	Spare int64 // bytes of blocks that wait for one
}

// block is one mapping.
type block struct {
	mem   []byte
	used  int // bytes from the front that are given away
	live  int // buffers in it
	front *Front
}

// NewPool returns a pool that holds no more than most bytes which nobody uses; what is more goes back to the system.
func NewPool(most int64) *Pool { return &Pool{most: most, live: map[*byte]*block{}} }

// Stats returns what the pool holds at present.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Front returns an allocator for what lives and dies together, as the batches of one pipeline: it shares blocks with no
// other. It may be forgotten at any time.
func (p *Pool) Front() *Front { return &Front{pool: p} }

// Front implements memory.Allocator. Safe for concurrent use.
type Front struct {
	pool *Pool
	open *block // the block that is being given away; nil at first
}

// Allocate implements memory.Allocator. Unlike that of Go's heap, the memory is not cleared.
func (f *Front) Allocate(size int) []byte {
	if size < minPooled || !mappable {
		return heap.Allocate(size)
	}
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	return f.allocate(size)
}

// heap is for small buffers.
var heap memory.Allocator = memory.NewGoAllocator()

func (f *Front) allocate(size int) []byte {
	room := (size + alignment - 1) &^ (alignment - 1)
	b := f.open
	if guarded || room > maxShared {
		b = f.pool.take(room)
	} else if b == nil || len(b.mem)-b.used < room {
		b = f.pool.take(blockBytes)
		b.front, f.open = f, b
	}
	at := b.used
	b.used += room
	b.live++
	buf := b.mem[at : at+size : at+room]
	f.pool.live[unsafe.SliceData(buf)] = b
	return buf
}

// Reallocate implements memory.Allocator.
func (f *Front) Reallocate(size int, buf []byte) []byte {
	if size <= cap(buf) && cap(buf) > 0 {
		return buf[:size]
	}
	if f.extend(size, buf) {
		return unsafe.Slice(unsafe.SliceData(buf), (size+alignment-1)&^(alignment-1))[:size]
	}
	out := f.Allocate(size)
	copy(out, buf)
	f.Free(buf)
	return out
}

// extend makes the last buffer of a block longer where it is, if there is room.
func (f *Front) extend(size int, buf []byte) bool {
	if cap(buf) < minPooled || guarded {
		return false
	}
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	b := f.pool.live[unsafe.SliceData(buf)]
	if b == nil {
		return false
	}
	at := int(uintptr(unsafe.Pointer(unsafe.SliceData(buf))) - uintptr(unsafe.Pointer(unsafe.SliceData(b.mem))))
	room := (size + alignment - 1) &^ (alignment - 1)
	if at+cap(buf) != b.used || at+room > len(b.mem) {
		return false
	}
	b.used = at + room
	return true
}

// Free implements memory.Allocator.
func (f *Front) Free(buf []byte) {
	if cap(buf) < minPooled {
		return
	}
	p, first := f.pool, unsafe.SliceData(buf)
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.live[first]
	if b == nil {
		return // Go's
	}
	delete(p.live, first)
	if b.live--; b.live > 0 {
		return
	}
	if b.front != nil && b.front.open == b {
		b.front.open = nil
	}
	b.front, b.used = nil, 0
	p.give(b)
}

// take returns an empty block of at least size bytes: a spare one that is not much larger, or a new one.
func (p *Pool) take(size int) *block {
	size = blockSize(size)
	for i := len(p.spare) - 1; i >= 0; i-- {
		if b := p.spare[i]; len(b.mem) >= size && len(b.mem) <= size+size/8 {
			p.spare = append(p.spare[:i], p.spare[i+1:]...)
			p.stats.Spare -= int64(len(b.mem))
			p.stats.Used += int64(len(b.mem))
			return b
		}
	}
	b := &block{mem: mapMemory(size)}
	if guarded {
		soil(b.mem)
	}
	p.stats.Used += int64(len(b.mem))
	return b
}

// give keeps an empty block as a spare one. The oldest make room for it.
func (p *Pool) give(b *block) {
	p.stats.Used -= int64(len(b.mem))
	if guarded {
		fence(b.mem)
		return
	}
	p.spare = append(p.spare, b)
	p.stats.Spare += int64(len(b.mem))
	for p.stats.Spare > p.most && len(p.spare) > 0 {
		p.stats.Spare -= int64(len(p.spare[0].mem))
		unmapMemory(p.spare[0].mem)
		p.spare[0] = nil
		p.spare = p.spare[1:]
	}
}

// pageBytes is what mappings are rounded to; larger pages round again.
const pageBytes = 4 << 10

// blockSize rounds up to whole pages, and large blocks to a sixteenth, so that blocks for almost the same size are the same.
func blockSize(n int) int {
	step := pageBytes
	for step*16 < n {
		step *= 2
	}
	return (n + step - 1) / step * step
}
