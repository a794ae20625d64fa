package decode

import "strings"

// What the envelopes of all formats share: which of their members is the row, and what is wrong with those that have none.

// beginChange forgets the change before.
func (d *rows) beginChange() { d.inside, d.partial = "", false }

// noOp is what is wrong with an event that does not say what was done.
const noOp = "a change event has a member op, and this has none: is it Debezium's, and was its envelope not taken off by a transformation?"

// lacksOp says that the event does not say what was done.
func (d *rows) lacksOp() byte {
	d.fail(ReasonMissingField, 0, noOp)
	d.under(partNames[partOp])
	return 0
}

// opNamed is the operation of a name that stands at p; 0 after a failure.
func (d *rows) opNamed(name []byte, p int) byte {
	if len(name) == 1 && strings.IndexByte("crudt", name[0]) >= 0 {
		return name[0]
	}
	d.fail(ReasonNotInEnum, p, "the operation is none of: c, r, u, d, t")
	d.under(partNames[partOp])
	return 0
}

// image says which member of a change is its row, and notes whether that need be whole; partOther where there is no row.
func (d *rows) image(op byte) envelopePart {
	d.partial = op == 'd' || op == 't'
	switch op {
	case 't':
		return partOther
	case 'd':
		return partBefore
	}
	return partAfter
}

// lacksRow says what is wrong with a change whose row is null or, with p = 0, not there.
func (d *rows) lacksRow(part envelopePart, op byte, p int) bool {
	if part == partBefore {
		d.fail(ReasonMissingField, p, "the delete does not say which row: have the database log it (PostgreSQL: REPLICA IDENTITY, MySQL: binlog_row_image)")
	} else {
		d.fail(ReasonMissingField, p, "a change with op %c has the row in after, and there is none", op)
	}
	d.under(partNames[part])
	return false
}

// noRow makes the row of a truncation, which has no values.
func (d *rows) noRow(o *objectPlan) bool {
	for i := range o.fields {
		f := &o.fields[i]
		if f.demanded {
			d.fail(ReasonMissingField, 0, "a truncation has no values, and the table requires %s: make the column optional", f.name)
			d.under(f.name)
			return false
		}
		f.val.col.null()
	}
	o.col.endStruct()
	if o.rest != nil {
		o.rest.null()
	}
	return true
}

// overlong tells that the JSON text made of a part of the event is longer than an event of its size may give.
func (d *rows) overlong(text []byte, p int) bool {
	if int64(len(text)) <= maxFillPerByte*int64(d.size)+fillFloor {
		return false
	}
	d.fail(ReasonTooLarge, p, "the event's %d bytes stand for too much text", d.size)
	return true
}
