package decode

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// layout is how a column's values lie in memory (Arrow columnar format, physical layouts).
type layout uint8

const (
	layoutFixed  layout = iota // width bytes a value
	layoutBits                 // booleans
	layoutBytes                // int32 offsets and data
	layoutStruct               // children of the same length
	layoutList                 // int32 offsets into one child
	layoutMap                  // int32 offsets into a key and a value child
	layoutNulls                // a column that the contract does not know: null in every row
)

const (
	// minColumnCap is the smallest capacity in values that a column starts with: 64 bytes of them, which is what Arrow
	// pads buffers to. Small fetches are the rule at low rates, and their batches stay in the tail for seconds.
	minColumnCap = 8
	// minDataCap is the same in bytes for strings.
	minDataCap = 64
)

// column is an Arrow column being built. Its buffers leave with array(); it starts over with new ones. What each value
// touches stands first, in two cache lines.
type column struct {
	n, cap int    // values, and values that data (fixed, bits) or offs have room for
	data   []byte // fixed values, bits, or the bytes of layoutBytes
	end    int    // bytes used of data (layoutBytes)
	offs   []int32

	bits   []byte // validity, made at the first null; of values that are not there yet it says valid
	nulls  int
	layout layout
	width  int // bytes of a fixed value
	kids   []*column
	dt     arrow.DataType
	alloc  memory.Allocator

	bitsBuf, dataBuf, offsBuf *memory.Buffer
	perValue                  int // bytes of a value in the last batch, the first guess for the next
}

// reserve makes room for n values in all, whose strings come from so many payload bytes.
func (c *column) reserve(n, payload int) {
	if n > c.cap {
		c.growTo(n)
	}
	switch c.layout {
	case layoutBytes:
		if guess := c.perValue * n; guess > 0 && c.dataBuf == nil {
			c.growData(min(guess+guess/8, payload))
		}
	case layoutStruct:
		for _, k := range c.kids {
			k.reserve(n, payload)
		}
	}
}

//go:noinline
func (c *column) growTo(n int) {
	c.cap = max(n, 2*c.cap, minColumnCap)
	switch c.layout {
	case layoutFixed:
		c.dataBuf, c.data = grow(c.alloc, c.dataBuf, c.cap*c.width)
	case layoutBits:
		c.dataBuf, c.data = grow(c.alloc, c.dataBuf, (c.cap+7)/8)
	case layoutBytes, layoutList, layoutMap:
		first := c.offsBuf == nil
		var raw []byte
		c.offsBuf, raw = grow(c.alloc, c.offsBuf, (c.cap+1)*4)
		c.offs = unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(raw))), len(raw)/4)
		if first {
			c.offs[0] = 0
		}
	}
	if c.bits != nil {
		c.growBits()
	}
}

// growBits makes the validity as long as the column's room, so that only a null has to write into it.
func (c *column) growBits() {
	from := len(c.bits)
	c.bitsBuf, c.bits = grow(c.alloc, c.bitsBuf, (c.cap+7)/8)
	for i := from; i < len(c.bits); i++ {
		c.bits[i] = 0xff
	}
}

// grow returns the buffer with room for size bytes, what it held kept, and all of its bytes.
func grow(alloc memory.Allocator, b *memory.Buffer, size int) (*memory.Buffer, []byte) {
	if b == nil {
		b = memory.NewResizableBuffer(alloc)
	}
	b.ResizeNoShrink(size)
	return b, b.Buf()
}

// growData makes room for size bytes in all.
//
//go:noinline
func (c *column) growData(size int) {
	c.dataBuf, c.data = grow(c.alloc, c.dataBuf, max(size, 2*len(c.data), minDataCap))
}

// null appends a null, also to the children of a struct.
func (c *column) null() {
	if c.layout == layoutNulls {
		c.n++
		return
	}
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	if c.bits == nil {
		c.growBits()
	}
	c.bits[c.n>>3] &^= 1 << (c.n & 7)
	c.nulls++
	switch c.layout {
	case layoutFixed:
		clear(c.data[c.n*c.width : (c.n+1)*c.width])
	case layoutBits:
		c.data[c.n>>3] &^= 1 << (c.n & 7)
	case layoutBytes, layoutList, layoutMap:
		c.offs[c.n+1] = c.offs[c.n]
	case layoutStruct:
		for _, k := range c.kids {
			k.null()
		}
	}
	c.n++
}

