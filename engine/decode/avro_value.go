package decode

import (
	"encoding/binary"
	"math"
	"math/bits"
	"unicode/utf8"
)

// maxEmptyItems is how many elements without a byte of their own an event's arrays may hold, all together: an array of
// nulls may claim any number of them.
const maxEmptyItems = 1024

// varint reads a zigzag number at p and returns the position after it, or -1 when there is none of 64 bits.
func varint(b []byte, p int) (int64, int) {
	var u uint64
	for i := p; i < len(b) && i < p+binary.MaxVarintLen64; i++ {
		c := b[i]
		u |= uint64(c&0x7f) << (7 * (i - p))
		if c < 0x80 {
			if i == p+binary.MaxVarintLen64-1 && c > 1 {
				return 0, -1
			}
			return int64(u>>1) ^ -int64(u&1), i + 1
		}
	}
	return 0, -1
}

// number is varint with the failure told.
func (d *Avro) number(b []byte, p int) (int64, int) {
	if p < len(b) && b[p] < 0x80 {
		u := b[p]
		return int64(u>>1) ^ -int64(u&1), p + 1
	}
	if u, n := shortVarint(b, p); n > 0 {
		return int64(u>>1) ^ -int64(u&1), p + n
	}
	x, q := varint(b, p)
	if q < 0 {
		return 0, d.fail(ReasonInvalidAvro, p, "no number of 64 bits stands here")
	}
	return x, q
}

// shortVarint reads a varint of at most eight bytes from the word at p; n is 0 where it is longer, or the word is not there.
func shortVarint(b []byte, p int) (u uint64, n int) {
	if len(b)-p < 8 {
		return 0, 0
	}
	w := load64(b, p)
	ends := ^w & highBits // the top bit of each byte that may be the last
	if ends == 0 {
		return 0, 0
	}
	w &= ends ^ (ends - 1) // up to the first of them
	w &^= highBits
	// Seven bits of each byte, pushed together by pairs, fours and eights.
	w = w&0x007f007f007f007f | w&0x7f007f007f007f00>>1
	w = w&0x00003fff00003fff | w&0x3fff00003fff0000>>2
	w = w&0x000000000fffffff | w&0x0fffffff00000000>>4
	return w, bits.TrailingZeros64(ends)>>3 + 1
}

// length reads the length of bytes that follow, which must be there.
func (d *Avro) length(b []byte, p int) (n, q int) {
	x, q := d.number(b, p)
	if q < 0 {
		return 0, -1
	}
	if x < 0 || x > int64(len(b)-q) {
		return 0, d.fail(ReasonInvalidAvro, p, "a length of %d where %d bytes follow", x, len(b)-q)
	}
	return int(x), q
}

func (d *Avro) short(p, want, have int) int {
	return d.fail(ReasonInvalidAvro, p, "%d bytes were expected, %d follow", want, have)
}

// value reads the value at p into its column, or over it, and returns the position after it, or -1.
func (d *Avro) value(n *avroNode, b []byte, p int) int {
	for n.op == opUnion || n.op == opOptional {
		i, q := d.number(b, p)
		if q < 0 {
			return -1
		}
		if i < 0 || i >= int64(len(n.branches)) {
			return d.fail(ReasonInvalidAvro, p, "branch %d of a union of %d", i, len(n.branches))
		}
		n, p = &n.branches[i], q
	}
	switch n.op {
	case opString:
		size, q := d.length(b, p)
		if q < 0 {
			return -1
		}
		s := b[q : q+size]
		if !validUTF8(s) {
			return d.fail(ReasonInvalidUTF8, q, "the string is not UTF-8")
		}
		n.col.appendBytes(s)
		return q + size
	case opInt, opLong, opScaled, opDate, opIntFloat, opIntDouble:
		return d.integer(n, b, p)
	case opRecord:
		return d.record(n, b, p)
	case opDouble:
		if len(b)-p < 8 {
			return d.short(p, 8, len(b)-p)
		}
		n.col.appendInt64(int64(load64(b, p)))
		return p + 8
	case opFloat, opFloatDouble:
		if len(b)-p < 4 {
			return d.short(p, 4, len(b)-p)
		}
		if n.op == opFloat {
			n.col.appendInt32(int32(load32(b, p)))
		} else {
			n.col.appendInt64(int64(math.Float64bits(float64(math.Float32frombits(load32(b, p))))))
		}
		return p + 4
	case opNull:
		n.col.null()
		return p
	case opBool:
		if p >= len(b) || b[p] > 1 {
			return d.fail(ReasonInvalidAvro, p, "no boolean stands here")
		}
		n.col.appendBool(b[p] == 1)
		return p + 1
	case opArray, opMap:
		return d.blocks(n, b, p)
	case opFail:
		return d.fail(ReasonWrongType, p, "%s", n.why)
	}
	if n.op >= opSkipNothing {
		return d.skip(n, b, p)
	}
	return d.binary(n, b, p)
}

