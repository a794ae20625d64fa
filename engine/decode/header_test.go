package decode

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/firnlake/firn/engine"
)

// headerBytes codes headers as a record of format v2 does.
func headerBytes(headers ...engine.Header) ([]byte, int32) {
	var b []byte
	for _, h := range headers {
		b = append(binary.AppendVarint(b, int64(len(h.Key))), h.Key...)
		if h.Value == nil {
			b = binary.AppendVarint(b, -1)
			continue
		}
		b = append(binary.AppendVarint(b, int64(len(h.Value))), h.Value...)
	}
	return b, int32(len(headers))
}

func TestParseHeaders(t *testing.T) {
	for _, want := range [][]engine.Header{
		nil,
		{{Key: "a", Value: []byte("1")}},
		{{Key: "", Value: []byte{}}, {Key: "null", Value: nil}, {Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}},
		{{Key: strings.Repeat("k", 300), Value: bytes.Repeat([]byte{0xff}, 70_000)}},
	} {
		raw, n := headerBytes(want...)
		got, err := ParseHeaders(raw, n)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.60v: %.60v, %v", want, got, err)
		}
	}
	good, _ := headerBytes(engine.Header{Key: "key", Value: []byte("value")})
	for name, c := range map[string]struct {
		raw   []byte
		count int32
	}{
		"fewer than counted": {good, 2},
		"more than counted":  {append(good, good...), 1},
		"none counted":       {good, 0},
		"negative count":     {good, -1},
		"absurd count":       {good, math.MaxInt32},
		"cut in the value":   {good[:len(good)-1], 1},
		"cut in the key":     {good[:2], 1},
		"null key":           {[]byte{1, 1}, 1},
		"negative value":     {[]byte{2, 'k', 3}, 1},
		"endless varint":     {bytes.Repeat([]byte{0xff}, 12), 1},
		"length beyond":      {append(binary.AppendVarint(nil, math.MaxInt64), 'x'), 1},
	} {
		if h, err := ParseHeaders(c.raw, c.count); !errors.Is(err, ErrHeaders) {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
}

func FuzzParseHeaders(f *testing.F) {
	raw, n := headerBytes(engine.Header{Key: "traceparent", Value: []byte(traceparent(1))}, engine.Header{Key: "k"})
	f.Add(raw, n)
	f.Add([]byte{}, int32(0))
	f.Fuzz(func(t *testing.T, raw []byte, count int32) {
		traceID(raw, count)
		headers, err := ParseHeaders(raw, count)
		if err != nil {
			return
		}
		if int(count) != len(headers) {
			t.Fatalf("%d headers, %d counted", len(headers), count)
		}
		again, n := headerBytes(headers...)
		if back, err := ParseHeaders(again, n); err != nil || !reflect.DeepEqual(back, headers) {
			t.Fatalf("%v does not survive its own coding: %v, %v", headers, back, err)
		}
	})
}

func traceparent(i int) string { return fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", i) }

func TestParseTraceparent(t *testing.T) {
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for text, ok := range map[string]bool{
		"00-" + id + "-" + parent + "-01":                      true,
		"cc-" + id + "-" + parent + "-01-what-comes-later":     true,
		"cc-" + id + "-" + parent + "-01.x":                    false,
		"00-" + id + "-" + parent + "-01-x":                    false,
		"ff-" + id + "-" + parent + "-01":                      false,
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":     false,
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": false,
		"00-" + id + "-" + parent + "-0":                       false,
		"00_" + id + "-" + parent + "-01":                      false,
		"00-" + id[:31] + "g-" + parent + "-01":                false,
		"":                                                     false,
	} {
		got, found := parseTraceparent([]byte(text))
		if found != ok || (ok && hex.EncodeToString(got[:]) != id) {
			t.Errorf("%q: %x, %v", text, got, found)
		}
	}
}

func TestTraceIDsAreASample(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t)})
	for _, n := range []int{1, 99, 100, 101, 1000} {
		payloads := make([]string, n)
		f := fetchOf(payloads...)
		for i := range f.Records {
			f.Records[i].HeaderBytes, f.Records[i].HeaderCount = headerBytes(engine.Header{Key: "x"}, engine.Header{Key: "traceparent", Value: []byte(traceparent(1 + i/2))})
		}
		f.Records[0].HeaderBytes = f.Records[0].HeaderBytes[:1] // damaged headers have no trace
		out, err := d.Decode(f)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[[16]byte]bool{}
		for _, id := range out.TraceIDs {
			seen[id] = true
		}
		if len(seen) != len(out.TraceIDs) || len(seen) > maxTraceIDs || (n > 2 && len(seen) < min(n/2, 50)-1) {
			t.Errorf("%d records: %d trace ids, %d distinct", n, len(out.TraceIDs), len(seen))
		}
	}
}
