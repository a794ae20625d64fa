package decode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

// JSONOptions are Options and where the schemas come from that events name.
type JSONOptions struct {
	Options
	// Schemas gives the schemas of ids.
	Schemas Schemas
	// Follow lets the columns grow with the schemas that ids name (AvroOptions.Follow), and each event is read by its own.
	Follow bool
}

// FramedJSON decodes JSON events that begin with Confluent's header. It implements engine.Decoder.
type FramedJSON struct {
	*JSON
	opt      JSONOptions
	contract *Contract
	next     *FramedJSON // what a schema just met asks for; halt is errGrown then
	inner    func(value []byte) bool
	own      *objectPlan // of the contract
	ids      byID[jsonPlan]
}

// jsonPlan is how the events of one schema are read, or why they give no row.
type jsonPlan struct {
	event   *objectPlan
	failure failure
}

var _ engine.Decoder = (*FramedJSON)(nil)

// NewFramedJSON joins a contract with the current schema of the table that its events go to. Errors wrap ErrContract.
func NewFramedJSON(c *Contract, sc *iceberg.Schema, o JSONOptions) (*FramedJSON, error) {
	if o.Follow && c.envelope {
		return nil, fmt.Errorf("%w: envelope: %s is followed, and in JSON the contract is that of the row: name its file in schema", ErrContract, c.Name)
	}
	d, err := NewJSON(c, sc, o.Options)
	if err != nil {
		return nil, err
	}
	f := &FramedJSON{JSON: d, opt: o, contract: c, inner: d.read, own: d.event}
	d.read = f.payload
	return f, nil
}

// Decode implements engine.Decoder. It fails, and nothing is lost, when a schema cannot be had now, or when the table
// cannot follow one and the pipeline is to stop at that. The rows are all in the schema that the last of them needs.
func (d *FramedJSON) Decode(f *engine.Fetch) (engine.Decoded, error) {
	for {
		d.ids.begin()
		out, err := d.JSON.Decode(f)
		if !errors.Is(err, errGrown) {
			out.SchemaIDs = slices.Clone(d.ids.seen)
			nameSchemas(out.Dead)
			return out, err
		}
		next := d.next
		next.unknown = d.unknown
		*d = *next
		d.read = d.payload
	}
}

// payload reads one event into the columns of the contract.
func (d *FramedJSON) payload(b []byte) bool {
	d.size = len(b)
	d.fresh()
	d.beginChange()
	switch {
	case len(b) == 0:
		d.fail(ReasonEmptyValue, 0, "the record has no value")
		return false
	case b[0] != confluentMagic || len(b) < confluentHeader:
		d.fail(ReasonWrongMagic, 0, "the value does not begin with 00 and a schema id (events without them need no registry: take it out)")
		return false
	}
	id := binary.BigEndian.Uint32(b[1:])
	if id > math.MaxInt32 {
		d.fail(ReasonUnknownSchema, 1, "schema id %d is no id of a registry's", int32(id))
		return false
	}
	plan := d.planOf(id)
	switch {
	case plan == nil:
		return false
	case plan.failure.reason != "":
		d.failure = plan.failure
		return false
	}
	d.event = plan.event
	return d.inner(b[confluentHeader:])
}

// planOf returns the plan of a schema id; nil when it cannot be had now, and then halt says why.
func (d *FramedJSON) planOf(id uint32) *jsonPlan {
	if p := d.ids.latest(id); p != nil {
		return p
	}
	p, fail, err := d.ids.of(id, d.opt.Schemas, d.planText)
	switch {
	case err != nil:
		d.halt = err
	case fail.reason != "":
		return &jsonPlan{failure: fail}
	}
	return p
}

// planText plans a schema of the registry's; nil when the columns have to grow first, or halt says why not.
func (d *FramedJSON) planText(id uint32, s registry.Schema) *jsonPlan {
	unusable := func(why any) *jsonPlan {
		return &jsonPlan{failure: failure{reason: ReasonUnusableSchema, message: cut(fmt.Sprintf("schema id %d: %v", id, why), maxMessage)}}
	}
	if s.Type != registry.TypeJSON {
		return unusable("it is of type " + cut(s.Type, maxPlaceName))
	}
	if !d.opt.Follow {
		return &jsonPlan{event: d.own}
	}
	w, err := LoadJSONSchema([]byte(s.Text), s.References, fmt.Sprintf("schema id %d", id))
	if err != nil {
		return unusable(err)
	}
	m := jsonMerger{rename: d.opt.OnIncompatible == NewColumn}
	root, err := mergeFields(m, d.contract.root, w.root)
	if err == nil && root == d.contract.root {
		return &jsonPlan{event: m.overlay(d.own, root, w.root)}
	}
	if err == nil {
		next := *d.contract
		next.root = root
		if next.EventTime == "" {
			next.EventTime = w.EventTime
		}
		if d.next, err = NewFramedJSON(&next, d.table, d.opt); err == nil {
			d.halt = errGrown
			return nil
		}
	}
	fail, err := d.opt.misfit(id, err)
	if err != nil {
		d.halt = err
		return nil
	}
	return &jsonPlan{failure: fail}
}