// validUTF8 is utf8.Valid; most strings are short and ASCII.
func validUTF8(s []byte) bool {
	for len(s) >= 8 {
		if load64(s, 0)&highBits != 0 {
			return utf8.Valid(s)
		}
		s = s[8:]
	}
	for _, c := range s {
		if c >= utf8.RuneSelf {
			return utf8.Valid(s)
		}
	}
	return true
}

func (d *Avro) integer(n *avroNode, b []byte, p int) int {
	x, q := d.number(b, p)
	if q < 0 {
		return -1
	}
	if n.narrow && x != int64(int32(x)) {
		return d.fail(ReasonInvalidAvro, p, "an int beyond 32 bits")
	}
	switch n.op {
	case opLong:
		n.col.appendInt64(x)
	case opInt:
		n.col.appendInt32(int32(x))
	case opScaled:
		if x < n.lo || x > n.hi {
			return d.fail(ReasonOutOfRange, p, "the time lies outside the day, or outside the years 0000 to 9999 (is the unit right?)")
		}
		if n.div > 1 { // down to the microsecond before, also before 1970
			rest := x % n.div
			if x /= n.div; rest < 0 {
				x--
			}
		}
		n.col.appendInt64(x * n.mul)
	case opDate:
		if x < n.lo || x > n.hi {
			return d.fail(ReasonOutOfRange, p, "the date lies outside the years 0000 to 9999")
		}
		n.col.appendInt32(int32(x))
	case opIntFloat:
		n.col.appendInt32(int32(math.Float32bits(float32(x))))
	default:
		n.col.appendInt64(int64(math.Float64bits(float64(x))))
	}
	return q
}

// binary reads the rarer values that are bytes.
func (d *Avro) binary(n *avroNode, b []byte, p int) int {
	if n.op == opEnum {
		i, q := d.number(b, p)
		if q < 0 {
			return -1
		}
		if i < 0 || i >= int64(len(n.symbols)) {
			return d.fail(ReasonInvalidAvro, p, "symbol %d of an enum of %d", i, len(n.symbols))
		}
		if n.symbols[i] == nil {
			return d.fail(ReasonNotInEnum, p, "the writer's symbol %d is none of the pipeline's schema, which has no default", i)
		}
		if !d.fill(int64(len(n.symbols[i])), p) {
			return -1
		}
		n.col.appendBytes(n.symbols[i])
		return q
	}
	size, q := n.size, p
	if n.op != opFixed && (n.op != opDecimal || n.size < 0) {
		if size, q = d.length(b, p); q < 0 {
			return -1
		}
	}
	if len(b)-q < size {
		return d.short(q, size, len(b)-q)
	}
	s := b[q : q+size]
	switch n.op {
	case opFixed:
		n.col.appendFixed(s)
	case opBytes:
		n.col.appendBytes(s)
	case opUUID:
		var id [16]byte
		if size != 36 || !parseUUID(s, 0, &id) {
			return d.fail(ReasonInvalidFormat, p, "the string is not a UUID of 36 characters")
		}
		n.col.appendFixed(id[:])
	default:
		x, ok := bigEndian128(s)
		if !ok || !x.fits(n.precision) {
			if size == 0 {
				return d.fail(ReasonInvalidAvro, p, "a decimal of no bytes")
			}
			return d.fail(ReasonOutOfRange, p, "does not fit %s", n.why)
		}
		n.col.appendDec(x)
	}
	return q + size
}

