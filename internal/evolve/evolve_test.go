package evolve

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"pgregory.net/rapid"
)

var p = iceberg.PrimitiveTypes

func sc(fields ...iceberg.NestedField) *iceberg.Schema { return iceberg.NewSchema(0, fields...) }

func col(id int, name string, t iceberg.Type) iceberg.NestedField {
	return iceberg.NestedField{ID: id, Name: name, Type: t}
}

func st(fields ...iceberg.NestedField) *iceberg.StructType {
	return &iceberg.StructType{FieldList: fields}
}

// What each change of a schema asks of the table, or why it cannot be.
func TestGrow(t *testing.T) {
	table := sc(col(1, "id", p.String), col(2, "n", p.Int32), col(3, "f", p.Float32), col(4, "d", iceberg.DecimalTypeOf(9, 2)),
		col(5, "s", st(col(6, "a", p.Int64))), col(7, "l", &iceberg.ListType{ElementID: 8, Element: st(col(9, "x", p.Int32))}),
		col(10, "m", &iceberg.MapType{KeyID: 11, KeyType: p.String, ValueID: 12, ValueType: p.Int32}))
	for name, c := range map[string]struct {
		want iceberg.NestedField
		says string // the changes, or "! " and a part of the error
	}{
		"same":            {col(1, "n", p.Int32), ""},
		"new":             {col(1, "note", p.String), "add note string"},
		"widen int":       {col(1, "n", p.Int64), "widen n from int to long"},
		"widen float":     {col(1, "f", p.Float64), "widen f from float to double"},
		"widen decimal":   {col(1, "d", iceberg.DecimalTypeOf(18, 2)), "widen d from decimal(9, 2) to decimal(18, 2)"},
		"narrow":          {col(1, "s", st(col(2, "a", p.Int32))), ""},
		"narrow decimal":  {col(1, "d", iceberg.DecimalTypeOf(5, 2)), ""},
		"scale":           {col(1, "d", iceberg.DecimalTypeOf(18, 3)), "! column d is a decimal(9, 2) in the table and a decimal(18, 3) in the events"},
		"int to double":   {col(1, "n", p.Float64), "! column n is a int in the table and a double in the events"},
		"string to int":   {col(1, "id", p.Int32), "! column id is a string in the table and a int in the events"},
		"nested new":      {col(1, "s", st(col(2, "b", st(col(3, "c", p.Date))))), "add s.b struct<"},
		"nested mismatch": {col(1, "s", st(col(2, "a", p.Bool))), "! column s.a is a long"},
		"struct to int":   {col(1, "s", p.Int32), "! column s is a struct in the table and a int in the events"},
		"in a list":       {col(1, "l", &iceberg.ListType{ElementID: 2, Element: st(col(3, "x", p.Int64), col(4, "y", p.String))}), "widen l.element.x from int to long, add l.element.y string"},
		"in a map":        {col(1, "m", &iceberg.MapType{KeyID: 2, KeyType: p.String, ValueID: 3, ValueType: p.Int64}), "widen m.value from int to long"},
		"key of a map":    {col(1, "m", &iceberg.MapType{KeyID: 2, KeyType: p.Int32, ValueID: 3, ValueType: p.Int32}), "! column m.key is a string"},
		"case":            {col(1, "ID", p.String), "! column ID differs from column id in upper and lower case only"},
	} {
		g, err := Grow(table, Unnumbered([]iceberg.NestedField{c.want}), 100)
		got := Describe(g.Changes)
		if err != nil {
			got = "! " + err.Error()
			if !errors.Is(err, ErrIncompatible) {
				t.Errorf("%s: %v is no ErrIncompatible", name, err)
			}
		}
		if c.says == "" && got != "" || !strings.HasPrefix(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
		if err == nil && len(g.Changes) == 0 && g.Schema != table {
			t.Errorf("%s: another schema without a change", name)
		}
	}
}

// Rows in flight know their columns by id: renamed is the same column, dropped is left out, and what has no id yet is
// told by name.
func TestGrowByID(t *testing.T) {
	table := sc(col(1, "renamed", p.Int32), col(5, "other", p.String))
	g, err := Grow(table, []iceberg.NestedField{col(1, "was", p.Int64), col(3, "dropped", p.String), col(FirstNew, "other", p.String), col(FirstNew+1, "fresh", st(col(FirstNew+2, "in", p.Date)))}, 6)
	if err != nil {
		t.Fatal(err)
	}
	if got := Describe(g.Changes); got != "widen renamed from int to long, add fresh struct<7: in: optional date>" {
		t.Error(got)
	}
	if f, ok := g.Schema.FindFieldByID(6); !ok || f.Name != "fresh" || f.Required {
		t.Errorf("%v", f)
	}
	have := Numbered([]iceberg.NestedField{col(FirstNew, "fresh", st(col(FirstNew+1, "in", p.Date), col(FirstNew+2, "out", p.Date)))}, g.Schema.Fields())
	if got := fmt.Sprint(have[0].ID, have[0].Type); got != "6 struct<7: in: optional date, 1073741826: out: optional date>" {
		t.Error(got)
	}
}

func TestRequiredColumnsOfATable(t *testing.T) {
	table := sc(iceberg.NestedField{ID: 1, Name: "id", Type: p.String, Required: true}, col(2, "n", p.Int32))
	for _, want := range [][]iceberg.NestedField{{col(1, "n", p.Int32)}, {col(1, "id", p.String)}} {
		if _, err := Grow(table, Unnumbered(want), 3); err == nil || !strings.Contains(err.Error(), "column id is required in the table") {
			t.Errorf("%v: %v", want, err)
		}
	}
	if _, err := Grow(table, Unnumbered([]iceberg.NestedField{{Name: "id", Type: p.String, Required: true}}), 3); err != nil {
		t.Error(err)
	}
}

func TestColumnsAreBounded(t *testing.T) {
	var want []iceberg.NestedField
	for i := range MaxColumns {
		want = append(want, col(i, fmt.Sprint("c", i), p.Int32))
	}
	if _, err := Grow(sc(col(1, "id", p.String)), Unnumbered(want), 2); err == nil || !strings.Contains(err.Error(), "at most 10000") {
		t.Error(err)
	}
}

// genType is a type of any shape; names are few, so that schemas meet.
func genType(depth int) *rapid.Generator[iceberg.Type] {
	return rapid.Custom(func(t *rapid.T) iceberg.Type {
		n := 9
		if depth == 0 {
			n = 6
		}
		switch rapid.IntRange(0, n).Draw(t, "type") {
		case 0:
			return p.Int32
		case 1:
			return p.Int64
		case 2:
			return p.Float32
		case 3:
			return p.Float64
		case 4:
			return iceberg.DecimalTypeOf(rapid.IntRange(5, 20).Draw(t, "precision"), 2)
		case 5, 6:
			return p.String
		case 7:
			return &iceberg.ListType{ElementID: 1, Element: genType(depth-1).Draw(t, "element")}
		case 8:
			return &iceberg.MapType{KeyID: 1, KeyType: p.String, ValueID: 2, ValueType: genType(depth-1).Draw(t, "value")}
		}
		return st(genFields(depth-1).Draw(t, "fields")...)
	})
}

func genFields(depth int) *rapid.Generator[[]iceberg.NestedField] {
	return rapid.Custom(func(t *rapid.T) []iceberg.NestedField {
		var out []iceberg.NestedField
		for _, name := range []string{"a", "b", "c"} {
			if rapid.Bool().Draw(t, name) {
				out = append(out, col(0, name, genType(depth).Draw(t, name+"'s")))
			}
		}
		if len(out) == 0 {
			out = append(out, col(0, "a", p.String))
		}
		return out
	})
}

// Whatever schemas come in whatever order: ids stay with their columns and are given once, what a column held it still
// holds, and what was asked for is there and asks for nothing more.
func TestGrowthIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := sc(col(1, "key", p.String))
		last := 1
		for range rapid.IntRange(1, 6).Draw(t, "schemas") {
			want := Unnumbered(genFields(2).Draw(t, "schema"))
			g, err := Grow(table, want, last+1)
			if err != nil {
				continue
			}
			seen := map[int]bool{}
			for _, f := range flat(g.Schema.Fields(), "") {
				if seen[f.ID] {
					t.Fatalf("id %d twice in %s", f.ID, g.Schema)
				}
				seen[f.ID] = true
			}
			after := flat(g.Schema.Fields(), "")
			for i, f := range flat(table.Fields(), "") {
				at := slices.IndexFunc(after, func(o iceberg.NestedField) bool { return o.ID == f.ID })
				if at < 0 || after[at].Name != f.Name || at < i {
					t.Fatalf("%s (%d) moved from %d to %d", f.Name, f.ID, i, at)
				}
				if _, primitive := f.Type.(iceberg.PrimitiveType); primitive && !after[at].Type.Equals(f.Type) && !Widens(f.Type, after[at].Type) {
					t.Fatalf("%s was a %s and is a %s", f.Name, f.Type, after[at].Type)
				}
			}
			if again, err := Grow(g.Schema, want, 1<<20); err != nil || len(again.Changes) > 0 {
				t.Fatalf("once more: %v, %v", again.Changes, err)
			}
			table, last = g.Schema, g.Schema.HighestFieldID()
		}
	})
}

// flat is all fields by dotted path.
func flat(fields []iceberg.NestedField, path string) []iceberg.NestedField {
	var out []iceberg.NestedField
	var walk func(t iceberg.Type, path string)
	walk = func(t iceberg.Type, path string) {
		switch t := t.(type) {
		case *iceberg.StructType:
			out = append(out, flat(t.FieldList, path+".")...)
		case *iceberg.ListType:
			out = append(out, col(t.ElementID, path+".element", t.Element))
			walk(t.Element, path+".element")
		case *iceberg.MapType:
			out = append(out, col(t.KeyID, path+".key", t.KeyType), col(t.ValueID, path+".value", t.ValueType))
			walk(t.ValueType, path+".value")
		}
	}
	for _, f := range fields {
		out = append(out, col(f.ID, path+f.Name, f.Type))
		walk(f.Type, path+f.Name)
	}
	return out
}
