package decode

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/ledger"
)

// ErrContract reports a contract file that cannot be used; the error names the place in the file.
var ErrContract = errors.New("contract cannot be used")

// defaultEventTime is the path that is taken as event time when the contract has a timestamp there.
const defaultEventTime = "metadata.event_timestamp"

// Contract is what one topic's events look like, read from a JSON Schema (a supported subset of draft 2020-12), from an
// Avro schema or from a Protobuf message. Immutable.
type Contract struct {
	// Name says where the contract came from, for messages.
	Name string
	// EventTime is the dotted path of the event-time column; empty when there is none.
	EventTime string

	root     *valueType
	rules    []rule     // demands that are looked at when an event was read
	complete [][]string // columns that a complete event has, beside the required ones
	lines    bool       // a record holds many events
	topics   bool       // several topics go to the table
	extras   []extra    // columns that events give as a whole
	envelope bool       // an event is a change of a row, in Debezium's envelope
	change   *valueType // and that is the envelope; nil in JSON, whose contracts describe the row alone
}

// newContract makes the contract of a type that events, or their rows, are of.
func newContract(name string, root *valueType) (*Contract, error) {
	c := &Contract{Name: name, root: root}
	if err := c.checkRoot(); err != nil {
		return nil, err
	}
	if c.find(defaultEventTime) != nil && c.checkEventTime(defaultEventTime) == nil {
		c.EventTime = defaultEventTime
	}
	return c, nil
}

// kind is how a value is read and stored.
type kind uint8

const (
	kindString kind = iota + 1
	kindInt
	kindLong
	kindDouble
	kindBool
	kindTimestamp // text, RFC 3339
	kindEpoch     // integer since 1970, stored as timestamptz
	kindDate
	kindTime
	kindUUID
	kindDecimal
	kindBinary
	kindFloat
	kindFixed
	kindLocal // a date and time of day without a zone
	kindStruct
	kindList
	kindMap
)

var kindNames = map[kind]string{
	kindString: "string", kindInt: "int", kindLong: "long", kindDouble: "double", kindBool: "boolean",
	kindTimestamp: "timestamptz", kindEpoch: "timestamptz", kindDate: "date", kindTime: "time", kindUUID: "uuid",
	kindDecimal: "decimal", kindBinary: "binary", kindFloat: "float", kindFixed: "fixed", kindLocal: "timestamp", kindStruct: "struct", kindList: "list", kindMap: "map",
}

// jsonKind is what the value is called in JSON, for messages.
func (t *valueType) jsonKind() string {
	switch t.kind {
	case kindInt, kindLong, kindEpoch:
		return "integer"
	case kindDouble:
		return "number"
	case kindDate, kindTime:
		if t.coded {
			return "integer"
		}
		return "string"
	case kindDecimal:
		if t.text {
			return "string"
		}
		return "number"
	case kindBool:
		return "boolean"
	case kindStruct, kindMap:
		return "object"
	case kindList:
		return "array"
	}
	return "string"
}

// valueType is one schema object of the contract.
type valueType struct {
	kind      kind
	pointer   string // JSON pointer in the contract file
	doc       string
	nullable  bool
	text      bool  // a decimal that is written as a JSON string
	coded     bool  // a date or time that is written as an integer, a decimal as base64
	epochUnit int64 // microseconds per unit of kindEpoch and of coded times, or 0
	nanos     bool  // the unit is a nanosecond, and epochUnit 1
	precision int
	scale     int
	size      int     // bytes of kindFixed
	fields    []field // of kindStruct, in the contract's order
	closed    bool    // kindStruct with additionalProperties: false
	elem      *valueType
	checks    *checks
	action    Action      // x-on-violation; empty for dead letters
	avro      *avroType   // what the value is read as, without the null of a union; nil in other formats
	proto     *protoValue // nil in other formats
}

type field struct {
	name     string
	of       string // what events call it, where it is not name: a reader of several schemas has one field for each type
	column   string // what the table calls it, where it is not name
	required bool
	typ      *valueType
}

// inEvents is the field's name in events, inTable its column's.
func (f field) inEvents() string { return cmp.Or(f.of, f.name) }
func (f field) inTable() string  { return cmp.Or(f.column, f.inEvents()) }

// checks are the limits that a value must keep beside its type; each is nil or zero when the contract has none.
type checks struct {
	strings          []string
	ints             []int64
	doubles          []float64
	bools            []bool
	minInt, maxInt   *int64
	minNum, maxNum   *float64
	minDec, maxDec   *dec128
	minLen, maxLen   int // code points; maxLen < 0 means none
	pattern          *regexp.Regexp
	hasLen, hasEnum  bool
	enumAllowsNull   bool
	enumDescription  string
	rangeDescription string
}

// IcebergSchema returns the schema of a table for these events: the contract's fields, all optional, the columns that events
// give as a whole (WithRest), then what firn adds: ledger.ColViolations where a rule keeps and flags, and the ledger columns. Field ids are fresh, in depth-first order from 1 on; the catalog may give others.
func (c *Contract) IcebergSchema() *iceberg.Schema {
	var ids idSource
	fields := icebergFields(c.root.fields, &ids)
	for _, e := range c.extras {
		fields = append(fields, iceberg.NestedField{ID: ids.next(), Name: e.name, Type: e.what.icebergType(), Doc: e.what.doc()})
	}
	if c.flags() {
		f := violationsField(&ids)
		f.Type = &iceberg.ListType{ElementID: ids.next(), Element: iceberg.PrimitiveTypes.String}
		fields = append(fields, f)
	}
	fields = append(fields, ledgerFields(&ids, c.lines, c.topics)...)
	return iceberg.NewSchema(0, fields...)
}