// jsonMerger is the merger of the columns of a JSON Schema and another. Fields are told by their names.
type jsonMerger struct{ rename bool }

func (jsonMerger) same(have, w field) bool { return have.inEvents() == w.name }

func (m jsonMerger) renames() bool { return m.rename }

func (jsonMerger) vanished(f *field) bool {
	was := f.required
	f.required = false
	return was
}

func (m jsonMerger) added(w field, fields []field, other bool) (field, error) {
	if w.required && !m.rename {
		return field{}, fmt.Errorf("%w: #%s: the field is new and required", errIncompatible, w.typ.pointer)
	}
	if slices.ContainsFunc(fields, func(f field) bool { return f.inEvents() != w.name && strings.EqualFold(f.inEvents(), w.name) }) {
		return field{}, fmt.Errorf("%w: #%s: the name differs from another's in upper and lower case only", errIncompatible, w.typ.pointer)
	}
	if other {
		w.name, w.of = fmt.Sprintf("%s#%d", w.name, len(fields)), w.name
	}
	w.required = false
	return w, nil
}

func (m jsonMerger) value(have, w *valueType) (*valueType, error) {
	if out, nested, err := mergeNested(m, have, w); nested {
		return out, err
	}
	out := *have
	switch {
	case have.kind >= kindStruct || w.kind >= kindStruct:
	case have.kind == kindDecimal && w.kind == kindDecimal && have.scale == w.scale:
		if w.precision <= have.precision {
			return have, nil
		}
		out.precision = w.precision
		return &out, nil
	case wider(have.kind, w.kind), storable(w, icebergType(have, new(idSource))):
		return have, nil
	case wider(w.kind, have.kind):
		out.kind = w.kind
		return &out, nil
	}
	return nil, fmt.Errorf("%w: #%s was a %s and is a %s", errIncompatible, w.pointer, kindNames[have.kind], kindNames[w.kind])
}

// overlay is how an object of the schema w goes into the columns o of have, which hold it: what w names by its own types, the rest
// null.
func (m jsonMerger) overlay(o *objectPlan, have, w *valueType) *objectPlan {
	out := *o
	out.fields, out.index, out.first, out.closed = nil, map[string]int{}, 0, w.closed
	for i, hf := range have.fields {
		f := o.fields[o.index[hf.name]]
		f.next = (i + 1) % len(have.fields)
		at := slices.IndexFunc(w.fields, func(wf field) bool {
			_, err := m.value(hf.typ, wf.typ)
			return wf.name == hf.inEvents() && err == nil
		})
		if at < 0 {
			f.keyToken, f.required = keyToken{head: 1}, f.demanded // no key is this one
		} else {
			wf := w.fields[at]
			f.keyToken, f.name, f.required = newKeyToken(wf.name), wf.name, wf.required || f.demanded
			f.val = m.overlayValue(&f.val, hf.typ, wf.typ)
			out.index[wf.name] = i
		}
		out.fields = append(out.fields, f)
	}
	return &out
}

func (m jsonMerger) overlayValue(v *valuePlan, have, w *valueType) valuePlan {
	out := *v
	out.kind, out.nullable, out.text, out.precision, out.scale = w.kind, w.nullable, w.text, w.precision, w.scale
	out.epochUnit, out.coded, out.nanos, out.checks, out.name = w.epochUnit, w.coded, w.nanos, w.checks, w.jsonKind()
	out.wide = w.kind == kindInt && (v.wide || v.kind == kindLong)
	switch w.kind {
	case kindStruct:
		out.obj = m.overlay(v.obj, have, w)
	case kindList, kindMap:
		elem := m.overlayValue(v.elem, have.elem, w.elem)
		out.elem = &elem
	}
	return out
}
