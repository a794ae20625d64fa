package snapshot

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"
)

// blockBytes is from which size of its values, before compression, a block of a container is closed.
const blockBytes = 64 << 10

var containerMagic = []byte("Obj\x01")

// container is an Avro object container file that is being written: a header, then blocks of values, deflated. The values
// are encoded by the caller, straight into block.
//
// iceberg-go compiles the Avro schema anew for every file and takes a new compressor each: together 4 ms of CPU for a
// commit of one file (docs/decisions/0014). Here both are kept.
type container struct {
	buf   bytes.Buffer
	sync  [16]byte
	block []byte // the values since the last block
	count int64  // how many they are
}

// newContainer begins a file. header is everything up to the sync marker.
func newContainer(header []byte) *container {
	c := &container{}
	_, _ = rand.Read(c.sync[:]) // never fails (crypto/rand)
	c.buf.Write(header)
	c.buf.Write(c.sync[:])
	return c
}

// containerHeader is the beginning of a container file, up to the sync marker.
func containerHeader(schema []byte, metadata map[string]string) []byte {
	out := slices.Clone(containerMagic)
	out = binary.AppendVarint(out, int64(len(metadata)+2))
	put := func(key, value string) { out = appendBytes(appendBytes(out, key), value) }
	put("avro.schema", string(schema))
	put("avro.codec", "deflate")
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		put(key, metadata[key])
	}
	return append(out, 0)
}

// wrote is said after each value that was appended to block.
func (c *container) wrote() error {
	c.count++
	if len(c.block) < blockBytes {
		return nil
	}
	return c.flush()
}

var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // of a level that does not exist
	}
	return w
}}

func (c *container) flush() error {
	if c.count == 0 {
		return nil
	}
	var packed bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&packed)
	if _, err := w.Write(c.block); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	var head [2 * binary.MaxVarintLen64]byte
	c.buf.Write(binary.AppendVarint(binary.AppendVarint(head[:0], c.count), int64(packed.Len())))
	c.buf.Write(packed.Bytes())
	c.buf.Write(c.sync[:])
	c.block, c.count = c.block[:0], 0
	return nil
}

// close ends the file and returns it.
func (c *container) close() ([]byte, error) {
	err := c.flush()
	return c.buf.Bytes(), err
}

// Avro's own encodings: an int and a long are zigzag varints, as encoding/binary's; a union of null and another type is the
// branch's index and its value.

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendVarint(b, int64(len(v))), v...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendOptional[T any](b []byte, v *T, value func([]byte, T) []byte) []byte {
	if v == nil {
		return append(b, 0) // branch 0: null
	}
	return value(append(b, 2), *v) // branch 1
}
