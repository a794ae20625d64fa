package decode

import (
	"bytes"

	"github.com/firnlake/firn/engine"
)

// Bounds of what one record with many events may make of its bytes. A record beyond one of them is a dead letter as a whole.
const (
	// maxLines is how many events a record may hold: each costs a value in every column, however short it is.
	maxLines = 100_000
	// maxBadLines is how many of them may become dead letters of their own: each takes key and headers along.
	maxBadLines = 1_000
)

// expect is how many rows a fetch will give, about.
func (d *rows) expect(f *engine.Fetch) int {
	n := len(f.Records)
	if d.lines {
		for i := range f.Records {
			n += min(bytes.Count(f.Records[i].Value, newline), maxLines)
		}
	}
	return n
}

var newline = []byte{'\n'}

// eachLine makes a row or a dead letter of each line of a record that is not blank. Lines are numbered by what they hold: the
// n-th event of a record is line n, wherever blank lines stand.
func (d *rows) eachLine(r *engine.Record, out *engine.Decoded) {
	firstRow, firstDead, lastRow := d.led.offset.n, len(out.Dead), out.LastRow
	whole := func(reason, format string, args ...any) {
		d.root.rollback(firstRow)
		out.Dead, out.LastRow = out.Dead[:firstDead], lastRow
		d.failure, d.size = failure{}, len(r.Value)
		d.fail(reason, 0, format, args...)
		out.Dead = append(out.Dead, d.deadLetter(r, r.Value, 0))
	}
	if len(r.Value) > d.opt.MaxValueBytes {
		whole(ReasonTooLarge, "the value has %d bytes, at most %d are read", len(r.Value), d.opt.MaxValueBytes)
		return
	}
	line := int32(0)
	for one := range r.Lines() {
		if line++; line > maxLines {
			whole(ReasonTooLarge, "the record holds more than %d events", maxLines)
			return
		}
		if d.event(r, one, line, out); d.halt != nil {
			return
		}
		if len(out.Dead)-firstDead > maxBadLines {
			first := out.Dead[firstDead]
			whole(first.Reason, "more than %d events of the record cannot be read; of the first: %s", maxBadLines, first.Message)
			return
		}
	}
	if line == 0 {
		whole(ReasonEmptyValue, "the record has no event")
	}
}