func (c *column) appendInt64(v int64) {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	binary.LittleEndian.PutUint64(c.data[c.n*8:], uint64(v))
	c.n++
}

func (c *column) appendInt32(v int32) {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	binary.LittleEndian.PutUint32(c.data[c.n*4:], uint32(v))
	c.n++
}

// fillInt64 and fillInt32 make an empty column one of n times the value.
func (c *column) fillInt64(n int, v int64) {
	c.growTo(n)
	for i := range n {
		binary.LittleEndian.PutUint64(c.data[i*8:], uint64(v))
	}
	c.n = n
}

func (c *column) fillInt32(n int, v int32) {
	c.growTo(n)
	for i := range n {
		binary.LittleEndian.PutUint32(c.data[i*4:], uint32(v))
	}
	c.n = n
}

// fillText makes an empty column one of n times the text.
func (c *column) fillText(n int, text string) {
	c.growTo(n)
	dst := c.room(n * len(text))
	for i := range n {
		copy(dst[i*len(text):], text)
		c.offs[i+1] = int32((i + 1) * len(text))
	}
	c.n, c.end = n, n*len(text)
}

func (c *column) appendDec(v dec128) {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	binary.LittleEndian.PutUint64(c.data[c.n*16:], v.lo)
	binary.LittleEndian.PutUint64(c.data[c.n*16+8:], uint64(v.hi))
	c.n++
}

func (c *column) appendBool(v bool) {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	if c.data[c.n>>3] &^= 1 << (c.n & 7); v {
		c.data[c.n>>3] |= 1 << (c.n & 7)
	}
	c.n++
}

// room returns at least n writable bytes after the data of layoutBytes; endBytes says how many of them are a value.
func (c *column) room(n int) []byte {
	if len(c.data)-c.end < n {
		c.growData(c.end + n)
	}
	return c.data[c.end:]
}

// plainText appends the n bytes of b from q on and returns true if they are ASCII and there is room; else it does nothing.
// It copies words and looks at them on the way: the last word of a value overlaps the one before it, and a value of less than a
// word is taken from the word that ends where it ends, so neither length nor place of a value costs a loop over its bytes.
func (c *column) plainText(b []byte, q, n int) bool {
	if c.n >= c.cap || len(c.data)-c.end < n+8 || q+n < 8 {
		return false
	}
	dst := c.data[c.end:]
	var seen uint64
	switch {
	case n < 8:
		seen = load64(b, q+n-8) >> (8 * (8 - n))
		binary.LittleEndian.PutUint64(dst, seen)
	case n <= 16:
		v, w := load64(b, q), load64(b, q+n-8)
		binary.LittleEndian.PutUint64(dst, v)
		binary.LittleEndian.PutUint64(dst[n-8:], w)
		seen = v | w
	default:
		src := b[q : q+n]
		for i := 0; i+8 <= n; i += 8 {
			w := load64(src, i)
			binary.LittleEndian.PutUint64(dst[i:], w)
			seen |= w
		}
		w := load64(src, n-8)
		binary.LittleEndian.PutUint64(dst[n-8:], w)
		seen |= w
	}
	if seen&highBits != 0 {
		return false
	}
	c.end += n
	c.n++
	c.offs[c.n] = int32(c.end)
	return true
}

func (c *column) endBytes(n int) {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	c.end += n
	c.offs[c.n+1] = int32(c.end)
	c.n++
}

func (c *column) appendBytes(v []byte) {
	copy(c.room(len(v)), v)
	c.endBytes(len(v))
}

// endStruct closes the struct value whose fields hold one more value each.
func (c *column) endStruct() {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	c.n++
}

// endList closes the list or map value that holds the child's values since the last one.
func (c *column) endList() {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	c.offs[c.n+1] = int32(c.kids[0].n)
	c.n++
}

// truncate takes back every value from the n-th on.
func (c *column) truncate(n int) {
	if c.n <= n {
		return
	}
	if c.bits != nil {
		for i := n; i < c.n; i++ {
			if c.bits[i>>3]&(1<<(i&7)) == 0 {
				c.nulls--
				c.bits[i>>3] |= 1 << (i & 7)
			}
		}
	}
	c.n = n
	switch c.layout {
	case layoutBytes:
		c.end = int(c.offs[n])
	case layoutStruct:
		c.truncateKids(n)
	case layoutList, layoutMap:
		c.truncateKids(int(c.offs[n]))
	}
}

