package decode

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoChange is how the envelopes of one writer's schema are read. Their fields may come in any order and op says which of them
// is the row, so they are looked up first.
type protoChange struct {
	tags           [envelopeParts]uint64 // 0 where the writer has no such field
	whole, partial *protoMessage         // the row
	source         *protoJSON
	wrapped        bool // ts_ms is an Int64Value
}

// protoPart is a member of an envelope: what it holds, of messages and strings without their length. b is nil where it is not there.
type protoPart struct {
	b        []byte
	from, to int
	own      bool // b is not the payload, for the member came in pieces
}

// planChange plans the envelopes of md, whose rows are read by row.
func (d *Protobuf) planChange(md protoreflect.MessageDescriptor, row *protoMessage) (*protoMessage, error) {
	c := &protoChange{whole: row, partial: row.partialOf(d.columns)}
	var rowName protoreflect.FullName
	for _, part := range []envelopePart{partAfter, partBefore, partOp, partTime, partSource} {
		fd := md.Fields().ByName(protoreflect.Name(partNames[part]))
		if fd == nil {
			continue
		}
		ok := !fd.IsList() && !fd.IsMap()
		switch part {
		case partOp:
			ok = ok && fd.Kind() == protoreflect.StringKind
		case partTime:
			c.wrapped = fd.Kind() == protoreflect.MessageKind
			ok = ok && (fd.Kind() == protoreflect.Int64Kind || c.wrapped && fd.Message().FullName() == "google.protobuf.Int64Value")
		default:
			ok = ok && fd.Kind() == protoreflect.MessageKind
		}
		if ok && part == partAfter {
			rowName = fd.Message().FullName()
		}
		if !ok || part == partBefore && fd.Message().FullName() != rowName {
			return nil, fmt.Errorf("%w: %s is not what a change event of Debezium's has there (before and after of one message, op of string, ts_ms of int64, source of a message)", errIncompatible, fd.FullName())
		}
		if part == partSource {
			c.source = protoJSONPlans{}.of(fd.Message())
		}
		_, op := protoScalarOf(fd.Kind())
		c.tags[part] = protowire.EncodeTag(fd.Number(), op.wire())
	}
	return &protoMessage{change: c}, nil
}

// partialOf is how a row is read that need not be whole: of what it requires only that which the table requires, too.
func (m *protoMessage) partialOf(o *objectPlan) *protoMessage {
	out := *m
	out.fields = slices.Clone(m.fields)
	for i := range out.fields {
		f := &out.fields[i]
		at := slices.IndexFunc(o.fields, func(c fieldPlan) bool { return c.val.col == f.col || c.val.col == f.list })
		if f.required && !o.fields[at].demanded {
			f.required, f.nullable = false, true
		}
	}
	return &out
}

func (c *protoChange) partOf(tag uint64) envelopePart {
	for part, t := range c.tags {
		if t == tag {
			return envelopePart(part)
		}
	}
	return partOther
}

// changed reads the change event from p on into the columns. On false d.failure says why.
func (d *Protobuf) changed(c *protoChange, b []byte, p int) bool {
	clear(d.parts[:])
	for p < len(b) {
		tag, q := d.tag(b, p, len(b))
		if q < 0 {
			return false
		}
		if p = d.skip(tag, b, q, len(b), d.opt.MaxDepth); p < 0 {
			return false
		}
		if part := c.partOf(tag); part != partOther {
			d.member(part, b, q, p)
		}
	}
	op := d.parts[partOp]
	if op.b == nil {
		return d.lacksOp() != 0
	}
	done := d.opNamed(op.b[op.from:op.to], op.from)
	if done == 0 || !d.changedRow(c, done) {
		return false
	}
	// After the row, for one that comes in pieces takes back what the columns hold of the event, and reads it again.
	if !d.changedAt(c) || !d.changeSource(c) {
		d.inside = ""
		return false
	}
	d.extras[extraOp].appendBytes([]byte{done})
	return true
}

// changedRow makes the row of a change whose members were found.
func (d *Protobuf) changedRow(c *protoChange, op byte) bool {
	part, plan := d.image(op), c.whole
	if part == partOther {
		return d.noRow(d.columns)
	}
	if d.partial {
		plan = c.partial
	}
	row := d.parts[part]
	if row.b == nil {
		return d.lacksRow(part, op, 0)
	}
	d.inside = rowPlaces[0][part]
	if d.message(plan, row.b, row.from, row.to) < 0 {
		d.under(partNames[part])
		return false
	}
	return true
}

// member takes in the value that stands from p to end. Of what comes twice the last one counts, and messages merge, which is
// to read one behind the other.
func (d *Protobuf) member(part envelopePart, b []byte, p, end int) {
	m := &d.parts[part]
	if part != partTime {
		n, q := d.length(b, p, end)
		p, end = q, q+n
	}
	if m.b == nil || part == partOp || part == partTime {
		*m = protoPart{b: b, from: p, to: end}
		return
	}
	if !m.own {
		m.b, m.own = slices.Clone(m.b[m.from:m.to]), true
	}
	m.b = append(m.b, b[p:end]...)
	m.from, m.to = 0, len(m.b)
}

// changedAt reads ts_ms. What does not come is null, for no connector works in 1970.
func (d *Protobuf) changedAt(c *protoChange) bool {
	m, col := d.parts[partTime], d.extras[extraTime]
	if m.b == nil {
		col.null()
		return true
	}
	b, p, end := m.b, m.from, m.to
	if c.wrapped {
		n, q := d.length(b, p, end)
		if b, p = d.only(b, q, q+n, 1, protoInt64, false); p < 0 {
			d.under(partNames[partTime])
			return false
		}
		if p, end = 0, len(b); b == nil {
			b, end = zeroPad[:], 1
		}
	}
	u, _ := d.uvarint(b, p, end)
	if ms := int64(u); ms >= minMicros/1000 && ms <= maxMicros/1000 {
		col.appendInt64(ms * 1000)
		return true
	}
	d.fail(ReasonOutOfRange, m.from, "the time lies outside the years 0000 to 9999")
	d.under(partNames[partTime])
	return false
}

// changeSource stores source as JSON.
func (d *Protobuf) changeSource(c *protoChange) bool {
	m, col := d.parts[partSource], d.extras[extraSource]
	if m.b == nil {
		col.null()
		return true
	}
	d.text, d.places = d.text[:0], d.places[:0]
	if !d.asJSON(c.source, m.b, m.from, m.to, d.opt.MaxDepth) {
		d.under(partNames[partSource])
		return false
	}
	if !d.fill(len(d.text)) {
		return false
	}
	col.appendBytes(d.text)
	return true
}