// bigEndian128 reads two's complement of any length; ok is false when the value does not fit 128 bits, or is not there.
func bigEndian128(s []byte) (dec128, bool) {
	if len(s) == 0 {
		return dec128{}, false
	}
	sign := byte(int8(s[0]) >> 7)
	for len(s) > 16 {
		if s[0] != sign || (len(s) == 17 && byte(int8(s[1])>>7) != sign) {
			return dec128{}, false
		}
		s = s[1:]
	}
	x := dec128{hi: int64(int8(sign)), lo: uint64(int64(int8(sign)))}
	for _, c := range s {
		x.hi = x.hi<<8 | int64(x.lo>>56)
		x.lo = x.lo<<8 | uint64(c)
	}
	return x, true
}

// pow10Dec holds 10^p, what a decimal of p digits stays below.
var pow10Dec = func() (t [maxDecimalPrecision + 1]dec128) {
	t[0] = dec128{lo: 1}
	for i := 1; i < len(t); i++ {
		t[i] = t[i-1].mul10(0)
	}
	return t
}()

// fits tells whether the value has at most so many digits.
func (d dec128) fits(precision int) bool {
	most := pow10Dec[precision]
	return d.less(most) && most.neg().less(d)
}

// record reads the fields of a record and closes the struct's value. What most fields of most events are is done here; what is
// not that plain, and what is wrong, is left to value, which begins at the same byte.
func (d *Avro) record(n *avroNode, b []byte, p int) int {
	for i := range n.steps {
		s := &n.steps[i]
		f := &s.node
		if f.op == opOptional {
			if p < len(b) && b[p] == f.at {
				f, p = f.elem, p+1
			}
		}
		switch f.op {
		case opString:
			if p < len(b) {
				if size := int(b[p]) >> 1; b[p]&0x81 == 0 && size < len(b)-p && f.col.plainText(b, p+1, size) {
					p += size + 1
					continue
				}
			}
		case opDouble:
			if len(b)-p >= 8 {
				f.col.appendInt64(int64(load64(b, p)))
				p += 8
				continue
			}
		case opInt, opLong, opScaled:
			if p = d.integer(f, b, p); p < 0 {
				return d.under(s.name)
			}
			continue
		case opRecord:
			if p = d.record(f, b, p); p < 0 {
				return d.under(s.name)
			}
			continue
		}
		if p = d.value(f, b, p); p < 0 {
			return d.under(s.name)
		}
	}
	for i := range n.fills {
		f := &n.fills[i]
		if !d.fill(int64(len(f.bytes)), p) {
			return -1
		}
		items := d.items
		d.items = int64(len(f.bytes)) + maxEmptyItems
		if q := d.value(&f.node, f.bytes, 0); q < 0 {
			return d.under(f.name)
		}
		d.items = items
	}
	d.unknown += n.ignored
	n.col.endStruct()
	return p
}

// blockStart reads the head of an array's or a map's block: how many items, and where they begin. When the writer says
// how many bytes they take, end is where they end, else 0.
func (d *Avro) blockStart(b []byte, p int) (count int64, q, end int) {
	count, q = d.number(b, p)
	if q < 0 {
		return 0, -1, 0
	}
	if count < 0 {
		size, r := d.length(b, q)
		if r < 0 {
			return 0, -1, 0
		}
		if count == math.MinInt64 {
			return 0, d.fail(ReasonInvalidAvro, p, "a block of too many items"), 0
		}
		count, q, end = -count, r, r+size
	}
	if count > d.items {
		return 0, d.fail(ReasonInvalidAvro, p, "a block of %d items in an event of %d bytes", count, d.size), 0
	}
	if d.items -= count; !d.fill(count, p) {
		return 0, -1, 0
	}
	return count, q, end
}

