package decode

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Bounds of google.protobuf.Duration.
const (
	maxDurationSeconds = 315_576_000_000
	nanosPerSecond     = 1_000_000_000
)

// uvarint reads a number at p, which must end before end; -1 when there is none of 64 bits.
func (d *Protobuf) uvarint(b []byte, p, end int) (uint64, int) {
	if p < end && b[p] < 0x80 {
		return uint64(b[p]), p + 1
	}
	if u, n := shortVarint(b, p); n > 0 && n <= end-p {
		return u, p + n
	}
	x, n := binary.Uvarint(b[p:min(end, p+binary.MaxVarintLen64)])
	if n <= 0 {
		return 0, d.fail(ReasonInvalidProtobuf, p, "no number of 64 bits stands here")
	}
	return x, p + n
}

// length reads the length of bytes that follow, which must be there; from q to q+n they are.
func (d *Protobuf) length(b []byte, p, end int) (n, q int) {
	x, q := d.uvarint(b, p, end)
	if q < 0 {
		return 0, -1
	}
	if x > uint64(end-q) {
		return 0, d.fail(ReasonInvalidProtobuf, p, "a length of %d where %d bytes follow", x, end-q)
	}
	return int(x), q
}

// tag reads a field's number and wire type.
func (d *Protobuf) tag(b []byte, p, end int) (uint64, int) {
	t, q := d.uvarint(b, p, end)
	if q < 0 {
		return 0, -1
	}
	if n := t >> 3; n == 0 || n > uint64(protowire.MaxValidNumber) {
		return 0, d.fail(ReasonInvalidProtobuf, p, "%d is no field number", n)
	}
	return t, q
}

// entry reads a map's entry: a message of a key and a value, of which either may be left out.
func (d *Protobuf) entry(f *protoField, b []byte, p, end int) int {
	n, p := d.length(b, p, end)
	if p < 0 {
		return -1
	}
	end = p + n
	key, keyEnd := d.only(b, p, end, 1, f.key.op, false)
	if keyEnd < 0 {
		return -1
	}
	if !d.mapKey(&f.key, key) {
		return -1
	}
	value, valueEnd := d.only(b, p, end, 2, f.op, f.op >= protoNested)
	switch {
	case valueEnd < 0:
		return -1
	case value != nil:
		if d.value(&f.protoNode, value, 0, len(value)) < 0 {
			return d.under(string(f.key.col.bytesAt(f.key.col.n - 1)))
		}
	case f.op >= protoNested: // a message of no bytes
		if d.value(&f.protoNode, zeroPad[:1], 0, 1) < 0 {
			return d.under(string(f.key.col.bytesAt(f.key.col.n - 1)))
		}
	case !d.zero(&f.protoNode):
		return -1
	}
	if f.col.n != f.key.col.n { // a value of a closed enum that it does not have makes the entry unknown
		f.key.col.truncate(f.key.col.n - 1)
	}
	return end
}

// only finds the one value of a field in a small message: the last one, or all of them merged when they are messages.
// The value begins where value does; it is nil when there is none. A string that another one follows has to be one, too, as in
// any message.
func (d *Protobuf) only(b []byte, p, end int, number uint64, op protoOp, merge bool) (value []byte, q int) {
	want := protowire.EncodeTag(protowire.Number(number), op.wire())
	for p < end {
		tag, q := d.tag(b, p, end)
		if q < 0 {
			return nil, -1
		}
		if p = d.skip(tag, b, q, end, d.opt.MaxDepth); p < 0 {
			return nil, -1
		}
		if tag != want {
			continue
		}
		if value != nil && merge {
			value = merged(value, b[q:p])
			continue
		}
		if value != nil && op == protoString {
			if s, _ := protowire.ConsumeBytes(value); !validUTF8(s) {
				return nil, d.fail(ReasonInvalidUTF8, q, "a string before this one is not UTF-8")
			}
		}
		value = b[q:p]
	}
	return value, p
}

// merged is the encoding of a message that merges two, each with its length in front.
func merged(a, b []byte) []byte {
	x, n := protowire.ConsumeBytes(a)
	y, m := protowire.ConsumeBytes(b)
	if n < 0 || m < 0 {
		return b
	}
	return append(append(protowire.AppendVarint(nil, uint64(len(x)+len(y))), x...), y...)
}

