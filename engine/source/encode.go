package source

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/pierrec/lz4/v4"

	"github.com/firnlake/firn/engine"
)

// Message is a record to produce.
type Message struct {
	Partition   int32 // -1: by the key's hash, as Java's clients choose; without a key in turn
	Key, Value  []byte
	Headers     []engine.Header
	TimestampMs int64 // Unix milliseconds
}

// compressFrom is the size from which a batch is worth compressing.
const compressFrom = 1 << 10

// batchEncoder writes record batches, magic 2. Its memory is used again for the next one.
type batchEncoder struct {
	plain, zipped []byte
	lz4           lz4.Compressor
}

// append adds one batch of messages to dst. Producer id -1 makes it a batch without a sequence.
func (e *batchEncoder) append(dst []byte, msgs []*Message, producerID int64, producerEpoch int16, sequence int32) []byte {
	first, newest := msgs[0].TimestampMs, msgs[0].TimestampMs
	b := e.plain[:0]
	for i, m := range msgs {
		b = binary.AppendVarint(b, int64(recordBytes(m, first, i)))
		b = append(b, 0) // attributes
		b = binary.AppendVarint(b, m.TimestampMs-first)
		b = binary.AppendVarint(b, int64(i))
		b = appendNullable(b, m.Key)
		b = appendNullable(b, m.Value)
		b = binary.AppendVarint(b, int64(len(m.Headers)))
		for _, h := range m.Headers {
			b = binary.AppendVarint(b, int64(len(h.Key)))
			b = append(b, h.Key...)
			b = appendNullable(b, h.Value)
		}
		newest = max(newest, m.TimestampMs)
	}
	e.plain = b
	attrs := int16(0)
	if len(b) >= compressFrom {
		if z := e.zip(b); len(z) < len(b) {
			b, attrs = z, codecLZ4
		}
	}
	at := len(dst)
	w := encoder(dst)
	w.int64(0) // base offset: the broker's to give
	w.int32(int32(batchHeaderBytes - batchOverhead + len(b)))
	w.int32(-1) // leader epoch
	w.int8(2)
	w.int32(0) // checksum, below
	w.int16(attrs)
	w.int32(int32(len(msgs) - 1))
	w.int64(first)
	w.int64(newest)
	w.int64(producerID)
	w.int16(producerEpoch)
	w.int32(sequence)
	w.int32(int32(len(msgs)))
	w = append(w, b...)
	binary.BigEndian.PutUint32(w[at+batchCRCAt:], crc32.Checksum(w[at+batchAttrsAt:], castagnoli))
	return w
}

// zip makes an LZ4 frame of independent blocks of 64 KiB, as Java's clients do.
func (e *batchEncoder) zip(b []byte) []byte {
	const block = 64 << 10
	z := append(e.zipped[:0], 0x04, 0x22, 0x4D, 0x18, lz4Version|lz4Independent, 4<<lz4BlockSizeBits, 0x82)
	for len(b) > 0 {
		part := b[:min(len(b), block)]
		b = b[len(part):]
		at := len(z)
		z = append(z, make([]byte, 4+lz4.CompressBlockBound(len(part)))...)
		n, err := e.lz4.CompressBlock(part, z[at+4:])
		if err != nil || n == 0 || n >= len(part) {
			n = copy(z[at+4:], part)
			binary.LittleEndian.PutUint32(z[at:], uint32(n)|lz4Plain)
		} else {
			binary.LittleEndian.PutUint32(z[at:], uint32(n))
		}
		z = z[:at+4+n]
	}
	z = append(z, 0, 0, 0, 0)
	e.zipped = z
	return z
}

func appendNullable(b, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(b, -1)
	}
	return append(binary.AppendVarint(b, int64(len(v))), v...)
}

// recordBytes is the length of a record behind its length field.
func recordBytes(m *Message, first int64, delta int) int {
	n := 1 + varintSize(m.TimestampMs-first) + varintSize(int64(delta)) + nullableSize(m.Key) + nullableSize(m.Value) + varintSize(int64(len(m.Headers)))
	for _, h := range m.Headers {
		n += varintSize(int64(len(h.Key))) + len(h.Key) + nullableSize(h.Value)
	}
	return n
}

func nullableSize(v []byte) int {
	if v == nil {
		return 1
	}
	return varintSize(int64(len(v))) + len(v)
}

func varintSize(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// murmur2 is the hash by which Java's clients choose a partition.
func murmur2(b []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
