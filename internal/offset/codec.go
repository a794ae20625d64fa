package offset

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// ErrCodec reports text that is no coded vector, ranges or last rows; nothing of it was taken over.
var ErrCodec = errors.New("corrupt offset coding")

// The coding, documented in docs/format/summary.md: a marker "1", then base64url without padding of
//
//	vector:  count, mode (0: partitions 0..count-1; 1: first partition, then gaps less one), values
//	subset:  mode (0: every partition of the vector; 1: a bitmap over them), values of those partitions
//	values:  least value, bit width of the greatest difference to it, the differences packed low bit first
//
// where counts, partitions and least values are uvarints. Ranges and last rows are coded relative to the vector
// after the commit, because a range ends where its partition then stands and the last row is mostly just before it.
const (
	codecMarker   = '1'
	maxPartitions = 1 << 17 // of one topic; a count above it is damage, and must not allocate
	maxCoded      = 8 << 20 // bytes of text
)

// Encode returns the canonical text of v. The empty vector has a text of its own.
func (v Vector) Encode() (string, error) {
	ps := v.Partitions()
	if len(ps) > maxPartitions {
		return "", fmt.Errorf("encode offsets: %d partitions, at most %d", len(ps), maxPartitions)
	}
	buf := binary.AppendUvarint(nil, uint64(len(ps)))
	vals := make([]uint64, len(ps))
	dense := true
	for i, p := range ps {
		if p < 0 || v[p] < 0 {
			return "", fmt.Errorf("encode offsets: partition %d at %d: neither can be negative", p, v[p])
		}
		dense = dense && int(p) == i
		vals[i] = uint64(v[p])
	}
	if dense {
		buf = append(buf, 0)
	} else {
		buf = append(buf, 1)
		next := int32(0)
		for _, p := range ps {
			buf = binary.AppendUvarint(buf, uint64(p-next))
			next = p + 1 // may wrap after the greatest partition, which is then the last
		}
	}
	return seal(appendPacked(buf, vals)), nil
}

// DecodeVector is the inverse of Encode; anything but its output gives ErrCodec.
func DecodeVector(s string) (Vector, error) {
	r, err := unseal(s)
	if err != nil {
		return nil, fmt.Errorf("offsets: %w", err)
	}
	n := r.uvarint()
	mode := r.byte()
	if r.bad || n > maxPartitions || mode > 1 || (mode == 1 && n > uint64(len(r.b))) {
		return nil, fmt.Errorf("offsets: %w: bad head", ErrCodec)
	}
	ps := make([]int32, n)
	next := uint64(0)
	for i := range ps {
		if mode == 1 {
			gap := r.uvarint()
			if gap > math.MaxInt32 {
				return nil, fmt.Errorf("offsets: %w: bad partition", ErrCodec)
			}
			next += gap
		}
		if next > math.MaxInt32 {
			return nil, fmt.Errorf("offsets: %w: bad partition", ErrCodec)
		}
		ps[i] = int32(next)
		next++
	}
	vals := r.packed(len(ps))
	v := make(Vector, len(ps))
	for i, p := range ps {
		if r.bad || vals[i] > math.MaxInt64 {
			return nil, fmt.Errorf("offsets: %w: bad values", ErrCodec)
		}
		v[p] = int64(vals[i])
	}
	return v, canonical("offsets", s, r, v.Encode)
}

// EncodeRanges returns the canonical text of ranges relative to after, the vector that they lead to: each
// must end where its partition stands in after, at most one range a partition.
func EncodeRanges(ranges []Range, after Vector) (string, error) {
	by := make(map[int32]Range, len(ranges))
	for _, g := range ranges {
		end, ok := after[g.Partition]
		if _, twice := by[g.Partition]; twice || !ok || end != g.End || g.Start < 0 || g.Start > g.End || g.LeaderEpoch < -1 {
			return "", fmt.Errorf("encode ranges: partition %d [%d,%d)@%d does not end at the vector's %d: %w",
				g.Partition, g.Start, g.End, g.LeaderEpoch, end, ErrNotContiguous)
		}
		by[g.Partition] = g
	}
	buf, in := appendSubset(nil, after.Partitions(), func(p int32) bool { _, ok := by[p]; return ok })
	lengths, epochs := make([]uint64, len(in)), make([]uint64, len(in))
	for i, p := range in {
		lengths[i] = uint64(by[p].End - by[p].Start)
		epochs[i] = uint64(int64(by[p].LeaderEpoch) + 1)
	}
	return seal(appendPacked(appendPacked(buf, lengths), epochs)), nil
}

// DecodeRanges is the inverse of EncodeRanges with the same vector; the ranges come sorted by partition.
func DecodeRanges(s string, after Vector) ([]Range, error) {
	r, err := unseal(s)
	if err != nil {
		return nil, fmt.Errorf("ranges: %w", err)
	}
	in := r.subset(after.Partitions())
	lengths := r.packed(len(in))
	epochs := r.packed(len(in))
	if r.bad {
		return nil, fmt.Errorf("ranges: %w: cut short", ErrCodec)
	}
	out := make([]Range, len(in))
	for i, p := range in {
		end := after[p]
		if lengths[i] > uint64(end) || epochs[i] > 1+math.MaxInt32 {
			return nil, fmt.Errorf("ranges: %w: partition %d starts below zero or has a bad leader epoch", ErrCodec, p)
		}
		out[i] = Range{Partition: p, Start: end - int64(lengths[i]), End: end, LeaderEpoch: int32(int64(epochs[i]) - 1)}
	}
	return out, canonical("ranges", s, r, func() (string, error) { return EncodeRanges(out, after) })
}

