package decode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

// What stands before a value, by the specifications of the two forms.
const (
	confluentMagic  = 0x00 // and four bytes, the id, big-endian
	confluentHeader = 5
	singleObject    = 0x01c3 // C3 01, and eight bytes, the fingerprint, little-endian
	singleHeader    = 10
)

// AvroOptions are Options and where writers' schemas come from.
type AvroOptions struct {
	Options
	// Schemas gives the schemas of ids in the Confluent wire format; nil makes such events dead letters.
	Schemas Schemas
	// Follow lets the columns grow with the schemas that ids name: new fields that may be null or have a default, wider
	// types, and fields that are gone. Without it events are read as the contract has them, and further fields read over.
	Follow bool
	// Writers are schemas that events in single-object encoding may be written with, beside the contract's own.
	Writers []string
}

// Avro decodes Avro events of one contract into rows of one table schema. It implements engine.Decoder.
type Avro struct {
	rows
	contract *Contract
	event    *valuePlan
	schemas  Schemas
	follows  bool
	next     *avroReaderNow // what a schema just met asks for; halt is errGrown then
	ids      byID[avroPlan]
	prints   map[uint64]*avroPlan // of fingerprints, little-endian

	parts [envelopeParts]span // of the present event's envelope
	text  []byte              // JSON of a part of it

	keys  keySet
	items int64 // what array and map blocks of the present event may still hold
	depth int   // of what is read over
	// filled is how much the columns of the present batch hold that is not in its payloads: bytes of defaults and
	// symbols, items of arrays. Columns count both in an int32. mayFill is how much of it the present event may add.
	filled, mayFill int64
}

// avroPlan is a writer's schema joined with the reader's, or why that cannot be.
type avroPlan struct {
	writer  *avroType
	root    avroNode
	change  *avroChange // instead of root, where events are changes of rows
	fills   int64       // bytes of the defaults that each event gets
	failure failure
	err     error // of the resolution, beside failure
}

var _ engine.Decoder = (*Avro)(nil)

// NewAvro joins a contract that LoadAvro read with the current schema of the table that its events go to. Errors wrap
// ErrContract and name the column.
func NewAvro(c *Contract, sc *iceberg.Schema, o AvroOptions) (*Avro, error) {
	if c.root.avro == nil {
		return nil, fmt.Errorf("%w: %s is no Avro schema", ErrContract, c.Name)
	}
	d := &Avro{schemas: o.Schemas, follows: o.Follow, keys: keySet{seed: maphash.MakeSeed()}, prints: map[uint64]*avroPlan{}}
	d.opt = o.Options
	r, err := d.reader(c, sc)
	if err != nil {
		return nil, err
	}
	d.take(r)
	written := c.root
	if c.change != nil {
		written = c.change
	}
	own := d.plan(written.avro)
	if own.failure.reason != "" {
		return nil, fmt.Errorf("%w: %s cannot read what is written with it: %s", ErrContract, c.Name, own.failure.message)
	}
	d.prints[avroFingerprint(written.avro)] = own
	for i, text := range o.Writers {
		w, err := parseAvro(text, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: writer schema %d: %w", ErrContract, i+1, err)
		}
		p := d.plan(w)
		if p.failure.reason != "" {
			return nil, fmt.Errorf("%w: %s cannot read what is written with writer schema %d: %s", ErrContract, c.Name, i+1, p.failure.message)
		}
		d.prints[avroFingerprint(w)] = p
	}
	return d, nil
}

// Decode implements engine.Decoder. It fails, and nothing is lost, when a schema cannot be had now, or when the table
// cannot follow one and the pipeline is to stop at that. The rows are all in the schema that the last of them needs; a
// schema is followed once, so what it is read again for comes to an end.
func (d *Avro) Decode(f *engine.Fetch) (engine.Decoded, error) {
	for {
		d.filled = 0
		d.ids.begin()
		out, err := d.rows.Decode(f)
		if !errors.Is(err, errGrown) {
			out.SchemaIDs = slices.Clone(d.ids.seen)
			nameSchemas(out.Dead)
			return out, err
		}
		d.take(d.next)
		d.next = nil
	}
}

// plan joins a writer's schema with the reader's.
func (d *Avro) plan(w *avroType) *avroPlan {
	rs := avroResolver{skips: map[*avroType]*avroNode{}}
	p := &avroPlan{writer: w}
	var err error
	if d.envelope {
		p.change, err = d.planChange(&rs, w)
		p.fills = p.change.everyFill()
	} else {
		p.root, err = rs.resolve(w, d.event.avro, d.event)
		p.fills = p.root.everyFill()
	}
	if err != nil {
		p.err, p.failure = err, failure{reason: ReasonIncompatible, message: cut(err.Error(), maxMessage)}
	}
	return p
}

// planOf returns the plan of a schema id; nil when it cannot be had now, and then halt says why.
func (d *Avro) planOf(id uint32) *avroPlan {
	if p := d.ids.latest(id); p != nil {
		return p
	}
	p, fail, err := d.ids.of(id, d.schemas, d.planText)
	switch {
	case err != nil:
		d.halt = err
	case fail.reason != "":
		return &avroPlan{failure: fail}
	}
	return p
}

