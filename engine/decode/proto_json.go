package decode

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// asJSON writes the message between p and end behind d.text, with each of its fields in the order of the schema and by the name it
// has there. A field that is not there is null where Protobuf tells absence, else its type's zero; of one that is there twice
// the last one counts. Maps are lists of their entries.
func (d *Protobuf) asJSON(md protoreflect.MessageDescriptor, b []byte, p, end, depth int) bool {
	if depth <= 0 {
		d.fail(ReasonTooDeep, p, "nested deeper than %d", d.opt.MaxDepth)
		return false
	}
	fields := md.Fields()
	base, start := len(d.places), p
	for range fields.Len() {
		d.places = append(d.places, span{})
	}
	for p < end {
		tag, q := d.tag(b, p, end)
		if q < 0 {
			return false
		}
		if p = d.skip(tag, b, q, end, d.opt.MaxDepth); p < 0 {
			return false
		}
		if fd := fields.ByNumber(protowire.Number(tag >> 3)); fd != nil && wireOf(fd) == protowire.Type(tag&7) {
			d.places[base+fd.Index()] = span{q, p}
		}
	}
	d.text = append(d.text, '{')
	for i := range fields.Len() {
		fd, at := fields.Get(i), d.places[base+i]
		if i > 0 {
			d.text = append(d.text, ',')
		}
		d.text = append(appendJSONString(d.text, string(fd.Name())), ':')
		var ok bool
		if fd.Cardinality() == protoreflect.Repeated {
			ok = d.listAsJSON(fd, b, start, end, depth)
		} else {
			ok = d.valueAsJSON(fd, b, at.from, at.to, depth)
		}
		if !ok {
			d.under(string(fd.Name()))
			return false
		}
	}
	d.text, d.places = append(d.text, '}'), d.places[:base]
	return !d.overlong(d.text, p)
}

// wireOf is the wire type of a field's values outside a packed list.
func wireOf(fd protoreflect.FieldDescriptor) protowire.Type {
	if fd.Kind() == protoreflect.GroupKind {
		return protowire.StartGroupType
	}
	_, op := protoScalarOf(fd.Kind())
	return op.wire()
}

// listAsJSON writes the elements of a list that stand between p and end, packed or not.
func (d *Protobuf) listAsJSON(fd protoreflect.FieldDescriptor, b []byte, p, end, depth int) bool {
	d.text = append(d.text, '[')
	first := true
	for p < end {
		tag, q := d.tag(b, p, end)
		if p = d.skip(tag, b, q, end, d.opt.MaxDepth); p < 0 {
			return false
		}
		if protowire.Number(tag>>3) != fd.Number() {
			continue
		}
		one := p // the value's end; in a packed list each value ends where it ends
		packed := protowire.Type(tag&7) == protowire.BytesType && wireOf(fd) != protowire.BytesType
		if packed {
			_, q = d.length(b, q, p)
		} else if protowire.Type(tag&7) != wireOf(fd) {
			continue
		}
		for q < p {
			if packed {
				if one = d.skip(uint64(wireOf(fd)), b, q, p, 0); one < 0 {
					return false
				}
			}
			if !first {
				d.text = append(d.text, ',')
			}
			first = false
			if !d.valueAsJSON(fd, b, q, one, depth) || d.overlong(d.text, p) {
				return false
			}
			q = one
		}
	}
	d.text = append(d.text, ']')
	return true
}

// valueAsJSON writes the value between p and end; with end = 0 there is none.
func (d *Protobuf) valueAsJSON(fd protoreflect.FieldDescriptor, b []byte, p, end, depth int) bool {
	if end == 0 && fd.HasPresence() || fd.Kind() == protoreflect.GroupKind {
		d.text = append(d.text, "null"...)
		return true
	}
	var u uint64
	var s []byte
	kind, op := protoScalarOf(fd.Kind())
	switch wire := op.wire(); {
	case end == 0:
	case wire == protowire.VarintType:
		u, _ = d.uvarint(b, p, end)
	case wire == protowire.Fixed32Type:
		u = uint64(load32(b, p))
	case wire == protowire.Fixed64Type:
		u = load64(b, p)
	default:
		n, q := d.length(b, p, end)
		if fd.Kind() == protoreflect.MessageKind {
			return d.messageAsJSON(fd.Message(), b, q, q+n, depth)
		}
		s = b[q : q+n]
	}
	switch {
	case op == protoString && !validUTF8(s):
		d.fail(ReasonInvalidUTF8, p, "the string is not UTF-8")
		return false
	case op == protoString:
		d.text = appendJSONString(d.text, s)
	case op == protoBytes:
		d.text = appendJSONBytes(d.text, s)
	case kind == kindFloat:
		d.text = appendJSONFloat(d.text, float64(math.Float32frombits(uint32(u))), 32)
	case kind == kindDouble:
		d.text = appendJSONFloat(d.text, math.Float64frombits(u), 64)
	case op == protoEnum:
		if v := fd.Enum().Values().ByNumber(protoreflect.EnumNumber(int32(u))); v != nil {
			d.text = appendJSONString(d.text, string(v.Name()))
			break
		}
		d.text = protoInt32.appendText(d.text, u)
	default:
		d.text = op.appendText(d.text, u)
	}
	return true
}

// messageAsJSON writes a message; of a wrapper what it wraps.
func (d *Protobuf) messageAsJSON(md protoreflect.MessageDescriptor, b []byte, p, end, depth int) bool {
	if !isWrapper(md) {
		return d.asJSON(md, b, p, end, depth-1)
	}
	fd := md.Fields().Get(0)
	v, q := d.only(b, p, end, 1, wireOf(fd), false)
	if q < 0 {
		return false
	}
	return d.valueAsJSON(fd, v, 0, len(v), depth-1)
}
