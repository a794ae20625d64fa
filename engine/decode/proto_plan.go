package decode

import (
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoOp is how one value is read.
type protoOp uint8

const (
	protoInt32    protoOp = iota + 1
	protoSint32           // zigzag
	protoUint32           // into long
	protoInt64            //
	protoSint64           // zigzag
	protoUint64           // into decimal(20,0)
	protoSfixed32         // and float: four bytes as they are
	protoFixed32          // into long
	protoSfixed64         // and double: eight bytes as they are
	protoFixed64          // into decimal(20,0)
	protoBool
	protoString
	protoBytes
	protoEnum

	protoNested
	protoTimestamp
	protoDuration
	protoWrapper
	protoJSONText // Struct, Value and ListValue
	protoPresent  // a message without fields
	protoList
	protoMap
)

// protoScalarOf gives the column of a kind, and how its values are read.
func protoScalarOf(k protoreflect.Kind) (kind, protoOp) {
	switch k {
	case protoreflect.BoolKind:
		return kindBool, protoBool
	case protoreflect.EnumKind:
		return kindString, protoEnum
	case protoreflect.Int32Kind:
		return kindInt, protoInt32
	case protoreflect.Sint32Kind:
		return kindInt, protoSint32
	case protoreflect.Uint32Kind:
		return kindLong, protoUint32
	case protoreflect.Int64Kind:
		return kindLong, protoInt64
	case protoreflect.Sint64Kind:
		return kindLong, protoSint64
	case protoreflect.Uint64Kind:
		return kindDecimal, protoUint64
	case protoreflect.Sfixed32Kind:
		return kindInt, protoSfixed32
	case protoreflect.Fixed32Kind:
		return kindLong, protoFixed32
	case protoreflect.FloatKind:
		return kindFloat, protoSfixed32
	case protoreflect.Sfixed64Kind:
		return kindLong, protoSfixed64
	case protoreflect.Fixed64Kind:
		return kindDecimal, protoFixed64
	case protoreflect.DoubleKind:
		return kindDouble, protoSfixed64
	case protoreflect.StringKind:
		return kindString, protoString
	}
	return kindBinary, protoBytes
}

// wire is the wire type of the op's values outside a packed list.
func (op protoOp) wire() protowire.Type {
	switch op {
	case protoSfixed32, protoFixed32:
		return protowire.Fixed32Type
	case protoSfixed64, protoFixed64:
		return protowire.Fixed64Type
	case protoInt32, protoSint32, protoUint32, protoInt64, protoSint64, protoUint64, protoBool, protoEnum:
		return protowire.VarintType
	}
	return protowire.BytesType
}

// protoMessage is how a message's fields go into the columns of a struct.
type protoMessage struct {
	col    *column
	fields []protoField // by number
	dense  []int16      // index + 1 by number, for numbers that are small
	sparse map[protowire.Number]int
	oneofs [][]int // members
	// change is how the whole event is read where it is a change of a row, which this message is then.
	change *protoChange
	// failure is why events of this writer's schema give no row.
	failure failure
}

// maxDense is up to which field number a table is made.
const maxDense = 256

// protoField is one field of a message: where it stands in the table, and the value or the element that it holds.
type protoField struct {
	// What every value touches stands first, in one cache line.
	first  uint16 // byte of the tag of a field that can be there once and by itself, else anyByte
	second byte   // of the tag, 0 where it has one byte
	protoNode

	tag      uint64 // of the value; a list may be packed instead
	packed   uint64 // tag of the packed form, 0 where there is none
	name     string
	nullable bool
	required bool
	oneof    int // index + 1
	list     *column
	isMap    bool
	key      protoNode
}

// anyByte is no byte, so no byte equals it.
const anyByte = 0x100

// maxShortTag is what tags of two bytes stay below.
const maxShortTag = 1 << 14

// lead sets the bytes by which the tag is told without reading it.
func (f *protoField) lead() {
	switch {
	case f.tag == 0 || f.tag >= maxShortTag || f.list != nil || f.oneof > 0:
		f.first = anyByte
	case f.tag < utf8.RuneSelf:
		f.first = uint16(f.tag)
	default:
		f.first, f.second = uint16(f.tag&0x7f|0x80), byte(f.tag>>7)
	}
}

// protoNode is how one value is read.
type protoNode struct {
	op     protoOp
	col    *column
	wide   bool // a column wider than the contract: int into long, float into double
	float  bool // protoSfixed32 is a float
	inner  *protoNode
	msg    *protoMessage
	small  [][]byte         // names of protoEnum's values, as far as they are dense
	names  map[int32][]byte // of the others
	closed bool             // an enum whose unknown values are unknown fields
	text   protoreflect.FullName
}

// planProto makes the plan of a message from the plan of its columns.
func planProto(md protoreflect.MessageDescriptor, o *objectPlan) *protoMessage {
	m := &protoMessage{col: o.col, sparse: map[protowire.Number]int{}}
	for i := range o.fields {
		v := &o.fields[i].val
		if o.fields[i].absent { // no number leads to it
			m.fields = append(m.fields, protoField{name: o.fields[i].name, nullable: true, protoNode: protoNode{col: v.col}})
			continue
		}
		fd := v.proto.fd
		f := protoField{name: o.fields[i].name, nullable: v.nullable, required: fd.Cardinality() == protoreflect.Required}
		switch v.proto.op {
		case protoList:
			f.list, f.protoNode = v.col, nodeOf(v.elem)
			if t := f.op.wire(); t != protowire.BytesType {
				f.packed = protowire.EncodeTag(fd.Number(), protowire.BytesType)
			}
		case protoMap:
			_, op := protoScalarOf(fd.MapKey().Kind())
			f.list, f.isMap, f.key, f.protoNode = v.col, true, protoNode{op: op, col: v.col.kids[0]}, nodeOf(v.elem)
		default:
			f.protoNode = nodeOf(v)
		}
		wire := f.op.wire()
		if f.isMap {
			wire = protowire.BytesType
		}
		f.tag = protowire.EncodeTag(fd.Number(), wire)
		m.fields = append(m.fields, f)
	}
	slices.SortFunc(m.fields, func(a, b protoField) int { return int(a.tag>>3) - int(b.tag>>3) })
	m.index(md)
	return m
}

func (m *protoMessage) index(md protoreflect.MessageDescriptor) {
	m.oneofs = make([][]int, md.Oneofs().Len())
	m.dense = make([]int16, maxDense)
	for i := range m.fields {
		n := protowire.Number(m.fields[i].tag >> 3)
		if n == 0 {
			continue
		}
		if n < maxDense && i < 1<<15-1 {
			m.dense[n] = int16(i + 1)
		}
		m.sparse[n] = i
		if fd := md.Fields().ByNumber(n); fd.ContainingOneof() != nil && !fd.ContainingOneof().IsSynthetic() {
			at := fd.ContainingOneof().Index()
			m.fields[i].oneof = at + 1
			m.oneofs[at] = append(m.oneofs[at], i)
		}
	}
	for i := range m.fields {
		m.fields[i].lead()
	}
}

// at is the index of a field by its number, -1 when there is none.
func (m *protoMessage) at(n uint64) int {
	if n < maxDense {
		return int(m.dense[n]) - 1
	}
	if i, ok := m.sparse[protowire.Number(n)]; ok {
		return i
	}
	return -1
}

func nodeOf(v *valuePlan) protoNode {
	fd := v.proto.fd
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	n := protoNode{op: v.proto.op, col: v.col, wide: v.wide, float: fd.Kind() == protoreflect.FloatKind}
	switch n.op {
	case protoEnum:
		values := fd.Enum().Values()
		n.names, n.closed = map[int32][]byte{}, fd.Enum().IsClosed()
		for i := range values.Len() {
			if e := values.Get(i); n.names[int32(e.Number())] == nil { // the first of several names, as Protobuf's JSON has it
				n.names[int32(e.Number())] = []byte(e.Name())
			}
		}
		for len(n.names[int32(len(n.small))]) > 0 {
			n.small = append(n.small, n.names[int32(len(n.small))])
		}
	case protoNested:
		n.msg = planProto(fd.Message(), v.obj)
	case protoJSONText:
		n.text = fd.Message().FullName()
	case protoWrapper:
		value := fd.Message().Fields().Get(0)
		_, op := protoScalarOf(value.Kind())
		n.inner = &protoNode{op: op, col: v.col, wide: v.wide, float: value.Kind() == protoreflect.FloatKind}
	}
	return n
}