// mapKey appends a key as text; nil is the type's zero.
func (d *Protobuf) mapKey(k *protoNode, b []byte) bool {
	if k.op == protoString {
		s, _ := protowire.ConsumeBytes(b)
		if !validUTF8(s) {
			d.fail(ReasonInvalidUTF8, 0, "the key is not UTF-8")
			return false
		}
		k.col.appendBytes(s)
		return true
	}
	var u uint64
	switch k.op.wire() {
	case protowire.VarintType:
		u, _ = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		x, _ := protowire.ConsumeFixed32(b)
		u = uint64(x)
	default:
		u, _ = protowire.ConsumeFixed64(b)
	}
	t := k.op.appendText(d.key[:0], u)
	d.key = t
	k.col.appendBytes(t)
	return d.fill(len(t))
}

// appendText writes the number or the truth that u stands for on the wire, as JSON does.
func (op protoOp) appendText(t []byte, u uint64) []byte {
	switch op {
	case protoBool:
		return strconv.AppendBool(t, u != 0)
	case protoInt32, protoSfixed32:
		return strconv.AppendInt(t, int64(int32(u)), 10)
	case protoSint32:
		return strconv.AppendInt(t, int64(int32(protowire.DecodeZigZag(u&math.MaxUint32))), 10)
	case protoUint32, protoFixed32:
		return strconv.AppendUint(t, u&math.MaxUint32, 10)
	case protoSint64:
		return strconv.AppendInt(t, protowire.DecodeZigZag(u), 10)
	case protoInt64, protoSfixed64:
		return strconv.AppendInt(t, int64(u), 10)
	}
	return strconv.AppendUint(t, u, 10)
}

// value reads the value at p into its column and returns the position after it, or -1.
func (d *Protobuf) value(n *protoNode, b []byte, p, end int) int {
	switch wire := n.op.wire(); wire {
	case protowire.VarintType:
		u, q := d.uvarint(b, p, end)
		if q >= 0 && !d.number(n, u) {
			return -1
		}
		return q
	case protowire.Fixed32Type:
		if end-p < 4 {
			return d.fail(ReasonInvalidProtobuf, p, "4 bytes were expected, %d follow", end-p)
		}
		d.number(n, uint64(load32(b, p)))
		return p + 4
	case protowire.Fixed64Type:
		if end-p < 8 {
			return d.fail(ReasonInvalidProtobuf, p, "8 bytes were expected, %d follow", end-p)
		}
		d.number(n, load64(b, p))
		return p + 8
	}
	size, q := d.length(b, p, end)
	if q < 0 {
		return -1
	}
	s := b[q : q+size]
	switch n.op {
	case protoString:
		if !validUTF8(s) {
			return d.fail(ReasonInvalidUTF8, q, "the string is not UTF-8")
		}
		n.col.appendBytes(s)
	case protoBytes:
		n.col.appendBytes(s)
	case protoNested:
		return d.message(n.msg, b, q, q+size)
	default:
		if !d.wellKnown(n, b, q, q+size) {
			return -1
		}
	}
	return q + size
}

// number appends what a varint or fixed bytes stand for.
func (d *Protobuf) number(n *protoNode, u uint64) bool {
	switch n.op {
	case protoInt32, protoSint32, protoSfixed32:
		x := int32(u)
		if n.op == protoSint32 {
			x = int32(protowire.DecodeZigZag(u & math.MaxUint32))
		}
		switch {
		case !n.wide:
			n.col.appendInt32(x)
		case n.float:
			n.col.appendInt64(int64(math.Float64bits(float64(math.Float32frombits(uint32(x))))))
		default:
			n.col.appendInt64(int64(x))
		}
	case protoUint32, protoFixed32:
		n.col.appendInt64(int64(uint32(u)))
	case protoSint64:
		n.col.appendInt64(protowire.DecodeZigZag(u))
	case protoUint64, protoFixed64:
		n.col.appendDec(dec128{lo: u})
	case protoBool:
		n.col.appendBool(u != 0)
	case protoEnum:
		return d.symbol(n, int32(u))
	default:
		n.col.appendInt64(int64(u))
	}
	return true
}

