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

// Project gives rows in memory the columns of another schema, by field id: those that a pipeline decoded may be older or
// newer than the table's. Columns that no table has given an id yet are told by their names; what want has not is left
// out, what the rows have not is null, and narrower types are widened. The result is the caller's.
func Project(ctx context.Context, want *iceberg.Schema, b arrow.RecordBatch) (out arrow.RecordBatch, err error) {
	target, err := ArrowSchema(want)
	if err != nil {
		return nil, err
	}
	if SameFields(target.Fields(), b.Schema().Fields()) {
		return array.NewRecordBatch(target, b.Columns(), b.NumRows()), nil
	}
	have, err := SchemaOf(b.Schema())
	if err != nil {
		return nil, err
	}
	numbered := iceberg.NewSchema(have.ID, evolve.Numbered(have.Fields(), want.Fields())...)
	got, err := table.ToRequestedSchema(ctx, want, numbered, b, table.SchemaOptions{IncludeFieldIDs: true, AllowMissingRequired: true})
	if err != nil {
		return nil, fmt.Errorf("columns as the table has them: %w", err)
	}
	defer got.Release()
	return array.NewRecordBatch(target, got.Columns(), got.NumRows()), nil
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
