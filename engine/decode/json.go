package decode

import (
	"hash/maphash"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
)

// JSON decodes JSON events of one contract into rows of one table schema. It implements engine.Decoder.
type JSON struct {
	rows
	event *objectPlan

	// State of the walk over the present payload.
	buf  []byte // the payload and its padding
	tmp  []byte // the last string that had escapes
	open []byte // brackets open in a skipped value
	keys keySet
	day  dayCache
	kept int // bytes of the present event's members in the rest's column, which are no value of it yet
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
	d.read = d.payload
	return d, nil
}

// payload reads one event into the columns of the contract. On false d.failure says why, and the columns hold parts of
// a row that the caller takes back.
func (d *JSON) payload(value []byte) bool {
	d.size = len(value)
	d.failure = failure{}
	switch {
	case len(value) == 0:
		d.fail(ReasonEmptyValue, 0, "the record has no value")
		return false
	case len(value) > d.opt.MaxValueBytes:
		d.fail(ReasonTooLarge, 0, "the value has %d bytes, at most %d are read", len(value), d.opt.MaxValueBytes)
		return false
	}
	d.buf = append(append(d.buf[:0], value...), zeroPad[:]...)
	b := d.buf
	p := space(b, 0)
	if b[p] != '{' {
		return d.noObject(b, p)
	}
	d.kept = 0
	if p = d.object(d.event, b, p+1); p < 0 {
		return false
	}
	if d.event.rest != nil {
		d.endRest(d.event.rest)
	}
	if b[p] <= ' ' {
		p = space(b, p)
	}
	if p != d.size {
		d.fail(ReasonInvalidJSON, p, "found %s after the end of the event", describeByte(b[p]))
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
	if end = space(b, end); end != d.size {
		d.fail(ReasonInvalidJSON, end, "found %s after the end of the event", describeByte(b[end]))
		return false
	}
	d.fail(ReasonWrongType, p, "%s where the contract wants object", typeOfByte(b[p]))
	return false
}
