package transform

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
)

// kind is how values of a type are held while an expression is evaluated.
type kind uint8

const (
	kindNull kind = iota // of the literal null: fits every type
	kindBool
	kindInt // 32 bits
	kindLong
	kindFloat // 32 bits
	kindDouble
	kindDecimal
	kindString
	kindBinary
	kindFixed
	kindUUID
	kindDate        // days since 1970
	kindTime        // microseconds of the day
	kindTimestamp   // microseconds, without a zone
	kindTimestampTz // microseconds since 1970 in UTC
	kindOther       // lists, maps, structs and what the language knows nothing of: passed on whole
)

// valueType is the type of an expression.
type valueType struct {
	kind             kind
	precision, scale int          // of kindDecimal
	size             int          // of kindFixed
	other            iceberg.Type // of kindOther
}

func (t valueType) String() string { return t.iceberg().String() }

// iceberg is the column type of values of the type.
func (t valueType) iceberg() iceberg.Type {
	switch t.kind {
	case kindNull:
		return iceberg.PrimitiveTypes.String
	case kindBool:
		return iceberg.PrimitiveTypes.Bool
	case kindInt:
		return iceberg.PrimitiveTypes.Int32
	case kindLong:
		return iceberg.PrimitiveTypes.Int64
	case kindFloat:
		return iceberg.PrimitiveTypes.Float32
	case kindDouble:
		return iceberg.PrimitiveTypes.Float64
	case kindDecimal:
		return iceberg.DecimalTypeOf(t.precision, t.scale)
	case kindString:
		return iceberg.PrimitiveTypes.String
	case kindBinary:
		return iceberg.PrimitiveTypes.Binary
	case kindFixed:
		return iceberg.FixedTypeOf(t.size)
	case kindUUID:
		return iceberg.PrimitiveTypes.UUID
	case kindDate:
		return iceberg.PrimitiveTypes.Date
	case kindTime:
		return iceberg.PrimitiveTypes.Time
	case kindTimestamp:
		return iceberg.PrimitiveTypes.Timestamp
	case kindTimestampTz:
		return iceberg.PrimitiveTypes.TimestampTz
	}
	return t.other
}

// typeOf is the type of a column's values.
func typeOf(t iceberg.Type) valueType {
	switch t := t.(type) {
	case iceberg.BooleanType:
		return valueType{kind: kindBool}
	case iceberg.Int32Type:
		return valueType{kind: kindInt}
	case iceberg.Int64Type:
		return valueType{kind: kindLong}
	case iceberg.Float32Type:
		return valueType{kind: kindFloat}
	case iceberg.Float64Type:
		return valueType{kind: kindDouble}
	case iceberg.DecimalType:
		return valueType{kind: kindDecimal, precision: t.Precision(), scale: t.Scale()}
	case iceberg.StringType:
		return valueType{kind: kindString}
	case iceberg.BinaryType:
		return valueType{kind: kindBinary}
	case iceberg.FixedType:
		return valueType{kind: kindFixed, size: t.Len()}
	case iceberg.UUIDType:
		return valueType{kind: kindUUID}
	case iceberg.DateType:
		return valueType{kind: kindDate}
	case iceberg.TimeType:
		return valueType{kind: kindTime}
	case iceberg.TimestampType:
		return valueType{kind: kindTimestamp}
	case iceberg.TimestampTzType:
		return valueType{kind: kindTimestampTz}
	}
	return valueType{kind: kindOther, other: t}
}

func (t valueType) whole() bool    { return t.kind == kindInt || t.kind == kindLong }
func (t valueType) floating() bool { return t.kind == kindFloat || t.kind == kindDouble }
func (t valueType) numeric() bool  { return t.whole() || t.floating() || t.kind == kindDecimal }
func (t valueType) instant() bool  { return t.kind == kindTimestamp || t.kind == kindTimestampTz }

// onInts tells that values are held as 64-bit integers, onBytes that they are held as byte strings.
func (t valueType) onInts() bool {
	return t.whole() || t.instant() || t.kind == kindDate || t.kind == kindTime
}
func (t valueType) onBytes() bool {
	return t.kind == kindString || t.kind == kindBinary || t.kind == kindFixed || t.kind == kindUUID
}

// typeNames are the types that cast knows.
var typeNames = map[string]valueType{
	"boolean": {kind: kindBool}, "int": {kind: kindInt}, "integer": {kind: kindInt}, "long": {kind: kindLong}, "bigint": {kind: kindLong},
	"float": {kind: kindFloat}, "real": {kind: kindFloat}, "double": {kind: kindDouble}, "string": {kind: kindString}, "varchar": {kind: kindString},
	"date": {kind: kindDate}, "time": {kind: kindTime}, "timestamp": {kind: kindTimestamp}, "timestamptz": {kind: kindTimestampTz}, "uuid": {kind: kindUUID},
}

const maxPrecision = 38

// parseType reads the name of a type as cast takes it.
func parseType(s string) (valueType, error) {
	if t, ok := typeNames[s]; ok {
		return t, nil
	}
	name, args, ok := strings.Cut(strings.TrimSuffix(s, ")"), "(")
	if ok && (name == "decimal" || name == "numeric") {
		p, sc, two := strings.Cut(args, ",")
		prec, err1 := strconv.Atoi(p)
		scale, err2 := 0, error(nil)
		if two {
			scale, err2 = strconv.Atoi(sc)
		}
		if err1 == nil && err2 == nil && prec >= 1 && prec <= maxPrecision && scale >= 0 && scale <= prec {
			return valueType{kind: kindDecimal, precision: prec, scale: scale}, nil
		}
		return valueType{}, fmt.Errorf("%q: a decimal has a precision of 1 to %d and a scale of 0 to the precision, such as decimal(10,2)", s, maxPrecision)
	}
	return valueType{}, fmt.Errorf("%q is no type: take boolean, int, long, float, double, decimal(p,s), string, date, time, timestamp, timestamptz or uuid", s)
}
