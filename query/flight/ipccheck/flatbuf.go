package ipccheck

import (
	"encoding/binary"
	"fmt"
)

// table is a FlatBuffers table whose vtable lies within buf.
type table struct {
	buf  []byte
	pos  int64 // of the table
	vt   int64 // of its vtable
	size int64 // of the vtable in bytes
}

// span reports whether n bytes at pos lie within the buffer. Both may be as large as the wire can say.
func span(buf []byte, pos, n int64) bool {
	return pos >= 0 && n >= 0 && pos <= int64(len(buf)) && n <= int64(len(buf))-pos
}

// rootTable follows the offset at the start of a finished buffer.
func rootTable(buf []byte) (table, error) {
	if len(buf) < 8 {
		return table{}, fmt.Errorf("%w: header of %d bytes", ErrDamaged, len(buf))
	}
	return tableAt(buf, int64(binary.LittleEndian.Uint32(buf)))
}

func tableAt(buf []byte, pos int64) (table, error) {
	if !span(buf, pos, 4) {
		return table{}, fmt.Errorf("%w: a table starts at %d of %d bytes", ErrDamaged, pos, len(buf))
	}
	t := table{buf: buf, pos: pos, vt: pos - int64(int32(binary.LittleEndian.Uint32(buf[pos:])))}
	if !span(buf, t.vt, 4) {
		return table{}, fmt.Errorf("%w: a vtable starts at %d of %d bytes", ErrDamaged, t.vt, len(buf))
	}
	t.size = int64(binary.LittleEndian.Uint16(buf[t.vt:]))
	if t.size < 4 || t.size%2 != 0 || !span(buf, t.vt, t.size) {
		return table{}, fmt.Errorf("%w: a vtable of %d bytes at %d", ErrDamaged, t.size, t.vt)
	}
	return t, nil
}

// field is where the value of a slot lies, 0 when the table does not have it. slot is the number in generated code:
// 4 for the first field, then 6, 8, ….
func (t table) field(slot, width int64) (int64, error) {
	if slot+2 > t.size {
		return 0, nil
	}
	off := int64(binary.LittleEndian.Uint16(t.buf[t.vt+slot:]))
	if off == 0 {
		return 0, nil
	}
	if !span(t.buf, t.pos+off, width) {
		return 0, fmt.Errorf("%w: field %d of a table lies outside", ErrDamaged, slot)
	}
	return t.pos + off, nil
}

func (t table) u8(slot int64, def uint8) (uint8, error) {
	at, err := t.field(slot, 1)
	if err != nil || at == 0 {
		return def, err
	}
	return t.buf[at], nil
}

func (t table) i16(slot int64, def int16) (int16, error) {
	at, err := t.field(slot, 2)
	if err != nil || at == 0 {
		return def, err
	}
	return int16(binary.LittleEndian.Uint16(t.buf[at:])), nil
}

func (t table) i32(slot int64, def int32) (int32, error) {
	at, err := t.field(slot, 4)
	if err != nil || at == 0 {
		return def, err
	}
	return int32(binary.LittleEndian.Uint32(t.buf[at:])), nil
}

func (t table) i64(slot int64, def int64) (int64, error) {
	at, err := t.field(slot, 8)
	if err != nil || at == 0 {
		return def, err
	}
	return int64(binary.LittleEndian.Uint64(t.buf[at:])), nil
}

// child follows the offset in a slot to another table.
func (t table) child(slot int64) (table, bool, error) {
	at, err := t.field(slot, 4)
	if err != nil || at == 0 {
		return table{}, false, err
	}
	c, err := tableAt(t.buf, at+int64(binary.LittleEndian.Uint32(t.buf[at:])))
	return c, err == nil, err
}

// vector returns place and number of the elements in a slot, each of width bytes.
func (t table) vector(slot, width int64) (at, n int64, err error) {
	f, err := t.field(slot, 4)
	if err != nil || f == 0 {
		return 0, 0, err
	}
	at = f + int64(binary.LittleEndian.Uint32(t.buf[f:]))
	if !span(t.buf, at, 4) {
		return 0, 0, fmt.Errorf("%w: a vector starts at %d of %d bytes", ErrDamaged, at, len(t.buf))
	}
	n = int64(binary.LittleEndian.Uint32(t.buf[at:]))
	if at += 4; !span(t.buf, at, n*width) { // n < 2^32 and width is small: no overflow
		return 0, 0, fmt.Errorf("%w: a vector of %d elements at %d of %d bytes", ErrDamaged, n, at, len(t.buf))
	}
	return at, n, nil
}

// bytes returns the string in a slot.
func (t table) bytes(slot int64) ([]byte, error) {
	at, n, err := t.vector(slot, 1)
	if err != nil || at == 0 {
		return nil, err
	}
	return t.buf[at : at+n], nil
}

// element follows the i-th offset of a vector of tables.
func (t table) element(vector, i int64) (table, error) {
	at := vector + 4*i
	return tableAt(t.buf, at+int64(binary.LittleEndian.Uint32(t.buf[at:])))
}