func (c *column) truncateKids(n int) {
	for _, k := range c.kids {
		k.truncate(n)
	}
}

// rollback takes back what a failed record left behind, in a column whose records end at n: values of the column, and
// those of children that were not closed into a value yet.
func (c *column) rollback(n int) {
	c.truncate(n)
	switch c.layout {
	case layoutStruct:
		for _, k := range c.kids {
			k.rollback(n)
		}
	case layoutList, layoutMap:
		at := 0
		if c.offs != nil {
			at = int(c.offs[n])
		}
		for _, k := range c.kids {
			k.rollback(at)
		}
	case layoutBytes:
		if c.offs != nil {
			c.end = int(c.offs[n])
		}
	}
}

// array hands the column over as n values and leaves it empty. The caller releases the data.
func (c *column) array(n int) (arrow.ArrayData, error) {
	if c.layout == layoutNulls {
		c.n = 0
		a := array.MakeArrayOfNull(c.alloc, c.dt, n)
		defer a.Release()
		a.Data().Retain()
		return a.Data(), nil
	}
	if c.n != n {
		return nil, fmt.Errorf("column of type %s has %d values for %d rows; this is a fault of the decoder, please report it", c.dt, c.n, n)
	}
	// An empty column still has an offsets buffer.
	if c.offs == nil && (c.layout == layoutBytes || c.layout == layoutList || c.layout == layoutMap) {
		c.growTo(1)
	}
	if c.layout == layoutBytes && c.dataBuf == nil {
		c.growData(1)
	}
	var kids []arrow.ArrayData
	defer func() {
		for _, k := range kids {
			k.Release()
		}
		c.reset()
	}()
	kids, err := c.children()
	if err != nil {
		return nil, err
	}
	return array.NewData(c.dt, n, c.buffers(), kids, c.nulls, 0), nil
}

func (c *column) buffers() []*memory.Buffer {
	var bits *memory.Buffer
	if c.nulls > 0 {
		bits = c.bitsBuf
		bits.ResizeNoShrink((c.n + 7) / 8)
	}
	switch c.layout {
	case layoutFixed:
		return []*memory.Buffer{bits, sized(c.dataBuf, c.n*c.width)}
	case layoutBits:
		return []*memory.Buffer{bits, sized(c.dataBuf, (c.n+7)/8)}
	case layoutBytes:
		c.perValue = (c.end + c.n - 1) / max(c.n, 1)
		return []*memory.Buffer{bits, sized(c.offsBuf, (c.n+1)*4), sized(c.dataBuf, c.end)}
	case layoutList, layoutMap:
		return []*memory.Buffer{bits, sized(c.offsBuf, (c.n+1)*4)}
	default:
		return []*memory.Buffer{bits}
	}
}

func sized(b *memory.Buffer, n int) *memory.Buffer {
	if b != nil {
		b.ResizeNoShrink(n)
	}
	return b
}

func (c *column) children() ([]arrow.ArrayData, error) {
	var out []arrow.ArrayData
	n := c.n
	if c.layout == layoutList || c.layout == layoutMap {
		n = int(c.offs[c.n])
	}
	for _, k := range c.kids {
		d, err := k.array(n)
		if err != nil {
			return out, err
		}
		out = append(out, d)
	}
	if c.layout == layoutMap {
		entries := array.NewData(c.dt.(*arrow.MapType).Elem(), n, []*memory.Buffer{nil}, out, 0, 0)
		for _, d := range out {
			d.Release()
		}
		out = []arrow.ArrayData{entries}
	}
	return out, nil
}

// reset gives up the column's own references and starts it over.
func (c *column) reset() {
	for _, b := range []*memory.Buffer{c.bitsBuf, c.dataBuf, c.offsBuf} {
		if b != nil {
			b.Release()
		}
	}
	c.bitsBuf, c.dataBuf, c.offsBuf, c.bits, c.data, c.offs = nil, nil, nil, nil, nil, nil
	c.n, c.cap, c.nulls, c.end = 0, 0, 0, 0
}

// drop forgets all values, children included.
func (c *column) drop() {
	for _, k := range c.kids {
		k.drop()
	}
	c.reset()
}
