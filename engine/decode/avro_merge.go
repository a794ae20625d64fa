package decode

import (
	"fmt"
	"slices"

	"github.com/apache/iceberg-go"
)

// avroMerger makes a reader's schema read what another schema writes, too. The reader only ever grows: it gets the fields
// that it lacks and the wider of two types, and a field that the other lacks may be null. The types that it began with are
// not changed, but copied where they differ.
type avroMerger struct {
	rename bool // fields that do not fit, or are required and new, are taken in as fields of their own
}

// avroNullTree is the default null.
var avroNullTree = &tree{}

// merge gives the reader's type of a value that r reads and w writes.
func (m avroMerger) merge(r, w *avroType) (*avroType, error) {
	rv, rNull := r.withoutNull()
	if w.kind == avroNull {
		return orNull(r, rv, true), nil
	}
	if w.kind != avroUnion {
		v, err := m.value(rv, w)
		if err != nil {
			return nil, err
		}
		return rejoined(r, rv, v, rNull), nil
	}
	v, nullable, fits := rv, rNull, false
	var first error
	for _, b := range w.branches {
		if b.kind == avroNull {
			nullable = true
			continue
		}
		next, err := m.value(v, b)
		if err == nil {
			v, fits = next, true
		} else if first == nil {
			first = err
		}
	}
	if !fits && first != nil { // values of branches that do not fit become dead letters, one has to
		return nil, first
	}
	return rejoined(r, rv, v, nullable), nil
}

// withoutNull splits a reader's type, which is one type or the union of it and null.
func (t *avroType) withoutNull() (value *avroType, nullable bool) {
	if t.kind != avroUnion {
		return t, false
	}
	for _, b := range t.branches {
		if b.kind == avroNull {
			nullable = true
		} else {
			value = b
		}
	}
	if value == nil {
		return t, true
	}
	return value, nullable
}

// rejoined is r with v in the place of rv, and null beside it.
func rejoined(r, rv, v *avroType, nullable bool) *avroType {
	_, was := r.withoutNull()
	if v == rv && was == nullable {
		return r
	}
	return orNull(r, v, nullable)
}

// orNull is v, and null beside it if so. Null comes first, for its default is null.
func orNull(r, v *avroType, nullable bool) *avroType {
	if _, was := r.withoutNull(); !nullable && !was {
		return v
	}
	if r.kind == avroUnion && len(r.branches) == 2 && slices.Contains(r.branches, v) {
		return r
	}
	return &avroType{kind: avroUnion, at: r.at, branches: []*avroType{{kind: avroNull, at: r.at}, v}}
}

func (m avroMerger) value(r, w *avroType) (*avroType, error) {
	switch r.kind {
	case avroInt, avroLong, avroFloat, avroDouble:
		return mergeNumbers(r, w)
	case avroString, avroBytes:
		if w.kind != avroString && w.kind != avroBytes || w.logical == "decimal" && r.logical != "decimal" || w.kind == avroString && r.logical == "decimal" {
			return nil, incompatible(w.at, w, r, "")
		}
		return mergeDecimals(r, w)
	case avroFixed:
		if err := sameNamed(w, r); err != nil {
			return nil, err
		}
		if w.size != r.size {
			return nil, incompatible(w.at, w, r, fmt.Sprintf("%d bytes and %d", w.size, r.size))
		}
		return mergeDecimals(r, w)
	case avroEnum:
		return mergeEnums(r, w)
	case avroArray, avroMap:
		if err := sameKind(w, r); err != nil {
			return nil, err
		}
		elem, err := m.merge(r.elem, w.elem)
		if err != nil || elem == r.elem {
			return r, err
		}
		out := *r
		out.elem = elem
		return &out, nil
	case avroRecord:
		return m.record(r, w)
	}
	return r, sameKind(w, r)
}

// mergeNumbers widens int to long and float to double, as columns can. What only Avro promotes is read into the reader's type.
func mergeNumbers(r, w *avroType) (*avroType, error) {
	rc, _, _ := unitOf(r)
	wc, _, _ := unitOf(w)
	if w.kind < avroInt || w.kind > avroDouble || rc != wc && rc != "" && wc != "" {
		return nil, incompatible(w.at, w, r, "")
	}
	if w.kind <= r.kind {
		return r, nil
	}
	if rc != "" || wc != "" || r.kind == avroInt && w.kind != avroLong || r.kind == avroLong {
		return nil, incompatible(w.at, w, r, "a column cannot be widened so")
	}
	out := *r
	out.kind = w.kind
	return &out, nil
}

