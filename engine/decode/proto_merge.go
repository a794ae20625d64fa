package decode

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/apache/iceberg-go"
)

// protoMerger is the merger of the columns of a message and another version of it. Fields are told by their numbers; a name that
// changed is the same field.
type protoMerger struct{ rename bool }

func protoNumber(t *valueType) protowire.Number { return t.proto.fd.Number() }

func (protoMerger) same(have, w field) bool { return protoNumber(have.typ) == protoNumber(w.typ) }

func (m protoMerger) renames() bool { return m.rename }

func (protoMerger) vanished(f *field) bool {
	if f.typ.nullable {
		return false
	}
	gone := *f.typ
	gone.nullable = true
	f.typ = &gone
	return true
}

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

func (m protoMerger) value(have, w *valueType) (*valueType, error) {
	if out, nested, err := mergeNested(m, have, w); nested {
		return out, err
	}
	switch {
	case have.kind == w.kind && have.precision == w.precision && have.epochUnit == w.epochUnit, wider(have.kind, w.kind):
		return have, nil
	case wider(w.kind, have.kind):
		out := *have
		out.kind, out.proto = w.kind, w.proto
		return &out, nil
	}
	return nil, fmt.Errorf("%w: field %s was a %s and is a %s", errIncompatible, w.pointer, kindNames[have.kind], kindNames[w.kind])
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
	d.ids.forget()
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
	root, err := mergeFields(protoMerger{rename: d.opt.OnIncompatible == NewColumn}, d.contract.root, w.root)
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
