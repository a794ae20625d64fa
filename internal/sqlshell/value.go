package sqlshell

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// isNull is IsNull that also knows the null type, whose values have no bitmap.
func isNull(a arrow.Array, i int) bool { return a.DataType().ID() == arrow.NULL || a.IsNull(i) }

// nested tells the types that print as JSON.
func nested(a arrow.Array) bool {
	switch a.(type) {
	case *array.Struct, array.ListLike, array.Union:
		return true
	}
	return false
}

// appendText prints a value that is not NULL for people and CSV: text as it is, bytes as \x and hex, times in
// ISO 8601, nested values as JSON.
func appendText(dst []byte, a arrow.Array, i int) []byte {
	if d, j, ok := decoded(a, i); ok {
		return appendText(dst, d, j)
	}
	switch a := a.(type) {
	case stringArray:
		return append(dst, a.Value(i)...)
	case bytesArray:
		return append(append(dst, '\\', 'x'), hex.EncodeToString(a.Value(i))...)
	case *array.Float32:
		return appendFloat(dst, float64(a.Value(i)), 32)
	case *array.Float64:
		return appendFloat(dst, a.Value(i), 64)
	}
	if nested(a) {
		return appendJSON(dst, a, i)
	}
	return appendScalar(dst, a, i)
}

type stringArray interface {
	arrow.Array
	Value(int) string
}

type bytesArray interface {
	arrow.Array
	Value(int) []byte
}

// decoded goes through dictionaries and extension types to the array that holds the value.
func decoded(a arrow.Array, i int) (arrow.Array, int, bool) {
	switch a := a.(type) {
	case *array.Dictionary:
		return a.Dictionary(), a.GetValueIndex(i), true
	case *array.RunEndEncoded:
		return a.Values(), a.GetPhysicalIndex(i), true
	case array.ExtensionArray:
		if _, own := a.(interface{ ValueStr(int) string }); own && a.Storage().DataType().ID() == arrow.FIXED_SIZE_BINARY {
			return nil, 0, false // a UUID reads better as its own text
		}
		return a.Storage(), i, true
	}
	return nil, 0, false
}

// appendScalar prints numbers, times and what else has a plain text without quotes.
func appendScalar(dst []byte, a arrow.Array, i int) []byte {
	switch a := a.(type) {
	case *array.Boolean:
		return strconv.AppendBool(dst, a.Value(i))
	case *array.Int8:
		return strconv.AppendInt(dst, int64(a.Value(i)), 10)
	case *array.Int16:
		return strconv.AppendInt(dst, int64(a.Value(i)), 10)
	case *array.Int32:
		return strconv.AppendInt(dst, int64(a.Value(i)), 10)
	case *array.Int64:
		return strconv.AppendInt(dst, a.Value(i), 10)
	case *array.Uint8:
		return strconv.AppendUint(dst, uint64(a.Value(i)), 10)
	case *array.Uint16:
		return strconv.AppendUint(dst, uint64(a.Value(i)), 10)
	case *array.Uint32:
		return strconv.AppendUint(dst, uint64(a.Value(i)), 10)
	case *array.Uint64:
		return strconv.AppendUint(dst, a.Value(i), 10)
	case *array.Timestamp:
		t := a.DataType().(*arrow.TimestampType)
		return appendTime(dst, a.Value(i).ToTime(t.Unit), t.TimeZone != "")
	case *array.Date32:
		return a.Value(i).ToTime().AppendFormat(dst, time.DateOnly)
	case *array.Date64:
		return a.Value(i).ToTime().AppendFormat(dst, time.DateOnly)
	case *array.Time32:
		return a.Value(i).ToTime(a.DataType().(*arrow.Time32Type).Unit).AppendFormat(dst, "15:04:05.999999999")
	case *array.Time64:
		return a.Value(i).ToTime(a.DataType().(*arrow.Time64Type).Unit).AppendFormat(dst, "15:04:05.999999999")
	}
	return append(dst, a.ValueStr(i)...)
}

// appendFloat prints the shortest text that reads back as f, with an exponent only where the digits would run on: Go's own bound
// of 21 would print 1850769.5 as 1.8507695e+06 in one row and 180111.24 in the next.
func appendFloat(dst []byte, f float64, bits int) []byte {
	form := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		form = 'e'
	}
	return strconv.AppendFloat(dst, f, form, -1, bits)
}