// planText plans a schema of the registry's; nil when the columns have to grow first, or halt says why not.
func (d *Avro) planText(id uint32, s registry.Schema) *avroPlan {
	if s.Type != registry.TypeAvro {
		return &avroPlan{failure: failure{reason: ReasonUnusableSchema, message: fmt.Sprintf("schema id %d is of type %s", id, cut(s.Type, maxPlaceName))}}
	}
	refs := make([]string, len(s.References))
	for i, r := range s.References {
		refs[i] = r.Text
	}
	w, err := parseAvro(s.Text, refs)
	if err != nil {
		return &avroPlan{failure: failure{reason: ReasonUnusableSchema, message: cut(fmt.Sprintf("schema id %d: %v", id, err), maxMessage)}}
	}
	row := w
	if d.envelope {
		var is bool
		if row, is = rowOfChange(w); !is {
			return &avroPlan{failure: failure{reason: ReasonMissingField, place: "/" + partNames[partOp], message: cut(fmt.Sprintf("schema id %d: %s", id, noOp), maxMessage)}}
		}
	}
	if row != nil && sameNamed(row, d.event.avro) != nil { // not a schema of these events at all, so nothing to be followed
		p := d.plan(w)
		p.failure.message = fmt.Sprintf("schema id %d: %s", id, p.failure.message)
		return p
	}
	var p *avroPlan
	if d.follows && row != nil {
		d.next, err = d.follow(row)
		if d.next != nil {
			d.halt = errGrown
			return nil
		}
	}
	if err == nil {
		if p = d.plan(w); p.err == nil {
			return p
		}
		err = p.err
	}
	fail, err := d.opt.misfit(id, err)
	if err != nil {
		d.halt = err
		return nil
	}
	return &avroPlan{writer: w, failure: fail}
}

// payload reads one event into the columns of the contract.
func (d *Avro) payload(b []byte) bool {
	d.size = len(b)
	d.fresh()
	d.beginChange()
	switch {
	case len(b) == 0:
		d.fail(ReasonEmptyValue, 0, "the record has no value")
		return false
	case len(b) > d.opt.MaxValueBytes:
		d.fail(ReasonTooLarge, 0, "the value has %d bytes, at most %d are read", len(b), d.opt.MaxValueBytes)
		return false
	}
	p, plan := d.header(b)
	if plan == nil {
		return false
	}
	if plan.failure.reason != "" {
		d.failure = plan.failure
		return false
	}
	d.allow(plan)
	if plan.change != nil {
		p = d.changed(plan, b, p)
	} else {
		p = d.value(&plan.root, b, p)
	}
	if p < 0 {
		return false
	}
	if p != len(b) {
		d.fail(ReasonInvalidAvro, p, "%d bytes follow the end of the event", len(b)-p)
		return false
	}
	return true
}

// allow bounds what the present event may make of its bytes.
func (d *Avro) allow(plan *avroPlan) {
	d.items, d.depth = int64(d.size)+maxEmptyItems, 0
	d.mayFill = maxFillPerByte*(int64(d.size)+plan.fills) + fillFloor
}

// header reads what says which schema the event was written with. It returns where the event begins, and no plan when
// failure or halt say why.
func (d *Avro) header(b []byte) (int, *avroPlan) {
	switch {
	case b[0] == confluentMagic && len(b) >= confluentHeader:
		id := binary.BigEndian.Uint32(b[1:])
		if d.schemas == nil {
			d.fail(ReasonUnknownSchema, 1, "the event names schema id %d, and the pipeline has no schema registry: set registry.url", id)
			return 0, nil
		}
		if id > math.MaxInt32 {
			d.fail(ReasonUnknownSchema, 1, "schema id %d is no id of a registry's", int32(id))
			return 0, nil
		}
		return confluentHeader, d.planOf(id)
	case len(b) >= singleHeader && binary.LittleEndian.Uint16(b) == singleObject:
		plan := d.prints[binary.LittleEndian.Uint64(b[2:])]
		if plan == nil {
			d.fail(ReasonUnknownSchema, 2, "no schema of the pipeline has the fingerprint %016x: name the file in writer_schemas", binary.LittleEndian.Uint64(b[2:]))
		}
		return singleHeader, plan
	}
	d.fail(ReasonWrongMagic, 0, "the value begins neither with 00 and a schema id nor with C3 01 and a fingerprint")
	return 0, nil
}

// Bounds of what an event's columns may hold that is not in the event: bytes of defaults and symbols, and items. They
// keep a few bytes that claim a million records from filling the memory.
const (
	maxFillPerByte = 64   // for each byte of the event, and of the defaults that every event gets
	fillFloor      = 4096 // for short events with long symbols
)

// errOverfull ends a batch that would be filled by what is not in its payloads. Fetches are far too small for it.
var errOverfull = fmt.Errorf("%w: defaults and symbols of the schemas fill more than one batch holds: lower kafka.partition_max_bytes", ErrFetch)

// fill counts n more bytes or items that are not in the payload; false means that there may be no more.
func (d *Avro) fill(n int64, p int) bool {
	d.filled += n
	if d.mayFill -= n; d.mayFill < 0 {
		d.fail(ReasonTooLarge, p, "the event's %d bytes stand for too many defaults, symbols or items", d.size)
		return false
	}
	if d.filled > maxFetchBytes-d.bytes {
		d.halt = errOverfull
		return false
	}
	return true
}

// everyFill is how many bytes of defaults each value has: those of records in records, without lists and maps.
func (n *avroNode) everyFill() int64 {
	if n.op != opRecord {
		return 0
	}
	var sum int64
	for i := range n.fills {
		sum += int64(len(n.fills[i].bytes)) + n.fills[i].node.everyFill()
	}
	for i := range n.steps {
		sum += n.steps[i].node.everyFill()
	}
	return sum
}
