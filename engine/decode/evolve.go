package decode

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/evolve"
	"github.com/firnlake/firn/internal/ledger"
)

// What becomes of events that are written in a schema which the table cannot follow (Options.OnIncompatible).
const (
	// Stop ends Decode with engine.ErrIncompatibleSchema; nothing is read past the first such event.
	Stop = "stop"
	// DeadLetter makes them dead letters (incompatible_schema).
	DeadLetter = "dead_letter"
	// NewColumn gives fields whose type the table cannot follow a column of their own, <name>_v2 and on, and takes fields
	// in that are required and new. What has no column even so becomes dead letters.
	NewColumn = "new_column"
)

// maxColumnVersions bounds the columns that one field's types may have.
const maxColumnVersions = 20

// OntoTable is the contract with its fields at the columns that NewColumn gives them in a table of the given schema.
func (c *Contract) OntoTable(sc *iceberg.Schema) *Contract { return c.onto(sc, true) }

// onto says which columns of a table the contract's fields go to. A field goes to the column of its name, also when that
// does not fit; with rename it goes to the first of <name>, <name>_v2, <name>_v3 and so on that fits or is not there, which
// no other field is called. So the same field finds the same column again, whoever asks and whenever.
func (c *Contract) onto(sc *iceberg.Schema, rename bool) *Contract {
	out := *c
	out.root = ontoStruct(c.root, sc.Fields(), rename)
	return &out
}

func ontoStruct(t *valueType, have []iceberg.NestedField, rename bool) *valueType {
	out := *t
	out.fields = slices.Clone(t.fields)
	taken := map[string]bool{}
	for _, f := range t.fields {
		taken[f.inEvents()] = true // its first choice, before anybody's second
	}
	used := map[string]bool{}
	for i, f := range out.fields {
		name := f.inEvents()
		at := -1
		out.fields[i].column = name
		for n := 1; n <= maxColumnVersions; n++ {
			column := name
			if n > 1 {
				column += "_v" + strconv.Itoa(n)
			}
			if used[column] || n > 1 && taken[column] {
				continue
			}
			at = slices.IndexFunc(have, func(h iceberg.NestedField) bool { return h.Name == column })
			if at < 0 || !rename || holds(have[at].Type, f.typ) {
				out.fields[i].column = column
				break
			}
		}
		used[out.fields[i].column] = true
		if at >= 0 {
			out.fields[i].typ = ontoType(f.typ, have[at].Type, rename)
		}
	}
	return &out
}

func ontoType(t *valueType, have iceberg.Type, rename bool) *valueType {
	out := *t
	switch h := have.(type) {
	case *iceberg.StructType:
		if t.kind == kindStruct {
			return ontoStruct(t, h.FieldList, rename)
		}
	case *iceberg.ListType:
		if t.kind == kindList {
			out.elem = ontoType(t.elem, h.Element, rename)
		}
	case *iceberg.MapType:
		if t.kind == kindMap {
			out.elem = ontoType(t.elem, h.ValueType, rename)
		}
	}
	return &out
}

// holds tells whether a column can take values of a type, perhaps once it has grown. What is in a struct finds columns of
// its own.
func holds(have iceberg.Type, t *valueType) bool {
	switch h := have.(type) {
	case *iceberg.StructType:
		return t.kind == kindStruct
	case *iceberg.ListType:
		return t.kind == kindList && holds(h.Element, t.elem)
	case *iceberg.MapType:
		return t.kind == kindMap && h.KeyType.Equals(iceberg.PrimitiveTypes.String) && holds(h.ValueType, t.elem)
	}
	if t.kind >= kindStruct {
		return false
	}
	var ids idSource
	return evolve.Fits(have, icebergType(t, &ids))
}

// grow gives the table's schema as the contract needs it. Columns that the table lacks have ids that are nobody's until the
// commit that first needs them. Where the two cannot meet, the schema is what it was.
func (c *Contract) grow(sc *iceberg.Schema) (*iceberg.Schema, error) {
	want := slices.Clone(c.IcebergSchema().Fields())
	demand(want, c.root.fields)
	for i := range c.extras { // which may be null
		want[len(c.root.fields)+i].Required = false
	}
	// A table without its ledger is not to be mended so; one that was made for a single topic gets the column that says which.
	want = slices.DeleteFunc(want, func(f iceberg.NestedField) bool {
		return ledger.IsColumn(f.Name) && f.Name != ledger.ColTopic && !slices.ContainsFunc(sc.Fields(), func(h iceberg.NestedField) bool { return h.Name == f.Name })
	})
	g, err := evolve.Grow(sc, evolve.Unnumbered(want), evolve.Next(sc))
	if err != nil {
		return sc, fmt.Errorf("%w: contract %s and the table do not fit: %w", ErrContract, c.Name, err)
	}
	return g.Schema, nil
}

// demand marks the fields that every event has, for a table that requires them. Of the table's own, which come behind, there
// is always a value.
func demand(want []iceberg.NestedField, fields []field) {
	for i := len(fields); i < len(want); i++ {
		want[i].Required = true
	}
	for i, f := range fields {
		want[i].Required = f.required && !f.typ.nullable
		if st, ok := want[i].Type.(*iceberg.StructType); ok && f.typ.kind == kindStruct {
			demand(st.FieldList, f.typ.fields)
		}
	}
}

// errGrown ends a batch in which a schema was met that the columns had to grow for: the same records are read once more.
var errGrown = errors.New("the columns have grown")

// misfit says what becomes of events in a schema that the table cannot follow: their failure, or an error for Decode.
func (o Options) misfit(id uint32, why error) (failure, error) {
	if o.OnIncompatible == Stop {
		return failure{}, fmt.Errorf("%w: schema id %d: %w: have the producers go back to a schema that the table can follow, or set on_incompatible_schema to dead_letter or new_column and start the pipeline again (nothing is lost, the events wait in Kafka)",
			engine.ErrIncompatibleSchema, id, why)
	}
	return failure{reason: ReasonIncompatible, message: cut(fmt.Sprintf("schema id %d: %v", id, why), maxMessage)}, nil
}
