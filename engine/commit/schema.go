package commit

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/evolve"
)

// growth is the schema that rows are written in, and what their commit changes of the table's for that.
type growth struct {
	schema  *iceberg.Schema // one of the table's, or the one that the commit makes its current one
	changes []evolve.Change
	updates table.Updates
	needs   table.Requirements
}

// shapesOf are the different schemas of rows: the decoder's may grow within a batch.
func shapesOf(rows []arrow.RecordBatch) []*arrow.Schema {
	var out []*arrow.Schema
	for _, r := range rows {
		as := r.Schema()
		if !slices.ContainsFunc(out, func(o *arrow.Schema) bool { return o == as || sameShape(o, as) }) {
			out = append(out, as)
		}
	}
	return out
}

// sameShape tells that rows of one are rows of the other. Columns that no table has given an id yet go by their names.
func sameShape(a, b *arrow.Schema) bool {
	return datafile.SameFields(a.Fields(), b.Fields()) && a.Equal(b)
}

// grow holds rows of these shapes against the table. Mostly they are in its current schema, or in an earlier one after
// another engine changed it: files in that are as good, because columns are known by their ids. Else the table's schema
// grows with the commit, by what internal/evolve says. The ids of new columns are the table's next, and the catalog is
// asked to refuse them when somebody else was given them meanwhile.
func grow(meta table.Metadata, shapes []*arrow.Schema) (growth, error) {
	cur := meta.CurrentSchema()
	if len(shapes) == 0 {
		return growth{schema: cur}, nil
	}
	if fits, err := written(cur, shapes); fits || err != nil {
		return growth{schema: cur}, err
	}
	wants, fresh := make([]*iceberg.Schema, len(shapes)), false
	for i, as := range shapes {
		var err error
		if wants[i], err = datafile.SchemaOf(as); err != nil {
			return growth{}, fmt.Errorf("%w: %w", ErrTable, err)
		}
		fresh = fresh || wants[i].HighestFieldID() >= evolve.FirstNew
	}
	// Rows with a column that no table has given an id are in none of its schemas, for as long as the process runs that saw the
	// column appear.
	if !fresh {
		for _, sc := range meta.Schemas() {
			if fits, err := written(sc, shapes); fits || err != nil {
				return growth{schema: sc}, err
			}
		}
	}
	g := growth{schema: cur}
	for _, want := range wants {
		more, err := evolve.Grow(g.schema, want.Fields(), max(meta.LastColumnID(), g.schema.HighestFieldID())+1)
		if err != nil {
			return growth{}, fmt.Errorf("%w: the table was changed by somebody else: %w: change it back, or start the pipeline again, which then follows on_incompatible_schema",
				engine.ErrIncompatibleSchema, err)
		}
		g.schema, g.changes = more.Schema, append(g.changes, more.Changes...)
	}
	if err := ledgerThere(g.schema); err != nil {
		return growth{}, err
	}
	return g, g.update(meta)
}

// written tells whether rows of these shapes are as files in a schema are.
func written(sc *iceberg.Schema, shapes []*arrow.Schema) (bool, error) {
	if len(shapes) != 1 {
		return false, nil
	}
	as, err := datafile.ArrowSchema(sc)
	return err == nil && datafile.SameFields(as.Fields(), shapes[0].Fields()), err
}

// update makes the schema that has grown the table's current one.
func (g *growth) update(meta table.Metadata) error {
	if len(g.changes) == 0 {
		return nil
	}
	b, err := table.MetadataBuilderFromBase(meta, "")
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if err := b.AddSchema(g.schema); err != nil {
		return fmt.Errorf("%w: its schema cannot become %s: %w", ErrTable, g.schema, err)
	}
	if err := b.SetCurrentSchemaID(-1); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	g.schema = b.CurrentSchema() // with the id that the builder gave it, which is said: a catalog that numbers otherwise refuses
	g.updates = table.Updates{table.NewAddSchemaUpdate(g.schema), table.NewSetCurrentSchemaUpdate(g.schema.ID)}
	g.needs = table.Requirements{table.AssertCurrentSchemaID(meta.CurrentSchema().ID), table.AssertLastAssignedFieldID(meta.LastColumnID())}
	return nil
}

// ready gives rows the columns of the schema that they are written in. release gives back what was made for that.
func (g growth) ready(ctx context.Context, rows []arrow.RecordBatch) (out []arrow.RecordBatch, release func(), err error) {
	release = func() {
		for _, r := range out {
			r.Release()
		}
	}
	p, err := datafile.NewProjection(g.schema)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	for _, r := range rows {
		projected, err := p.Apply(ctx, r)
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("%w: %w", ErrTable, err)
		}
		out = append(out, projected)
	}
	return out, release, nil
}

// grown is a table's metadata as it will be after the commit, for what is written before it.
type grown struct {
	table.Metadata
	schema *iceberg.Schema
}

func (m grown) CurrentSchema() *iceberg.Schema { return m.schema }

// after is meta with the schema that is current once the growth took effect.
func (g growth) after(meta table.Metadata) table.Metadata {
	if len(g.changes) == 0 {
		return meta
	}
	return grown{meta, g.schema}
}