// appendTime prints an instant in UTC with a Z, or a time of day without a zone as it stands.
func appendTime(dst []byte, t time.Time, zoned bool) []byte {
	dst = t.UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999999")
	if zoned {
		dst = append(dst, 'Z')
	}
	return dst
}

// appendJSON prints any value: numbers and decimals as numbers, bytes as base64, times as strings. JSON has no NaN
// and no infinity: they become strings.
func appendJSON(dst []byte, a arrow.Array, i int) []byte {
	if isNull(a, i) {
		return append(dst, "null"...)
	}
	if d, j, ok := decoded(a, i); ok {
		return appendJSON(dst, d, j)
	}
	switch a := a.(type) {
	case stringArray:
		return appendJSONString(dst, a.Value(i))
	case bytesArray:
		return appendJSONString(dst, base64.StdEncoding.EncodeToString(a.Value(i)))
	case *array.Float32:
		return appendJSONFloat(dst, float64(a.Value(i)), 32)
	case *array.Float64:
		return appendJSONFloat(dst, a.Value(i), 64)
	case *array.Float16:
		return appendJSONFloat(dst, float64(a.Value(i).Float32()), 32)
	case *array.Struct:
		return appendJSONStruct(dst, a, i)
	case *array.Map:
		return appendJSONMap(dst, a, i)
	case array.ListLike:
		return appendJSONList(dst, a, i)
	case array.Union:
		return appendJSON(dst, a.Field(a.ChildID(i)), unionIndex(a, i))
	}
	if plainNumber(a.DataType()) {
		return appendScalar(dst, a, i)
	}
	return appendJSONString(dst, string(appendScalar(nil, a, i)))
}

func plainNumber(t arrow.DataType) bool {
	return t.ID() == arrow.BOOL || arrow.IsInteger(t.ID()) || arrow.IsDecimal(t.ID())
}

func unionIndex(a array.Union, i int) int {
	if d, ok := a.(*array.DenseUnion); ok {
		return int(d.ValueOffset(i))
	}
	return i
}

func appendJSONStruct(dst []byte, a *array.Struct, i int) []byte {
	dst = append(dst, '{')
	for j, f := range a.DataType().(*arrow.StructType).Fields() {
		if j > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, f.Name), ':')
		dst = appendJSON(dst, a.Field(j), i)
	}
	return append(dst, '}')
}

// appendJSONMap prints a map as an object; keys that are not text are printed as text.
func appendJSONMap(dst []byte, a *array.Map, i int) []byte {
	from, to := a.ValueOffsets(i)
	dst = append(dst, '{')
	for j := int(from); j < int(to); j++ {
		if j > int(from) {
			dst = append(dst, ',')
		}
		dst = append(appendJSONString(dst, string(appendText(nil, a.Keys(), j))), ':')
		dst = appendJSON(dst, a.Items(), j)
	}
	return append(dst, '}')
}

func appendJSONList(dst []byte, a array.ListLike, i int) []byte {
	from, to := a.ValueOffsets(i)
	dst = append(dst, '[')
	for j := int(from); j < int(to); j++ {
		if j > int(from) {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, a.ListValues(), j)
	}
	return append(dst, ']')
}

func appendJSONFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return appendFloat(dst, f, bits)
}

const hexDigits = "0123456789abcdef"

// appendJSONString quotes s. encoding/json would also escape <, > and &, which helps no reader of a terminal.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, "\uFFFD"...)
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r < 0x20 || r == 0x7F:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[r>>4], hexDigits[r&15])
		default:
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return append(dst, '"')
}

// typeName is a type for \d: the words of Arrow, shorter for the common ones.
func typeName(t arrow.DataType) string {
	switch t := t.(type) {
	case *arrow.TimestampType:
		if t.TimeZone == "" {
			return "timestamp[" + t.Unit.String() + "]"
		}
		return "timestamptz[" + t.Unit.String() + "]"
	case *arrow.StructType:
		parts := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			parts[i] = f.Name + " " + typeName(f.Type)
		}
		return "struct(" + strings.Join(parts, ", ") + ")"
	case *arrow.MapType:
		return fmt.Sprintf("map(%s, %s)", typeName(t.KeyType()), typeName(t.ItemType()))
	case arrow.ListLikeType:
		return typeName(t.Elem()) + "[]"
	case *arrow.StringType, *arrow.LargeStringType:
		return "string"
	}
	return t.String()
}