// blocks reads an array into a list, or a map.
func (d *Avro) blocks(n *avroNode, b []byte, p int) int {
	elem := n.col.kids[len(n.col.kids)-1]
	first := elem.n
	for {
		count, q, end := d.blockStart(b, p)
		if q < 0 {
			return -1
		}
		if p = q; count == 0 {
			break
		}
		for range count {
			if n.op == opMap {
				if p = d.mapKey(n.col.kids[0], b, p); p < 0 {
					return -1
				}
			}
			if p = d.value(n.elem, b, p); p < 0 {
				if n.op == opMap {
					return d.under(string(n.col.kids[0].bytesAt(n.col.kids[0].n - 1)))
				}
				return d.under(itoa(elem.n - first))
			}
		}
		if end != 0 && p != end {
			return d.fail(ReasonInvalidAvro, p, "a block ends at byte %d and says %d", p, end)
		}
	}
	if n.op == opMap {
		keys := n.col.kids[0]
		if i := d.keys.duplicate(keys, first); i >= 0 {
			d.fail(ReasonDuplicateKey, p, "the key is there twice")
			return d.under(string(keys.bytesAt(i)))
		}
	}
	n.col.endList()
	return p
}

func (d *Avro) mapKey(keys *column, b []byte, p int) int {
	size, q := d.length(b, p)
	if q < 0 {
		return -1
	}
	if s := b[q : q+size]; validUTF8(s) {
		keys.appendBytes(s)
		return q + size
	}
	return d.fail(ReasonInvalidUTF8, q, "the key is not UTF-8")
}

// skip reads over a value that has no column.
func (d *Avro) skip(n *avroNode, b []byte, p int) int {
	switch n.op {
	case opSkipNothing:
		return p
	case opSkipVarint:
		x, q := d.number(b, p)
		if n.narrow && q >= 0 && x != int64(int32(x)) {
			return d.fail(ReasonInvalidAvro, p, "an int beyond 32 bits")
		}
		return q
	case opSkipFixed:
		if len(b)-p < n.size {
			return d.short(p, n.size, len(b)-p)
		}
		return p + n.size
	case opSkipBytes:
		size, q := d.length(b, p)
		if q < 0 {
			return -1
		}
		return q + size
	}
	if d.depth++; d.depth > d.opt.MaxDepth {
		return d.fail(ReasonTooDeep, p, "nested deeper than %d", d.opt.MaxDepth)
	}
	defer func() { d.depth-- }()
	switch n.op {
	case opSkipUnion:
		i, q := d.number(b, p)
		if q < 0 {
			return -1
		}
		if i < 0 || i >= int64(len(n.branches)) {
			return d.fail(ReasonInvalidAvro, p, "branch %d of a union of %d", i, len(n.branches))
		}
		return d.skip(&n.branches[i], b, q)
	case opSkipRecord:
		for i := range n.elem.steps {
			s := &n.elem.steps[i]
			if p = d.skip(&s.node, b, p); p < 0 {
				return d.under(s.name)
			}
		}
		return p
	}
	return d.skipBlocks(n, b, p)
}

func (d *Avro) skipBlocks(n *avroNode, b []byte, p int) int {
	for {
		count, q, end := d.blockStart(b, p)
		if q < 0 {
			return -1
		}
		if p = q; count == 0 {
			return p
		}
		if end != 0 {
			p = end
			continue
		}
		for range count {
			if n.op == opSkipMap {
				size, q := d.length(b, p)
				if q < 0 {
					return -1
				}
				p = q + size
			}
			if p = d.skip(n.elem, b, p); p < 0 {
				return -1
			}
		}
	}
}
