package decode

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/firnlake/firn/engine"
)

// ErrHeaders reports record headers that are not coded as Kafka's record format v2 says.
var ErrHeaders = errors.New("record headers are damaged")

// maxTraceIDs is how many records of one Fetch are asked for their trace; OpenTelemetry caps the links of a span.
const maxTraceIDs = 100

// headerReader walks headers as they lie in a record of format v2: key length and key, value length and value; lengths
// are zigzag varints, -1 is a null value.
type headerReader struct{ rest []byte }

func (h *headerReader) next() (key, value []byte, err error) {
	n, err := h.length("key")
	if err != nil {
		return nil, nil, err
	}
	if n < 0 {
		return nil, nil, fmt.Errorf("%w: a key is null", ErrHeaders)
	}
	key, h.rest = h.rest[:n:n], h.rest[n:]
	if n, err = h.length("value"); err != nil {
		return nil, nil, err
	}
	if n >= 0 {
		value, h.rest = h.rest[:n:n], h.rest[n:]
	}
	return key, value, nil
}

// length reads a length that the bytes after it can hold, or -1.
func (h *headerReader) length(what string) (int, error) {
	v, n := binary.Varint(h.rest)
	if n <= 0 || v < -1 || v > int64(len(h.rest)-n) {
		return 0, fmt.Errorf("%w: the length of a %s does not fit the %d bytes that follow", ErrHeaders, what, len(h.rest))
	}
	h.rest = h.rest[n:]
	return int(v), nil
}

// ParseHeaders reads count headers from raw, which must hold these and nothing else. Values alias raw. The source of
// the format is Kafka's protocol guide, "Record Header".
func ParseHeaders(raw []byte, count int32) ([]engine.Header, error) {
	if count < 0 || int64(count)*2 > int64(len(raw)) { // a header has two lengths of a byte each
		return nil, fmt.Errorf("%w: %d headers in %d bytes", ErrHeaders, count, len(raw))
	}
	if count == 0 && len(raw) == 0 {
		return nil, nil
	}
	h := headerReader{rest: raw}
	out := make([]engine.Header, 0, count)
	for range count {
		k, v, err := h.next()
		if err != nil {
			return nil, err
		}
		out = append(out, engine.Header{Key: string(k), Value: v})
	}
	if len(h.rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last of %d", ErrHeaders, len(h.rest), count)
	}
	return out, nil
}

// sampleTraceIDs returns the distinct trace ids of at most maxTraceIDs records, evenly spread over the stretch.
func sampleTraceIDs(records []engine.Record) [][16]byte {
	var ids [][16]byte
	step := max(1, (len(records)+maxTraceIDs-1)/maxTraceIDs)
	for i := 0; i < len(records); i += step {
		if records[i].HeaderCount == 0 {
			continue
		}
		id, ok := traceID(records[i].HeaderBytes, records[i].HeaderCount)
		if ok && !contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func contains(ids [][16]byte, id [16]byte) bool {
	for i := range ids {
		if ids[i] == id {
			return true
		}
	}
	return false
}

// traceID returns the trace id of the traceparent header. Damaged headers are no reason to lose a row: they have none.
func traceID(raw []byte, count int32) (id [16]byte, ok bool) {
	h := headerReader{rest: raw}
	for range count {
		k, v, err := h.next()
		if err != nil {
			return id, false
		}
		if string(k) == "traceparent" {
			return parseTraceparent(v)
		}
	}
	return id, false
}

// parseTraceparent reads version-traceid-parentid-flags (W3C Trace Context): lower-case hexadecimal, later versions may
// go on after another dash, version ff and an all-zero trace id are invalid.
func parseTraceparent(v []byte) (id [16]byte, ok bool) {
	const size = len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if len(v) < size || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return id, false
	}
	for i, c := range v[:size] {
		if i != 2 && i != 35 && i != 52 && (c-'0' > 9 && c-'a' > 5) {
			return id, false
		}
	}
	if string(v[:2]) == "ff" || (len(v) > size && (string(v[:2]) == "00" || v[size] != '-')) {
		return id, false
	}
	if _, err := hex.Decode(id[:], v[3:35]); err != nil {
		return id, false
	}
	return id, id != [16]byte{}
}
