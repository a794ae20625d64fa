package datafile

import (
	"encoding/binary"
	"errors"
)

// pageHeader is what precedes each page (parquet.thrift, PageHeader), as far as it is needed to check a page before a
// decoder trusts it. Neither Parquet library checks these numbers against each other before it allocates by them, and
// arrow-go does not look at the checksum.
type pageHeader struct {
	kind               int64 // one of the page* constants
	uncompressed, size int64 // bytes of the page, without this header, before and after compression
	crc                uint32
	hasCRC             bool
	values             int64
	encoding           int64
	levelEncoding      int64 // of definition levels, in a data page of version 1
	defBytes, repBytes int64 // in a data page of version 2
	plain              bool  // a data page of version 2 whose values are not compressed
}

const (
	pageData       = 0
	pageIndex      = 1
	pageDictionary = 2
	pageDataV2     = 3
)

// Types of the compact protocol (thrift, "Thrift Compact protocol encoding").
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12

	maxThriftDepth = 16
)

var errThrift = errors.New("the page header is not Thrift")

// compact reads the compact protocol from b; after an error every read gives nothing.
type compact struct {
	b   []byte
	at  int
	err error
}

func (c *compact) fail() { c.err, c.at = errThrift, len(c.b) }

func (c *compact) byte() byte {
	if c.at >= len(c.b) {
		c.fail()
		return 0
	}
	c.at++
	return c.b[c.at-1]
}

func (c *compact) uvarint() uint64 {
	v, n := binary.Uvarint(c.b[c.at:])
	if n <= 0 {
		c.fail()
		return 0
	}
	c.at += n
	return v
}

func (c *compact) zigzag() int64 {
	v := c.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (c *compact) advance(n uint64) {
	if n > uint64(len(c.b)-c.at) {
		c.fail()
		return
	}
	c.at += int(n)
}

// fields calls fn with the id and type of each field of a struct; fn reads the value.
func (c *compact) fields(fn func(id int64, typ byte)) {
	for id := int64(0); ; {
		head := c.byte()
		if head == 0 || c.err != nil {
			return
		}
		if delta := head >> 4; delta != 0 {
			id += int64(delta)
		} else {
			id = c.zigzag()
		}
		fn(id, head&0xf)
	}
}

// integer reads a value that should be a number; others are skipped and give 0.
func (c *compact) integer(typ byte, depth int) int64 {
	if typ == thriftI16 || typ == thriftI32 || typ == thriftI64 {
		return c.zigzag()
	}
	c.skip(typ, depth)
	return 0
}

func (c *compact) skip(typ byte, depth int) {
	if depth > maxThriftDepth {
		c.fail()
	}
	if c.err != nil {
		return
	}
	switch typ {
	case thriftTrue, thriftFalse:
	case thriftByte:
		c.advance(1)
	case thriftI16, thriftI32, thriftI64:
		c.uvarint()
	case thriftDouble:
		c.advance(8)
	case thriftBinary:
		c.advance(c.uvarint())
	case thriftStruct:
		c.fields(func(_ int64, t byte) { c.skip(t, depth+1) })
	case thriftList, thriftSet:
		head := c.byte()
		n := uint64(head >> 4)
		if n == 15 {
			n = c.uvarint()
		}
		c.elements(n, depth, head&0xf)
	case thriftMap:
		if n := c.uvarint(); n > 0 {
			types := c.byte()
			c.elements(n, depth, types>>4, types&0xf)
		}
	default:
		c.fail()
	}
}

// elements skips n times one value of each type. In lists and maps a boolean takes a byte.
func (c *compact) elements(n uint64, depth int, types ...byte) {
	for ; n > 0 && c.err == nil; n-- {
		for _, t := range types {
			if t == thriftTrue || t == thriftFalse {
				t = thriftByte
			}
			c.skip(t, depth+1)
		}
	}
}

// readPageHeader reads the header at the start of b and returns its length.
func readPageHeader(b []byte) (h pageHeader, n int, err error) {
	c := &compact{b: b}
	c.fields(func(id int64, typ byte) {
		switch {
		case id == 1:
			h.kind = c.integer(typ, 1)
		case id == 2:
			h.uncompressed = c.integer(typ, 1)
		case id == 3:
			h.size = c.integer(typ, 1)
		case id == 4 && typ == thriftI32:
			h.crc, h.hasCRC = uint32(c.zigzag()), true
		case id == 5 && typ == thriftStruct, id == 7 && typ == thriftStruct:
			c.fields(func(id int64, typ byte) {
				switch id {
				case 1:
					h.values = c.integer(typ, 2)
				case 2:
					h.encoding = c.integer(typ, 2)
				case 3:
					h.levelEncoding = c.integer(typ, 2)
				default:
					c.skip(typ, 2)
				}
			})
		case id == 8 && typ == thriftStruct:
			c.fields(func(id int64, typ byte) { h.dataV2(c, id, typ) })
		default:
			c.skip(typ, 1)
		}
	})
	return h, c.at, c.err
}

func (h *pageHeader) dataV2(c *compact, id int64, typ byte) {
	switch id {
	case 1:
		h.values = c.integer(typ, 2)
	case 4:
		h.encoding = c.integer(typ, 2)
	case 5:
		h.defBytes = c.integer(typ, 2)
	case 6:
		h.repBytes = c.integer(typ, 2)
	case 7:
		h.plain = typ == thriftFalse
		c.skip(typ, 2)
	default:
		c.skip(typ, 2)
	}
}