// WithLines returns the contract for records that hold many events, one a line; each gives a row of its own.
func (c *Contract) WithLines() *Contract {
	out := *c
	out.lines = true
	return &out
}

// Lines tells whether records hold many events.
func (c *Contract) Lines() bool { return c.lines }

// WithTopics returns the contract of a table that several topics go to: each row says which it is from.
func (c *Contract) WithTopics() *Contract {
	out := *c
	out.topics = true
	return &out
}

// ledgerFields are the columns that every table of firn's ends with; the index only where a record gives many rows, the topic
// only where there are several.
func ledgerFields(ids *idSource, lines, topics bool) []iceberg.NestedField {
	var out []iceberg.NestedField
	if topics {
		out = append(out, iceberg.NestedField{ID: ids.next(), Name: ledger.ColTopic, Type: iceberg.PrimitiveTypes.String, Doc: "Kafka topic that the row came from"})
	}
	out = append(out,
		iceberg.NestedField{ID: ids.next(), Name: ledger.ColPartition, Type: iceberg.PrimitiveTypes.Int32, Doc: "Kafka partition that the row came from"},
		iceberg.NestedField{ID: ids.next(), Name: ledger.ColOffset, Type: iceberg.PrimitiveTypes.Int64, Doc: "Kafka offset of the row within its partition"})
	if lines {
		out = append(out, iceberg.NestedField{ID: ids.next(), Name: ledger.ColIndex, Type: iceberg.PrimitiveTypes.Int32, Doc: "which of the events of the Kafka record, from 0 on; null for the record as a whole"})
	}
	return append(out, iceberg.NestedField{ID: ids.next(), Name: ledger.ColTimestamp, Type: iceberg.PrimitiveTypes.TimestampTz, Doc: "timestamp of the Kafka record"},
		iceberg.NestedField{ID: ids.next(), Name: ledger.ColIngestedAt, Type: iceberg.PrimitiveTypes.TimestampTz, Doc: "when the row was decoded"})
}

type idSource int

func (s *idSource) next() int { *s++; return int(*s) }

// icebergFields numbers the fields of one struct first and those inside them afterwards, as Iceberg does for new tables.
func icebergFields(fields []field, ids *idSource) []iceberg.NestedField {
	out := make([]iceberg.NestedField, len(fields))
	for i, f := range fields {
		out[i] = iceberg.NestedField{ID: ids.next(), Name: f.inTable(), Doc: f.typ.doc}
	}
	for i, f := range fields {
		out[i].Type = icebergType(f.typ, ids)
	}
	return out
}

func icebergType(t *valueType, ids *idSource) iceberg.Type {
	switch t.kind {
	case kindString:
		return iceberg.PrimitiveTypes.String
	case kindInt:
		return iceberg.PrimitiveTypes.Int32
	case kindLong:
		return iceberg.PrimitiveTypes.Int64
	case kindDouble:
		return iceberg.PrimitiveTypes.Float64
	case kindBool:
		return iceberg.PrimitiveTypes.Bool
	case kindTimestamp, kindEpoch:
		return iceberg.PrimitiveTypes.TimestampTz
	case kindDate:
		return iceberg.PrimitiveTypes.Date
	case kindTime:
		return iceberg.PrimitiveTypes.Time
	case kindUUID:
		return iceberg.PrimitiveTypes.UUID
	case kindDecimal:
		return iceberg.DecimalTypeOf(t.precision, t.scale)
	case kindBinary:
		return iceberg.PrimitiveTypes.Binary
	case kindFloat:
		return iceberg.PrimitiveTypes.Float32
	case kindFixed:
		return iceberg.FixedTypeOf(t.size)
	case kindLocal:
		return iceberg.PrimitiveTypes.Timestamp
	case kindList:
		id := ids.next()
		return &iceberg.ListType{ElementID: id, Element: icebergType(t.elem, ids)}
	case kindMap:
		keyID, valueID := ids.next(), ids.next()
		return &iceberg.MapType{KeyID: keyID, KeyType: iceberg.PrimitiveTypes.String, ValueID: valueID, ValueType: icebergType(t.elem, ids)}
	default:
		return &iceberg.StructType{FieldList: icebergFields(t.fields, ids)}
	}
}

// find returns the type at a dotted path of struct fields; nil when there is none.
func (c *Contract) find(path string) *valueType {
	t := c.root
	for _, name := range strings.Split(path, ".") {
		if t.kind != kindStruct {
			return nil
		}
		var next *valueType
		for _, f := range t.fields {
			if f.name == name {
				next = f.typ
			}
		}
		if next == nil {
			return nil
		}
		t = next
	}
	return t
}

func (c *Contract) checkEventTime(path string) error {
	if e := c.extra(path); e != nil && e.what == extraTime {
		return nil
	}
	t := c.find(path)
	if t == nil {
		return fmt.Errorf("%w: event time %q is not a field of %s: name a date-time field by its dotted path, such as %s",
			ErrContract, path, c.Name, defaultEventTime)
	}
	if t.kind != kindTimestamp && t.kind != kindEpoch {
		return fmt.Errorf("%w: event time %q in %s is a %s: it must be a string with format date-time or an integer with format epoch-ms (in Avro a long with a timestamp logical type, in Protobuf a google.protobuf.Timestamp)",
			ErrContract, path, c.Name, kindNames[t.kind])
	}
	return nil
}
