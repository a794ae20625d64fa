package decode

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoJSON is how a message becomes JSON, with what a descriptor would have to be asked for each time.
type protoJSON struct {
	fields  []protoJSONField
	numbers map[protowire.Number]int // → place in fields
	wraps   bool                     // a wrapper of google.protobuf: it is what it holds
}

// protoJSONField is one field.
type protoJSONField struct {
	name     string
	key      string // the name as JSON, and a colon
	number   protowire.Number
	wire     protowire.Type // of a value outside a packed list
	kind     kind
	op       protoOp
	list     bool
	presence bool // absence is null, not a zero
	group    bool
	enum     map[int32]string // the names as JSON; the first one where a number has several
	message  *protoJSON
}

// protoJSONPlans plans messages, each once: they may hold one another.
type protoJSONPlans map[protoreflect.FullName]*protoJSON

func (all protoJSONPlans) of(md protoreflect.MessageDescriptor) *protoJSON {
	if m := all[md.FullName()]; m != nil {
		return m
	}
	m := &protoJSON{numbers: map[protowire.Number]int{}, wraps: isWrapper(md)}
	all[md.FullName()] = m
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f := protoJSONField{name: string(fd.Name()), key: string(appendJSONString(nil, string(fd.Name()))) + ":", number: fd.Number(),
			list: fd.Cardinality() == protoreflect.Repeated, presence: fd.HasPresence(), group: fd.Kind() == protoreflect.GroupKind}
		f.kind, f.op = protoScalarOf(fd.Kind())
		if f.wire = f.op.wire(); f.group {
			f.wire = protowire.StartGroupType
		}
		if f.op == protoEnum {
			f.enum = map[int32]string{}
			for i := range fd.Enum().Values().Len() {
				v := fd.Enum().Values().Get(i)
				if _, aliased := f.enum[int32(v.Number())]; !aliased {
					f.enum[int32(v.Number())] = string(appendJSONString(nil, string(v.Name())))
				}
			}
		}
		if fd.Kind() == protoreflect.MessageKind {
			f.message = all.of(fd.Message())
		}
		m.fields, m.numbers[f.number] = append(m.fields, f), i
	}
	return m
}

// asJSON writes the message between p and end behind d.text, with each of its fields in the order of the schema and by the name it
// has there. A field that is not there is null where Protobuf tells absence, else its type's zero; of one that is there twice
// the last one counts. Maps are lists of their entries.
func (d *Protobuf) asJSON(m *protoJSON, b []byte, p, end, depth int) bool {
	if depth <= 0 {
		d.fail(ReasonTooDeep, p, "nested deeper than %d", d.opt.MaxDepth)
		return false
	}
	base := len(d.places)
	for range m.fields {
		d.places = append(d.places, span{})
	}
	for p < end {
		at := p
		tag, q := d.tag(b, p, end)
		if q < 0 {
			return false
		}
		if p = d.skip(tag, b, q, end, d.opt.MaxDepth); p < 0 {
			return false
		}
		i, ok := m.numbers[protowire.Number(tag>>3)]
		switch {
		case !ok:
		case m.fields[i].list: // from its first element to the end of its last
			if first := &d.places[base+i]; first.to != 0 {
				at = first.from
			}
			d.places[base+i] = span{at, p}
		case m.fields[i].wire == protowire.Type(tag&7):
			d.places[base+i] = span{q, p}
		}
	}
	d.text = append(d.text, '{')
	for i := range m.fields {
		f, at := &m.fields[i], d.places[base+i]
		if i > 0 {
			d.text = append(d.text, ',')
		}
		d.text = append(d.text, f.key...)
		var ok bool
		switch {
		case f.list && at.to == 0:
			d.text, ok = append(d.text, "[]"...), true
		case f.list:
			ok = d.listAsJSON(f, b, at.from, at.to, depth)
		default:
			ok = d.valueAsJSON(f, b, at.from, at.to, depth)
		}
		if !ok {
			d.under(f.name)
			return false
		}
	}
	d.text, d.places = append(d.text, '}'), d.places[:base]
	return !d.overlong(d.text, p)
}

// listAsJSON writes the elements of a list that stand between p and end, packed or not.
func (d *Protobuf) listAsJSON(f *protoJSONField, b []byte, p, end, depth int) bool {
	d.text = append(d.text, '[')
	first := true
	for p < end {
		tag, q := d.tag(b, p, end)
		if p = d.skip(tag, b, q, end, d.opt.MaxDepth); p < 0 {
			return false
		}
		if protowire.Number(tag>>3) != f.number {
			continue
		}
		one := p // the value's end; in a packed list each value ends where it ends
		packed := protowire.Type(tag&7) == protowire.BytesType && f.wire != protowire.BytesType
		if packed {
			_, q = d.length(b, q, p)
		} else if protowire.Type(tag&7) != f.wire {
			continue
		}
		for q < p {
			if packed {
				if one = d.skip(uint64(f.wire), b, q, p, 0); one < 0 {
					return false
				}
			}
			if !first {
				d.text = append(d.text, ',')
			}
			first = false
			if !d.valueAsJSON(f, b, q, one, depth) || d.overlong(d.text, p) {
				return false
			}
			q = one
		}
	}
	d.text = append(d.text, ']')
	return true
}

// valueAsJSON writes the value between p and end; with end = 0 there is none.
func (d *Protobuf) valueAsJSON(f *protoJSONField, b []byte, p, end, depth int) bool {
	if end == 0 && f.presence || f.group {
		d.text = append(d.text, "null"...)
		return true
	}
	var u uint64
	var s []byte
	switch {
	case end == 0:
	case f.wire == protowire.VarintType:
		u, _ = d.uvarint(b, p, end)
	case f.wire == protowire.Fixed32Type:
		u = uint64(load32(b, p))
	case f.wire == protowire.Fixed64Type:
		u = load64(b, p)
	default:
		n, q := d.length(b, p, end)
		if f.message != nil {
			return d.messageAsJSON(f.message, b, q, q+n, depth)
		}
		s = b[q : q+n]
	}
	switch {
	case f.op == protoString && !validUTF8(s):
		d.fail(ReasonInvalidUTF8, p, "the string is not UTF-8")
		return false
	case f.op == protoString:
		d.text = appendJSONString(d.text, s)
	case f.op == protoBytes:
		d.text = appendJSONBytes(d.text, s)
	case f.kind == kindFloat:
		d.text = appendJSONFloat(d.text, float64(math.Float32frombits(uint32(u))), 32)
	case f.kind == kindDouble:
		d.text = appendJSONFloat(d.text, math.Float64frombits(u), 64)
	case f.op == protoEnum:
		if name, ok := f.enum[int32(u)]; ok {
			d.text = append(d.text, name...)
			break
		}
		d.text = protoInt32.appendText(d.text, u)
	default:
		d.text = f.op.appendText(d.text, u)
	}
	return true
}

// messageAsJSON writes a message; of a wrapper what it wraps.
func (d *Protobuf) messageAsJSON(m *protoJSON, b []byte, p, end, depth int) bool {
	if !m.wraps {
		return d.asJSON(m, b, p, end, depth-1)
	}
	f := &m.fields[0]
	v, q := d.only(b, p, end, 1, f.op, false)
	if q < 0 {
		return false
	}
	return d.valueAsJSON(f, v, 0, len(v), depth-1)
}
