//go:build cgo

package duck

import (
	"fmt"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	db "github.com/duckdb/duckdb-go-bindings"

	"github.com/firnlake/firn/query"
)

// parameters describes what a statement wants to be bound; a type that DuckDB leaves open is text.
func parameters(p db.PreparedStatement) (*arrow.Schema, error) {
	fields := make([]arrow.Field, db.NParams(p))
	for i := range fields {
		t := db.ParamLogicalType(p, db.IdxT(i+1))
		dt, err := arrowType(t, 0)
		db.DestroyLogicalType(&t)
		if err != nil || dt.ID() == arrow.NULL {
			dt = arrow.BinaryTypes.String
		}
		fields[i] = arrow.Field{Name: strconv.Itoa(i + 1), Type: dt, Nullable: true}
	}
	return arrow.NewSchema(fields, nil), nil
}

// bind gives a statement the first row of params.
func bind(p db.PreparedStatement, params arrow.RecordBatch) error {
	n, have := int(db.NParams(p)), 0
	if params != nil {
		have = int(params.NumCols())
		if params.NumRows() != 1 {
			return fmt.Errorf("%w: %d rows of parameters are bound, one is wanted", query.ErrInvalidSQL, params.NumRows())
		}
	}
	if n != have {
		return fmt.Errorf("%w: it has %d parameters, and %d are bound", query.ErrInvalidSQL, n, have)
	}
	for i := range n {
		state, err := bindOne(p, db.IdxT(i+1), params.Column(i))
		if err != nil {
			return fmt.Errorf("%w: parameter %d: %w", query.ErrInvalidSQL, i+1, err)
		}
		if state == db.StateError {
			return fmt.Errorf("%w: parameter %d of type %s cannot be bound", query.ErrInvalidSQL, i+1, params.Column(i).DataType())
		}
	}
	return nil
}

func bindOne(p db.PreparedStatement, i db.IdxT, a arrow.Array) (db.State, error) {
	if a.IsNull(0) {
		return db.BindNull(p, i), nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return db.BindBoolean(p, i, a.Value(0)), nil
	case *array.Int8:
		return db.BindInt8(p, i, a.Value(0)), nil
	case *array.Int16:
		return db.BindInt16(p, i, a.Value(0)), nil
	case *array.Int32:
		return db.BindInt32(p, i, a.Value(0)), nil
	case *array.Int64:
		return db.BindInt64(p, i, a.Value(0)), nil
	case *array.Uint8:
		return db.BindUInt8(p, i, a.Value(0)), nil
	case *array.Uint16:
		return db.BindUInt16(p, i, a.Value(0)), nil
	case *array.Uint32:
		return db.BindUInt32(p, i, a.Value(0)), nil
	case *array.Uint64:
		return db.BindUInt64(p, i, a.Value(0)), nil
	case *array.Float32:
		return db.BindFloat(p, i, a.Value(0)), nil
	case *array.Float64:
		return db.BindDouble(p, i, a.Value(0)), nil
	case *array.Binary:
		return db.BindBlob(p, i, a.Value(0)), nil
	case *array.LargeBinary:
		return db.BindBlob(p, i, a.Value(0)), nil
	case *array.Date32:
		return db.BindDate(p, i, db.NewDate(int32(a.Value(0)))), nil
	case *array.Timestamp:
		return bindTimestamp(p, i, a), nil
	case *array.String, *array.LargeString, *array.Decimal128, *array.Date64, *array.Time32, *array.Time64, *extensions.UUIDArray:
		return db.BindVarchar(p, i, a.ValueStr(0)), nil // DuckDB casts text to what the place wants
	}
	return db.StateError, fmt.Errorf("values of type %s cannot be bound: bind text", a.DataType())
}

func bindTimestamp(p db.PreparedStatement, i db.IdxT, a *array.Timestamp) db.State {
	t := a.DataType().(*arrow.TimestampType)
	ts := db.NewTimestamp(a.Value(0).ToTime(t.Unit).UnixMicro())
	if t.TimeZone != "" {
		return db.BindTimestampTZ(p, i, ts)
	}
	return db.BindTimestamp(p, i, ts)
}
