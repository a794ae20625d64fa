package decode

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"pgregory.net/rapid"
)

func textColumn(t *testing.T) *column {
	t.Helper()
	c := &column{dt: arrow.BinaryTypes.String, layout: layoutBytes, alloc: checked(t)}
	t.Cleanup(c.drop)
	return c
}

// Every length around the words that are copied, a byte that is not ASCII at every place, and every place in a payload that has no
// byte to spare: what is taken is the value and nothing of its neighbours, and what is not taken leaves no trace.
func TestPlainTextTakesExactlyTheValue(t *testing.T) {
	letters := []byte(strings.Repeat("abcdefghijklmnopqrstuvwxyz", 2))
	c := textColumn(t)
	for n := range 42 {
		for bad := -1; bad < n; bad++ {
			for _, before := range []int{0, 1, 7, 8, 9} {
				value := slices.Clone(letters[:n])
				if bad >= 0 {
					value[bad] = 0x80
				}
				payload := append(bytes.Repeat([]byte{0xff}, before), value...)
				c.truncate(0)
				c.reserve(4, 0)
				c.appendBytes([]byte("before"))
				c.room(64)
				took := c.plainText(payload, before, n)
				if want := bad < 0 && before+n >= 8; took != want {
					t.Fatalf("%d bytes at %d, byte %d not ASCII: taken %v", n, before, bad, took)
				}
				if !took {
					c.appendBytes(value)
				}
				c.appendBytes([]byte("after"))
				if got := [3]string{string(c.bytesAt(0)), string(c.bytesAt(1)), string(c.bytesAt(2))}; got != [3]string{"before", string(value), "after"} {
					t.Fatalf("%d bytes at %d: %q", n, before, got)
				}
			}
		}
	}
}

// A column without room takes nothing by the short way: no value more than it has room for, and no byte beyond its data.
func TestPlainTextKeepsToTheRoom(t *testing.T) {
	c := textColumn(t)
	if c.plainText([]byte("0123456789"), 0, 10) {
		t.Error("a column without buffers took a value")
	}
	c.growTo(8)
	c.growData(64)
	payload := bytes.Repeat([]byte{'x'}, 64)
	for n := 0; c.n < c.cap && c.plainText(payload, 8, n%9); n++ {
	}
	if c.n != c.cap || c.plainText(payload, 8, 1) {
		t.Errorf("%d values where there is room for %d", c.n, c.cap)
	}
	c.truncate(0)
	for c.plainText(payload, 0, 20) {
	}
	if c.end != 40 || c.n != 2 { // a third would need 20 bytes and the word that may be written after them
		t.Errorf("%d bytes in %d values", c.end, c.n)
	}
}

// Varints of every length, also longer than they need to be, with any bytes behind them, as encoding/binary reads them.
func TestShortVarintsAgainstEncodingBinary(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		raw := binary.AppendUvarint(nil, rapid.Uint64().Draw(rt, "x")>>rapid.IntRange(0, 63).Draw(rt, "shift"))
		for range rapid.IntRange(0, 2).Draw(rt, "zeros") {
			raw[len(raw)-1] |= 0x80
			raw = append(raw, 0)
		}
		size := len(raw)
		raw = append(raw, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(rt, "behind")...)
		u, n := shortVarint(raw, 0)
		if want := size <= 8 && len(raw) >= 8; (n > 0) != want {
			rt.Fatalf("% x: %d bytes read, of %d", raw, n, size)
		}
		if want, m := binary.Uvarint(raw); n > 0 && (u != want || n != m) {
			rt.Fatalf("% x: %d in %d bytes, want %d in %d", raw, u, n, want, m)
		}
	})
}

// Values, nulls and what is taken back, in any order and across growth: the validity is that of a plain list.
func TestValidityOfWhatIsTakenBack(t *testing.T) {
	mem := checked(t)
	rapid.Check(t, func(rt *rapid.T) {
		c := &column{dt: arrow.PrimitiveTypes.Int64, layout: layoutFixed, width: 8, alloc: mem}
		defer c.drop()
		var want []bool
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				c.null()
				want = append(want, true)
			case 1:
				n := rapid.IntRange(0, len(want)).Draw(rt, "keep")
				c.truncate(n)
				want = want[:n]
			default:
				c.appendInt64(1)
				want = append(want, false)
			}
		}
		nulls := 0
		for i, null := range want {
			if null {
				nulls++
			}
			if c.isNull(i) != null {
				rt.Fatalf("value %d of %v", i, want)
			}
		}
		if c.n != len(want) || c.nulls != nulls {
			rt.Fatalf("%d values and %d nulls, want %d and %d", c.n, c.nulls, len(want), nulls)
		}
	})
}

// The short way and the general way give the same rows: fields in their order and out of it, twice, with tags of one byte and two,
// and strings that are ASCII and not, of which the last byte is the payload's.
func TestProtobufOrders(t *testing.T) {
	d, _ := protoOf(t, `syntax = "proto3"; import "google/protobuf/timestamp.proto"; message M {
		string a = 1; int64 n = 2; google.protobuf.Timestamp at = 3; string b = 16; I i = 2047; string c = 2048; }
		message I { double x = 1; string s = 2; }`, "M", ProtobufOptions{Plain: true, Options: Options{Mem: checked(t)}})
	fields := []string{"\x0a\x09plain-one", "\x10\xac\x02", "\x1a\x0c\x08\x83\xb6\x85\xd1\x06\x10\x80\x84\xb8\xd9\x01",
		"\x82\x01\x04g\xc3\xa4b", "\xfa\x7f\x0b\x09\x00\x00\x00\x00\x00\x00\xe0\x3f\x12\x00", "\x82\x80\x01\x09plain-two"}
	const want = `a="plain-one" n=300 at="2026-06-04T11:01:23.456Z" b="gäb" i={"s":"","x":0.5} c="plain-two"`
	payloads := []string{strings.Join(fields, ""), strings.Repeat(strings.Join(fields, ""), 2)}
	for i := range fields {
		payloads = append(payloads, strings.Join(slices.Concat(fields[i:], fields[:i]), ""))
	}
	out := mustDecode(t, d, slices.Concat(payloads, payloads)...)
	defer out.Rows.Release()
	if len(out.Dead) > 0 {
		t.Fatalf("%+v", out.Dead)
	}
	for i, row := range rowsJSON(t, out.Rows) {
		if row != want || !utf8.ValidString(row) {
			t.Errorf("payload %d:\n%s\nwant\n%s", i%len(payloads), row, want)
		}
	}
}
