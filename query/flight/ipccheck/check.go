package ipccheck

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Errors of a message that must not reach arrow-go.
var (
	ErrDamaged     = errors.New("damaged Arrow message")
	ErrUnsupported = errors.New("unsupported feature of Arrow IPC")
	ErrTooLarge    = errors.New("message over a limit of Arrow IPC")
)

// Kinds of message, as the union MessageHeader of Message.fbs numbers them.
const (
	KindSchema      = 1
	KindRecordBatch = 3
)

// Limits bound what one message may ask for. Use DefaultLimits and change what differs.
type Limits struct {
	MaxHeader int   // bytes of a message's header
	MaxFields int   // fields of a schema, nested ones included
	MaxDepth  int   // nesting of fields
	MaxRows   int64 // rows of a batch and of each of its nested columns
	UTF8      bool  // refuse strings that are not UTF-8
}

// DefaultLimits suit tables with up to some thousand columns.
func DefaultLimits() Limits {
	return Limits{MaxHeader: 4 << 20, MaxFields: 16 << 10, MaxDepth: 32, MaxRows: 1 << 26}
}

// Stream checks the messages of one IPC stream in their order. The zero value is not usable; see NewStream.
type Stream struct {
	limits  Limits
	columns []column
	started bool
}

// NewStream returns the check of a stream whose first message is a schema.
func NewStream(l Limits) *Stream { return &Stream{limits: l} }

// Started reports whether the schema has come.
func (s *Stream) Started() bool { return s.started }

// Check looks at the next message. After an error the stream must not be read on.
func (s *Stream) Check(header, body []byte) error {
	l := s.limits
	kind, t, err := l.message(header)
	if err != nil {
		return err
	}
	switch {
	case kind == KindSchema && !s.started:
		if s.columns, err = l.schemaOf(t); err != nil {
			return err
		}
		s.started = true
		return nil
	case kind == KindRecordBatch && s.started:
		return l.batch(t, body, s.columns)
	case kind == KindSchema:
		return fmt.Errorf("%w: a second schema", ErrDamaged)
	case kind == KindRecordBatch:
		return fmt.Errorf("%w: a batch before the schema", ErrDamaged)
	}
	return fmt.Errorf("%w: message kind %d", ErrUnsupported, kind)
}

// message walks a Message table: version(4), header_type(6), header(8), bodyLength(10), custom_metadata(12).
func (l Limits) message(header []byte) (kind uint8, t table, err error) {
	if len(header) > l.MaxHeader {
		return 0, table{}, fmt.Errorf("%w: a header of %d bytes, at most %d", ErrTooLarge, len(header), l.MaxHeader)
	}
	m, err := rootTable(header)
	if err != nil {
		return 0, table{}, err
	}
	version, err := m.i16(4, 0)
	if err != nil {
		return 0, table{}, err
	}
	if version != 3 && version != 4 { // V4 and V5: the same for every type that passes here
		return 0, table{}, fmt.Errorf("%w: metadata version %d", ErrUnsupported, version)
	}
	if kind, err = m.u8(6, 0); err != nil {
		return 0, table{}, err
	}
	if _, err := m.i64(10, 0); err != nil {
		return 0, table{}, err
	}
	if err := l.metadata(m, 12); err != nil {
		return 0, table{}, err
	}
	t, ok, err := m.child(8)
	if err == nil && !ok {
		err = fmt.Errorf("%w: a message without a header table", ErrDamaged)
	}
	return kind, t, err
}

// cursor goes through the nodes and buffers of a batch in the order in which the columns take them.
type cursor struct {
	t             table
	body          []byte
	nodes, nNodes int64
	bufs, nBufs   int64
	node, buf     int64
	limits        Limits
}

// batch walks a RecordBatch table: length(4), nodes(6), buffers(8), compression(10), variadicBufferCounts(12).
func (l Limits) batch(t table, body []byte, cols []column) error {
	rows, err := t.i64(4, 0)
	if err != nil {
		return err
	}
	if rows < 0 || rows > l.MaxRows {
		return fmt.Errorf("%w: %d rows, at most %d", ErrTooLarge, rows, l.MaxRows)
	}
	if _, ok, err := t.child(10); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("%w: a compressed body", ErrUnsupported)
	}
	if _, n, err := t.vector(12, 8); err != nil {
		return err
	} else if n != 0 {
		return fmt.Errorf("%w: variadic buffers", ErrUnsupported)
	}
	c := cursor{t: t, body: body, limits: l}
	if c.nodes, c.nNodes, err = t.vector(6, 16); err != nil {
		return err
	}
	if c.bufs, c.nBufs, err = t.vector(8, 16); err != nil {
		return err
	}
	for i := range cols {
		n, err := c.column(&cols[i])
		if err != nil {
			return err
		}
		if n != rows {
			return fmt.Errorf("%w: a column of %d rows in a batch of %d", ErrDamaged, n, rows)
		}
	}
	if c.node != c.nNodes || c.buf != c.nBufs {
		return fmt.Errorf("%w: %d nodes and %d buffers, the schema takes %d and %d", ErrDamaged, c.nNodes, c.nBufs, c.node, c.buf)
	}
	return nil
}

