package decode

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

// The columns of a dead-letter table beside the ledger's. They are stored: never rename one.
const (
	colReason   = "reason"
	colPlace    = "place"
	colMessage  = "message"
	colTopic    = "topic"
	colRawKey   = "raw_key"
	colRawValue = "raw_value"
	colHeaders  = "headers"
	colSchemaID = "schema_id"
	colTraceID  = "trace_id"
)

// DeadLetterLater are the columns that dead-letter tables of earlier versions lack.
var DeadLetterLater = []string{colSchemaID, colTraceID}

// deadLetter makes the dead letter of a record, or of one of its lines, from d.failure.
func (d *rows) deadLetter(r *engine.Record, value []byte, line int32) engine.DeadLetter {
	return newLetter(r, value, line, d.failure)
}

// NewLetter makes the dead letter of a record, with copies of its own; of one that is a line alone, of that line.
func NewLetter(r *engine.Record, reason, place, message string) engine.DeadLetter {
	return newLetter(r, r.Value, r.Line, failure{reason, place, message})
}

// NewFramedLetter is NewLetter for records that begin with Confluent's header.
func NewFramedLetter(r *engine.Record, reason, place, message string) engine.DeadLetter {
	letter := []engine.DeadLetter{NewLetter(r, reason, place, message)}
	nameSchemas(letter)
	return letter[0]
}

// nameSchemas notes which of the registry's schemas the records of letters name.
func nameSchemas(dead []engine.DeadLetter) {
	for i := range dead {
		if v := dead[i].Value; len(v) >= confluentHeader && v[0] == confluentMagic {
			dead[i].SchemaID, dead[i].HasSchema = binary.BigEndian.Uint32(v[1:]), true
		}
	}
}

func newLetter(r *engine.Record, value []byte, line int32, f failure) engine.DeadLetter {
	letter := engine.DeadLetter{Reason: f.reason, Place: f.place, Message: f.message, Offset: r.Offset, Line: line, TimestampMs: r.TimestampMs}
	own := make([]byte, 0, len(r.Key)+len(value)+len(r.HeaderBytes))
	take := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		from := len(own)
		own = append(own, b...)
		return own[from:len(own):len(own)]
	}
	letter.Key, letter.Value = take(r.Key), take(value)
	letter.TraceID, _ = traceID(r.HeaderBytes, r.HeaderCount)
	// Damaged headers are left out: the record is on its way to the dead letters for a reason of its own.
	letter.Headers, _ = ParseHeaders(take(r.HeaderBytes), r.HeaderCount)
	return letter
}

// DeadLetterSchema is the schema of a dead-letter table, with fresh field ids; the catalog may give others. lines is for records
// that hold many events. Columns are optional, as in the tables of rows: an engine that rewrites the table must not fail on ours.
func DeadLetterSchema(lines bool) *iceberg.Schema {
	var ids idSource
	str, bin := iceberg.PrimitiveTypes.String, iceberg.PrimitiveTypes.Binary
	fields := []iceberg.NestedField{
		{Name: colReason, Type: str, Doc: "stable code of why the record gave no row"},
		{Name: colPlace, Type: str, Doc: "JSON pointer into the payload; empty for the whole payload"},
		{Name: colMessage, Type: str, Doc: "what was found and what was expected"},
		{Name: colTopic, Type: str, Doc: "Kafka topic that the record came from"},
		{Name: colRawKey, Type: bin, Doc: "key of the record, byte for byte"},
		{Name: colRawValue, Type: bin, Doc: "value of the record, byte for byte; null for a tombstone"},
		{Name: colHeaders, Doc: "headers of the record; of several with one name the last"},
		{Name: colSchemaID, Type: iceberg.PrimitiveTypes.Int64, Doc: "id of the registry's schema that the record names"},
		{Name: colTraceID, Type: str, Doc: "trace of the record's traceparent header, 32 hex digits"},
	}
	for i := range fields {
		fields[i].ID = ids.next()
	}
	led := ledgerFields(&ids, lines, false)
	keyID, valueID := ids.next(), ids.next()
	fields[slices.IndexFunc(fields, func(f iceberg.NestedField) bool { return f.Name == colHeaders })].Type = &iceberg.MapType{KeyID: keyID, KeyType: str, ValueID: valueID, ValueType: bin}
	return iceberg.NewSchema(0, append(fields, led...)...)
}

// DeadRows turns dead letters into rows of a dead-letter table with the given schema. Columns that it does not know are
// null. topic names the topic of a partition. Text that is not UTF-8 is made so. The caller releases the batch.
func DeadRows(mem memory.Allocator, sc *iceberg.Schema, topic func(partition int32) string, dead []engine.Dead, now time.Time) (arrow.RecordBatch, error) {
	as, err := table.SchemaToArrowSchema(sc, nil, true, false)
	if err != nil {
		return nil, fmt.Errorf("dead letters: the table's schema has no Arrow form: %w", err)
	}
	var size int64
	for i := range dead {
		size += int64(len(dead[i].Key) + len(dead[i].Value))
	}
	if size > maxFetchBytes {
		return nil, fmt.Errorf("%w: dead letters: %d raw bytes in one batch, at most %d fit: commit more often", ErrFetch, size, maxFetchBytes)
	}
	b := array.NewRecordBuilder(mem, as)
	defer b.Release()
	b.Reserve(len(dead))
	w := deadWriter{topic: topic, ingested: arrow.Timestamp(clampMicros(now.UnixMicro()))}
	for i, f := range as.Fields() {
		if err := w.column(f.Name, b.Field(i), dead); err != nil {
			return nil, fmt.Errorf("dead letters: %w", err)
		}
	}
	return b.NewRecordBatch(), nil
}

