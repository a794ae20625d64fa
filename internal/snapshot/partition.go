package snapshot

import (
	"bytes"
	"fmt"
	"math"
	"reflect"

	"github.com/apache/iceberg-go"
	"github.com/google/uuid"
)

// fieldRange is the range of one partition field over the files of a manifest.
type fieldRange struct {
	null, nan bool
	low, high iceberg.Literal // nil: no value yet
}

// add takes a value of a field of type t into the range; nil is null.
func (r *fieldRange) add(t iceberg.Type, value any) error {
	if _, unknown := t.(iceberg.UnknownType); value == nil || unknown { // whose column was dropped: written as null
		r.null = true
		return nil
	}
	v, err := partitionLiteral(t, value)
	if err != nil {
		return err
	}
	if isNaN(v) {
		r.nan = true
		return nil
	}
	if r.low == nil || compareLiterals(v, r.low) < 0 {
		r.low = v
	}
	if r.high == nil || compareLiterals(v, r.high) > 0 {
		r.high = v
	}
	return nil
}

func (r *fieldRange) summary() (s iceberg.FieldSummary, err error) {
	s.ContainsNull, s.ContainsNaN = r.null, &r.nan
	if r.low == nil {
		return s, nil
	}
	low, err := r.low.MarshalBinary()
	if err != nil {
		return s, err
	}
	high, err := r.high.MarshalBinary()
	s.LowerBound, s.UpperBound = &low, &high
	return s, err
}

// partitionLiteral is a partition's value as one of type t. Those of a file that was read are of the field's type, those of a
// file to be written of any that holds the value.
func partitionLiteral(t iceberg.Type, value any) (iceberg.Literal, error) {
	if l, ok := value.(iceberg.Literal); ok {
		value = l.Any()
	}
	v := reflect.ValueOf(value)
	switch t.(type) {
	case iceberg.BooleanType:
		if v.Kind() == reflect.Bool {
			return iceberg.NewLiteral(v.Bool()), nil
		}
	case iceberg.Float32Type, iceberg.Float64Type:
		if v.CanFloat() {
			if _, single := t.(iceberg.Float32Type); single {
				return iceberg.NewLiteral(float32(v.Float())), nil
			}
			return iceberg.NewLiteral(v.Float()), nil
		}
	case iceberg.StringType:
		if s, ok := value.(string); ok {
			return iceberg.NewLiteral(s), nil
		}
	case iceberg.BinaryType, iceberg.FixedType:
		if b, ok := value.([]byte); ok {
			return iceberg.NewLiteral(bytes.Clone(b)), nil
		}
	case iceberg.UUIDType:
		switch u := value.(type) {
		case uuid.UUID:
			return iceberg.NewLiteral(u), nil
		case [16]byte:
			return iceberg.NewLiteral(uuid.UUID(u)), nil
		}
	case iceberg.DecimalType:
		if d, ok := value.(iceberg.Decimal); ok {
			return iceberg.NewLiteral(d), nil
		}
	default:
		if v.CanInt() {
			return integerLiteral(t, v.Int())
		}
	}
	return nil, fmt.Errorf("%T is no value of %s", value, t)
}

func integerLiteral(t iceberg.Type, n int64) (iceberg.Literal, error) {
	switch t.(type) {
	case iceberg.Int32Type:
		return iceberg.NewLiteral(int32(n)), nil
	case iceberg.DateType:
		return iceberg.NewLiteral(iceberg.Date(n)), nil
	case iceberg.Int64Type:
		return iceberg.NewLiteral(n), nil
	case iceberg.TimeType:
		return iceberg.NewLiteral(iceberg.Time(n)), nil
	case iceberg.TimestampType, iceberg.TimestampTzType:
		return iceberg.NewLiteral(iceberg.Timestamp(n)), nil
	case iceberg.TimestampNsType, iceberg.TimestampTzNsType:
		return iceberg.NewLiteral(iceberg.TimestampNano(n)), nil
	}
	return nil, fmt.Errorf("a number is no value of %s", t)
}

func isNaN(l iceberg.Literal) bool {
	switch v := l.Any().(type) {
	case float32:
		return math.IsNaN(float64(v))
	case float64:
		return math.IsNaN(v)
	}
	return false
}

// compareLiterals orders two values of one partition field.
func compareLiterals(a, b iceberg.Literal) int {
	switch a := a.(type) {
	case iceberg.Int32Literal:
		return compareTyped[int32](a, b)
	case iceberg.DateLiteral:
		return compareTyped[iceberg.Date](a, b)
	case iceberg.BoolLiteral:
		return compareTyped[bool](a, b)
	case iceberg.Int64Literal:
		return compareTyped[int64](a, b)
	case iceberg.Float32Literal:
		return compareTyped[float32](a, b)
	case iceberg.Float64Literal:
		return compareTyped[float64](a, b)
	case iceberg.TimeLiteral:
		return compareTyped[iceberg.Time](a, b)
	case iceberg.TimestampLiteral:
		return compareTyped[iceberg.Timestamp](a, b)
	case iceberg.TimestampNsLiteral:
		return compareTyped[iceberg.TimestampNano](a, b)
	case iceberg.StringLiteral:
		return compareTyped[string](a, b)
	case iceberg.BinaryLiteral:
		return compareTyped[[]byte](a, b)
	case iceberg.UUIDLiteral:
		return compareTyped[uuid.UUID](a, b)
	case iceberg.DecimalLiteral:
		return compareTyped[iceberg.Decimal](a, b)
	}
	panic(fmt.Sprintf("%T is no literal of a partition", a)) // partitionLiteral makes no other
}

func compareTyped[T iceberg.LiteralType](a, b iceberg.Literal) int {
	return a.(iceberg.TypedLiteral[T]).Comparator()(a.(iceberg.TypedLiteral[T]).Value(), b.(iceberg.TypedLiteral[T]).Value())
}