// EncodeLastRows returns the canonical text of rows, the last offset of each partition that gave a row,
// relative to after: every one lies below its partition's next offset.
func EncodeLastRows(rows, after Vector) (string, error) {
	for p, o := range rows {
		if end, ok := after[p]; !ok || o < 0 || o >= end {
			return "", fmt.Errorf("encode last rows: partition %d has its last row at %d and stands at %d", p, o, end)
		}
	}
	buf, in := appendSubset(nil, after.Partitions(), func(p int32) bool { _, ok := rows[p]; return ok })
	vals := make([]uint64, len(in))
	for i, p := range in {
		vals[i] = uint64(after[p] - 1 - rows[p])
	}
	return seal(appendPacked(buf, vals)), nil
}

// DecodeLastRows is the inverse of EncodeLastRows with the same vector.
func DecodeLastRows(s string, after Vector) (Vector, error) {
	r, err := unseal(s)
	if err != nil {
		return nil, fmt.Errorf("last rows: %w", err)
	}
	in := r.subset(after.Partitions())
	vals := r.packed(len(in))
	rows := make(Vector, len(in))
	for i, p := range in {
		if r.bad || vals[i] >= uint64(after[p]) {
			return nil, fmt.Errorf("last rows: %w: partition %d", ErrCodec, p)
		}
		rows[p] = after[p] - 1 - int64(vals[i])
	}
	return rows, canonical("last rows", s, r, func() (string, error) { return EncodeLastRows(rows, after) })
}

// canonical refuses a second text for the same value, and whatever else the reader let through.
func canonical(what, s string, r *reader, encode func() (string, error)) error {
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%s: %w: cut short or followed by %d bytes", what, ErrCodec, len(r.b))
	}
	if again, err := encode(); err != nil || again != s {
		return fmt.Errorf("%s: %w: not in canonical form", what, ErrCodec)
	}
	return nil
}

func seal(b []byte) string { return string(codecMarker) + base64.RawURLEncoding.EncodeToString(b) }

func unseal(s string) (*reader, error) {
	if s == "" || s[0] != codecMarker {
		return nil, fmt.Errorf("%w: it does not start with %q; a newer Firn may have written it", ErrCodec, codecMarker)
	}
	if len(s) > maxCoded {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrCodec, len(s), maxCoded)
	}
	b, err := base64.RawURLEncoding.DecodeString(s[1:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCodec, err)
	}
	return &reader{b: b}, nil
}

func appendSubset(buf []byte, all []int32, has func(int32) bool) ([]byte, []int32) {
	in := make([]int32, 0, len(all))
	bitmap := make([]byte, (len(all)+7)/8)
	for i, p := range all {
		if has(p) {
			in = append(in, p)
			bitmap[i/8] |= 1 << (i % 8)
		}
	}
	if len(in) == len(all) {
		return append(buf, 0), in
	}
	return append(append(buf, 1), bitmap...), in
}

// appendPacked writes vals as their least value and bit-packed differences to it.
func appendPacked(buf []byte, vals []uint64) []byte {
	if len(vals) == 0 {
		return buf
	}
	low := slices.Min(vals)
	width := bits.Len64(slices.Max(vals) - low)
	buf = append(binary.AppendUvarint(buf, low), byte(width))
	start := len(buf)
	buf = append(buf, make([]byte, (len(vals)*width+7)/8)...)
	for i, v := range vals {
		for b, d := i*width, v-low; d != 0; b, d = b+1, d>>1 {
			buf[start+b/8] |= byte(d&1) << (b % 8)
		}
	}
	return buf
}

// reader takes values off b; the first that is not there sets bad, after which everything reads as zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) subset(all []int32) []int32 {
	switch r.byte() {
	case 0:
		return all
	case 1:
		bitmap := r.take((len(all) + 7) / 8)
		var in []int32
		for i, p := range all {
			if !r.bad && bitmap[i/8]&(1<<(i%8)) != 0 {
				in = append(in, p)
			}
		}
		return in
	}
	r.bad = true
	return nil
}

func (r *reader) packed(n int) []uint64 {
	vals := make([]uint64, n)
	if n == 0 {
		return vals
	}
	low, width := r.uvarint(), int(r.byte())
	if width > 64 {
		r.bad = true
		return vals
	}
	b := r.take((n*width + 7) / 8)
	if r.bad {
		return vals
	}
	for i := range vals {
		var d uint64
		for k := range width {
			at := i*width + k
			d |= uint64(b[at/8]>>(at%8)&1) << k
		}
		if d > math.MaxUint64-low {
			r.bad = true
			return vals
		}
		vals[i] = low + d
	}
	return vals
}
