package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"unsafe"

	"github.com/firnlake/firn/engine"
)

// Errors of a log that cannot be read as it is.
var (
	// ErrCorrupt is a record batch whose bytes are damaged, on the broker's disk or on the way.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrOldFormat is a message set of Kafka before 0.11, which current brokers no longer write.
	ErrOldFormat = fmt.Errorf("%w: message format v0 or v1 is not supported: let the topic's log be written again (produce it into a new topic, or compact it on a Kafka of 2.x)", engine.ErrUnreadable)
	// ErrBatchTooLarge is a record batch beyond the bound on its uncompressed size.
	ErrBatchTooLarge = fmt.Errorf("%w: a record batch is too large", engine.ErrUnreadable)
)

// Layout of a record batch, magic 2 (Kafka's DefaultRecordBatch).
const (
	batchLengthAt    = 8
	batchOverhead    = 12 // base offset and length, which length does not count
	batchMagicAt     = 16
	batchCRCAt       = 17
	batchAttrsAt     = 21 // the checksum covers everything from here on
	batchHeaderBytes = 61
	minRecordBytes   = 7 // length, attributes, two deltas, two lengths and a count, one byte each
	attrCodec        = 0x07
	attrLogAppend    = 0x08
	attrTxn          = 0x10
	attrControl      = 0x20
	controlAbort     = 0
)

// stretchBytes is when a stretch is cut: enough that decoding it pays, little enough that memory stays even.
const stretchBytes = 1 << 20

const recordSize = int64(unsafe.Sizeof(engine.Record{}))

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type batchHeader struct {
	base, last      int64
	size            int // of the whole batch
	leaderEpoch     int32
	crc             uint32
	attrs           int16
	firstTs, maxTs  int64
	producerID      int64
	count           int
	body            []byte // records, as on the wire
	checksummedPart []byte
}

// readHeader reads the batch at the start of b. ok is false when b ends before the batch does.
func readHeader(b []byte) (h batchHeader, ok bool, err error) {
	if len(b) <= batchMagicAt {
		return h, false, nil
	}
	h.base = int64(binary.BigEndian.Uint64(b))
	length := int64(int32(binary.BigEndian.Uint32(b[batchLengthAt:])))
	switch magic := b[batchMagicAt]; {
	case magic < 2:
		return h, false, fmt.Errorf("offset %d: %w", h.base, ErrOldFormat)
	case magic > 2:
		return h, false, fmt.Errorf("%w at offset %d: magic byte %d", ErrCorrupt, h.base, magic)
	case h.base < 0 || length < batchHeaderBytes-batchOverhead:
		return h, false, fmt.Errorf("%w at offset %d: length %d", ErrCorrupt, h.base, length)
	}
	h.size = int(length) + batchOverhead
	if h.size > len(b) {
		return h, false, nil
	}
	delta, count := int32(binary.BigEndian.Uint32(b[23:])), int32(binary.BigEndian.Uint32(b[57:]))
	if delta < 0 || h.base > math.MaxInt64-int64(delta)-1 || count < 0 {
		return h, false, fmt.Errorf("%w at offset %d: last offset delta %d, %d records", ErrCorrupt, h.base, delta, count)
	}
	h.last = h.base + int64(delta)
	h.leaderEpoch = int32(binary.BigEndian.Uint32(b[12:]))
	h.crc = binary.BigEndian.Uint32(b[batchCRCAt:])
	h.attrs = int16(binary.BigEndian.Uint16(b[batchAttrsAt:]))
	h.firstTs = int64(binary.BigEndian.Uint64(b[27:]))
	h.maxTs = int64(binary.BigEndian.Uint64(b[35:]))
	h.producerID = int64(binary.BigEndian.Uint64(b[43:]))
	h.count = int(count)
	h.body = b[batchHeaderBytes:h.size:h.size]
	h.checksummedPart = b[batchAttrsAt:h.size]
	return h, true, nil
}

