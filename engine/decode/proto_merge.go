package decode

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/apache/iceberg-go"
)

// protoMerger makes the columns of a message hold what another version of it writes, too. Fields are told by their numbers;
// a name that changed is the same field. What it began with is not changed, but copied where it differs.
type protoMerger struct{ rename bool }

func protoNumber(t *valueType) protowire.Number { return t.proto.fd.Number() }

// message gives the columns of both; have itself when it has all that w has.
func (m protoMerger) message(have, w *valueType) (*valueType, error) {
	fields := slices.Clone(have.fields)
	filled := make([]bool, len(have.fields))
	changed := false
	for _, wf := range w.fields {
		at, known := -1, false
		var first error
		for i, hf := range have.fields {
			if protoNumber(hf.typ) != protoNumber(wf.typ) {
				continue
			}
			known = true
			typ, err := m.value(hf.typ, wf.typ)
			if err == nil {
				at, filled[i] = i, true
				changed = changed || typ != hf.typ
				fields[i].typ = typ
				break
			}
			if first == nil {
				first = err
			}
		}
		if at >= 0 {
			continue
		}
		if first != nil && !m.rename {
			return nil, first
		}
		added, err := m.added(wf, fields, known)
		if err != nil {
			return nil, err
		}
		fields, changed = append(fields, added), true
	}
	for i := range have.fields {
		if !filled[i] && !fields[i].typ.nullable { // it is gone, and null then
			gone := *fields[i].typ
			gone.nullable = true
			fields[i].typ, changed = &gone, true
		}
	}
	if !changed {
		return have, nil
	}
	out := *have
	out.fields = fields
	return &out, nil
}

// added is a field that there was not; other tells that there is one of the number, of another type.
func (m protoMerger) added(wf field, fields []field, other bool) (field, error) {
	fd := wf.typ.proto.fd
	if fd.Cardinality() == protoreflect.Required && !m.rename {
		return field{}, fmt.Errorf("%w: the field %s is new and required", errIncompatible, fd.FullName())
	}
	if slices.ContainsFunc(fields, func(f field) bool { return f.name == wf.name }) {
		if !other && !m.rename {
			return field{}, fmt.Errorf("%w: the field %s has another number than before", errIncompatible, fd.FullName())
		}
		wf.name, wf.of = fmt.Sprintf("%s#%d", wf.name, len(fields)), wf.inEvents()
	}
	typ := *wf.typ
	typ.nullable = true
	wf.typ = &typ
	return wf, nil
}

// value gives the type of a column that holds values of both.
func (m protoMerger) value(have, w *valueType) (*valueType, error) {
	out := *have
	switch {
	case have.kind == kindStruct && w.kind == kindStruct:
		return m.message(have, w)
	case (have.kind == kindList || have.kind == kindMap) && have.kind == w.kind:
		elem, err := m.value(have.elem, w.elem)
		if err != nil || elem == have.elem {
			return have, err
		}
		out.elem = elem
		return &out, nil
	case have.kind == w.kind && have.precision == w.precision && have.epochUnit == w.epochUnit, wider(have.kind, w.kind):
		return have, nil
	case wider(w.kind, have.kind):
		out.kind, out.proto = w.kind, w.proto
		return &out, nil
	}
	return nil, fmt.Errorf("%w: field %s was a %s and is a %s", errIncompatible, w.pointer, kindNames[have.kind], kindNames[w.kind])
}

// wider tells that a column of kind a holds values of kind b, and is no column of b.
func wider(a, b kind) bool {
	return a == kindLong && b == kindInt || a == kindDouble && b == kindFloat
}

// overlay is how a writer's message goes into the columns o of have, which hold it: what it has by its own types, the rest
// null.
func overlay(o *objectPlan, have, w *valueType) *objectPlan {
	out := &objectPlan{col: o.col}
	for _, hf := range have.fields {
		v := o.plan(hf.name)
		i := slices.IndexFunc(w.fields, func(wf field) bool {
			_, err := protoMerger{rename: true}.value(hf.typ, wf.typ)
			return protoNumber(wf.typ) == protoNumber(hf.typ) && err == nil
		})
		f := fieldPlan{name: hf.inEvents(), absent: i < 0, val: *v}
		if i >= 0 {
			f.name, f.val = w.fields[i].name, overlayValue(v, hf.typ, w.fields[i].typ)
		}
		out.fields = append(out.fields, f)
	}
	return out
}

