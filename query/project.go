package query

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/datafile"
)

// project gives rows of the tail the columns of a pinned schema, by field id: the tail decodes by the schema of its
// pipeline, which may be older or newer. The result is the caller's.
func project(ctx context.Context, want *iceberg.Schema, b arrow.RecordBatch) (out arrow.RecordBatch, err error) {
	target, err := datafile.ArrowSchema(want)
	if err != nil {
		return nil, err
	}
	if sameFields(target.Fields(), b.Schema().Fields()) {
		return array.NewRecordBatch(target, b.Columns(), b.NumRows()), nil
	}
	have, err := table.ArrowSchemaToIceberg(b.Schema(), false, nil)
	if err != nil {
		return nil, fmt.Errorf("schema of the rows: %w", err)
	}
	got, err := table.ToRequestedSchema(ctx, want, have, b, table.SchemaOptions{IncludeFieldIDs: true, AllowMissingRequired: true})
	if err != nil {
		return nil, fmt.Errorf("columns as the table has them: %w", err)
	}
	defer got.Release()
	return array.NewRecordBatch(target, got.Columns(), got.NumRows()), nil
}

// sameFields reports whether both have the same field ids and types in the same order, nested fields included. Names
// and nullability do not count.
func sameFields(a, b []arrow.Field) bool {
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
		if !sameFields(na.Fields(), b[i].Type.(arrow.NestedType).Fields()) {
			return false
		}
	}
	return true
}

// selectColumns is the part of a schema with these top-level columns, in the order asked for; nil is all of them.
func selectColumns(sc *iceberg.Schema, names []string) (*iceberg.Schema, error) {
	if names == nil {
		return sc, nil
	}
	fields := make([]iceberg.NestedField, 0, len(names))
	seen := map[string]bool{}
	for _, n := range names {
		at := -1
		for i, f := range sc.Fields() {
			if f.Name == n {
				at = i
			}
		}
		if at < 0 {
			known := make([]string, 0, sc.NumFields())
			for _, f := range sc.Fields() {
				known = append(known, f.Name)
			}
			return nil, fmt.Errorf("%w: no column %q%s", ErrInvalidSQL, n, didYouMean(n, known))
		}
		if seen[n] {
			return nil, fmt.Errorf("%w: column %q is named twice", ErrInvalidSQL, n)
		}
		seen[n] = true
		fields = append(fields, sc.Field(at))
	}
	return iceberg.NewSchema(sc.ID, fields...), nil
}
