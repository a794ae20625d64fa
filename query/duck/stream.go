//go:build cgo

package duck

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	db "github.com/duckdb/duckdb-go-bindings"

	"github.com/firnlake/firn/query"
)

// batchRows is how many rows a record batch of the result gathers from DuckDB's chunks of 2,048.
const batchRows = 16 << 10

// stream is the result of one statement. It implements query.Stream.
type stream struct {
	s      *session
	dir    string
	files  map[string]string // paths of the relations' files and where the table has them
	p      db.PreparedStatement
	res    db.Result
	types  []db.LogicalType
	schema *arrow.Schema
	batch  arrow.RecordBatch
	err    error

	prepared, executed, ended bool
	release                   sync.Once
}

// start prepares, binds and begins to run.
func (r *stream) start(ctx context.Context, st query.Statement) error {
	p, err := r.s.prepare(ctx, st.SQL)
	if err != nil {
		return err
	}
	r.p, r.prepared = p, true
	if err := bind(p, st.Params); err != nil {
		return err
	}
	var state db.State
	r.s.during(ctx, func() { state = db.ExecutePreparedStreaming(p, &r.res) })
	r.executed = true
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if state == db.StateError {
		return classify(db.ResultErrorType(&r.res), db.ResultError(&r.res))
	}
	// Only now is every type known: what a parameter leaves open DuckDB decides by the value that is bound.
	r.schema, r.types, err = schemaOf(int(db.ColumnCount(&r.res)), func(i db.IdxT) (string, db.LogicalType) {
		return db.ColumnName(&r.res, i), db.ColumnLogicalType(&r.res, i)
	})
	return err
}

// schemaOf gives the schema of n columns, and the types that the caller destroys.
func schemaOf(n int, column func(db.IdxT) (string, db.LogicalType)) (*arrow.Schema, []db.LogicalType, error) {
	fields, types := make([]arrow.Field, n), make([]db.LogicalType, n)
	var first error
	for i := range n {
		var name string
		name, types[i] = column(db.IdxT(i))
		dt, err := arrowType(types[i], 0)
		if err != nil && first == nil {
			first = fmt.Errorf("column %s: %w", name, err)
		}
		fields[i] = arrow.Field{Name: name, Type: dt, Nullable: true}
	}
	if first != nil {
		destroyTypes(types)
		return nil, nil, first
	}
	return arrow.NewSchema(fields, nil), types, nil
}

// describedBy gives a prepared statement's schema: nil when the types depend on what is bound.
func describedBy(p db.PreparedStatement) (*arrow.Schema, error) {
	n, open := int(db.PreparedStatementColumnCount(p)), false
	schema, types, err := schemaOf(n, func(i db.IdxT) (string, db.LogicalType) {
		t := db.PreparedStatementColumnLogicalType(p, i)
		open = open || db.GetTypeId(t) == db.TypeInvalid
		return db.PreparedStatementColumnName(p, i), t
	})
	if open {
		return nil, nil
	}
	destroyTypes(types)
	return schema, err
}

func destroyTypes(types []db.LogicalType) {
	for i := range types {
		db.DestroyLogicalType(&types[i])
	}
}

// Schema implements query.Stream.
func (r *stream) Schema() *arrow.Schema { return r.schema }

// Next implements query.Stream.
func (r *stream) Next(ctx context.Context) bool {
	r.drop()
	if r.ended || r.err != nil {
		return false
	}
	if r.err = ctx.Err(); r.err != nil {
		return false
	}
	b := array.NewRecordBuilder(heap, r.schema)
	defer b.Release()
	var rows int
	r.s.during(ctx, func() { rows, r.err = r.fill(b) })
	if r.err != nil {
		if r.err = r.explain(ctx, r.err); ctx.Err() != nil {
			r.err = ctx.Err()
		}
		return false
	}
	if rows == 0 {
		return false
	}
	r.batch = b.NewRecordBatch()
	return true
}

// fill gathers the rows of one batch.
func (r *stream) fill(b *array.RecordBuilder) (rows int, err error) {
	for rows < batchRows {
		n, err := r.fetch(b)
		if err != nil {
			return rows, err
		}
		if n == 0 {
			r.ended = true
			break
		}
		rows += n
	}
	return rows, nil
}

// fetch appends one chunk and returns its rows; 0 at the end.
func (r *stream) fetch(b *array.RecordBuilder) (int, error) {
	chunk := db.FetchChunk(r.res)
	if chunk.Ptr == nil {
		if msg := db.ResultError(&r.res); msg != "" {
			return 0, classify(db.ResultErrorType(&r.res), msg)
		}
		return 0, nil
	}
	defer db.DestroyDataChunk(&chunk)
	return appendChunk(b, chunk, r.types)
}

func (r *stream) drop() {
	if r.batch != nil {
		r.batch.Release()
		r.batch = nil
	}
}

// RecordBatch implements query.Stream.
func (r *stream) RecordBatch() arrow.RecordBatch { return r.batch }

// Err implements query.Stream.
func (r *stream) Err() error { return r.err }

// Release implements query.Stream.
func (r *stream) Release() {
	r.release.Do(func() {
		r.drop()
		if r.executed {
			db.DestroyResult(&r.res)
		}
		if r.prepared {
			db.DestroyPrepare(&r.p)
		}
		destroyTypes(r.types)
		if r.s != nil {
			r.s.close()
		}
		// What stays after a failure goes with the next start (Open).
		_ = os.RemoveAll(r.dir)
	})
}
