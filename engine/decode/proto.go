package decode

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"github.com/apache/iceberg-go"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

// maxMessageIndexes is how deep messages may be defined inside each other in the Confluent wire format.
const maxMessageIndexes = 32

// ProtobufOptions are Options and how events are framed.
type ProtobufOptions struct {
	Options
	// Schemas gives the schemas of ids, which say what message an event is. Nil takes every event for one of the contract's
	// message if its indexes are those of that message in its own file.
	Schemas Schemas
	// Follow lets the columns grow with the schemas that ids name (AvroOptions.Follow), which needs Schemas and a header.
	Follow bool
	// Plain says that events have no header.
	Plain bool
}

// Protobuf decodes Protobuf events of one contract into rows of one table schema. It implements engine.Decoder.
type Protobuf struct {
	rows
	schemas Schemas
	plain   bool
	event   *protoMessage // of the contract
	now     *protoMessage // how the present event is read

	contract *Contract
	columns  *objectPlan
	follows  bool
	next     *protoReaderNow // what a schema just met asks for; halt is errGrown then

	name    protoreflect.FullName
	own     []int32 // indexes of the event's message in its file
	ids     byID[protoSchema]
	indexes []int32 // of the present event

	parts  [envelopeParts]protoPart // of the present event's envelope
	places []span                   // of the fields of messages that become JSON
	text   []byte                   // that JSON

	keys   keySet
	filled int64 // bytes of the present batch that are not in its payloads: names of enums, JSON text
	key    []byte
}

// protoSchema is a writer's schema, or why there is none.
type protoSchema struct {
	file    protoreflect.FileDescriptor
	indexes []int32       // of the event's message in it, once an event had them
	plan    *protoMessage // of the event's message, once an event had it
	failure failure
}

var _ engine.Decoder = (*Protobuf)(nil)

// NewProtobuf joins a contract that LoadProtobuf read with the current schema of the table that its events go to. Errors
// wrap ErrContract and name the column.
func NewProtobuf(c *Contract, sc *iceberg.Schema, o ProtobufOptions) (*Protobuf, error) {
	if c.root.proto == nil {
		return nil, fmt.Errorf("%w: %s is no Protobuf schema", ErrContract, c.Name)
	}
	d := &Protobuf{schemas: o.Schemas, plain: o.Plain, keys: keySet{seed: maphash.MakeSeed()}}
	d.opt, d.follows = o.Options, o.Follow && o.Schemas != nil && !o.Plain
	r, err := d.reader(c, sc)
	if err != nil {
		return nil, err
	}
	d.take(r)
	md := c.root.fields[0].typ.proto.fd.ContainingMessage()
	d.event = planProto(md, d.columns)
	if c.change != nil {
		md = c.change.fields[0].typ.proto.fd.ContainingMessage()
		if d.event, err = d.planChange(md, d.event); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrContract, c.Name, err)
		}
	}
	d.name = md.FullName()
	for p := protoreflect.Descriptor(md); ; p = p.Parent() {
		if _, isFile := p.(protoreflect.FileDescriptor); isFile {
			break
		}
		d.own = append([]int32{int32(p.Index())}, d.own...)
	}
	return d, nil
}

// Decode implements engine.Decoder. It fails, and nothing is lost, when a schema cannot be had now, or when the table
// cannot follow one and the pipeline is to stop at that. The rows are all in the schema that the last of them needs.
func (d *Protobuf) Decode(f *engine.Fetch) (engine.Decoded, error) {
	for {
		d.filled = 0
		d.ids.begin()
		out, err := d.rows.Decode(f)
		if !d.grown(err) {
			out.SchemaIDs = slices.Clone(d.ids.seen)
			if !d.plain {
				nameSchemas(out.Dead)
			}
			return out, err
		}
	}
}

// payload reads one event into the columns of the contract.
func (d *Protobuf) payload(b []byte) bool {
	d.size = len(b)
	d.fresh()
	d.beginChange()
	switch {
	case len(b) == 0 && !d.plain, b == nil:
		d.fail(ReasonEmptyValue, 0, "the record has no value")
		return false
	case len(b) > d.opt.MaxValueBytes:
		d.fail(ReasonTooLarge, 0, "the value has %d bytes, at most %d are read", len(b), d.opt.MaxValueBytes)
		return false
	}
	p := 0
	d.now = d.event
	if !d.plain {
		if p = d.header(b); p < 0 {
			return false
		}
	}
	if d.now.change != nil {
		return d.changed(d.now.change, b, p)
	}
	return d.message(d.now, b, p, len(b)) >= 0
}

