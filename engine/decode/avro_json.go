package decode

import (
	"math"
	"strconv"
)

// asJSON writes the value at p behind d.text as JSON and returns the position after it, or -1.
func (d *Avro) asJSON(t *avroType, b []byte, p int) int {
	switch t.kind {
	case avroNull:
		d.text = append(d.text, "null"...)
		return p
	case avroBoolean:
		if p >= len(b) || b[p] > 1 {
			return d.fail(ReasonInvalidAvro, p, "no boolean stands here")
		}
		d.text = strconv.AppendBool(d.text, b[p] == 1)
		return p + 1
	case avroInt, avroLong:
		x, q := d.number(b, p)
		if q < 0 {
			return -1
		}
		d.text = strconv.AppendInt(d.text, x, 10)
		return q
	case avroFloat:
		if len(b)-p < 4 {
			return d.short(p, 4, len(b)-p)
		}
		d.text = appendJSONFloat(d.text, float64(math.Float32frombits(load32(b, p))), 32)
		return p + 4
	case avroDouble:
		if len(b)-p < 8 {
			return d.short(p, 8, len(b)-p)
		}
		d.text = appendJSONFloat(d.text, math.Float64frombits(load64(b, p)), 64)
		return p + 8
	case avroEnum:
		i, q := d.number(b, p)
		if q < 0 {
			return -1
		}
		if i < 0 || i >= int64(len(t.symbols)) {
			return d.fail(ReasonInvalidAvro, p, "symbol %d of an enum of %d", i, len(t.symbols))
		}
		d.text = appendJSONString(d.text, t.symbols[i])
		return q
	case avroString, avroBytes, avroFixed:
		return d.bytesAsJSON(t, b, p)
	}
	if d.depth++; d.depth > d.opt.MaxDepth {
		return d.fail(ReasonTooDeep, p, "nested deeper than %d", d.opt.MaxDepth)
	}
	defer func() { d.depth-- }()
	switch t.kind {
	case avroRecord:
		return d.recordAsJSON(t, b, p)
	case avroUnion:
		branch, q := d.unwrapped(t, b, p)
		if q < 0 {
			return -1
		}
		return d.asJSON(branch, b, q)
	}
	return d.blocksAsJSON(t, b, p)
}

func (d *Avro) bytesAsJSON(t *avroType, b []byte, p int) int {
	size, q := t.size, p
	if t.kind != avroFixed {
		if size, q = d.length(b, p); q < 0 {
			return -1
		}
	}
	if len(b)-q < size {
		return d.short(q, size, len(b)-q)
	}
	s := b[q : q+size]
	switch {
	case t.kind != avroString:
		d.text = appendJSONBytes(d.text, s)
	case !validUTF8(s):
		return d.fail(ReasonInvalidUTF8, q, "the string is not UTF-8")
	default:
		d.text = appendJSONString(d.text, s)
	}
	return q + size
}

func (d *Avro) recordAsJSON(t *avroType, b []byte, p int) int {
	d.text = append(d.text, '{')
	for i := range t.fields {
		f := &t.fields[i]
		if i > 0 {
			d.text = append(d.text, ',')
		}
		d.text = append(appendJSONString(d.text, f.name), ':')
		if p = d.asJSON(f.typ, b, p); p < 0 {
			return d.under(f.name)
		}
	}
	d.text = append(d.text, '}')
	if d.overlong(d.text, p) {
		return -1
	}
	return p
}

// blocksAsJSON writes an array, or a map as an object.
func (d *Avro) blocksAsJSON(t *avroType, b []byte, p int) int {
	open, end := byte('['), byte(']')
	if t.kind == avroMap {
		open, end = '{', '}'
	}
	d.text = append(d.text, open)
	for first := true; ; {
		count, q, _ := d.blockStart(b, p)
		if q < 0 {
			return -1
		}
		if p = q; count == 0 {
			d.text = append(d.text, end)
			return p
		}
		for range count {
			if !first {
				d.text = append(d.text, ',')
			}
			first = false
			if t.kind == avroMap {
				size, q := d.length(b, p)
				if q < 0 {
					return -1
				}
				if !validUTF8(b[q : q+size]) {
					return d.fail(ReasonInvalidUTF8, q, "the key is not UTF-8")
				}
				d.text, p = append(appendJSONString(d.text, b[q:q+size]), ':'), q+size
			}
			if p = d.asJSON(t.elem, b, p); p < 0 || d.overlong(d.text, p) {
				return -1
			}
		}
	}
}