// recordSet walks the record batches of one partition in a fetch response.
type recordSet struct {
	buf   []byte
	next  int64 // everything below has been dealt with
	limit int64 // nothing from here on is read
	unzip *decompressor

	aborted []abortedTxn       // by first offset; those not begun yet
	dead    map[int64]struct{} // producers whose transaction under the cursor was aborted
}

// reset makes s walk another record set. aborted is sorted in place.
func (s *recordSet) reset(buf []byte, next, limit int64, aborted []abortedTxn) {
	s.buf, s.next, s.limit, s.aborted = buf, next, limit, aborted
	slices.SortFunc(aborted, func(a, b abortedTxn) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	clear(s.dead)
}

// firstBase is the base offset of the first batch that reaches next; ok is false when there is none.
func (s *recordSet) firstBase() (base int64, ok bool) {
	for b := s.buf; ; {
		h, ok, err := readHeader(b)
		if err != nil || !ok {
			return 0, false
		}
		if h.last >= s.next {
			return h.base, true
		}
		b = b[h.size:]
	}
}

// needs is the size of a batch that the record set begins with but does not hold whole; 0 when it does.
func (s *recordSet) needs() int {
	if h, ok, err := readHeader(s.buf); !ok && err == nil {
		return h.size
	}
	return 0
}

// fill appends whole batches to st until it is of a good size, and tells whether there are more. The stretch ends where
// the last batch does, with or without records. A batch that cannot be read is an error only when st holds nothing:
// what was before it is handed out first, and the same error comes back then.
func (s *recordSet) fill(st *stretch) (more bool, err error) {
	st.Start, st.End, st.LeaderEpoch = s.next, s.next, -1
	for st.data < stretchBytes {
		h, ok, err := readHeader(s.buf)
		if err == nil && (!ok || h.base >= s.limit) {
			return false, nil
		}
		if err == nil {
			err = s.add(st, &h)
		}
		if err != nil {
			if st.End > st.Start {
				return true, nil
			}
			return false, err
		}
		s.buf = s.buf[h.size:]
		if end := min(h.last+1, s.limit); end > s.next {
			s.next, st.End, st.LeaderEpoch = end, end, h.leaderEpoch
		}
	}
	return true, nil
}

// add deals with one batch: its records, or why there are none.
func (s *recordSet) add(st *stretch, h *batchHeader) error {
	if crc32.Checksum(h.checksummedPart, castagnoli) != h.crc {
		return fmt.Errorf("%w at offset %d: the checksum does not match", ErrCorrupt, h.base)
	}
	for len(s.aborted) > 0 && s.aborted[0].first <= h.last {
		if s.dead == nil {
			s.dead = map[int64]struct{}{}
		}
		s.dead[s.aborted[0].producerID] = struct{}{}
		s.aborted = s.aborted[1:]
	}
	offsets := max(min(h.last+1, s.limit)-max(h.base, s.next), 0)
	if h.attrs&attrControl != 0 {
		st.Control += offsets
		return s.control(h)
	}
	if h.attrs&attrTxn != 0 {
		if _, aborted := s.dead[h.producerID]; aborted {
			st.Aborted += offsets
			return nil
		}
	}
	if h.last < s.next || h.count == 0 {
		return nil
	}
	plain := h.body
	if codec := h.attrs & attrCodec; codec != 0 {
		var err error
		if plain, err = st.decompress(s.unzip, int8(codec), h.body); err != nil {
			return fmt.Errorf("offset %d: %w", h.base, err)
		}
	} else {
		st.alias(len(plain))
	}
	return s.records(st, h, plain)
}

// control ends an aborted transaction at its marker. Commit markers need nothing, and the other kinds of control
// batches (leader changes of KRaft) do not concern a consumer.
func (s *recordSet) control(h *batchHeader) error {
	if h.count == 0 || len(s.dead) == 0 {
		return nil // a marker whose record was compacted away; or nothing to end
	}
	b := h.body
	_, at := varint(b, 0)
	at = skip(b, at, 1)
	_, at = varint(b, at)
	_, at = varint(b, at)
	keyLen, at := varint(b, at)
	if at < 0 || keyLen < 4 || int(keyLen) > len(b)-at {
		return fmt.Errorf("%w at offset %d: control record without a type", ErrCorrupt, h.base)
	}
	if int16(binary.BigEndian.Uint16(b[at+2:])) == controlAbort {
		delete(s.dead, h.producerID)
	}
	return nil
}

// records appends the records of a batch that lie within [next, limit).
func (s *recordSet) records(st *stretch, h *batchHeader, b []byte) error {
	if h.count > len(b)/minRecordBytes {
		return fmt.Errorf("%w at offset %d: %d records in %d bytes", ErrCorrupt, h.base, h.count, len(b))
	}
	recs := slices.Grow(st.Records, h.count)
	var payload int64
	at, previous := 0, h.base-1
	for i := range h.count {
		size, p := varint(b, at)
		if p < 0 || size < minRecordBytes-1 || size > int64(len(b)-p) {
			return s.bad(h, i, "length")
		}
		end := p + int(size)
		r := b[:end]
		tsDelta, p := varint(r, p+1) // behind the attributes, which are unused
		delta, p := varint(r, p)
		keyLen, p := varint(r, p)
		if p < 0 || keyLen > int64(end-p) {
			return s.bad(h, i, "key")
		}
		var key, value []byte
		if keyLen >= 0 {
			key = r[p : p+int(keyLen) : p+int(keyLen)]
			p += int(keyLen)
		}
		valueLen, p := varint(r, p)
		if p < 0 || valueLen > int64(end-p) {
			return s.bad(h, i, "value")
		}
		if valueLen >= 0 {
			value = r[p : p+int(valueLen) : p+int(valueLen)]
			p += int(valueLen)
		}
		headers, p := varint(r, p)
		if p < 0 || headers < 0 || headers > int64(end-p)/2 {
			return s.bad(h, i, "headers")
		}
		o := h.base + delta
		if o <= previous || o > h.last {
			return s.bad(h, i, "offset")
		}
		at, previous = end, o
		if o < s.next || o >= s.limit {
			continue
		}
		ts := h.firstTs + tsDelta
		if h.attrs&attrLogAppend != 0 {
			ts = h.maxTs
		}
		payload += int64(len(key) + len(value) + end - p)
		recs = append(recs, engine.Record{Offset: o, TimestampMs: ts, Key: key, Value: value,
			HeaderBytes: r[p:end:end], HeaderCount: int32(headers)})
	}
	if at != len(b) {
		return fmt.Errorf("%w at offset %d: %d bytes behind its last record", ErrCorrupt, h.base, len(b)-at)
	}
	st.size += int64(len(recs)-len(st.Records)) * recordSize
	st.Records, st.Bytes = recs, st.Bytes+payload
	return nil
}

func (s *recordSet) bad(h *batchHeader, i int, what string) error {
	return fmt.Errorf("%w at offset %d: the %s of record %d does not fit", ErrCorrupt, h.base, what, i)
}

// varint reads a zig-zag varint of b at a position and returns the next one; a position below 0, given or returned,
// is a failure, so that reads can be chained and checked once.
func varint(b []byte, at int) (int64, int) {
	if uint(at) < uint(len(b)) && b[at] < 0x80 {
		return int64(b[at]>>1) ^ -int64(b[at]&1), at + 1
	}
	return longVarint(b, at)
}

func longVarint(b []byte, at int) (int64, int) {
	if uint(at) >= uint(len(b)) {
		return 0, -1
	}
	if at+1 < len(b) && b[at+1] < 0x80 { // two bytes: the lengths of most records and values
		v := uint64(b[at]&0x7f) | uint64(b[at+1])<<7
		return int64(v>>1) ^ -int64(v&1), at + 2
	}
	v, n := binary.Varint(b[at:])
	if n <= 0 {
		return 0, -1
	}
	return v, at + n
}

func skip(b []byte, at, n int) int {
	if at < 0 || n > len(b)-at {
		return -1
	}
	return at + n
}
