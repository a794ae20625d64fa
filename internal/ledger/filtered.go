package ledger

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/firnlake/firn/internal/offset"
)

// Filtered is what a record says of the offsets of a partition that a filter kept out, or that deduplication dropped, since the table began: how many,
// which was the first, and a digest that tells which they were without naming them.
type Filtered struct {
	First, Count int64
	// Digest is the sum of Mix over the offsets, modulo 2^64: the same in whatever order and however many batches they came.
	// Another set of as many offsets has the same digest with odds of one in 2^64.
	Digest uint64
}

// Mix is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), on
// the offset and one: 0 must not stay 0.
func Mix(o int64) uint64 {
	x := (uint64(o) + 1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Add counts one offset more.
func (f *Filtered) Add(o int64) {
	if f.Count == 0 || o < f.First {
		f.First = o
	}
	f.Count++
	f.Digest += Mix(o)
}

// Plus is both together.
func (f Filtered) Plus(g Filtered) Filtered {
	switch {
	case f.Count == 0:
		return g
	case g.Count == 0:
		return f
	}
	return Filtered{First: min(f.First, g.First), Count: f.Count + g.Count, Digest: f.Digest + g.Digest}
}

var errFiltered = errors.New("no list of filtered offsets")

const filteredVersion = "1"

// encodeFiltered writes, per partition in ascending order: the gap to the partition before less one, the distance of the first
// offset from the vector, the count, and the digest in 8 bytes, lowest first. It gives "" for none.
func encodeFiltered(m map[int32]Filtered, after offset.Vector) (string, error) {
	var b []byte
	last := int32(-1)
	for _, p := range slices.Sorted(maps.Keys(m)) {
		f := m[p]
		if f.Count == 0 {
			continue
		}
		if at, ok := after[p]; !ok || p < 0 || f.First < 0 || f.First+f.Count > at {
			return "", fmt.Errorf("%w: partition %d has %d from %d on, the vector stands at %d", errFiltered, p, f.Count, f.First, at)
		}
		b = binary.AppendUvarint(b, uint64(p-last-1))
		b = binary.AppendUvarint(b, uint64(after[p]-f.First))
		b = binary.AppendUvarint(b, uint64(f.Count))
		b = binary.LittleEndian.AppendUint64(b, f.Digest)
		last = p
	}
	if b == nil {
		return "", nil
	}
	return filteredVersion + base64.RawURLEncoding.EncodeToString(b), nil
}

func decodeFiltered(s string, after offset.Vector) (map[int32]Filtered, error) {
	if s == "" {
		return nil, nil
	}
	text, ok := strings.CutPrefix(s, filteredVersion)
	if !ok {
		return nil, fmt.Errorf("%w: another version than %s", errFiltered, filteredVersion)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFiltered, err)
	}
	out := map[int32]Filtered{}
	last := int64(-1)
	for len(b) > 0 {
		var v [3]uint64
		for i := range v {
			n := 0
			if v[i], n = binary.Uvarint(b); n <= 0 || n > 1 && b[n-1] == 0 {
				return nil, fmt.Errorf("%w: it is cut off", errFiltered)
			}
			b = b[n:]
		}
		if len(b) < 8 || v[0] > 1<<31 {
			return nil, fmt.Errorf("%w: it is cut off", errFiltered)
		}
		last += int64(v[0]) + 1
		at, known := after[int32(last)]
		if last > 1<<31-1 || !known || v[1] > uint64(at) || v[2] == 0 || v[2] > v[1] {
			return nil, fmt.Errorf("%w: partition %d does not fit the vector", errFiltered, last)
		}
		out[int32(last)] = Filtered{First: at - int64(v[1]), Count: int64(v[2]), Digest: binary.LittleEndian.Uint64(b)}
		b = b[8:]
	}
	return out, nil
}
