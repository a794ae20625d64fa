package commit

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/evolve"
	"github.com/firnlake/firn/internal/ledger"
)

// BenchmarkGrown is what each commit pays for rows of a decoder that saw a column appear, in a table with some history of
// schemas: 8 batches of 20 columns.
func BenchmarkGrown(b *testing.B) {
	fields := []iceberg.NestedField{{ID: 1, Name: ledger.ColPartition, Type: iceberg.PrimitiveTypes.Int32}, {ID: 2, Name: ledger.ColOffset, Type: iceberg.PrimitiveTypes.Int64},
		{ID: 3, Name: ledger.ColTimestamp, Type: iceberg.PrimitiveTypes.TimestampTz}, {ID: 4, Name: ledger.ColIngestedAt, Type: iceberg.PrimitiveTypes.TimestampTz}}
	for i := 5; i < 20; i++ {
		fields = append(fields, iceberg.NestedField{ID: i, Name: fmt.Sprint("c", i), Type: iceberg.PrimitiveTypes.String})
	}
	meta, err := table.NewMetadata(iceberg.NewSchema(0, fields...), iceberg.UnpartitionedSpec, table.UnsortedSortOrder, "s3://lake/t", nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := 20; i < 40; i++ {
		build, err := table.MetadataBuilderFromBase(meta, "")
		if err != nil {
			b.Fatal(err)
		}
		fields = append(fields, iceberg.NestedField{ID: i, Name: fmt.Sprint("c", i), Type: iceberg.PrimitiveTypes.String})
		if err := build.AddSchema(iceberg.NewSchema(i, fields...)); err != nil {
			b.Fatal(err)
		}
		if err := build.SetCurrentSchemaID(-1); err != nil {
			b.Fatal(err)
		}
		if meta, err = build.Build(); err != nil {
			b.Fatal(err)
		}
	}
	fields[len(fields)-1].ID = evolve.FirstNew
	as, err := datafile.ArrowSchema(iceberg.NewSchema(0, fields...))
	if err != nil {
		b.Fatal(err)
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, as)
	for i := range fields {
		builder.Field(i).AppendNulls(100)
	}
	rows := make([]arrow.RecordBatch, 8)
	rows[0] = builder.NewRecordBatch()
	for i := range rows {
		rows[i] = rows[0]
	}
	for b.Loop() {
		g, err := grow(meta, shapesOf(rows))
		if err != nil {
			b.Fatal(err)
		}
		_, release, err := g.ready(b.Context(), rows)
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}
