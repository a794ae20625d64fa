package evolve

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
)

// FirstNew is where the ids begin that no table gives: far above what tables count to, far below Iceberg's reserved ones.
const FirstNew = 1 << 30

// MaxColumns bounds a table's columns, those inside structs, lists and maps counted: who may write to a schema registry
// could otherwise make a table that no engine opens.
const MaxColumns = 10_000

// ErrIncompatible reports a schema that the table cannot grow to. It is an *Error, which names the columns.
var ErrIncompatible = errors.New("the table's schema cannot follow that of the events")

// Kind of a change.
type Kind string

const (
	Add   Kind = "add"   // an optional column that was not there
	Widen Kind = "widen" // a wider type, which holds all that the column held
)

// Change is one thing that a table's schema needs.
type Change struct {
	Kind     Kind
	Column   string       // its dotted path; elements, keys and values of lists and maps are called so
	From, To iceberg.Type // From is nil for a column that was not there
}

func (c Change) String() string {
	if c.Kind == Add {
		return fmt.Sprintf("add %s %s", c.Column, c.To)
	}
	return fmt.Sprintf("%s %s from %s to %s", c.Kind, c.Column, c.From, c.To)
}

// Describe is a list of changes for a log.
func Describe(cs []Change) string {
	parts := make([]string, len(cs))
	for i, c := range cs {
		parts[i] = c.String()
	}
	return strings.Join(parts, ", ")
}

// Mismatch is one column that cannot follow.
type Mismatch struct {
	Column string
	Why    string
}

// maxNamed bounds how many mismatches an error's text names.
const maxNamed = 5

// Error lists the columns that cannot follow. It unwraps to ErrIncompatible.
type Error struct{ Mismatches []Mismatch }