func (c *cursor) pair(at int64) (a, b int64) {
	return int64(binary.LittleEndian.Uint64(c.t.buf[at:])), int64(binary.LittleEndian.Uint64(c.t.buf[at+8:]))
}

// nextNode returns rows and nulls of the next column.
func (c *cursor) nextNode() (rows, nulls int64, err error) {
	if c.node >= c.nNodes {
		return 0, 0, fmt.Errorf("%w: %d nodes, the schema takes more", ErrDamaged, c.nNodes)
	}
	rows, nulls = c.pair(c.nodes + 16*c.node)
	c.node++
	if rows < 0 || rows > c.limits.MaxRows || nulls < 0 || nulls > rows {
		return 0, 0, fmt.Errorf("%w: a column of %d rows with %d nulls", ErrDamaged, rows, nulls)
	}
	return rows, nulls, nil
}

// nextBuffer returns the next buffer, which must hold at least need bytes.
func (c *cursor) nextBuffer(need int64) ([]byte, error) {
	if c.buf >= c.nBufs {
		return nil, fmt.Errorf("%w: %d buffers, the schema takes more", ErrDamaged, c.nBufs)
	}
	at, n := c.pair(c.bufs + 16*c.buf)
	c.buf++
	if !span(c.body, at, n) {
		return nil, fmt.Errorf("%w: a buffer of %d bytes at %d of a body of %d", ErrDamaged, n, at, len(c.body))
	}
	if n < need {
		return nil, fmt.Errorf("%w: a buffer of %d bytes where the rows take %d", ErrDamaged, n, need)
	}
	return c.body[at : at+n], nil
}

// column checks one column with all below it and returns its rows.
func (c *cursor) column(col *column) (rows int64, err error) {
	rows, nulls, err := c.nextNode()
	if err != nil {
		return 0, err
	}
	if nulls > 0 && col.noNulls {
		return 0, fmt.Errorf("%w: %d NULL keys in maps", ErrDamaged, nulls)
	}
	if col.layout == layoutNull {
		return rows, nil
	}
	bitmap := (rows + 7) / 8
	validity := bitmap
	if nulls == 0 { // the bitmap is not read then, and mostly left out
		validity = 0
	}
	if _, err := c.nextBuffer(validity); err != nil {
		return 0, err
	}
	switch col.layout {
	case layoutBits:
		_, err = c.nextBuffer(bitmap)
	case layoutFixed:
		_, err = c.nextBuffer(rows * col.width) // both bounded far below 2^32
	case layoutVar:
		err = c.variable(col, rows)
	case layoutList:
		err = c.list(col, rows)
	case layoutFixedL:
		err = c.child(&col.children[0], rows*col.width)
	case layoutStruct:
		for i := range col.children {
			if err = c.child(&col.children[i], rows); err != nil {
				break
			}
		}
	}
	return rows, err
}

// child checks a nested column that must have at least the given rows.
func (c *cursor) child(col *column, atLeast int64) error {
	n, err := c.column(col)
	if err == nil && n < atLeast {
		err = fmt.Errorf("%w: a nested column of %d rows, its parent refers to %d", ErrDamaged, n, atLeast)
	}
	return err
}

func (c *cursor) list(col *column, rows int64) error {
	_, last, err := c.offsets(rows, col.width)
	if err != nil {
		return err
	}
	return c.child(&col.children[0], last)
}

func (c *cursor) variable(col *column, rows int64) error {
	offsets, last, err := c.offsets(rows, col.width)
	if err != nil {
		return err
	}
	data, err := c.nextBuffer(last)
	if err != nil || !c.limits.UTF8 || !col.text || rows == 0 {
		return err
	}
	for i := range rows {
		if !utf8.Valid(data[offsetAt(offsets, i, col.width):offsetAt(offsets, i+1, col.width)]) {
			return fmt.Errorf("%w: a string is not UTF-8", ErrDamaged)
		}
	}
	return nil
}

// offsets checks that rows+1 offsets start at or after 0 and never fall, and returns the last.
func (c *cursor) offsets(rows, width int64) (buf []byte, last int64, err error) {
	need := (rows + 1) * width
	if rows == 0 { // a buffer without even the first offset is what many writers send
		need = 0
	}
	if buf, err = c.nextBuffer(need); err != nil || rows == 0 {
		return buf, 0, err
	}
	prev := int64(0)
	for i := range rows + 1 {
		o := offsetAt(buf, i, width)
		if o < prev {
			return nil, 0, fmt.Errorf("%w: offset %d after %d", ErrDamaged, o, prev)
		}
		prev = o
	}
	return buf, prev, nil
}

func offsetAt(buf []byte, i, width int64) int64 {
	if width == 4 {
		return int64(int32(binary.LittleEndian.Uint32(buf[4*i:])))
	}
	return int64(binary.LittleEndian.Uint64(buf[8*i:]))
}
