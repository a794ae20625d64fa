package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/segmentio/kafka-go/protocol"
)

// maxSmallReply bounds the answers that carry no records: metadata of one topic, offsets, acknowledgements.
const maxSmallReply = 32 << 20

// readStep is how much room is made for bytes that have not arrived yet: a lying size costs no more than this beyond
// what the broker really sends.
const readStep = 1 << 20

var errShort = errors.New("the answer ends before its fields do")

var correlations atomic.Int32

// call is one request to a broker and its answer, both as bytes. It travels through kafka-go's transport, which picks
// the connection by Broker and hands it over by RawExchange.
type call struct {
	key      protocol.ApiKey
	version  int16
	flexible bool // request header v2; the answer's header then has tags too, but for ApiVersions
	// negotiated says that kafka-go knows this version: the broker's side of the negotiation is then checked before
	// anything is sent, because brokers close the connection on a version that they do not know.
	negotiated bool
	broker     int32 // node id; -1 for any
	clientID   string
	body       []byte
	limit      int // of the answer, in bytes
	step       int // room made for bytes that have not arrived yet, at least readStep

	buf   []byte // to read into; grown as needed
	reply []byte // the answer after its header, in buf

	selected int16
}

// ApiKey implements protocol.Message.
func (c *call) ApiKey() protocol.ApiKey { return c.key }

// Broker implements protocol.BrokerMessage.
func (c *call) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: c.broker}, nil
}

// Required implements protocol.RawExchanger.
func (c *call) Required(versions map[protocol.ApiKey]int16) bool {
	c.selected = versions[c.key]
	return true
}

// RawExchange implements protocol.RawExchanger.
func (c *call) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if c.negotiated && c.selected < c.version {
		return nil, fmt.Errorf("%w: it offers %s v%d and Firn needs v%d: Kafka 2.3 or newer", errOldBroker, c.key, c.selected, c.version)
	}
	id := correlations.Add(1)
	if _, err := rw.Write(c.request(id)); err != nil {
		return nil, err
	}
	if err := c.read(rw); err != nil {
		return nil, err
	}
	d := decoder{b: c.buf}
	if got := d.int32(); d.err == nil && got != id {
		return nil, fmt.Errorf("the broker answered request %d instead of %d", got, id)
	}
	if c.flexible && c.key != protocol.ApiVersions {
		d.tags()
	}
	c.reply = c.buf[d.at:]
	return c, d.err
}

func (c *call) request(id int32) []byte {
	e := make(encoder, 4, 4+16+len(c.clientID)+len(c.body))
	e.int16(int16(c.key))
	e.int16(c.version)
	e.int32(id)
	e.string(c.clientID)
	if c.flexible {
		e.tags()
	}
	e = append(e, c.body...)
	binary.BigEndian.PutUint32(e, uint32(len(e)-4))
	return e
}

// read fills buf with the answer, making room only as bytes arrive.
func (c *call) read(r io.Reader) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := int64(binary.BigEndian.Uint32(head[:]))
	if head[0] == 0x15 && head[1] == 3 { // a TLS alert
		return errWantsTLS
	}
	if size < 4 || size > int64(c.limit) {
		return fmt.Errorf("the broker's answer to %s has %d bytes, which is not within 4 to %d", c.key, size, c.limit)
	}
	b := c.buf[:0]
	for left := int(size); left > 0; {
		n := min(left, max(readStep, c.step, len(b), cap(b)-len(b)))
		b = slices.Grow(b, n)
		part := b[len(b) : len(b)+n]
		if _, err := io.ReadFull(r, part); err != nil {
			return err
		}
		b, left = b[:len(b)+n], left-n
	}
	c.buf = b
	return nil
}

// encoder appends fields of the Kafka protocol.
type encoder []byte

func (e *encoder) int8(v int8)     { *e = append(*e, byte(v)) }
func (e *encoder) int16(v int16)   { *e = binary.BigEndian.AppendUint16(*e, uint16(v)) }
func (e *encoder) int32(v int32)   { *e = binary.BigEndian.AppendUint32(*e, uint32(v)) }
func (e *encoder) int64(v int64)   { *e = binary.BigEndian.AppendUint64(*e, uint64(v)) }
func (e *encoder) bool(v bool)     { *e = append(*e, map[bool]byte{true: 1}[v]) }
func (e *encoder) tags()           { *e = append(*e, 0) }
func (e *encoder) uvarint(v int)   { *e = binary.AppendUvarint(*e, uint64(v)) }
func (e *encoder) string(s string) { e.int16(int16(len(s))); *e = append(*e, s...) }
func (e *encoder) null()           { e.int16(-1) }
func (e *encoder) bytes(b []byte)  { e.int32(int32(len(b))); *e = append(*e, b...) }
func (e *encoder) compact(s string) {
	e.uvarint(len(s) + 1)
	*e = append(*e, s...)
}

// decoder reads fields of the Kafka protocol. The first error stays; every length is held against what is left.
type decoder struct {
	b   []byte
	at  int
	err error
}

func (d *decoder) left() int { return len(d.b) - d.at }

func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > d.left() {
		d.err = errShort
		return nil
	}
	d.at += n
	return d.b[d.at-n : d.at : d.at]
}

func (d *decoder) int8() int8 {
	if b := d.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (d *decoder) int16() int16 {
	if b := d.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (d *decoder) int32() int32 {
	if b := d.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (d *decoder) int64() int64 {
	if b := d.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (d *decoder) uvarint() int {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b[d.at:])
	if n <= 0 || v > 1<<31 {
		d.err = errShort
		return 0
	}
	d.at += n
	return int(v)
}

// array reads a count of elements that take at least size bytes each; null counts as none.
func (d *decoder) array(size int) int { return d.counted(int(d.int32()), size) }

func (d *decoder) compactArray(size int) int { return d.counted(d.uvarint()-1, size) }

func (d *decoder) counted(n, size int) int {
	if n <= 0 || d.err != nil {
		return 0
	}
	if n > d.left()/size {
		d.err = errShort
		return 0
	}
	return n
}

func (d *decoder) string() string { return string(d.take(max(int(d.int16()), 0))) }

func (d *decoder) compactString() string { return string(d.take(max(d.uvarint()-1, 0))) }

// bytes aliases the answer; null is nil.
func (d *decoder) bytes() []byte {
	n := d.int32()
	if n < 0 {
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) tags() {
	for n := d.counted(d.uvarint(), 2); n > 0 && d.err == nil; n-- {
		d.uvarint()
		d.take(d.uvarint())
	}
}
