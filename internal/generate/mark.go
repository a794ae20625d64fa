package generate

import (
	"strconv"
	"time"
)

// MarkSource is metadata.source of the events that a probe writes, so that a query can leave them out.
const MarkSource = "firn-probe"

// Mark is an event of the demo's contract that carries an id of the caller's: what a probe writes and looks for.
func Mark(id string, at time.Time) (key, value []byte) {
	v := append([]byte(nil), `{"schema_version":`...)
	v = strconv.AppendInt(v, schemaNumber, 10)
	v = append(v, `,"event_id":`...)
	v = strconv.AppendQuote(v, id)
	v = append(v, `,"event_type":"page_view","key":{"user_id":"firn-probe","session_id":"firn-probe"},`...)
	v = append(v, `"payload":{"page":"/probe","referrer":null,"currency":null,"amount":0},"metadata":{"event_timestamp":"`...)
	v = at.UTC().AppendFormat(v, "2006-01-02T15:04:05.000Z")
	v = append(v, `","trace_id":null,"source":"`+MarkSource+`"}}`...)
	return []byte("firn-probe"), v
}
