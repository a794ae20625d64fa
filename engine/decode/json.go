package decode

import (
	"hash/maphash"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
)

// JSON decodes JSON events of one contract into rows of one table schema. It implements engine.Decoder.
type JSON struct {
	rows
	event  *objectPlan
	change envelopePlan // of contracts with an envelope

	// State of the walk over the present payload.
	buf    []byte // the payload and its padding
	tmp    []byte // the last string that had escapes
	raw    []byte // bytes that stood in the last base64 of a decimal
	open   []byte // brackets open in a skipped value
	keys   keySet
	day    dayCache
	rowEnd int // where the present row's object ended
	kept   int // bytes of the present event's members in the rest's column, which are no value of it yet
}

var _ engine.Decoder = (*JSON)(nil)

// NewJSON joins a contract with the current schema of the table that its events go to, ledger columns included. Columns
// that the contract does not have are null in every row. Errors wrap ErrContract and name the column.
func NewJSON(c *Contract, sc *iceberg.Schema, o Options) (*JSON, error) {
	d := &JSON{keys: keySet{seed: maphash.MakeSeed()}, day: newDayCache()}
	var err error
	if d.rows, d.event, err = newRows(c, sc, o); err != nil {
		return nil, err
	}
	d.event.rest = d.extras[extraRest]
	if d.read = d.payload; c.envelope {
		d.change.begin(c, d.event, &d.extras)
		d.read = d.changed
	}
	return d, nil
}

// payload reads one event into the columns of the contract. On false d.failure says why, and the columns hold parts of
// a row that the caller takes back.
func (d *JSON) payload(value []byte) bool {
	p := d.begin(value)
	if p < 0 || !d.row(d.event, p) {
		return false
	}
	return d.atEnd(d.rowEnd)
}

// begin takes a payload into the decoder's buffer and returns where its object begins, or -1.
func (d *JSON) begin(value []byte) int {
	d.size = len(value)
	d.fresh()
	switch {
	case len(value) == 0:
		return d.fail(ReasonEmptyValue, 0, "the record has no value")
	case len(value) > d.opt.MaxValueBytes:
		return d.fail(ReasonTooLarge, 0, "the value has %d bytes, at most %d are read", len(value), d.opt.MaxValueBytes)
	}
	d.buf = append(append(d.buf[:0], value...), zeroPad[:]...)
	p := space(d.buf, 0)
	if d.buf[p] != '{' {
		d.noObject(d.buf, p)
		return -1
	}
	return p
}

// row reads the object at p as a row of the columns. It ends at d.rowEnd.
func (d *JSON) row(o *objectPlan, p int) bool {
	d.kept = 0
	if d.rowEnd = d.object(o, d.buf, p+1); d.rowEnd < 0 {
		return false
	}
	if o.rest != nil {
		d.endRest(o.rest)
	}
	return true
}

// atEnd tells whether nothing but space follows from p on.
func (d *JSON) atEnd(p int) bool {
	if p = space(d.buf, p); p != d.size {
		d.fail(ReasonInvalidJSON, p, "found %s after the end of the event", describeByte(d.buf[p]))
		return false
	}
	return true
}

// noObject tells an event that is another JSON value from one that is no JSON at all.
func (d *JSON) noObject(b []byte, p int) bool {
	end := d.skip(b, p, 0)
	if end < 0 {
		return false
	}
	if !d.atEnd(end) {
		return false
	}
	d.fail(ReasonWrongType, p, "%s where the contract wants object", typeOfByte(b[p]))
	return false
}
