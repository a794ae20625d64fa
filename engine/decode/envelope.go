package decode

import (
	"cmp"
	"fmt"
	"slices"
)

// EnvelopeDebezium is the envelope of Debezium's change events.
const EnvelopeDebezium = "debezium"

// Names of the columns that an envelope gives, where the configuration gives none.
const (
	DefaultOpColumn     = "_op"
	DefaultTimeColumn   = "_ts_ms"
	DefaultSourceColumn = "_source"
)

// Envelope says that events are changes of a database's rows, and what the columns are called that tell of the change.
type Envelope struct {
	Type   string `yaml:"type" jsonschema:"enum=debezium" jsonschema_description:"Of what the events are wrapped in: debezium."`
	Op     string `yaml:"op" jsonschema_description:"Column for what was done: c, r, u, d or t; default _op."`
	Time   string `yaml:"ts_ms" jsonschema_description:"Column for when the connector processed the change (timestamptz); default _ts_ms."`
	Source string `yaml:"source" jsonschema_description:"Column for where the change was made, as JSON; default _source."`
}

// Validate names the first value that cannot be used.
func (e Envelope) Validate() error {
	switch {
	case e.Type == "" && e != Envelope{}:
		return fmt.Errorf("type: say which envelope has these columns: %s", EnvelopeDebezium)
	case e.Type != "" && e.Type != EnvelopeDebezium:
		return fmt.Errorf("type: %q: the only envelope is %s", e.Type, EnvelopeDebezium)
	}
	return nil
}

// WithEnvelope returns the contract for events that are changes of rows: its fields are those of the row, and three columns
// tell of the change. A JSON Schema describes the row; a schema of Avro or Protobuf the whole envelope, as those of events
// do. Without a field for it, the time of the change is the event time. Errors wrap ErrContract.
func (c *Contract) WithEnvelope(e Envelope) (*Contract, error) {
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("%w: envelope.%w", ErrContract, err)
	}
	out := c
	if c.root.avro != nil || c.root.proto != nil {
		var err error
		if out, err = c.ofRows(); err != nil {
			return nil, err
		}
	}
	for _, col := range []struct {
		key, name, fallback string
		what                extraKind
	}{
		{"op", e.Op, DefaultOpColumn, extraOp},
		{"ts_ms", e.Time, DefaultTimeColumn, extraTime},
		{"source", e.Source, DefaultSourceColumn, extraSource},
	} {
		var err error
		if out, err = out.withExtra(cmp.Or(col.name, col.fallback), col.what); err != nil {
			return nil, fmt.Errorf("%w: envelope.%s: %w", ErrContract, col.key, err)
		}
	}
	out.envelope = true
	if out.EventTime == "" {
		out.EventTime = cmp.Or(e.Time, DefaultTimeColumn)
	}
	return out, nil
}

// ofRows is the contract of the rows whose changes the contract describes: what after holds.
func (c *Contract) ofRows() (*Contract, error) {
	op, after := c.find(partNames[partOp]), c.find(partNames[partAfter])
	if op == nil || op.kind != kindString || after == nil || after.kind != kindStruct {
		return nil, fmt.Errorf("%w: envelope: %s is not the schema of a change event, which has a string op, and in after the fields of the row: name the whole envelope's schema, or take envelope out", ErrContract, c.Name)
	}
	root := *after
	root.nullable = false
	out, err := newContract(c.Name, &root)
	if err != nil {
		return nil, err
	}
	out.change = c.root
	return out, nil
}

// envelopePart is a member of an envelope, or of what Kafka Connect wraps it in.
type envelopePart uint8

const (
	partOther envelopePart = iota // read over
	partBefore
	partAfter
	partSource
	partOp
	partTime
	partSchema  // of the wrapper
	partPayload // likewise
	envelopeParts
)

var partNames = [envelopeParts]string{partBefore: "before", partAfter: "after", partSource: "source", partOp: "op", partTime: "ts_ms", partSchema: "schema", partPayload: "payload"}

func partOf(name []byte) envelopePart {
	switch string(name) {
	case "before":
		return partBefore
	case "after":
		return partAfter
	case "source":
		return partSource
	case "op":
		return partOp
	case "ts_ms":
		return partTime
	case "schema":
		return partSchema
	case "payload":
		return partPayload
	}
	return partOther
}

// span is where a value stands in the payload; from is 0 for one that is not there.
type span struct{ from, to int }

// envelopePlan is how changes become rows. The members of an envelope may come in any order and op says which of them is
// the row, so they are looked up first, all bytes checked, and then the row alone is read into its columns.
type envelopePlan struct {
	op, source *column
	time       valuePlan
	whole      *objectPlan // what a row is made of
	partial    *objectPlan // what a row that need not be whole is made of: the same columns
	schemas    connectSchemas

	outer, inner [envelopeParts]span // of the present event, and of its payload when Connect has wrapped it
}

func (e *envelopePlan) begin(c *Contract, event *objectPlan, x *extraColumns) {
	*e = envelopePlan{op: x[extraOp], source: x[extraSource], whole: event, partial: event.partial(), schemas: connectSchemas{contract: c},
		time: valuePlan{kind: kindEpoch, epochUnit: 1000, nullable: true, col: x[extraTime], name: "integer"}}
}

// partial is what a row that need not be whole is made of: the same columns, of which only the table requires any.
func (o *objectPlan) partial() *objectPlan {
	partial := *o
	partial.fields = slices.Clone(o.fields)
	for i := range partial.fields {
		f := &partial.fields[i]
		f.required = f.demanded
		f.val.nullable = f.val.nullable || !f.demanded
	}
	return &partial
}