// header reads what says which message the event is. It returns where the event begins, or -1.
func (d *Protobuf) header(b []byte) int {
	if b[0] != confluentMagic || len(b) < confluentHeader+1 {
		return d.fail(ReasonWrongMagic, 0, "the value does not begin with 00, a schema id and message indexes (events without them need framing: none)")
	}
	id := binary.BigEndian.Uint32(b[1:])
	p := d.messageIndexes(b, confluentHeader)
	if p < 0 {
		return -1
	}
	if d.schemas == nil {
		if !slices.Equal(d.indexes, d.own) {
			return d.fail(ReasonIncompatible, confluentHeader, "the event is message %v of its schema, and %s is %v; without registry.url nothing else is known of it", d.indexes, d.name, d.own)
		}
		return p
	}
	if id > math.MaxInt32 {
		return d.fail(ReasonUnknownSchema, 1, "schema id %d is no id of a registry's", int32(id))
	}
	s := d.schemaOf(id)
	switch {
	case s == nil:
		return -1
	case s.failure.reason != "":
		d.failure = s.failure
		return -1
	}
	if s.indexes == nil || !slices.Equal(d.indexes, s.indexes) {
		md := byIndexes(s.file, d.indexes)
		if md == nil {
			return d.fail(ReasonWrongIndex, confluentHeader, "schema id %d has no message %v", id, d.indexes)
		}
		if md.FullName() != d.name {
			return d.fail(ReasonIncompatible, confluentHeader, "the event is a %s, and the pipeline reads %s", md.FullName(), d.name)
		}
		s.indexes = slices.Clone(d.indexes)
	}
	if !d.follows {
		return p
	}
	if s.plan == nil {
		if s.plan = d.follow(id, byIndexes(s.file, s.indexes)); s.plan == nil {
			return -1
		}
	}
	if d.now = s.plan; d.now.failure.reason != "" {
		d.failure = d.now.failure
		return -1
	}
	return p
}

// messageIndexes reads the path of the event's message in its file: a count and so many indexes, zigzag; a lone zero is
// the first message.
func (d *Protobuf) messageIndexes(b []byte, p int) int {
	d.indexes = d.indexes[:0]
	if b[p] == 0 {
		d.indexes = append(d.indexes, 0)
		return p + 1
	}
	n, p := varint(b, p)
	if p < 0 || n < 0 || n > maxMessageIndexes {
		return d.fail(ReasonWrongIndex, confluentHeader, "no list of at most %d message indexes stands here", maxMessageIndexes)
	}
	for range n {
		var x int64
		if x, p = varint(b, p); p < 0 || x < 0 || x > math.MaxInt32 {
			return d.fail(ReasonWrongIndex, confluentHeader, "no list of message indexes stands here")
		}
		d.indexes = append(d.indexes, int32(x))
	}
	return p
}

// schemaOf returns the schema of an id; nil when it cannot be had now, and then halt says why.
func (d *Protobuf) schemaOf(id uint32) *protoSchema {
	if s := d.ids.latest(id); s != nil {
		return s
	}
	s, fail, err := d.ids.of(id, d.schemas, compiled)
	switch {
	case err != nil:
		d.halt = err
	case fail.reason != "":
		return &protoSchema{failure: fail}
	}
	return s
}

func compiled(id uint32, raw registry.Schema) *protoSchema {
	unusable := func(why any) *protoSchema {
		return &protoSchema{failure: failure{reason: ReasonUnusableSchema, message: cut(fmt.Sprintf("schema id %d: %v", id, why), maxMessage)}}
	}
	if raw.Type != registry.TypeProtobuf {
		return unusable("it is of type " + cut(raw.Type, maxPlaceName))
	}
	fd, err := compileProto(raw.Text, raw.References)
	if err != nil {
		return unusable(err)
	}
	return &protoSchema{file: fd}
}

// fill counts bytes of columns that are not in the payload; false means that the batch cannot hold them.
func (d *Protobuf) fill(n int) bool {
	if d.filled += int64(n); d.filled <= maxFetchBytes-d.bytes {
		return true
	}
	d.halt = errOverfull
	return false
}
