package datafile

import (
	"fmt"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// ArrowSchema is the one Arrow form of a table schema, with the field ids in the metadata (PARQUET:field_id).
func ArrowSchema(sc *iceberg.Schema) (*arrow.Schema, error) {
	as, err := table.SchemaToArrowSchema(sc, nil, true, false)
	if err != nil {
		return nil, fmt.Errorf("arrow schema of %s: %w", sc, err)
	}
	return as, nil
}

// fieldID reads a field's Iceberg id; ok is false when the file carries none.
func fieldID(f arrow.Field) (id int, ok bool) {
	s, ok := f.Metadata.GetValue(table.ArrowParquetFieldIDKey)
	if !ok {
		return 0, false
	}
	id, err := strconv.Atoi(s)
	return id, err == nil
}