// changed reads one change event into the columns of the contract. On false d.failure says why.
func (d *JSON) changed(value []byte) bool {
	e := &d.change
	d.beginChange()
	e.schemas.now = nil
	p := d.begin(value)
	if p < 0 {
		return false
	}
	clear(e.outer[:])
	clear(e.inner[:])
	if p = d.members(p+1, &e.outer, 1); p < 0 || !d.atEnd(p) {
		return false
	}
	at, wrapped := &e.outer, e.outer[partOp].from == 0 && e.outer[partPayload].from > 0
	if wrapped {
		if p := e.outer[partPayload].from; d.buf[p] != '{' {
			d.fail(ReasonWrongType, p, "%s where a change event has an object", describeValue(d.buf, p))
			d.under(partNames[partPayload])
			return false
		}
		at = &e.inner
	}
	if !d.changedRow(at, wrapped) {
		if wrapped {
			d.under(partNames[partPayload])
		}
		return false
	}
	return true
}

// members finds the members of an envelope, from the byte after its brace on, and checks every byte of them. It returns the
// position after the closing brace, or -1. depth is the nesting of the envelope itself.
func (d *JSON) members(p int, at *[envelopeParts]span, depth int) int {
	b := d.buf
	if p = space(b, p); b[p] == '}' {
		return p + 1
	}
	for {
		if b[p] != '"' {
			return d.syntax(p, "a key")
		}
		keyAt := p
		name, q, _ := d.text(b, p)
		if q < 0 {
			return -1
		}
		if q = space(b, q); b[q] != ':' {
			return d.syntax(q, "':'")
		}
		q = space(b, q+1)
		part := partOf(name)
		if part != partOther && at[part].from > 0 {
			d.fail(ReasonDuplicateKey, q, "the key is there twice")
			return d.under(partNames[part])
		}
		if p = d.member(part, q, depth); p < 0 {
			name, _, _ = d.text(b, keyAt) // again: what failed may have used the same scratch
			return d.under(string(name))
		}
		at[part] = span{q, p}
		if p = space(b, p); b[p] != ',' {
			break
		}
		p = space(b, p+1)
	}
	if b[p] != '}' {
		return d.syntax(p, "',' or '}'")
	}
	return p + 1
}

// member checks the value at p; of Connect's wrapper it finds the members, and its schema is known again when it comes again.
func (d *JSON) member(part envelopePart, p, depth int) int {
	switch {
	case depth > 1:
	case part == partPayload && d.buf[p] == '{':
		return d.members(p+1, &d.change.inner, depth+1)
	case part == partSchema && d.buf[p] == '{':
		s := &d.change.schemas
		if end := s.again(d.buf[p:d.size]); end > 0 {
			return p + end
		}
		end := d.skip(d.buf, p, depth)
		if end > 0 {
			s.met(d.buf[p:end])
		}
		return end
	}
	return d.skip(d.buf, p, depth)
}

// rowPlaces are the pointers to the row that a change holds, without and with Connect's wrapper.
var rowPlaces = [2][envelopeParts]string{
	{partBefore: "/before", partAfter: "/after"},
	{partBefore: "/payload/before", partAfter: "/payload/after"},
}

// changedRow makes a row of a change whose members were found. The place of a failure is one in the envelope.
func (d *JSON) changedRow(at *[envelopeParts]span, wrapped bool) bool {
	op := d.operation(at[partOp])
	if op == 0 || !d.changedAt(at[partTime]) || !d.changeSource(at[partSource]) {
		return false
	}
	d.change.op.appendBytes([]byte{op})
	part := d.image(op)
	if part == partOther {
		return d.noRow(d.change.partial)
	}
	plan := d.change.whole
	if d.partial {
		plan = d.change.partial
	}
	p := at[part].from
	switch {
	case p == 0 || d.buf[p] == 'n':
		return d.lacksRow(part, op, p)
	case d.buf[p] != '{':
		d.fail(ReasonWrongType, p, "%s where the row is wanted", describeValue(d.buf, p))
		d.under(partNames[part])
		return false
	}
	d.inside = rowPlaces[0][part]
	if wrapped {
		d.inside = rowPlaces[1][part]
	}
	if d.schemaMisread() || !d.row(plan, p) {
		d.under(partNames[part])
		return false
	}
	return true
}

// operation reads op; 0 after a failure.
func (d *JSON) operation(s span) byte {
	p := s.from
	if p == 0 {
		return d.lacksOp()
	}
	if d.buf[p] != '"' {
		d.fail(ReasonWrongType, p, "%s where a change event has a string", describeValue(d.buf, p))
		d.under(partNames[partOp])
		return 0
	}
	name, _, _ := d.text(d.buf, p)
	return d.opNamed(name, p)
}

func (d *JSON) changedAt(s span) bool {
	if s.from == 0 {
		d.change.time.col.null()
		return true
	}
	if d.value(&d.change.time, d.buf, s.from) < 0 {
		d.under(partNames[partTime])
		return false
	}
	return true
}

func (d *JSON) changeSource(s span) bool {
	switch {
	case s.from == 0 || d.buf[s.from] == 'n':
		d.change.source.null()
	case d.buf[s.from] == '{':
		d.change.source.appendBytes(d.buf[s.from:s.to])
	default:
		d.fail(ReasonWrongType, s.from, "%s where a change event has an object", describeValue(d.buf, s.from))
		d.under(partNames[partSource])
		return false
	}
	return true
}

func describeValue(b []byte, p int) string {
	if b[p] == 'n' {
		return "null"
	}
	return typeOfByte(b[p])
}
