package decode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/firnlake/firn/engine"
)

// Bounds of what is kept of the schemas that Kafka Connect sends along with every event.
const (
	maxConnectSchemas     = 8
	maxConnectSchemaBytes = 1 << 20 // a larger one is read anew with every event
)

// connectSchemas are the schemas that events were wrapped with lately, the last one first. One that comes again is told
// by its bytes: a producer repeats the same some kilobytes with every event.
type connectSchemas struct {
	contract *Contract
	kept     []*connectSchema
	now      *connectSchema // of the present event; nil when it names none
}

// connectSchema is one of them, and what the contract would misread in its events.
type connectSchema struct {
	text   []byte // a whole JSON object
	misfit string // name of a field that would be misread; empty when there is none
	why    string
}

// again returns the length of the schema that b begins with, when it was met before; else 0.
func (s *connectSchemas) again(b []byte) int {
	for i, k := range s.kept {
		if bytes.HasPrefix(b, k.text) { // an object ends where it ends, whatever follows
			copy(s.kept[1:i+1], s.kept[:i])
			s.kept[0], s.now = k, k
			return len(k.text)
		}
	}
	return 0
}

// met takes a schema in that is sound JSON.
func (s *connectSchemas) met(text []byte) {
	k := &connectSchema{text: bytes.Clone(text)}
	var e connectField
	if json.Unmarshal(text, &e) == nil { // else it is no schema of Connect's, and says nothing
		k.misfit, k.why = s.contract.misread(&e)
	}
	s.now = k
	if len(text) > maxConnectSchemaBytes {
		return
	}
	if len(s.kept) == maxConnectSchemas {
		s.kept = s.kept[:maxConnectSchemas-1]
	}
	s.kept = slices.Insert(s.kept, 0, k)
}

// connectField is a schema of Kafka Connect's as its JSON converter writes it, as far as it says how values are meant.
type connectField struct {
	Type       string            `json:"type"`
	Name       string            `json:"name"` // of what the value means
	Field      string            `json:"field"`
	Fields     []connectField    `json:"fields"`
	Items      *connectField     `json:"items"` // of an array
	Parameters map[string]string `json:"parameters"`
}

// Meanings of a schema's name, in the words of a contract's formats (Debezium's documentation, "Data type mappings").
var connectFormats = map[string]string{
	"org.apache.kafka.connect.data.Date": "epoch-days", "io.debezium.time.Date": "epoch-days",
	"org.apache.kafka.connect.data.Timestamp": "epoch-ms", "io.debezium.time.Timestamp": "epoch-ms",
	"io.debezium.time.MicroTimestamp": "epoch-us", "io.debezium.time.NanoTimestamp": "epoch-ns",
	"org.apache.kafka.connect.data.Time": "time-ms", "io.debezium.time.Time": "time-ms",
	"io.debezium.time.MicroTime": "time-us", "io.debezium.time.NanoTime": "time-ns",
	"io.debezium.time.ZonedTimestamp": "date-time", "io.debezium.time.ZonedTime": "time",
	"io.debezium.time.IsoTimestamp": "date-time", "io.debezium.time.IsoDate": "date", "io.debezium.time.IsoTime": "time",
}

const connectDecimal = "org.apache.kafka.connect.data.Decimal"

// format is how the value is written, in a contract's words; empty where only its type says.
func (f *connectField) format() string {
	if f.Name == connectDecimal {
		return "decimal in base64 with x-scale " + f.Parameters["scale"]
	}
	return connectFormats[f.Name]
}

// written is how the contract takes the value to be written; empty where its type alone says.
func (t *valueType) written() string {
	unit := map[int64]string{1_000_000: "s", 1_000: "ms", 1: "us"}[t.epochUnit]
	if t.nanos {
		unit = "ns"
	}
	switch {
	case t.kind == kindEpoch:
		return "epoch-" + unit
	case t.kind == kindDate && t.coded:
		return "epoch-days"
	case t.kind == kindTime && t.coded:
		return "time-" + unit
	case t.kind == kindDecimal && t.coded:
		return "decimal in base64 with x-scale " + strconv.Itoa(t.scale)
	case t.kind == kindDecimal && t.text:
		return "decimal"
	case t.kind == kindTimestamp:
		return "date-time"
	case t.kind == kindDate:
		return "date"
	case t.kind == kindTime:
		return "time"
	}
	return ""
}

// misread finds the first field of the row in an envelope's schema that means something else than the contract takes it for:
// its values would be read without an error, and be wrong. A contract may take what has a meaning as it is written: an
// instant as an integer.
func (c *Contract) misread(envelope *connectField) (name, why string) {
	for _, part := range []string{"after", "before"} {
		if i := slices.IndexFunc(envelope.Fields, func(f connectField) bool { return f.Field == part }); i >= 0 {
			return c.misreadFields(c.root, envelope.Fields[i].Fields)
		}
	}
	return "", ""
}

func (c *Contract) misreadFields(in *valueType, fields []connectField) (name, why string) {
	for i := range fields {
		f := &fields[i]
		at := slices.IndexFunc(in.fields, func(own field) bool { return own.name == f.Field })
		if at < 0 {
			continue
		}
		if why := c.misreadValue(in.fields[at].typ, f); why != "" {
			return f.Field, why
		}
	}
	return "", ""
}

func (c *Contract) misreadValue(t *valueType, f *connectField) (why string) {
	switch {
	case t.kind == kindList && f.Items != nil:
		return c.misreadValue(t.elem, f.Items)
	case t.kind == kindStruct:
		_, why := c.misreadFields(t, f.Fields)
		return why
	}
	is, taken := f.format(), t.written()
	if is == taken || is == "" && !(t.kind == kindDecimal && t.coded) || taken == "" && (f.Name != connectDecimal || t.kind == kindBinary) {
		return ""
	}
	if is == "" {
		is = f.Type
	}
	if taken == "" {
		taken = kindNames[t.kind]
	}
	return fmt.Sprintf("the event's schema says %s (%s), and %s#%s takes it for %s: change one of them", is, cmpName(f), c.Name, t.pointer, taken)
}

func cmpName(f *connectField) string {
	if f.Name != "" {
		return cut(f.Name, maxPlaceName)
	}
	return "of no further meaning"
}

// schemaMisread tells that the present event's schema means something else by a column than the contract does; d.failure
// says so, or halt where the pipeline is to stop at it.
func (d *JSON) schemaMisread() bool {
	s := d.change.schemas.now
	if s == nil || s.misfit == "" {
		return false
	}
	if d.opt.OnIncompatible == Stop {
		d.halt = fmt.Errorf("%w: field %s: %s, and start the pipeline again (nothing is lost, the events wait in Kafka)", engine.ErrIncompatibleSchema, cut(s.misfit, maxPlaceName), s.why)
		return true
	}
	d.failure = failure{reason: ReasonIncompatible, message: cut(s.why, maxMessage)}
	d.under(s.misfit)
	return true
}
