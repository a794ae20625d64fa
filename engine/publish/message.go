package publish

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/ledger"
)

// Headers of a message. They are read by others: never rename one. A header that does not apply is left out.
const (
	HeaderTopic     = "firn.topic"     // of the record that gave no row
	HeaderPartition = "firn.partition" // decimal, as all numbers
	HeaderOffset    = "firn.offset"
	HeaderLine      = "firn.line"      // of a record with several events the one that failed, from 1 on
	HeaderTimestamp = "firn.timestamp" // of the record, RFC 3339 in UTC
	HeaderKey       = "firn.key"       // of the record, byte for byte
	HeaderReason    = "firn.reason"    // code
	HeaderPlace     = "firn.place"     // JSON pointer into the payload
	HeaderMessage   = "firn.message"
	HeaderSchemaID  = "firn.schema_id" // of the registry
	HeaderTraceID   = "firn.trace_id"  // 32 hex digits
	HeaderPipeline  = "firn.pipeline"
	// HeaderValueBytes is of messages without the record's own key, value and headers, because the topic does not take messages
	// of that size: the bytes of the value, which the table has.
	HeaderValueBytes = "firn.value_bytes"

	// headerPrefix begins the names above; headers of the record with such names are left out.
	headerPrefix = "firn."
)

// Message is a record of the topic of dead letters.
type Message struct {
	Key, Value  []byte // a nil value is of a tombstone
	Headers     []engine.Header
	TimestampMs int64 // Unix milliseconds: when the letter was written
}

// sizeOf is what of a letter is the record's.
func sizeOf(l *deadletter.Letter) int {
	n := len(l.Key) + len(l.Value)
	for name, v := range l.Headers {
		n += len(name) + len(v)
	}
	return n
}

// messageOf makes the message of a letter: first the headers of the record, then firn's.
func messageOf(pipeline string, l *deadletter.Letter) Message {
	m := envelope(pipeline, l)
	m.Value = l.Value
	own := m.Headers
	m.Headers = nil
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		if !strings.HasPrefix(name, headerPrefix) {
			m.Headers = append(m.Headers, engine.Header{Key: name, Value: l.Headers[name]})
		}
	}
	m.Headers = append(m.Headers, own...)
	if l.Key != nil {
		m.Headers = append(m.Headers, engine.Header{Key: HeaderKey, Value: l.Key})
	}
	return m
}

// withoutValue is the message of a letter whose record the topic does not take.
func withoutValue(pipeline string, l *deadletter.Letter) Message {
	m := envelope(pipeline, l)
	m.Headers = append(m.Headers, engine.Header{Key: HeaderValueBytes, Value: strconv.AppendInt(nil, int64(len(l.Value)), 10)})
	return m
}

// envelope is what a message says beside the record.
func envelope(pipeline string, l *deadletter.Letter) Message {
	_, partition := ledger.Place(l.Partition) // Kafka's own, also where several topics go to the table
	key := l.Topic + "/" + strconv.Itoa(int(partition)) + "/" + strconv.FormatInt(l.Offset, 10)
	if l.Line > 0 {
		key += "/" + strconv.Itoa(int(l.Line))
	}
	m := Message{Key: []byte(key), TimestampMs: l.Ingested.UnixMilli()}
	add := func(name, value string) {
		if value != "" {
			m.Headers = append(m.Headers, engine.Header{Key: name, Value: []byte(value)})
		}
	}
	add(HeaderTopic, l.Topic)
	add(HeaderPartition, strconv.Itoa(int(partition)))
	add(HeaderOffset, strconv.FormatInt(l.Offset, 10))
	if l.Line > 0 {
		add(HeaderLine, strconv.Itoa(int(l.Line)))
	}
	add(HeaderTimestamp, l.Timestamp.UTC().Format(time.RFC3339Nano))
	add(HeaderReason, l.Reason)
	add(HeaderPlace, l.Place)
	add(HeaderMessage, l.Message)
	if l.SchemaID != nil {
		add(HeaderSchemaID, strconv.FormatInt(*l.SchemaID, 10))
	}
	add(HeaderTraceID, l.TraceID)
	add(HeaderPipeline, pipeline)
	return m
}
