//go:build cgo

package duck

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	db "github.com/duckdb/duckdb-go-bindings"

	"github.com/firnlake/firn/query"
)

// maxTypeDepth bounds the nesting of a result's type.
const maxTypeDepth = 64

// arrowType is the Arrow form of a DuckDB type. The caller destroys t.
func arrowType(t db.LogicalType, depth int) (arrow.DataType, error) {
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("%w: a result type is nested deeper than %d", query.ErrInvalidSQL, maxTypeDepth)
	}
	id := db.GetTypeId(t)
	if dt, ok := flatTypes[id]; ok {
		return dt, nil
	}
	switch id {
	case db.TypeDecimal:
		return &arrow.Decimal128Type{Precision: int32(db.DecimalWidth(t)), Scale: int32(db.DecimalScale(t))}, nil
	case db.TypeList, db.TypeArray:
		child := childType(t, id)
		defer db.DestroyLogicalType(&child)
		dt, err := arrowType(child, depth+1)
		if err != nil {
			return nil, err
		}
		return arrow.ListOf(dt), nil
	case db.TypeMap:
		k, v := db.MapTypeKeyType(t), db.MapTypeValueType(t)
		defer db.DestroyLogicalType(&k)
		defer db.DestroyLogicalType(&v)
		kt, err := arrowType(k, depth+1)
		if err != nil {
			return nil, err
		}
		vt, err := arrowType(v, depth+1)
		if err != nil {
			return nil, err
		}
		return arrow.MapOf(kt, vt), nil
	case db.TypeStruct:
		fields := make([]arrow.Field, db.StructTypeChildCount(t))
		for i := range fields {
			c := db.StructTypeChildType(t, db.IdxT(i))
			dt, err := arrowType(c, depth+1)
			db.DestroyLogicalType(&c)
			if err != nil {
				return nil, err
			}
			fields[i] = arrow.Field{Name: db.StructTypeChildName(t, db.IdxT(i)), Type: dt, Nullable: true}
		}
		return arrow.StructOf(fields...), nil
	}
	return nil, fmt.Errorf("%w: a column of the result has a type that Arrow has no form for here (DuckDB type %d): cast it to VARCHAR", query.ErrInvalidSQL, id)
}

func childType(t db.LogicalType, id db.Type) db.LogicalType {
	if id == db.TypeArray {
		return db.ArrayTypeChildType(t)
	}
	return db.ListTypeChildType(t)
}

var flatTypes = map[db.Type]arrow.DataType{
	db.TypeBoolean: arrow.FixedWidthTypes.Boolean, db.TypeTinyInt: arrow.PrimitiveTypes.Int8, db.TypeSmallInt: arrow.PrimitiveTypes.Int16,
	db.TypeInteger: arrow.PrimitiveTypes.Int32, db.TypeBigInt: arrow.PrimitiveTypes.Int64, db.TypeUTinyInt: arrow.PrimitiveTypes.Uint8,
	db.TypeUSmallInt: arrow.PrimitiveTypes.Uint16, db.TypeUInteger: arrow.PrimitiveTypes.Uint32, db.TypeUBigInt: arrow.PrimitiveTypes.Uint64,
	db.TypeFloat: arrow.PrimitiveTypes.Float32, db.TypeDouble: arrow.PrimitiveTypes.Float64, db.TypeVarchar: arrow.BinaryTypes.String,
	db.TypeBlob: arrow.BinaryTypes.Binary, db.TypeDate: arrow.FixedWidthTypes.Date32, db.TypeTime: arrow.FixedWidthTypes.Time64us,
	db.TypeTimestamp: &arrow.TimestampType{Unit: arrow.Microsecond}, db.TypeTimestampS: &arrow.TimestampType{Unit: arrow.Second},
	db.TypeTimestampMS: &arrow.TimestampType{Unit: arrow.Millisecond}, db.TypeTimestampNS: &arrow.TimestampType{Unit: arrow.Nanosecond},
	db.TypeTimestampTZ: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, db.TypeInterval: arrow.FixedWidthTypes.MonthDayNanoInterval,
	db.TypeHugeInt: &arrow.Decimal128Type{Precision: 38}, db.TypeUUID: extensions.NewUUIDType(), db.TypeEnum: arrow.BinaryTypes.String,
	db.TypeSQLNull: arrow.Null,
}

// sqlType is the DuckDB type that a column of a table has, as it stands in SQL.
func sqlType(t arrow.DataType) (string, error) {
	switch t := t.(type) {
	case *arrow.Decimal128Type:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale), nil
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return "TIMESTAMPTZ", nil
		}
		if t.Unit == arrow.Nanosecond {
			return "TIMESTAMP_NS", nil
		}
		return "TIMESTAMP", nil
	case *arrow.ListType:
		e, err := sqlType(t.Elem())
		return e + "[]", err
	case *arrow.MapType:
		k, err := sqlType(t.KeyType())
		if err != nil {
			return "", err
		}
		v, err := sqlType(t.ItemType())
		return "MAP(" + k + ", " + v + ")", err
	case *arrow.StructType:
		parts := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			ft, err := sqlType(f.Type)
			if err != nil {
				return "", err
			}
			parts[i] = quote(f.Name) + " " + ft
		}
		return "STRUCT(" + strings.Join(parts, ", ") + ")", nil
	}
	names := map[arrow.Type]string{arrow.BOOL: "BOOLEAN", arrow.INT32: "INTEGER", arrow.INT64: "BIGINT", arrow.FLOAT32: "FLOAT", arrow.FLOAT64: "DOUBLE",
		arrow.STRING: "VARCHAR", arrow.LARGE_STRING: "VARCHAR", arrow.BINARY: "BLOB", arrow.LARGE_BINARY: "BLOB", arrow.FIXED_SIZE_BINARY: "BLOB",
		arrow.DATE32: "DATE", arrow.TIME64: "TIME"}
	if n, ok := names[t.ID()]; ok {
		return n, nil
	}
	if t.ID() == arrow.EXTENSION && strings.Contains(t.String(), "uuid") {
		return "UUID", nil
	}
	return "", fmt.Errorf("%w: a column of type %s cannot be read by SQL here", query.ErrInvalidSQL, t)
}

// quote writes a name as an SQL identifier, text as an SQL string.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
func text(s string) string     { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
