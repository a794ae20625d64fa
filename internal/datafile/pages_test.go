package datafile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

func TestChunkOfEachCodec(t *testing.T) {
	src := batch(t, memory.DefaultAllocator, everything(), rowsJSON(500, 0))
	defer src.Release()
	for codec := range Codecs {
		o := DefaultWriteOptions()
		o.Codec, o.RowGroupRows = codec, 200
		data, _ := encode(t, o, src)
		ra := bytes.NewReader(data)
		f, err := ReadFooter(ra, int64(len(data)), "f")
		if err != nil || f.Rows() != 500 || f.RowGroups() != 3 {
			t.Fatalf("%s: %v", codec, err)
		}
		for _, id := range []int{2, 3, 21} {
			leaf, ok := f.Leaf(id)
			if !ok {
				t.Fatalf("%s: no field %d", codec, id)
			}
			for g := range f.RowGroups() {
				c, sum, err := f.Chunk(ra, g, leaf)
				if err != nil || sum.Pages == 0 || !bytes.Equal(c.Bytes, data[c.Offset:][:len(c.Bytes)]) {
					t.Fatalf("%s: field %d row group %d: %+v, %v", codec, id, g, sum, err)
				}
				part := make([]byte, 10)
				if _, err := c.ReadAt(part, c.Offset+3); err != nil || !bytes.Equal(part, c.Bytes[3:13]) {
					t.Fatalf("read at: %v", err)
				}
				if n, err := c.ReadAt(part, c.Offset+int64(len(c.Bytes))-4); n != 4 || !errors.Is(err, io.EOF) {
					t.Fatalf("read at the end: %d, %v", n, err)
				}
			}
		}
		if leaf, _ := f.Leaf(5); func() error { _, _, err := f.Chunk(ra, 0, leaf); return err }() == nil {
			t.Errorf("%s: a column of strings was taken for integers", codec)
		}
		if _, ok := f.Leaf(99); ok {
			t.Errorf("%s: a field that the file lacks", codec)
		}
	}
}

// TestMutantsOfChunks: what passes has pages whose claims hold, what does not names the file; no mutant takes memory
// beyond the budget of a page.
func TestMutantsOfChunks(t *testing.T) {
	src := batch(t, memory.DefaultAllocator, everything(), rowsJSON(60, 0))
	defer src.Release()
	n := 800
	if testing.Short() {
		n = 80
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	refused := 0
	for i := range n {
		o := DefaultWriteOptions()
		o.Codec = []string{"zstd", "snappy", "lz4", "none"}[i%4]
		data, _ := encode(t, o, src)
		f, err := ReadFooter(bytes.NewReader(data), int64(len(data)), "mutant")
		if err != nil {
			t.Fatal(err)
		}
		leaf, _ := f.Leaf([]int{2, 21}[i%2])
		c, _, err := f.Chunk(bytes.NewReader(data), 0, leaf)
		if err != nil {
			t.Fatal(err)
		}
		for range 1 + rnd.IntN(3) {
			data[c.Offset+int64(rnd.IntN(len(c.Bytes)))] = byte(rnd.Uint32())
		}
		if _, _, err := f.Chunk(bytes.NewReader(data), 0, leaf); err != nil {
			refused++
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "mutant") {
				t.Errorf("error %v", err)
			}
		}
	}
	if refused < n/10 {
		t.Errorf("%d of %d mutants were refused", refused, n)
	}
}

func TestRunsAreCounted(t *testing.T) {
	run := func(n uint64, packed bool, bytes ...byte) []byte {
		head := n << 1
		if packed {
			head |= 1
		}
		return append(binary.AppendUvarint(nil, head), bytes...)
	}
	for name, c := range map[string]struct {
		b       []byte
		width   int
		want    int64
		exactly bool
		err     string
	}{
		"one run":            {run(100, false, 1), 1, 100, true, ""},
		"one run and packed": {append(run(4, false, 1), run(1, true, 0xff)...), 1, 10, true, ""},
		"padding is cut":     {run(2, true, 0xff), 1, 8, true, "a run of 16"},
		"cut padding":        {run(1, true, 0xff), 2, 4, true, ""},
		"too short":          {run(99, false, 1), 1, 100, true, "99 of 100"},
		"fewer by nulls":     {run(99, false, 1), 1, 100, false, ""},
		"runaway":            {run(1<<40, false, 1), 1, 100, true, "a run of"},
		"runaway groups":     {run(1<<62, true), 1, 100, true, "a run of"},
		"cut in the head":    {[]byte{0x80}, 1, 100, true, errShort.Error()},
		"cut in the value":   {run(100, false), 1, 100, true, errShort.Error()},
		"cut in the groups":  {run(2, true, 1), 8, 16, true, errShort.Error()},
		"left over":          {append(run(100, false, 1), 7), 1, 100, true, "after the last"},
	} {
		err := checkRuns(c.b, c.width, c.want, c.exactly)
		if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
	}
}

func TestDeltaHeadersAreChecked(t *testing.T) {
	head := func(v ...uint64) (b []byte) {
		for _, x := range v {
			b = binary.AppendUvarint(b, x)
		}
		return b
	}
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"as written": {head(128, 4, 100, 0), true}, "nothing": {nil, true}, "too many": {head(128, 4, 101, 0), false}, "no block": {head(0, 4, 100), false},
		"odd block": {head(100, 4, 100), false}, "huge block": {head(1<<31, 4, 100), false}, "no parts": {head(128, 0, 100), false}, "many parts": {head(128, 5, 100), false},
		"cut": {head(128, 4), false},
	} {
		if err := checkDelta(c.b, 100); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPageHeadersThatAreNone(t *testing.T) {
	deep := bytes.Repeat([]byte{0x1c}, 1000) // structs in structs
	for name, b := range map[string][]byte{"nothing": nil, "cut": {0x15}, "an unknown type": {0x1d}, "depth": deep, "a long string": {0x18, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a long list": {0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f}} {
		if _, _, err := readPageHeader(b); err == nil {
			t.Errorf("%s was taken for a page header", name)
		}
	}
}
