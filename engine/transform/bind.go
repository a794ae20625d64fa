package transform

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/evolve"
)

// firstOwnID begins the field ids of columns that the decoder reads and the table does not have as they are: far above those
// of any table, so that no two fields have one id.
const firstOwnID = 1 << 28

// out is how one column of the table, or of a struct in it, is made of the decoder's batch.
type out struct {
	dt   arrow.DataType
	how  action
	name string // of the decoder's column or field
	node node   // of masked and computed
	kids []out
}

// Bound is a Plan for a table as it is now.
type Bound struct {
	plan    *Plan
	table   *iceberg.Schema
	decoder *iceberg.Schema
}

// Bind holds the plan against a table, which may have more columns, in another order, and of wider types. What it lacks is
// added: the commit that first has rows of it makes the table grow.
func (p *Plan) Bind(sc *iceberg.Schema) (*Bound, error) {
	grown, err := evolve.Grow(sc, evolve.Unnumbered(p.Schema().Fields()), evolve.Next(sc))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	b := &Bound{plan: p, table: grown.Schema}
	ids := firstOwnID
	fields, err := p.merge(grown.Schema.Fields(), p.wants, &ids)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	b.decoder = iceberg.NewSchema(0, fields...)
	return b, nil
}

// DecoderSchema is what the decoder has to read: the table's columns where they pass through, the contract's where not.
func (b *Bound) DecoderSchema() *iceberg.Schema { return b.decoder }

// merge makes the fields that the decoder reads of the table's and of what is wanted.
func (p *Plan) merge(have []iceberg.NestedField, wants []want, ids *int) ([]iceberg.NestedField, error) {
	var fields []iceberg.NestedField
	own := func(w want) {
		if w.src.Name != "" { // a computed column need not have one
			*ids++
			id := *ids
			fields = append(fields, iceberg.NestedField{ID: id, Name: w.name, Type: numberedType(w.src.Type, ids)})
		}
	}
	for _, f := range have {
		i := slices.IndexFunc(wants, func(w want) bool { return w.name == f.Name })
		if i < 0 { // of the ledger, or one that the contract knows nothing of
			fields = append(fields, f)
			continue
		}
		w := wants[i]
		switch w.act {
		case pass:
			fields = append(fields, f)
		case inside:
			kids, err := p.merge(f.Type.(*iceberg.StructType).FieldList, w.kids, ids) // evolve.Grow refuses anything else
			if err != nil {
				return nil, err
			}
			*ids++
			fields = append(fields, iceberg.NestedField{ID: *ids, Name: f.Name, Type: &iceberg.StructType{FieldList: kids}})
		case drop:
			own(w)
		default:
			// The table may have a list of longs where the transform gives one of ints; such a column is not converted.
			if !storable(w.typ, f.Type) {
				return nil, fmt.Errorf("the table's column %s is a %s, the transform gives a %s: give it another name, or change one of them", w.path, f.Type, w.typ)
			}
			own(w)
		}
	}
	for _, w := range wants { // what is dropped, and read by expressions perhaps
		if !slices.ContainsFunc(have, func(f iceberg.NestedField) bool { return f.Name == w.name }) {
			own(w)
		}
	}
	return fields, nil
}

// storable tells whether a column takes every value of a type.
func storable(have, column iceberg.Type) bool {
	a, b := typeOf(have), typeOf(column)
	switch {
	case a.kind == kindInt && b.kind == kindLong, a.kind == kindFloat && b.kind == kindDouble:
		return true
	case a.kind == kindDecimal && b.kind == kindDecimal:
		return a.scale == b.scale && a.precision <= b.precision
	}
	return sameType(have, column)
}

// outs is how the table's columns are made.
func (b *Bound) outs(prog *program) ([]out, *arrow.Schema, error) {
	as, err := table.SchemaToArrowSchema(b.table, nil, true, false)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the table's schema has no Arrow form: %w", ErrConfig, err)
	}
	return b.outsOf(b.table.Fields(), as.Fields(), b.plan.wants, prog), as, nil
}

// outsOf makes have of wants; dts are their types in Arrow.
func (b *Bound) outsOf(have []iceberg.NestedField, dts []arrow.Field, wants []want, prog *program) []out {
	var list []out
	for i, f := range have {
		o := out{dt: dts[i].Type, name: f.Name}
		if at := slices.IndexFunc(wants, func(w want) bool { return w.name == f.Name }); at >= 0 {
			w := wants[at]
			switch o.how = w.act; w.act {
			case masked:
				o.node = prog.masks[w.path]
			case computed:
				o.node = prog.columns[w.name]
			case inside:
				o.kids = b.outsOf(f.Type.(*iceberg.StructType).FieldList, dts[i].Type.(*arrow.StructType).Fields(), w.kids, prog)
			}
		}
		list = append(list, o)
	}
	return list
}
