package ipccheck

import (
	"encoding/binary"
	"fmt"
)

// Encapsulated checks a whole IPC stream in memory, such as the schema in a FlightInfo: messages one after the other,
// each as 0xFFFFFFFF, the header's length, the header, the body.
func Encapsulated(b []byte, l Limits) error {
	s := NewStream(l)
	for len(b) > 0 {
		if len(b) < 4 {
			return fmt.Errorf("%w: the stream ends within a length", ErrDamaged)
		}
		if binary.LittleEndian.Uint32(b) == 0 { // the end mark of streams before Arrow 0.15
			break
		}
		if len(b) < 8 || binary.LittleEndian.Uint32(b) != 0xFFFFFFFF {
			return fmt.Errorf("%w: no message where one should start", ErrDamaged)
		}
		n := int64(binary.LittleEndian.Uint32(b[4:]))
		if n == 0 { // end of stream
			break
		}
		if !span(b, 8, n) {
			return fmt.Errorf("%w: a header of %d bytes, %d are there", ErrDamaged, n, len(b)-8)
		}
		header, rest := b[8:8+n], b[8+n:]
		body, err := bodyLength(header, l)
		if err != nil {
			return err
		}
		if !span(rest, 0, body) {
			return fmt.Errorf("%w: a body of %d bytes, %d are there", ErrDamaged, body, len(rest))
		}
		if err := s.Check(header, rest[:body]); err != nil {
			return err
		}
		b = rest[body:]
	}
	if !s.started {
		return fmt.Errorf("%w: no schema", ErrDamaged)
	}
	return nil
}

func bodyLength(header []byte, l Limits) (int64, error) {
	if len(header) > l.MaxHeader {
		return 0, fmt.Errorf("%w: a header of %d bytes, at most %d", ErrTooLarge, len(header), l.MaxHeader)
	}
	m, err := rootTable(header)
	if err != nil {
		return 0, err
	}
	return m.i64(10, 0)
}
