package decode

import "slices"

// merger makes the columns of a contract hold what events of another schema hold, too. What it began with is not changed, but
// copied where it differs. The formats differ in what makes two fields the same, and in which types go into one column.
type merger interface {
	// same tells that w is a field that have is already, whatever their types.
	same(have, w field) bool
	// value gives the type of a column that holds values of both; have itself when it does.
	value(have, w *valueType) (*valueType, error)
	// added is a field that there was not among fields; other tells that there is the same one, of another type.
	added(w field, fields []field, other bool) (field, error)
	// vanished lets a field that is gone be null; false when it may be.
	vanished(f *field) bool
	// renames tells that a field whose type does not fit becomes a column of its own, and is not refused.
	renames() bool
}

// mergeFields gives the columns of both objects; have itself when it has all that w has.
func mergeFields(m merger, have, w *valueType) (*valueType, error) {
	fields := slices.Clone(have.fields)
	filled := make([]bool, len(have.fields))
	changed := false
	for _, wf := range w.fields {
		at, known := -1, false
		var first error
		for i, hf := range have.fields {
			if !m.same(hf, wf) {
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
		if first != nil && !m.renames() {
			return nil, first
		}
		added, err := m.added(wf, fields, known)
		if err != nil {
			return nil, err
		}
		fields, changed = append(fields, added), true
	}
	for i := range have.fields {
		if !filled[i] && m.vanished(&fields[i]) {
			changed = true
		}
	}
	if !changed {
		return have, nil
	}
	out := *have
	out.fields = fields
	return &out, nil
}

// mergeNested is value for objects, lists and maps; nested is false when both are not one of these.
func mergeNested(m merger, have, w *valueType) (out *valueType, nested bool, err error) {
	switch {
	case have.kind == kindStruct && w.kind == kindStruct:
		out, err = mergeFields(m, have, w)
		return out, true, err
	case (have.kind == kindList || have.kind == kindMap) && have.kind == w.kind:
		elem, err := m.value(have.elem, w.elem)
		if err != nil || elem == have.elem {
			return have, true, err
		}
		of := *have
		of.elem = elem
		return &of, true, nil
	}
	return nil, false, nil
}

// wider tells that a column of kind a holds values of kind b, and is no column of b.
func wider(a, b kind) bool {
	return a == kindLong && b == kindInt || a == kindDouble && b == kindFloat
}
