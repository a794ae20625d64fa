package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	must[int](t)(w.Write(b))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func lz4Frame(t testing.TB, b []byte, opts ...lz4.Option) []byte {
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	if err := w.Apply(opts...); err != nil {
		t.Fatal(err)
	}
	must[int](t)(w.Write(b))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// xerialFrame is snappy as Java's clients write it, in blocks of 32 KiB.
func xerialFrame(b []byte) []byte {
	out := append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(b) > 0 {
		part := b[:min(len(b), 32<<10)]
		b = b[len(part):]
		z := snappy.Encode(nil, part)
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(z))), z...)
	}
	return out
}

// linkedLZ4 is a frame whose second block refers to the first one.
func linkedLZ4(t testing.TB, first []byte) (frame, plain []byte) {
	frame = []byte{0x04, 0x22, 0x4D, 0x18, lz4Version, 4 << lz4BlockSizeBits, 0}
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(first))|lz4Plain)
	frame = append(frame, first...)
	// One literal, then a match of all of first behind it, then five literals, as a block must end.
	d := len(first) + 1
	n := len(first) - 4 - 15
	block := []byte{0x1f, '!', byte(d), byte(d >> 8)}
	for ; n >= 255; n -= 255 {
		block = append(block, 255)
	}
	block = append(block, byte(n), 0x50, 'a', 'b', 'c', 'd', 'e')
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(block)))
	frame = append(append(frame, block...), 0, 0, 0, 0)
	plain = append(bytes.Clone(first), '!')
	plain = append(append(plain, first...), "abcde"...)
	return frame, plain
}

// forms are all ways in which producers write a codec.
func forms(t testing.TB, b []byte) map[string]struct {
	codec int8
	z     []byte
} {
	enc := must[*zstd.Encoder](t)(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)))
	defer enc.Close()
	var stream bytes.Buffer // without the content's size, as Java writes it
	sw := must[*zstd.Encoder](t)(zstd.NewWriter(&stream, zstd.WithEncoderConcurrency(1)))
	must[int](t)(sw.Write(b))
	if err := sw.Close(); err != nil {
		t.Fatal(err)
	}
	return map[string]struct {
		codec int8
		z     []byte
	}{
		"gzip":                {codecGzip, gzipped(t, b)},
		"snappy":              {codecSnappy, snappy.Encode(nil, b)},
		"snappy, xerial":      {codecSnappy, xerialFrame(b)},
		"lz4, 64 KiB":         {codecLZ4, lz4Frame(t, b, lz4.BlockSizeOption(lz4.Block64Kb))},
		"lz4, 4 MiB":          {codecLZ4, lz4Frame(t, b)},
		"lz4, checksums":      {codecLZ4, lz4Frame(t, b, lz4.BlockChecksumOption(true), lz4.ChecksumOption(true), lz4.SizeOption(uint64(len(b))))},
		"lz4, own":            {codecLZ4, bytes.Clone(new(batchEncoder).zip(b))},
		"zstd":                {codecZstd, enc.EncodeAll(b, nil)},
		"zstd without a size": {codecZstd, stream.Bytes()},
	}
}

func TestDecompress(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for name, plain := range map[string][]byte{"text": []byte(strings.Repeat("The quick brown fox. ", 20_000)), "noise": noise, "short": []byte("x"), "empty": {}} {
		for form, f := range forms(t, plain) {
			if len(plain) == 0 && form == "zstd without a size" {
				continue // the writer gives no frame at all
			}
			t.Run(form+"/"+name, func(t *testing.T) {
				d := decompressor{limit: 16 << 20}
				defer d.close()
				for _, room := range []int{0, 10, 1 << 20} {
					buf := make([]byte, room)
					got, err := d.run(buf[:0], f.codec, f.z)
					if err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("room for %d: %d bytes, %v; want %d", room, len(got), err, len(plain))
					}
					if room > 0 && len(plain) > 0 && len(plain) <= room && &got[0] != &buf[0] {
						t.Errorf("memory of its own, with room for %d", room)
					}
				}
				if len(plain) > 1 {
					small := decompressor{limit: len(plain) - 1}
					defer small.close()
					if _, err := small.run(nil, f.codec, f.z); !errors.Is(err, ErrBatchTooLarge) {
						t.Errorf("beyond the bound: %v", err)
					}
				}
				for cut := range min(len(f.z), 40) {
					if got, err := d.run(nil, f.codec, f.z[:cut]); err == nil && len(got) > 0 && !bytes.Equal(got, plain) {
						t.Errorf("cut to %d bytes it gives %d others", cut, len(got))
					}
				}
			})
		}
	}
}

func TestLinkedLZ4(t *testing.T) {
	frame, plain := linkedLZ4(t, []byte(strings.Repeat("0123456789", 100)))
	d := decompressor{limit: 1 << 20}
	// What lies in the memory in front is not history of this frame.
	buf := append(make([]byte, 0, 1<<16), "something else"...)
	got, err := d.run(buf[len(buf):], codecLZ4, frame)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%d bytes, %v; want %d", len(got), err, len(plain))
	}
}

// TestBombs are a few bytes that claim to be many.
func TestBombs(t *testing.T) {
	bomb := bytes.Repeat([]byte{0}, 64<<20)
	for form, f := range forms(t, bomb) {
		t.Run(form, func(t *testing.T) {
			d := decompressor{limit: 8 << 20}
			defer d.close()
			if _, err := d.run(nil, f.codec, f.z); !errors.Is(err, ErrBatchTooLarge) {
				t.Errorf("error %v", err)
			}
		})
	}
	d := decompressor{limit: 1 << 20}
	if _, err := d.run(nil, codecSnappy, append(binary.AppendUvarint(nil, 1<<19), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a snappy block that lies about its length: %v", err)
	}
}

// compressedSeeds are batches in every form, for the fuzzer.
func compressedSeeds(t testing.TB) [][]byte {
	plain := plainBatch(0, 20)
	raw := plain.bytes()
	var out [][]byte
	for _, f := range forms(t, raw[batchHeaderBytes:]) {
		b := append(bytes.Clone(raw[:batchHeaderBytes]), f.z...)
		binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-batchOverhead))
		b[batchAttrsAt+1] = byte(f.codec)
		out = append(out, seal(b))
	}
	return out
}
