package datafile

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// appendHybrid encodes values of at most width bits by the RLE and bit-packing hybrid (Parquet format, "Run Length
// Encoding / Bit-Packing Hybrid"): runs of eight and more as runs, what lies between in groups of eight.
func appendHybrid[T uint8 | uint32](dst []byte, vals []T, width int) []byte {
	for i := 0; i < len(vals); {
		run := i + 1
		for run < len(vals) && vals[run] == vals[i] {
			run++
		}
		if run-i >= 8 || run == len(vals) {
			dst = binary.AppendUvarint(dst, uint64(run-i)<<1)
			for b := 0; b < width; b += 8 {
				dst = append(dst, byte(uint32(vals[i])>>b))
			}
			i = run
			continue
		}
		start := i
		for i < len(vals) && !runOf8(vals[i:]) {
			i += 8
		}
		i = min(i, len(vals))
		dst = appendPacked(dst, vals[start:i], width)
	}
	return dst
}

func runOf8[T uint8 | uint32](vals []T) bool {
	if len(vals) < 8 {
		return false
	}
	v := vals[0]
	return v == vals[1] && v == vals[2] && v == vals[3] && v == vals[4] && v == vals[5] && v == vals[6] && v == vals[7]
}

func appendPacked[T uint8 | uint32](dst []byte, vals []T, width int) []byte {
	groups := (len(vals) + 7) / 8
	dst = binary.AppendUvarint(dst, uint64(groups)<<1|1)
	end := len(dst) + groups*width
	acc, n := uint64(0), 0
	for _, v := range vals {
		acc |= uint64(v) << n
		if n += width; n >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
			acc, n = acc>>32, n-32
		}
	}
	for len(dst) < end {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

// dictionary gives each different value of a column chunk a number, in order of appearance.
type dictionary struct {
	kind   valueKind
	width  int
	table  []uint32 // number + 1, by hash; 0 is free
	shift  int      // 64 less the bits of table's length
	hashes []uint64 // of each entry
	nums   []uint64 // entries of 4 or 8 bytes
	data   []byte   // entries of other kinds, one after the other
	ends   []uint32 // of each in data
}

const (
	minTable = 1 << 8
	// dictionaryBytes is where a dictionary ends: beyond it readers gain nothing.
	dictionaryBytes = 1 << 20
)

var hashSeed = maphash.MakeSeed()

func (d *dictionary) reset(kind valueKind, width int) {
	d.kind, d.width = kind, width
	if len(d.table) != minTable {
		d.table = make([]uint32, minTable)
	}
	clear(d.table)
	d.shift = 64 - bits.Len(minTable-1)
	d.hashes, d.nums, d.data, d.ends = d.hashes[:0], d.nums[:0], d.data[:0], d.ends[:0]
}

func (d *dictionary) len() int { return len(d.hashes) }

// bytes is the size of the dictionary page.
func (d *dictionary) bytes() int {
	if d.kind == kindBytes {
		return len(d.data) + 4*len(d.ends)
	}
	return d.len() * d.width
}

// number returns the number of a fixed-size value that fits 64 bits.
func (d *dictionary) number(v uint64) uint32 {
	h := v * 0x9E3779B97F4A7C15
	for i := h >> d.shift; ; i = (i + 1) & uint64(len(d.table)-1) {
		switch e := d.table[i]; {
		case e == 0:
			d.nums = append(d.nums, v)
			return d.insert(i, h)
		case d.nums[e-1] == v:
			return e - 1
		}
	}
}

// bytesNumber returns the number of a value of bytes.
func (d *dictionary) bytesNumber(v []byte) uint32 {
	h := maphash.Bytes(hashSeed, v)
	for i := h >> d.shift; ; i = (i + 1) & uint64(len(d.table)-1) {
		switch e := d.table[i]; {
		case e == 0:
			d.data = append(d.data, v...)
			d.ends = append(d.ends, uint32(len(d.data)))
			return d.insert(i, h)
		case d.hashes[e-1] == h && string(d.entry(int(e-1))) == string(v):
			return e - 1
		}
	}
}

func (d *dictionary) entry(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = d.ends[i-1]
	}
	return d.data[start:d.ends[i]]
}

func (d *dictionary) insert(at, hash uint64) uint32 {
	d.hashes = append(d.hashes, hash)
	n := uint32(len(d.hashes))
	if d.table[at] = n; int(n)*2 > len(d.table) {
		d.table = make([]uint32, 2*len(d.table))
		d.shift--
		for e, h := range d.hashes {
			i := h >> d.shift
			for d.table[i] != 0 {
				i = (i + 1) & uint64(len(d.table)-1)
			}
			d.table[i] = uint32(e + 1)
		}
	}
	return n - 1
}

// appendPlain appends an entry in PLAIN encoding.
func (d *dictionary) appendPlain(dst []byte, i int) []byte {
	switch d.kind {
	case kind32:
		return binary.LittleEndian.AppendUint32(dst, uint32(d.nums[i]))
	case kind64:
		return binary.LittleEndian.AppendUint64(dst, d.nums[i])
	case kindFixed:
		return append(dst, d.entry(i)...)
	}
	e := d.entry(i)
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(e))), e...)
}

// appendPageHeader writes a header of a dictionary page or a data page of version 1 (parquet.thrift, PageHeader).
func appendPageHeader(dst []byte, h pageHeader) []byte {
	field := func(head byte, v int64) { dst = binary.AppendUvarint(append(dst, head), uint64(v<<1)^uint64(v>>63)) }
	const i32, next = thriftI32, 1 << 4
	field(next|i32, h.kind)
	field(next|i32, h.uncompressed)
	field(next|i32, h.size)
	field(next|i32, int64(int32(h.crc)))
	if h.kind == pageDictionary {
		dst = append(dst, 3*next|thriftStruct) // field 7
		field(next|i32, h.values)
		field(next|i32, h.encoding)
		dst = append(dst, next|thriftFalse) // not sorted
	} else {
		dst = append(dst, next|thriftStruct) // field 5
		field(next|i32, h.values)
		field(next|i32, h.encoding)
		field(next|i32, h.levelEncoding)
		field(next|i32, h.levelEncoding)
	}
	return append(dst, 0, 0)
}