func (e *Error) Error() string {
	var b strings.Builder
	for i, m := range e.Mismatches {
		if i == maxNamed {
			fmt.Fprintf(&b, "; and %d more", len(e.Mismatches)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "column %s %s", m.Column, m.Why)
	}
	return b.String()
}

// Unwrap gives ErrIncompatible.
func (e *Error) Unwrap() error { return ErrIncompatible }

// Grown is a schema that holds what it held, and more. Schema is the one that was given where nothing had to change.
type Grown struct {
	Schema  *iceberg.Schema
	Changes []Change
}

// Grow returns have as it must be to hold rows of want. Columns of want whose id is below FirstNew are those of have with
// that id, and left out where have has dropped it; the others are told by name. What is added gets the ids from next on,
// a struct before what is in it. Errors are *Error and name every column that cannot follow.
func Grow(have *iceberg.Schema, want []iceberg.NestedField, next int) (Grown, error) {
	g := grower{next: next}
	fields := g.fields(have.Fields(), want, "")
	if len(g.bad) > 0 {
		return Grown{}, &Error{g.bad}
	}
	if len(g.changes) == 0 {
		return Grown{Schema: have}, nil
	}
	if n := count(fields); n > MaxColumns {
		return Grown{}, &Error{[]Mismatch{{g.changes[len(g.changes)-1].Column, fmt.Sprintf("would be one of %d, and a table has at most %d", n, MaxColumns)}}}
	}
	return Grown{Schema: iceberg.NewSchemaWithIdentifiers(have.ID, have.IdentifierFieldIDs, fields...), Changes: g.changes}, nil
}

// Next is the first id that have leaves for columns which no table has yet.
func Next(have *iceberg.Schema) int { return max(FirstNew, have.HighestFieldID()+1) }

type grower struct {
	next    int
	changes []Change
	bad     []Mismatch
}

func (g *grower) mismatch(column, format string, args ...any) {
	g.bad = append(g.bad, Mismatch{column, fmt.Sprintf(format, args...)})
}

// fields grows one struct.
func (g *grower) fields(have, want []iceberg.NestedField, path string) []iceberg.NestedField {
	out := slices.Clone(have)
	named := make([]bool, len(have))
	for _, w := range want {
		i := find(have, w)
		switch {
		case i >= 0:
			named[i] = true
			if have[i].Required && !w.Required {
				g.mismatch(path+have[i].Name, "is required in the table, and events may lack it: make it optional there")
			}
			out[i].Type = g.typ(have[i].Type, w.Type, path+have[i].Name)
		case w.ID >= FirstNew:
			if other, twice := foldedTwin(out, w.Name); twice {
				g.mismatch(path+w.Name, "differs from column %s in upper and lower case only, which SQL engines do not tell apart: rename the field", path+other)
				continue
			}
			added := g.added(w)
			g.changes = append(g.changes, Change{Kind: Add, Column: path + w.Name, To: added.Type})
			out = append(out, added)
		}
	}
	for i, h := range have {
		if h.Required && !named[i] {
			g.mismatch(path+h.Name, "is required in the table, and events may lack it: make it optional there")
		}
	}
	return out
}

// find is the place of w in fields; -1 when there is none.
func find(fields []iceberg.NestedField, w iceberg.NestedField) int {
	return slices.IndexFunc(fields, func(f iceberg.NestedField) bool {
		if w.ID < FirstNew {
			return f.ID == w.ID
		}
		return f.Name == w.Name
	})
}

func foldedTwin(fields []iceberg.NestedField, name string) (string, bool) {
	i := slices.IndexFunc(fields, func(f iceberg.NestedField) bool { return strings.EqualFold(f.Name, name) })
	if i < 0 {
		return "", false
	}
	return fields[i].Name, true
}

func (g *grower) typ(have, want iceberg.Type, path string) iceberg.Type {
	switch h := have.(type) {
	case *iceberg.StructType:
		if w, ok := want.(*iceberg.StructType); ok {
			return &iceberg.StructType{FieldList: g.fields(h.FieldList, w.FieldList, path+".")}
		}
	case *iceberg.ListType:
		if w, ok := want.(*iceberg.ListType); ok {
			out := *h
			out.Element = g.typ(h.Element, w.Element, path+".element")
			return &out
		}
	case *iceberg.MapType:
		if w, ok := want.(*iceberg.MapType); ok {
			out := *h
			out.KeyType = g.typ(h.KeyType, w.KeyType, path+".key")
			out.ValueType = g.typ(h.ValueType, w.ValueType, path+".value")
			return &out
		}
	default:
		switch {
		case have.Equals(want) || Widens(want, have):
			return have
		case Widens(have, want):
			g.changes = append(g.changes, Change{Kind: Widen, Column: path, From: have, To: want})
			return want
		}
	}
	g.mismatch(path, "is a %s in the table and a %s in the events", shortType(have), shortType(want))
	return have
}

// shortType is a type in a few words: what a struct holds is not what it is about.
func shortType(t iceberg.Type) string {
	switch t.(type) {
	case *iceberg.StructType:
		return "struct"
	case *iceberg.ListType:
		return "list"
	case *iceberg.MapType:
		return "map"
	}
	return t.String()
}

// Widens tells whether Iceberg may promote from to to, and they are not the same (specification, "Schema Evolution").
func Widens(from, to iceberg.Type) bool {
	switch f := from.(type) {
	case iceberg.Int32Type:
		_, ok := to.(iceberg.Int64Type)
		return ok
	case iceberg.Float32Type:
		_, ok := to.(iceberg.Float64Type)
		return ok
	case iceberg.DecimalType:
		t, ok := to.(iceberg.DecimalType)
		return ok && t.Scale() == f.Scale() && t.Precision() > f.Precision()
	}
	return false
}

// Fits tells whether a column of type have can hold values of type want, perhaps after it was widened and what is in it
// has grown.
func Fits(have, want iceberg.Type) bool {
	g := grower{next: FirstNew}
	g.typ(have, Unnumbered([]iceberg.NestedField{{Type: want}})[0].Type, "")
	return len(g.bad) == 0
}

// added is a column as a table takes it that has rows without it: optional, and all in it.
func (g *grower) added(w iceberg.NestedField) iceberg.NestedField {
	return (&numberer{next: &g.next, optional: true}).fields([]iceberg.NestedField{w})[0]
}

// Unnumbered returns the fields with ids that say that no table has them: they are told by their names.
func Unnumbered(fields []iceberg.NestedField) []iceberg.NestedField {
	next := FirstNew
	return (&numberer{next: &next}).fields(fields)
}

// numberer gives ids: the fields of one struct first and those inside them afterwards, as Iceberg does for new tables.
type numberer struct {
	next     *int
	optional bool
}

func (n *numberer) id() int {
	*n.next++
	return *n.next - 1
}

func (n *numberer) fields(fields []iceberg.NestedField) []iceberg.NestedField {
	out := make([]iceberg.NestedField, len(fields))
	for i, f := range fields {
		out[i] = iceberg.NestedField{ID: n.id(), Name: f.Name, Doc: f.Doc, Required: f.Required && !n.optional}
	}
	for i, f := range fields {
		out[i].Type = n.typ(f.Type)
	}
	return out
}

func (n *numberer) typ(t iceberg.Type) iceberg.Type {
	switch t := t.(type) {
	case *iceberg.StructType:
		return &iceberg.StructType{FieldList: n.fields(t.FieldList)}
	case *iceberg.ListType:
		out := iceberg.ListType{ElementID: n.id(), ElementRequired: t.ElementRequired && !n.optional}
		out.Element = n.typ(t.Element)
		return &out
	case *iceberg.MapType:
		out := iceberg.MapType{KeyID: n.id(), ValueID: n.id(), ValueRequired: t.ValueRequired && !n.optional}
		out.KeyType, out.ValueType = n.typ(t.KeyType), n.typ(t.ValueType)
		return &out
	}
	return t
}

func count(fields []iceberg.NestedField) (n int) {
	for _, f := range fields {
		n += 1 + inside(f.Type)
	}
	return n
}

func inside(t iceberg.Type) int {
	switch t := t.(type) {
	case *iceberg.StructType:
		return count(t.FieldList)
	case *iceberg.ListType:
		return 1 + inside(t.Element)
	case *iceberg.MapType:
		return 2 + inside(t.KeyType) + inside(t.ValueType)
	}
	return 0
}

// Numbered returns fields with the ids that want has for them, where they have none of a table's. What want does not have
// either keeps an id that is nobody's, and no other's.
func Numbered(fields, want []iceberg.NestedField) []iceberg.NestedField {
	out := slices.Clone(fields)
	for i, f := range fields {
		if at := find(want, f); at >= 0 {
			out[i].ID, out[i].Type = want[at].ID, numbered(f.Type, want[at].Type)
		}
	}
	return out
}

func numbered(t, want iceberg.Type) iceberg.Type {
	switch t := t.(type) {
	case *iceberg.StructType:
		if w, ok := want.(*iceberg.StructType); ok {
			return &iceberg.StructType{FieldList: Numbered(t.FieldList, w.FieldList)}
		}
	case *iceberg.ListType:
		if w, ok := want.(*iceberg.ListType); ok {
			out := *t
			out.ElementID, out.Element = w.ElementID, numbered(t.Element, w.Element)
			return &out
		}
	case *iceberg.MapType:
		if w, ok := want.(*iceberg.MapType); ok {
			out := *t
			out.KeyID, out.KeyType, out.ValueID, out.ValueType = w.KeyID, numbered(t.KeyType, w.KeyType), w.ValueID, numbered(t.ValueType, w.ValueType)
			return &out
		}
	}
	return t
}
