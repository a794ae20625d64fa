package datafile

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/evolve"
)

// Projection gives rows in memory the columns of another schema, by field id: those that a pipeline decoded may be older or
// newer than the table's. Columns that no table has given an id yet are told by their names; what is wanted no more is left
// out, what the rows have not is null, and narrower types are widened. It is for one goroutine.
type Projection struct {
	want   *iceberg.Schema
	target *arrow.Schema

	// What was found out of the rows before, which mostly have the very same schema.
	from *arrow.Schema
	have *iceberg.Schema // nil: they are as they are wanted
}

// NewProjection returns the projection onto a schema.
func NewProjection(want *iceberg.Schema) (*Projection, error) {
	target, err := ArrowSchema(want)
	if err != nil {
		return nil, err
	}
	return &Projection{want: want, target: target}, nil
}

// Apply returns rows with the columns that are wanted. They are the caller's.
func (p *Projection) Apply(ctx context.Context, b arrow.RecordBatch) (arrow.RecordBatch, error) {
	if err := p.learn(b.Schema()); err != nil {
		return nil, err
	}
	if p.have == nil {
		return array.NewRecordBatch(p.target, b.Columns(), b.NumRows()), nil
	}
	got, err := table.ToRequestedSchema(ctx, p.want, p.have, b, table.SchemaOptions{IncludeFieldIDs: true, AllowMissingRequired: true})
	if err != nil {
		return nil, fmt.Errorf("columns as the table has them: %w", err)
	}
	defer got.Release()
	return array.NewRecordBatch(p.target, got.Columns(), got.NumRows()), nil
}

func (p *Projection) learn(from *arrow.Schema) error {
	if p.from == from {
		return nil
	}
	var numbered *iceberg.Schema
	if !SameFields(p.target.Fields(), from.Fields()) {
		have, err := SchemaOf(from)
		if err != nil {
			return err
		}
		numbered = iceberg.NewSchema(have.ID, evolve.Numbered(have.Fields(), p.want.Fields())...)
	}
	p.from, p.have = from, numbered
	return nil
}

// SchemaOf is the table schema of rows in memory, which carry field ids as ArrowSchema gives them.
func SchemaOf(as *arrow.Schema) (*iceberg.Schema, error) {
	sc, err := table.ArrowSchemaToIceberg(as, false, nil)
	if err != nil {
		return nil, fmt.Errorf("schema of the rows: %w", err)
	}
	return sc, nil
}

// SameFields reports whether both have the same field ids and types in the same order, nested fields included. Names
// and nullability do not count.
func SameFields(a, b []arrow.Field) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		ida, _ := a[i].Metadata.GetValue(table.ArrowParquetFieldIDKey)
		idb, ok := b[i].Metadata.GetValue(table.ArrowParquetFieldIDKey)
		if !ok || ida != idb || a[i].Type.ID() != b[i].Type.ID() {
			return false
		}
		na, nested := a[i].Type.(arrow.NestedType)
		if !nested {
			if !arrow.TypeEqual(a[i].Type, b[i].Type) {
				return false
			}
			continue
		}
		if !SameFields(na.Fields(), b[i].Type.(arrow.NestedType).Fields()) {
			return false
		}
	}
	return true
}