type deadWriter struct {
	topic    func(partition int32) string
	ingested arrow.Timestamp
}

// column fills one column, told by its name.
func (w *deadWriter) column(name string, to array.Builder, dead []engine.Dead) error {
	switch name {
	case colReason:
		return fill(name, to, dead, func(b *array.StringBuilder, d *engine.Dead) { b.Append(validText(d.Reason)) })
	case colPlace:
		return fill(name, to, dead, func(b *array.StringBuilder, d *engine.Dead) { b.Append(validText(d.Place)) })
	case colMessage:
		return fill(name, to, dead, func(b *array.StringBuilder, d *engine.Dead) { b.Append(validText(d.Message)) })
	case colTopic:
		return fill(name, to, dead, func(b *array.StringBuilder, d *engine.Dead) { b.Append(validText(w.topic(d.Partition))) })
	case colRawKey:
		return fill(name, to, dead, func(b *array.BinaryBuilder, d *engine.Dead) { appendOrNull(b, d.Key) })
	case colRawValue:
		return fill(name, to, dead, func(b *array.BinaryBuilder, d *engine.Dead) { appendOrNull(b, d.Value) })
	case colHeaders:
		return fillHeaders(to, dead)
	case colSchemaID:
		return fill(name, to, dead, func(b *array.Int64Builder, d *engine.Dead) {
			if !d.HasSchema {
				b.AppendNull()
				return
			}
			b.Append(int64(d.SchemaID))
		})
	case colTraceID:
		return fill(name, to, dead, func(b *array.StringBuilder, d *engine.Dead) {
			if d.TraceID == ([16]byte{}) {
				b.AppendNull()
				return
			}
			b.Append(hex.EncodeToString(d.TraceID[:]))
		})
	case ledger.ColPartition:
		return fill(name, to, dead, func(b *array.Int32Builder, d *engine.Dead) { b.Append(d.Partition) })
	case ledger.ColOffset:
		return fill(name, to, dead, func(b *array.Int64Builder, d *engine.Dead) { b.Append(d.Offset) })
	case ledger.ColIndex:
		return fill(name, to, dead, func(b *array.Int32Builder, d *engine.Dead) {
			if d.Line == 0 {
				b.AppendNull()
				return
			}
			b.Append(d.Line - 1)
		})
	case ledger.ColTimestamp:
		return fill(name, to, dead, func(b *array.TimestampBuilder, d *engine.Dead) { b.Append(arrow.Timestamp(kafkaMicros(d.TimestampMs))) })
	case ledger.ColIngestedAt:
		return fill(name, to, dead, func(b *array.TimestampBuilder, _ *engine.Dead) { b.Append(w.ingested) })
	}
	to.AppendNulls(len(dead))
	return nil
}

func fill[B array.Builder](name string, to array.Builder, dead []engine.Dead, add func(B, *engine.Dead)) error {
	b, ok := to.(B)
	if !ok {
		return wrongDeadColumn(name, to)
	}
	for i := range dead {
		add(b, &dead[i])
	}
	return nil
}

func appendOrNull(b *array.BinaryBuilder, v []byte) {
	if v == nil {
		b.AppendNull()
		return
	}
	b.Append(v)
}

func wrongDeadColumn(name string, b array.Builder) error {
	return fmt.Errorf("%w: column %s is a %s, which it is not when firn makes the table; restore its type or name another dead-letter table",
		ErrContract, name, b.Type())
}

func fillHeaders(to array.Builder, dead []engine.Dead) error {
	m, ok := to.(*array.MapBuilder)
	if !ok {
		return wrongDeadColumn(colHeaders, to)
	}
	keys, ok1 := m.KeyBuilder().(*array.StringBuilder)
	vals, ok2 := m.ItemBuilder().(*array.BinaryBuilder)
	if !ok1 || !ok2 {
		return wrongDeadColumn(colHeaders, to)
	}
	for i := range dead {
		m.Append(true)
		for _, h := range lastOfEach(dead[i].Headers) {
			keys.Append(h.Key)
			appendOrNull(vals, h.Value)
		}
	}
	return nil
}

// lastOfEach keeps the last header of each name, as Kafka's own lastHeader: a map has a key once.
func lastOfEach(headers []engine.Header) []engine.Header {
	at := make(map[string]int, len(headers))
	out := make([]engine.Header, 0, len(headers))
	for _, h := range headers {
		h.Key = validText(h.Key)
		if i, twice := at[h.Key]; twice {
			out[i] = h
			continue
		}
		at[h.Key] = len(out)
		out = append(out, h)
	}
	return slices.Clip(out)
}

// validText makes text fit for a string column.
func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
