package decode

import (
	"fmt"
	"strings"
)

// maxDecimalPrecision is Iceberg's. An Avro schema may say more: Kafka Connect's converters write 64 where the database does not say
// (money of PostgreSQL's, whatever a JDBC source reads). Values are checked one by one, so it is the column's then.
const maxDecimalPrecision = 38

// LoadAvro reads the reader's schema of a topic, an Avro record; refs are the schemas that it refers to, each before what
// refers to it. Errors wrap ErrContract and name the JSON pointer and what would work.
func LoadAvro(raw []byte, refs []string, name string) (*Contract, error) {
	t, err := parseAvro(string(raw), refs)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrContract, name, err)
	}
	return avroContract(t, name)
}

func avroContract(t *avroType, name string) (*Contract, error) {
	if t.kind != avroRecord {
		return nil, fmt.Errorf("%w: %s is %s at its top: it must be a record, whose fields become columns", ErrContract, name, t)
	}
	r := avroReader{inside: map[*avroType]bool{}}
	root, err := r.value(t, "")
	if err != nil {
		return nil, fmt.Errorf("%w: %s%w", ErrContract, name, err)
	}
	return newContract(name, root)
}

// avroReader turns the reader's schema into the types of columns.
type avroReader struct {
	inside map[*avroType]bool // records around the present one
	types  int
}

// value gives the column of a type; at is the JSON pointer of the place that uses it.
func (r *avroReader) value(t *avroType, at string) (*valueType, error) {
	if r.types++; r.types > maxContractTypes {
		return nil, problemf(at, "with its references followed the schema has more than %d types; take fields out", maxContractTypes)
	}
	if t.kind == avroUnion {
		return r.union(t, at)
	}
	v := &valueType{pointer: at, doc: t.doc, avro: t}
	switch t.kind {
	case avroNull:
		return nil, problemf(at, `null alone gives no column; name a type beside it: ["null","string"]`)
	case avroBoolean:
		v.kind = kindBool
	case avroFloat:
		v.kind = kindFloat
	case avroDouble:
		v.kind = kindDouble
	case avroInt, avroLong:
		v.kind, v.epochUnit = avroNumberColumn(t)
	case avroEnum:
		v.kind = kindString
	case avroString:
		if v.kind = kindString; t.logical == "uuid" {
			v.kind = kindUUID
		}
	case avroBytes, avroFixed:
		return v, avroBinaryColumn(t, v, at)
	case avroArray, avroMap:
		if v.kind = kindList; t.kind == avroMap {
			v.kind = kindMap
		}
		var err error
		v.elem, err = r.value(t.elem, at+map[avroKind]string{avroArray: "/items", avroMap: "/values"}[t.kind])
		return v, err
	case avroRecord:
		return v, r.record(t, v, at)
	}
	return v, nil
}

// avroNumberColumn gives the column of an int or a long, and for instants their unit in microseconds: the values of
// nanoseconds are cut to microseconds, which is what tables of format 2 hold.
func avroNumberColumn(t *avroType) (kind, int64) {
	switch t.logical {
	case "date":
		return kindDate, 0
	case "time-millis", "time-micros":
		return kindTime, 0
	case "timestamp-millis":
		return kindEpoch, 1000
	case "timestamp-micros", "timestamp-nanos":
		return kindEpoch, 1
	case "local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos":
		return kindLocal, 0
	}
	if t.kind == avroInt {
		return kindInt, 0
	}
	return kindLong, 0
}

func avroBinaryColumn(t *avroType, v *valueType, at string) error {
	switch {
	case t.logical == "decimal":
		v.kind, v.precision, v.scale = kindDecimal, min(t.precision, maxDecimalPrecision), t.scale
		if t.scale > maxDecimalPrecision {
			return problemf(at, "decimal(%d,%d) has more digits behind the point than Iceberg's %d; take logicalType out to store its bytes as they are",
				t.precision, t.scale, maxDecimalPrecision)
		}
	case t.logical == "uuid":
		v.kind = kindUUID
	case t.logical == "duration":
		return problemf(at, "Iceberg has no type for a duration of months, days and milliseconds; take logicalType out to store its 12 bytes as they are")
	case t.kind == avroBytes:
		v.kind = kindBinary
	case t.size == 0:
		return problemf(at, "a fixed of size 0 gives no column; take the field out")
	default:
		v.kind, v.size = kindFixed, t.size
	}
	return nil
}

// union gives the column of a type and null. Nothing else that a union may hold has one column.
func (r *avroReader) union(t *avroType, at string) (*valueType, error) {
	var value *avroType
	nullable := false
	where := at
	for i, b := range t.branches {
		switch {
		case b.kind == avroNull:
			nullable = true
		case value == nil:
			value, where = b, at+"/"+itoa(i)
		default:
			return nil, problemf(at, `a column has one type, and %s and null is all that a union may be here; name one of them in the schema of the pipeline: values of the other types become dead letters`, value)
		}
	}
	if value == nil {
		return nil, problemf(at, `null alone gives no column; name a type beside it: ["null","string"]`)
	}
	v, err := r.value(value, where)
	if err == nil {
		v.nullable = nullable
	}
	return v, err
}

func (r *avroReader) record(t *avroType, v *valueType, at string) error {
	if r.inside[t] {
		return problemf(at, "%s contains itself, and a table's columns cannot; take the field out", t)
	}
	r.inside[t] = true
	defer delete(r.inside, t)
	v.kind = kindStruct
	if len(t.fields) == 0 {
		return problemf(at, "a record without fields gives no column; take it out")
	}
	lower := map[string]string{}
	for i, f := range t.fields {
		here := at + "/fields/" + itoa(i)
		if other, twice := lower[strings.ToLower(f.name)]; twice {
			return problemf(here+"/name", "%q differs from %q in upper and lower case only, which SQL engines do not tell apart; rename one", f.name, other)
		}
		lower[strings.ToLower(f.name)] = f.name
		ft, err := r.value(f.typ, here+"/type")
		if err != nil {
			return err
		}
		if f.doc != "" {
			ft.doc = f.doc
		}
		v.fields = append(v.fields, field{name: f.name, of: f.of, required: true, typ: ft})
	}
	return nil
}
