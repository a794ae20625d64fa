package decode

import "fmt"

// avroChange is how the envelopes of one writer's schema are read. What says which member is the row comes behind the members
// that may be, so an event is walked over first, and then its row is read.
type avroChange struct {
	members       []avroMember // in the writer's order
	after, before avroNode     // opNull where the writer says null, or has no such field
	time          avroNode
	op, source    *avroType // nil where the writer has no such field
}

// avroMember is a field of an envelope.
type avroMember struct {
	part envelopePart
	name string
	over avroNode // how it is walked over
}

// avroMillis is how ts_ms is read.
var avroMillis = &avroType{kind: avroLong, logical: "timestamp-millis"}

// rowOfChange is the type of the row in an envelope that is written as w, nil where there is none; is tells whether w is an
// envelope at all.
func rowOfChange(w *avroType) (row *avroType, is bool) {
	for i := range w.fields {
		switch w.fields[i].name {
		case partNames[partOp]:
			is = true
		case partNames[partAfter]:
			row = w.fields[i].typ.record()
		}
	}
	return row, is
}

// record is the type itself, or what it is a union of, where that is a record; else nil.
func (t *avroType) record() *avroType {
	if v, _ := t.withoutNull(); v.kind == avroRecord {
		return v
	}
	return nil
}

// planChange plans the envelopes that are written as w.
func (d *Avro) planChange(rs *avroResolver, w *avroType) (*avroChange, error) {
	c := &avroChange{after: avroNode{op: opNull}, before: avroNode{op: opNull}}
	partial := *d.event
	partial.obj = d.event.obj.partial()
	for i := range w.fields {
		f := &w.fields[i]
		m := avroMember{part: partOf([]byte(f.name)), name: f.name, over: *rs.skip(f.typ)}
		var err error
		switch m.part {
		case partAfter:
			c.after, err = rs.image(f.typ, d.event)
		case partBefore:
			rs.partial = true
			c.before, err = rs.image(f.typ, &partial)
			rs.partial = false
		case partTime:
			c.time, err = rs.resolve(f.typ, avroMillis, &valuePlan{kind: kindEpoch, nullable: true, col: d.extras[extraTime]})
		case partOp:
			c.op = f.typ
			if v, _ := f.typ.withoutNull(); v.kind != avroString {
				err = fmt.Errorf("%w: #%s: op is %s, and a change event has a string there", errIncompatible, f.typ.at, f.typ)
			}
		case partSource:
			c.source = f.typ
			if f.typ.record() == nil {
				err = fmt.Errorf("%w: #%s: source is %s, and a change event has a record there", errIncompatible, f.typ.at, f.typ)
			}
		default:
			m.part = partOther
		}
		if err != nil {
			return c, err
		}
		c.members = append(c.members, m)
	}
	return c, nil
}

// image plans a row, which may be null.
func (rs *avroResolver) image(w *avroType, v *valuePlan) (avroNode, error) {
	branches := []*avroType{w}
	if w.kind == avroUnion {
		branches = w.branches
	}
	n := avroNode{op: opUnion, branches: make([]avroNode, len(branches))}
	for i, b := range branches {
		if b.kind == avroNull {
			n.branches[i].op = opNull
			continue
		}
		var err error
		if n.branches[i], err = rs.resolve(b, v.avro, v); err != nil {
			return n, err
		}
	}
	if w.kind != avroUnion {
		n = n.branches[0]
	}
	return n, nil
}

func (c *avroChange) everyFill() int64 { return max(c.after.imageFill(), c.before.imageFill()) }

// imageFill is everyFill of a row, which may be null.
func (n *avroNode) imageFill() int64 {
	if n.op != opUnion {
		return n.everyFill()
	}
	var most int64
	for i := range n.branches {
		most = max(most, n.branches[i].everyFill())
	}
	return most
}

// changed reads the change event at p into the columns and returns the position after it, or -1.
func (d *Avro) changed(plan *avroPlan, b []byte, p int) int {
	c := plan.change
	clear(d.parts[:])
	for i := range c.members {
		m := &c.members[i]
		from := p
		if p = d.skip(&m.over, b, p); p < 0 {
			return d.under(m.name)
		}
		d.parts[m.part] = span{from, p}
	}
	d.allow(plan) // once more, for the row is read anew
	if !d.changedRow(c, b) {
		return -1
	}
	return p
}

// changedRow makes a row of a change whose members were found.
func (d *Avro) changedRow(c *avroChange, b []byte) bool {
	op := d.operation(c, b)
	if op == 0 || !d.changedAt(c, b) || !d.changeSource(c, b) {
		return false
	}
	d.extras[extraOp].appendBytes([]byte{op})
	part, n := d.image(op), &c.after
	switch part {
	case partOther:
		return d.noRow(d.event.obj)
	case partBefore:
		n = &c.before
	}
	p := d.parts[part].from
	if n.op == opUnion { // the walk has seen that the branch is there
		var i int64
		if i, p = d.number(b, p); p < 0 {
			return false
		}
		n = &n.branches[i]
	}
	if n.op == opNull {
		return d.lacksRow(part, op, p)
	}
	d.inside = rowPlaces[0][part]
	if d.value(n, b, p) < 0 {
		d.under(partNames[part])
		return false
	}
	return true
}

// unwrapped follows a union at p to its value.
func (d *Avro) unwrapped(t *avroType, b []byte, p int) (*avroType, int) {
	if t.kind != avroUnion {
		return t, p
	}
	i, q := d.number(b, p)
	switch {
	case q < 0:
		return nil, -1
	case i < 0 || i >= int64(len(t.branches)):
		return nil, d.fail(ReasonInvalidAvro, p, "branch %d of a union of %d", i, len(t.branches))
	}
	return t.branches[i], q
}

// operation reads op; 0 after a failure.
func (d *Avro) operation(c *avroChange, b []byte) byte {
	if c.op == nil {
		return d.lacksOp()
	}
	t, p := d.unwrapped(c.op, b, d.parts[partOp].from)
	switch {
	case p < 0:
	case t.kind != avroString:
		d.fail(ReasonWrongType, p, "%s where a change event has a string", t)
	default:
		n, q := d.length(b, p)
		if q >= 0 {
			return d.opNamed(b[q:q+n], p)
		}
	}
	d.under(partNames[partOp])
	return 0
}

func (d *Avro) changedAt(c *avroChange, b []byte) bool {
	if d.parts[partTime].from == 0 {
		d.extras[extraTime].null()
		return true
	}
	if d.value(&c.time, b, d.parts[partTime].from) < 0 {
		d.under(partNames[partTime])
		return false
	}
	return true
}

// changeSource stores source as JSON.
func (d *Avro) changeSource(c *avroChange, b []byte) bool {
	if c.source == nil {
		d.extras[extraSource].null()
		return true
	}
	t, p := d.unwrapped(c.source, b, d.parts[partSource].from)
	switch {
	case p < 0:
	case t.kind == avroNull:
		d.extras[extraSource].null()
		return true
	default:
		d.text = d.text[:0]
		if d.asJSON(t, b, p) >= 0 && d.fill(int64(len(d.text)), p) {
			d.extras[extraSource].appendBytes(d.text)
			return true
		}
	}
	d.under(partNames[partSource])
	return false
}
