package decode

import "unicode/utf8"

// message reads the fields between p and end into the struct's columns and closes its value. A field's column is one
// longer than the struct's once the field was seen; lists and maps stay open to the end, for their elements may come in
// pieces.
func (d *Protobuf) message(m *protoMessage, b []byte, p, end int) int {
	row, start, unknown, next, left := m.col.n, p, d.unknown, 0, len(m.fields)
	for p < end {
		if next < len(m.fields) { // fields mostly come in the order of their numbers
			if f := &m.fields[next]; f.first == uint16(b[p]) && f.col.n == row {
				if f.op == protoString && f.second == 0 && end-p >= 2 { // as most are, and so without the call
					if size, q := int(b[p+1]), p+2; size < utf8.RuneSelf && size <= end-q && f.col.plainText(b, q, size) {
						p, next, left = q+size, next+1, left-1
						continue
					}
				}
				if q := d.common(f, b, p+1, end); q != 0 {
					if q < 0 {
						return d.under(f.name)
					}
					p, next, left = q, next+1, left-1
					continue
				}
			}
		}
		var tag uint64
		if tag, p = d.tag(b, p, end); p < 0 {
			return -1
		}
		i := next
		if i >= len(m.fields) || m.fields[i].tag>>3 != tag>>3 {
			i = m.at(tag >> 3)
		}
		if i < 0 || (tag != m.fields[i].tag && tag != m.fields[i].packed) {
			d.unknown++
			if p = d.skip(tag, b, p, end, d.opt.MaxDepth); p < 0 {
				return -1
			}
			continue
		}
		f := &m.fields[i]
		switch next = i; {
		case f.list != nil:
			p = d.element(f, tag, b, p, end)
		case f.col.n != row || (f.oneof > 0 && m.taken(f.oneof, row)):
			// Twice: the last one counts, and messages merge.
			d.unknown = unknown
			m.col.rollback(row)
			if b = d.normal(m, b, start, end); b == nil || d.message(m, b, 0, len(b)) < 0 {
				return -1
			}
			return end
		default:
			next++
			if p = d.value(&f.protoNode, b, p, end); f.col.n != row {
				left--
			}
		}
		if p < 0 {
			return d.under(f.name)
		}
	}
	if left > 0 {
		return d.endMessage(m, row, p)
	}
	m.col.endStruct()
	return p
}

// common reads the value of a field whose first tag byte was found before p, if it is of the kinds that most are and nothing is
// particular about it. It returns the position after it, -1 for a failure in a message, or 0 with nothing done: then the general
// way begins again at the tag.
func (d *Protobuf) common(f *protoField, b []byte, p, end int) int {
	if f.second != 0 {
		if p >= end || b[p] != f.second {
			return 0
		}
		p++
	}
	if p >= end {
		return 0
	}
	q, size := p+1, int(b[p])
	switch f.op {
	case protoString:
		if size < utf8.RuneSelf && size <= end-q && f.col.plainText(b, q, size) {
			return q + size
		}
	case protoNested:
		if size < utf8.RuneSelf && size <= end-q {
			return d.message(f.msg, b, q, q+size)
		}
	case protoInt32:
		if size < utf8.RuneSelf && !f.wide {
			f.col.appendInt32(int32(size))
			return q
		}
	case protoInt64:
		if u, n := shortVarint(b, p); n > 0 && n <= end-p {
			f.col.appendInt64(int64(u))
			return p + n
		}
	case protoSfixed64:
		if end-p >= 8 {
			f.col.appendInt64(int64(load64(b, p)))
			return p + 8
		}
	case protoTimestamp:
		if size < utf8.RuneSelf && size <= end-q {
			return f.col.plainInstant(b, q, q+size)
		}
	}
	return 0
}

// plainInstant appends the Timestamp between p and end if it is seconds from 1970 on and nanoseconds, in that order; else it does
// nothing and returns 0.
func (c *column) plainInstant(b []byte, p, end int) int {
	if end-p < 2 || b[p] != 1<<3 {
		return 0
	}
	seconds, n := shortVarint(b, p+1)
	if p += 1 + n; n == 0 || p > end || seconds > maxMicros/microsPerSecond {
		return 0
	}
	nanos := uint64(0)
	if p < end {
		if b[p] != 2<<3 {
			return 0
		}
		nanos, n = shortVarint(b, p+1)
		if p += 1 + n; n == 0 || p != end || nanos >= nanosPerSecond {
			return 0
		}
	}
	c.appendInt64(int64(seconds*microsPerSecond + nanos/1000))
	return p
}

// taken tells whether another member of a oneof is there already.
func (m *protoMessage) taken(oneof, row int) bool {
	for _, i := range m.oneofs[oneof-1] {
		if m.fields[i].col.n != row {
			return true
		}
	}
	return false
}

// endMessage closes a message's value: lists and maps end, and what did not come is null or its type's zero.
func (d *Protobuf) endMessage(m *protoMessage, row, p int) int {
	for i := range m.fields {
		f := &m.fields[i]
		switch {
		case f.list != nil:
			if f.isMap {
				first := 0
				if f.list.offs != nil {
					first = int(f.list.offs[row])
				}
				if k := d.keys.duplicate(f.key.col, first); k >= 0 {
					d.fail(ReasonDuplicateKey, p, "the key is there twice")
					d.under(string(f.key.col.bytesAt(k)))
					return d.under(f.name)
				}
			}
			f.list.endList()
		case f.col.n != row:
		case f.required:
			d.fail(ReasonMissingField, p, "a required field is missing: %s", f.name)
			return d.under(f.name)
		case f.nullable:
			f.col.null()
		case !d.zero(&f.protoNode):
			return -1
		}
	}
	m.col.endStruct()
	return p
}

// element reads one element of a list, a packed run of them, or one entry of a map.
func (d *Protobuf) element(f *protoField, tag uint64, b []byte, p, end int) int {
	if f.isMap {
		return d.entry(f, b, p, end)
	}
	first := 0
	if f.list.offs != nil {
		first = int(f.list.offs[f.list.n])
	}
	if tag == f.packed {
		n, q := d.length(b, p, end)
		if q < 0 {
			return -1
		}
		for p = q; p < q+n; {
			if p = d.value(&f.protoNode, b, p, q+n); p < 0 {
				return d.under(itoa(f.col.n - first))
			}
		}
		return p
	}
	if p = d.value(&f.protoNode, b, p, end); p < 0 {
		return d.under(itoa(f.col.n - first))
	}
	return p
}
