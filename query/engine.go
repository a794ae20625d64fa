package query

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/offset"
)

// SQLEngine runs SELECT statements over relations that it is given, and over nothing else. Implemented by
// query/duck. Safe for concurrent use. One that is an io.Closer is closed with the Service.
type SQLEngine interface {
	// Inspect parses a statement without running it. ErrInvalidSQL, ErrNotSelect.
	Inspect(ctx context.Context, sql string) (Inspection, error)
	// Describe gives the schemas of the result and of the parameters; files and rows of the relations are not read.
	// result is nil where it depends on the types of the parameters that will be bound.
	Describe(ctx context.Context, st Statement) (result, params *arrow.Schema, err error)
	// Run starts the statement. Relations and parameters must live until the stream is released.
	Run(ctx context.Context, st Statement) (Stream, error)
}

// Inspection is what a statement says before it is bound to tables.
type Inspection struct {
	Tables     []TableRef      // each place in the text where a relation is named, common table expressions included
	CTEs       map[string]bool // names that the statement defines itself, in lower case
	ShowTables bool            // the statement is SHOW TABLES
}

// TableRef is a name as the statement has it.
type TableRef struct {
	Parts []string // catalog, schema, table: those that are there
	At    int      // byte offset in the statement; -1 when the parser does not say
}

// Statement is one SELECT and what its names stand for.
type Statement struct {
	SQL       string
	Relations []Relation
	Params    arrow.RecordBatch // one row; nil when there are none
}

// Relation is a table pinned to a state. Its rows are those of the files that lie below Below, and the hot rows.
type Relation struct {
	Name   []string // schema and table, or table alone, as the statement has it
	Schema *iceberg.Schema
	Files  []File
	Hot    []arrow.RecordBatch // in datafile.ArrowSchema(Schema)
	Below  offset.Vector       // only rows of files with _kafka_offset < Below[_kafka_partition]; nil: all rows
}

// File is a data file on local disk whose footer was checked.
type File struct {
	Path     string
	Location string        // as the table's metadata names it, for errors
	Schema   *arrow.Schema // of the file, field ids in the metadata
	Whole    bool          // all rows lie below the relation's Below
	// Deleted are positions of rows, from 0, that delete files take out; nil: none. Shared: do not change it.
	Deleted *roaring64.Bitmap
}

// Stream is rows in record batches, as Result without pins.
type Stream interface {
	Schema() *arrow.Schema
	Next(ctx context.Context) bool
	RecordBatch() arrow.RecordBatch
	Err() error
	Release()
}