// symbol appends an enum's name; of a value without one the number, as Protobuf's JSON has it.
func (d *Protobuf) symbol(n *protoNode, x int32) bool {
	name := n.name(x)
	switch {
	case name == nil && n.closed:
		d.unknown++
		return true
	case name == nil:
		d.key = strconv.AppendInt(d.key[:0], int64(x), 10)
		name = d.key
	}
	if !d.fill(len(name)) {
		return false
	}
	n.col.appendBytes(name)
	return true
}

// zero appends what a field without presence holds when it does not come.
func (d *Protobuf) zero(n *protoNode) bool {
	switch n.op {
	case protoString, protoBytes:
		n.col.appendBytes(nil)
	case protoEnum:
		return d.symbol(n, 0)
	case protoWrapper:
		return d.zero(n.inner)
	default:
		return d.number(n, 0)
	}
	return true
}

// wellKnown reads a message of google.protobuf between p and end that stands for a plain value.
func (d *Protobuf) wellKnown(n *protoNode, b []byte, p, end int) bool {
	switch n.op {
	case protoTimestamp, protoDuration:
		return d.instant(n, b, p, end)
	case protoWrapper:
		v, q := d.only(b, p, end, 1, n.inner.op, false)
		switch {
		case q < 0:
			return false
		case v == nil:
			return d.zero(n.inner)
		}
		return d.value(n.inner, v, 0, len(v)) >= 0
	case protoPresent:
		for p < end {
			tag, q := d.tag(b, p, end)
			if q < 0 {
				return false
			}
			d.unknown++
			if p = d.skip(tag, b, q, end, d.opt.MaxDepth); p < 0 {
				return false
			}
		}
		n.col.appendBool(true)
		return true
	}
	text, ok := d.jsonText(n, b[p:end], p)
	if !ok || !d.fill(len(text)) {
		return false
	}
	n.col.appendBytes(text)
	return true
}

// instant reads seconds and nanoseconds.
func (d *Protobuf) instant(n *protoNode, b []byte, p, end int) bool {
	at := p
	var seconds, nanos int64
	for p < end {
		tag, q := d.tag(b, p, end)
		if q < 0 {
			return false
		}
		switch tag {
		case 1 << 3:
			u, r := d.uvarint(b, q, end)
			seconds, p = int64(u), r
		case 2 << 3:
			u, r := d.uvarint(b, q, end)
			nanos, p = int64(int32(u)), r
		default:
			d.unknown++
			p = d.skip(tag, b, q, end, d.opt.MaxDepth)
		}
		if p < 0 {
			return false
		}
	}
	least, most, lowest := int64(minMicros/microsPerSecond), int64(maxMicros/microsPerSecond), int64(0)
	if n.op == protoDuration {
		least, most, lowest = -maxDurationSeconds, maxDurationSeconds, 1-nanosPerSecond
	}
	if seconds < least || seconds > most || nanos < lowest || nanos >= nanosPerSecond || (n.op == protoDuration && (seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0)) {
		d.fail(ReasonOutOfRange, at, "%d seconds and %d nanoseconds are no valid %s", seconds, nanos, map[protoOp]string{protoTimestamp: "timestamp", protoDuration: "duration"}[n.op])
		return false
	}
	n.col.appendInt64(seconds*microsPerSecond + nanos/1000)
	return true
}

// jsonText writes a Struct, Value or ListValue as JSON. These are rare, and the only values that cost allocations.
func (d *Protobuf) jsonText(n *protoNode, b []byte, p int) ([]byte, bool) {
	var m proto.Message
	switch n.text.Name() {
	case "Struct":
		m = &structpb.Struct{}
	case "Value":
		m = &structpb.Value{}
	default:
		m = &structpb.ListValue{}
	}
	// A level of JSON is three of messages.
	if err := (proto.UnmarshalOptions{RecursionLimit: 3 * d.opt.MaxDepth}).Unmarshal(b, m); err != nil {
		d.fail(ReasonInvalidProtobuf, p, "no %s stands here, or one that nests deeper than %d", n.text, d.opt.MaxDepth)
		return nil, false
	}
	var v any
	switch m := m.(type) {
	case *structpb.Struct:
		v = m.AsMap()
	case *structpb.Value:
		v = m.AsInterface()
	case *structpb.ListValue:
		v = m.AsSlice()
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		d.fail(ReasonOutOfRange, p, "the %s has no JSON form (a number that is none?)", n.text)
		return nil, false
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), true
}