func overlayValue(v *valuePlan, have, w *valueType) valuePlan {
	out := *v
	out.kind, out.proto, out.nullable = w.kind, w.proto, w.nullable
	out.wide = w.kind == kindInt && (v.wide || v.kind == kindLong) || w.kind == kindFloat && (v.wide || v.kind == kindDouble)
	switch w.kind {
	case kindStruct:
		out.obj = overlay(v.obj, have, w)
	case kindList, kindMap:
		elem := overlayValue(v.elem, have.elem, w.elem)
		out.elem = &elem
	}
	return out
}

// protoReaderNow is a contract joined with a table's schema.
type protoReaderNow struct {
	contract *Contract
	rows     rows
	event    *objectPlan
}

func (d *Protobuf) reader(c *Contract, sc *iceberg.Schema) (*protoReaderNow, error) {
	shared, event, err := newRows(c, sc, d.opt)
	if err != nil {
		return nil, err
	}
	return &protoReaderNow{c, shared, event}, nil
}

// take makes r what events are read with from the next record on. Plans of writers' schemas lead to the columns before.
func (d *Protobuf) take(r *protoReaderNow) {
	unknown := d.unknown
	d.contract, d.rows, d.columns = r.contract, r.rows, r.event
	d.read, d.unknown = d.payload, unknown
	d.lastOf = nil
	clear(d.files)
}

// follow plans how the events of a schema are read, which the columns hold or grow to hold. nil: halt says why not.
func (d *Protobuf) follow(id uint32, md protoreflect.MessageDescriptor) *protoMessage {
	if d.envelope && md.Fields().ByName(protoreflect.Name(partNames[partOp])) == nil {
		return &protoMessage{failure: failure{reason: ReasonMissingField, place: "/" + partNames[partOp], message: cut(fmt.Sprintf("schema id %d: %s", id, noOp), maxMessage)}}
	}
	plan, err := d.followed(md)
	if err == nil && plan == nil {
		d.halt = errGrown
		return nil
	}
	if err == nil {
		return plan
	}
	fail, err := d.opt.misfit(id, err)
	if err != nil {
		d.halt = err
		return nil
	}
	return &protoMessage{failure: fail}
}

// followed gives no plan when the columns have to grow first, to d.next.
func (d *Protobuf) followed(md protoreflect.MessageDescriptor) (*protoMessage, error) {
	rowOf := md
	if d.envelope {
		after := md.Fields().ByName(protoreflect.Name(partNames[partAfter]))
		if after == nil || after.Kind() != protoreflect.MessageKind || after.IsMap() {
			return nil, fmt.Errorf("%w: %s has no message in after, where the row of a change is", errIncompatible, md.FullName())
		}
		rowOf = after.Message()
	}
	w, err := protoContract(rowOf, d.contract.Name)
	if err != nil {
		return nil, err
	}
	root, err := protoMerger{rename: d.opt.OnIncompatible == NewColumn}.message(d.contract.root, w.root)
	if err != nil {
		return nil, err
	}
	if root == d.contract.root {
		row := planProto(rowOf, overlay(d.columns, root, w.root))
		if d.envelope {
			return d.planChange(md, row)
		}
		return row, nil
	}
	next := *d.contract
	next.root = root
	if next.EventTime == "" {
		next.EventTime = w.EventTime
	}
	d.next, err = d.reader(&next, d.rows.table)
	return nil, err
}

// grown makes the columns what a schema just met asks for, if that is why a batch ended.
func (d *Protobuf) grown(err error) bool {
	if !errors.Is(err, errGrown) {
		return false
	}
	d.take(d.next)
	d.next = nil
	return true
}
