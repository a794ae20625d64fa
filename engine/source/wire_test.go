package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
)

// pipe answers a call with prepared bytes, with the request's own correlation id put in.
type pipe struct {
	asked  bytes.Buffer
	answer []byte
	own    bool // the answer's correlation id stays as it is
	r      *bytes.Reader
}

func (p *pipe) Write(b []byte) (int, error) { return p.asked.Write(b) }

func (p *pipe) Read(b []byte) (int, error) {
	if p.r == nil {
		a := slices.Clone(p.answer)
		if !p.own && len(a) >= 8 {
			copy(a[4:8], p.asked.Bytes()[8:12])
		}
		p.r = bytes.NewReader(a)
	}
	return p.r.Read(b)
}

func framed(body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), append([]byte{0, 0, 0, 0}, body...)...)
}

func TestCall(t *testing.T) {
	for _, c := range []struct {
		name   string
		call   call
		answer []byte
		own    bool
		want   []byte
		says   string
	}{
		{"plain", call{key: protocol.Fetch, version: 11}, framed(1, 2, 3), false, []byte{1, 2, 3}, ""},
		{"flexible, with tags", call{key: protocol.Metadata, version: 12, flexible: true}, framed(1, 7, 2, 9, 9, 1, 2), false, []byte{1, 2}, ""},
		{"tags beyond the answer", call{key: protocol.Metadata, version: 12, flexible: true}, framed(1, 7, 200, 9), false, nil, errShort.Error()},
		{"another correlation id", call{key: protocol.Fetch}, append([]byte{0, 0, 0, 4}, 0xff, 0xff, 0xff, 0xff), true, nil, "the broker answered request -1"},
		{"too large", call{key: protocol.Fetch}, []byte{0, 1, 0, 0, 0, 0, 0, 0}, false, nil, "65536 bytes"},
		{"too small", call{key: protocol.Fetch}, []byte{0, 0, 0, 3, 0, 0, 0, 0}, false, nil, "3 bytes"},
		{"ends early", call{key: protocol.Fetch}, []byte{0, 0, 0, 9, 0, 0, 0, 0}, false, nil, io.ErrUnexpectedEOF.Error()},
		{"no answer", call{key: protocol.Fetch}, nil, false, nil, io.EOF.Error()},
		{"a TLS alert", call{key: protocol.Fetch}, []byte{0x15, 3, 3, 0, 2, 2, 80}, true, nil, errWantsTLS.Error()},
		{"an old broker", call{key: protocol.Fetch, version: 11, negotiated: true, selected: 8}, nil, false, nil, "Kafka 2.3 or newer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.call.limit, c.call.clientID = 1<<12, "me"
			got, err := c.call.RawExchange(&pipe{answer: c.answer, own: c.own})
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v, want %q", err, c.says)
				}
				return
			}
			if err != nil || got != protocol.Message(&c.call) || !bytes.Equal(c.call.reply, c.want) {
				t.Errorf("%v, %v; want %v", c.call.reply, err, c.want)
			}
		})
	}
}

// TestLyingSize is an answer that claims much and brings little: memory grows with what arrives.
func TestLyingSize(t *testing.T) {
	c := call{key: protocol.Fetch, limit: 1 << 30}
	err := c.read(bytes.NewReader(append([]byte{0x3f, 0, 0, 0}, make([]byte, 100)...)))
	if !errors.Is(err, io.ErrUnexpectedEOF) || cap(c.buf) > 2*readStep {
		t.Errorf("%v, memory of %d bytes", err, cap(c.buf))
	}
	// Where a size is expected, its memory is made at once, and no more.
	c = call{key: protocol.Fetch, limit: 1 << 30, step: 8 * readStep}
	if err := c.read(bytes.NewReader(append([]byte{0x3f, 0, 0, 0}, make([]byte, 100)...))); !errors.Is(err, io.ErrUnexpectedEOF) || cap(c.buf) > 16*readStep {
		t.Errorf("%v, memory of %d bytes", err, cap(c.buf))
	}
	c.buf = nil
	if err := c.read(bytes.NewReader(append([]byte{0, 0x40, 0, 0}, make([]byte, 4<<20)...))); err != nil || len(c.buf) != 4<<20 || cap(c.buf) > 5<<20 {
		t.Errorf("%v, %d bytes in memory of %d", err, len(c.buf), cap(c.buf))
	}
	// A good answer reuses the memory that it is given.
	c.buf = make([]byte, 0, 1<<20)
	given := &c.buf[:1][0]
	if err := c.read(bytes.NewReader(append([]byte{0, 0, 1, 0}, make([]byte, 256)...))); err != nil || &c.buf[0] != given || len(c.buf) != 256 {
		t.Errorf("%v, %d bytes", err, len(c.buf))
	}
}

// FuzzAnswers reads foreign bytes as every kind of answer: an error or a result, in bounded memory.
func FuzzAnswers(f *testing.F) {
	f.Add(byte(0), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01"))
	f.Add(byte(1), bytes.Repeat([]byte{0xff}, 64))
	f.Add(byte(2), bytes.Repeat([]byte{2}, 200))
	f.Add(byte(3), bytes.Repeat([]byte{0, 0, 0, 1}, 20))
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		d := &decoder{b: b}
		switch kind % 4 {
		case 0:
			fe := fetcher{}
			answers, err := fe.parse(b)
			if err == nil && len(answers)*42 > len(b) {
				t.Fatalf("%d partitions in %d bytes", len(answers), len(b))
			}
		case 1:
			if m := readMetadata8(d, "t"); d.err == nil && len(m.partitions)*26 > len(b) {
				t.Fatalf("%d partitions in %d bytes", len(m.partitions), len(b))
			}
		case 2:
			if m := readMetadata12(d, "t"); d.err == nil && len(m.partitions)*18 > len(b) {
				t.Fatalf("%d partitions in %d bytes", len(m.partitions), len(b))
			}
		case 3:
			if answers, err := parseEpochEnds(b); err == nil && len(answers)*18 > len(b) {
				t.Fatalf("%d partitions in %d bytes", len(answers), len(b))
			}
		}
	})
}