// skip reads over a value that has no column.
func (d *Protobuf) skip(tag uint64, b []byte, p, end, depth int) int {
	size := 0
	switch protowire.Type(tag & 7) {
	case protowire.VarintType:
		_, q := d.uvarint(b, p, end)
		return q
	case protowire.Fixed32Type:
		size = 4
	case protowire.Fixed64Type:
		size = 8
	case protowire.BytesType:
		n, q := d.length(b, p, end)
		if q < 0 {
			return -1
		}
		return q + n
	case protowire.StartGroupType:
		return d.skipGroup(tag, b, p, end, depth)
	default:
		return d.fail(ReasonInvalidProtobuf, p, "wire type %d means nothing here", tag&7)
	}
	if end-p < size {
		return d.fail(ReasonInvalidProtobuf, p, "%d bytes were expected, %d follow", size, end-p)
	}
	return p + size
}

func (d *Protobuf) skipGroup(start uint64, b []byte, p, end, depth int) int {
	if depth <= 0 {
		return d.fail(ReasonTooDeep, p, "nested deeper than %d", d.opt.MaxDepth)
	}
	for {
		tag, q := d.tag(b, p, end)
		if q < 0 {
			return -1
		}
		if protowire.Type(tag&7) == protowire.EndGroupType {
			if tag>>3 != start>>3 {
				return d.fail(ReasonInvalidProtobuf, p, "group %d ends where group %d began", tag>>3, start>>3)
			}
			return q
		}
		if p = d.skip(tag, b, q, end, depth-1); p < 0 {
			return -1
		}
	}
}

// normal rewrites the fields between p and end so that each that can be there once is: of scalars and of the members of a
// oneof the last stays, messages merge, as the encoding's specification says ("Last One Wins"). nil means failure.
func (d *Protobuf) normal(m *protoMessage, b []byte, p, end int) []byte {
	kept := make([][]byte, len(m.fields)) // tag and value; of messages the value without its length
	for p < end {
		start := p
		tag, q := d.tag(b, p, end)
		if q < 0 {
			return nil
		}
		if p = d.skip(tag, b, q, end, d.opt.MaxDepth); p < 0 {
			return nil
		}
		i := m.at(tag >> 3)
		if i < 0 || (tag != m.fields[i].tag && tag != m.fields[i].packed) {
			d.unknown++
			continue
		}
		f := &m.fields[i]
		if f.oneof > 0 {
			for _, other := range m.oneofs[f.oneof-1] {
				if other != i {
					kept[other] = nil
				}
			}
		}
		switch {
		case f.list != nil:
			kept[i] = append(kept[i], b[start:p]...)
		case f.op >= protoNested:
			v, _ := protowire.ConsumeBytes(b[q:p])
			if kept[i] = append(kept[i], v...); kept[i] == nil {
				kept[i] = []byte{}
			}
		case f.closed && !f.hasValue(b[q:p]):
			d.unknown++
		default:
			kept[i] = b[start:p:p]
		}
	}
	out := make([]byte, 0, end)
	for i, k := range kept {
		if f := &m.fields[i]; k != nil && f.list == nil && f.op >= protoNested {
			out = protowire.AppendVarint(out, f.tag)
			out = protowire.AppendBytes(out, k)
			continue
		}
		out = append(out, k...)
	}
	return out
}

// hasValue tells whether the enum has the encoded value.
func (n *protoNode) hasValue(b []byte) bool {
	u, _ := protowire.ConsumeVarint(b)
	return n.name(int32(u)) != nil
}

// name is the name of an enum's value; nil when it has none.
func (n *protoNode) name(x int32) []byte {
	if x >= 0 && int(x) < len(n.small) {
		return n.small[x]
	}
	return n.names[x]
}