// mergeDecimals takes the greater number of digits.
func mergeDecimals(r, w *avroType) (*avroType, error) {
	if r.logical != "decimal" || w.logical != "decimal" {
		return r, nil
	}
	if r.scale != w.scale {
		return nil, incompatible(w.at, w, r, "the scales differ")
	}
	precision := min(w.precision, maxDecimalPrecision)
	if precision <= r.precision {
		return r, nil
	}
	out := *r
	out.precision = precision
	return &out, nil
}

func mergeEnums(r, w *avroType) (*avroType, error) {
	if err := sameNamed(w, r); err != nil {
		return nil, err
	}
	var more []string
	for _, s := range w.symbols {
		if !slices.Contains(r.symbols, s) {
			more = append(more, s)
		}
	}
	if len(more) == 0 {
		return r, nil
	}
	out := *r
	out.symbols = append(slices.Clone(r.symbols), more...)
	return &out, nil
}

func (m avroMerger) record(r, w *avroType) (*avroType, error) {
	if err := sameNamed(w, r); err != nil {
		return nil, err
	}
	fields := slices.Clone(r.fields)
	filled := make([]bool, len(r.fields))
	changed := false
	for _, wf := range w.fields {
		places := readerFields(r, wf.name, w, filled)
		at := -1
		var first error
		for _, i := range places {
			typ, err := m.merge(fields[i].typ, wf.typ)
			if err == nil {
				at, filled[i] = i, true
				changed = changed || typ != fields[i].typ
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
			return nil, inField(wf.name, first)
		}
		added, err := m.added(wf, w, r, len(places) > 0, len(fields))
		if err != nil {
			return nil, err
		}
		fields, changed = append(fields, added), true
	}
	for i := range r.fields {
		if !filled[i] && fields[i].def == nil { // it is gone, and null then
			v, _ := fields[i].typ.withoutNull()
			fields[i].typ, fields[i].def = nullFirst(fields[i].typ, v), avroNullTree
			changed = true
		}
	}
	if !changed {
		return r, nil
	}
	out := *r
	out.fields = fields
	return &out, nil
}

func nullFirst(at, v *avroType) *avroType {
	return &avroType{kind: avroUnion, at: at.at, branches: []*avroType{{kind: avroNull, at: at.at}, v}}
}

// added is a field of the writer's as the reader takes it in. Events of other schemas get its default, or null. other tells
// that there is a field of the name, of another type.
func (m avroMerger) added(wf avroField, w, r *avroType, other bool, n int) (avroField, error) {
	f := avroField{name: wf.name, doc: wf.doc, typ: wf.typ, def: wf.def}
	if other {
		f.name, f.of, f.def = fmt.Sprintf("%s#%d", wf.name, n), wf.name, nil
	}
	value, nullable := wf.typ.withoutNull()
	if f.def == nil {
		if !nullable && !m.rename {
			return f, incompatible(w.at, w, r, fmt.Sprintf("the field %q is new, and neither has it a default nor may it be null", wf.name))
		}
		f.def = avroNullTree
		if wf.typ.kind == avroUnion && len(wf.typ.branches) > 2 {
			return f, incompatible(wf.typ.at, wf.typ, value, "a column has one type")
		}
		f.typ = nullFirst(wf.typ, value)
	}
	return f, nil
}

// follow makes the reader's schema and the columns read what w writes. nil: they do, and nothing has to change. Else the
// reader and the columns that do.
func (d *Avro) follow(w *avroType) (*avroReaderNow, error) {
	m := avroMerger{rename: d.opt.OnIncompatible == NewColumn}
	root, err := m.merge(d.contract.root.avro, w)
	if err != nil || root == d.contract.root.avro {
		return nil, err
	}
	c, err := avroContract(root, d.contract.Name)
	if err != nil {
		return nil, err
	}
	next := *d.contract
	next.root = c.root
	if next.EventTime == "" {
		next.EventTime = c.EventTime
	}
	return d.reader(&next, d.rows.table)
}

// avroReaderNow is a reader's schema joined with a table's.
type avroReaderNow struct {
	contract *Contract
	rows     rows
	event    *valuePlan
}

func (d *Avro) reader(c *Contract, sc *iceberg.Schema) (*avroReaderNow, error) {
	shared, event, err := newRows(c, sc, d.opt)
	if err != nil {
		return nil, err
	}
	return &avroReaderNow{c, shared, &valuePlan{kind: kindStruct, col: event.col, obj: event, avro: c.root.avro}}, nil
}

// take makes r what events are read with from the next record on. Plans of writers' schemas lead to the columns before.
func (d *Avro) take(r *avroReaderNow) {
	unknown := d.unknown
	d.contract, d.rows, d.event = r.contract, r.rows, r.event
	d.read, d.unknown = d.payload, unknown
	d.ids.forget()
	for print, p := range d.prints {
		d.prints[print] = d.plan(p.writer)
	}
}
