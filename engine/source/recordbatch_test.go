package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"
)

// rawBatch describes a record batch to build by hand.
type rawBatch struct {
	base      int64
	deltas    []int // of the records; nil for none
	lastDelta int
	attrs     int16
	producer  int64
	marker    int // of a control batch: 0 abort, 1 commit
	epoch     int32
	value     string // of each record, with its offset in front
}

const testTime = 1_780_000_000_000

func (r rawBatch) bytes() []byte {
	var body []byte
	for _, d := range r.deltas {
		key, value := fmt.Appendf(nil, "k%d", r.base+int64(d)), fmt.Appendf(nil, "%d%s", r.base+int64(d), r.value)
		if r.attrs&attrControl != 0 {
			key, value = []byte{0, 0, 0, byte(r.marker)}, []byte{0, 0, 0, 0, 0, 0}
		}
		rec := []byte{0}
		rec = binary.AppendVarint(rec, int64(10*d))
		rec = binary.AppendVarint(rec, int64(d))
		rec = appendNullable(rec, key)
		rec = appendNullable(rec, value)
		rec = binary.AppendVarint(rec, 0)
		body = append(binary.AppendVarint(body, int64(len(rec))), rec...)
	}
	if r.attrs&attrCodec == codecLZ4 {
		body = new(batchEncoder).zip(body)
	}
	var e encoder
	e.int64(r.base)
	e.int32(int32(batchHeaderBytes - batchOverhead + len(body)))
	e.int32(r.epoch)
	e.int8(2)
	e.int32(0)
	e.int16(r.attrs)
	e.int32(int32(r.lastDelta))
	e.int64(testTime)
	e.int64(testTime + 5000)
	e.int64(r.producer)
	e.int16(0)
	e.int32(-1)
	e.int32(int32(len(r.deltas)))
	e = append(e, body...)
	return seal(e)
}

// seal makes the checksum of a batch right.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[batchCRCAt:], crc32.Checksum(b[batchAttrsAt:], castagnoli))
	return b
}

func patched(b []byte, at int, with ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], with)
	return b
}

// plainBatch holds records base, base+1, … base+n-1.
func plainBatch(base int64, n int) rawBatch {
	r := rawBatch{base: base, lastDelta: n - 1, producer: -1, epoch: 3}
	for i := range n {
		r.deltas = append(r.deltas, i)
	}
	return r
}

// walked is what a record set gave.
type walked struct {
	offsets          []int64
	times            []int64
	ranges           []string
	control, aborted int64
	epoch            int32
	err              error
}

func walk(buf []byte, next, limit int64, aborted []abortedTxn) (w walked) {
	un := decompressor{limit: 1 << 24}
	defer un.close()
	s := recordSet{unzip: &un}
	s.reset(buf, next, limit, aborted)
	r := newReply()
	defer r.release()
	for more := true; more; {
		st := newStretch(0, r)
		more, w.err = s.fill(st)
		if w.err != nil {
			st.release()
			return w
		}
		if st.End > st.Start {
			w.ranges = append(w.ranges, fmt.Sprintf("[%d,%d)", st.Start, st.End))
		}
		for _, rec := range st.Records {
			w.offsets = append(w.offsets, rec.Offset)
			w.times = append(w.times, rec.TimestampMs)
			if string(rec.Key) != fmt.Sprintf("k%d", rec.Offset) || !strings.HasPrefix(string(rec.Value), fmt.Sprint(rec.Offset)) {
				w.err = fmt.Errorf("offset %d has key %q and value %.20q", rec.Offset, rec.Key, rec.Value)
			}
		}
		w.control += st.Control
		w.aborted += st.Aborted
		w.epoch = st.LeaderEpoch
		st.release()
	}
	return w
}

func join(batches ...rawBatch) []byte {
	var b []byte
	for _, r := range batches {
		b = append(b, r.bytes()...)
	}
	return b
}

func TestRecordSet(t *testing.T) {
	txn := func(r rawBatch, producer int64) rawBatch {
		r.attrs |= attrTxn
		r.producer = producer
		return r
	}
	mark := func(at, producer int64, marker int) rawBatch {
		return rawBatch{base: at, deltas: []int{0}, attrs: attrTxn | attrControl, producer: producer, marker: marker}
	}
	zipped := plainBatch(10, 5)
	zipped.attrs |= codecLZ4
	cases := []struct {
		name             string
		buf              []byte
		next, limit      int64
		aborted          []abortedTxn
		want             []int64
		ranges           string
		control, skipped int64
	}{
		{"one batch", join(plainBatch(10, 3)), 10, 100, nil, []int64{10, 11, 12}, "[10,13)", 0, 0},
		{"nothing", nil, 10, 100, nil, nil, "", 0, 0},
		{"two batches and a partial one", append(join(plainBatch(0, 2), plainBatch(2, 2)), plainBatch(4, 9).bytes()[:70]...), 0, 100, nil,
			[]int64{0, 1, 2, 3}, "[0,4)", 0, 0},
		{"the rest is shorter than a header", append(join(plainBatch(0, 2)), 0, 0, 0), 0, 100, nil, []int64{0, 1}, "[0,2)", 0, 0},
		{"starts below the asked offset", join(plainBatch(10, 5)), 13, 100, nil, []int64{13, 14}, "[13,15)", 0, 0},
		{"starts below, compressed", join(zipped), 13, 100, nil, []int64{13, 14}, "[13,15)", 0, 0},
		{"lies wholly below", join(plainBatch(10, 5), plainBatch(15, 1)), 15, 100, nil, []int64{15}, "[15,16)", 0, 0},
		{"ends at the last stable offset", join(plainBatch(10, 2), plainBatch(12, 2)), 10, 12, nil, []int64{10, 11}, "[10,12)", 0, 0},
		{"is cut by the limit", join(plainBatch(10, 5)), 10, 12, nil, []int64{10, 11}, "[10,12)", 0, 0},
		{"limit below next", join(plainBatch(10, 5)), 10, 4, nil, nil, "", 0, 0},
		{"compacted inside", join(rawBatch{base: 10, deltas: []int{1, 4}, lastDelta: 9}), 10, 100, nil, []int64{11, 14}, "[10,20)", 0, 0},
		{"compacted to nothing", join(rawBatch{base: 10, lastDelta: 9}, plainBatch(20, 1)), 10, 100, nil, []int64{20}, "[10,21)", 0, 0},
		{"a gap in front and between", join(plainBatch(14, 1), plainBatch(30, 1)), 10, 100, nil, []int64{14, 30}, "[10,31)", 0, 0},
		{"committed transaction", join(txn(plainBatch(0, 2), 7), mark(2, 7, 1), plainBatch(3, 1)), 0, 100, nil, []int64{0, 1, 3}, "[0,4)", 1, 0},
		{"aborted transaction", join(txn(plainBatch(0, 2), 7), mark(2, 7, 0), plainBatch(3, 1)), 0, 100, []abortedTxn{{7, 0}}, []int64{3}, "[0,4)", 1, 2},
		{"aborted, then committed by the same producer", join(txn(plainBatch(0, 2), 7), mark(2, 7, 0), txn(plainBatch(3, 2), 7), mark(5, 7, 1)), 0, 100,
			[]abortedTxn{{7, 0}}, []int64{3, 4}, "[0,6)", 2, 2},
		{"aborted twice, listed out of order", join(txn(plainBatch(0, 1), 7), mark(1, 7, 0), txn(plainBatch(2, 1), 7), txn(plainBatch(3, 1), 8), mark(4, 7, 0), mark(5, 8, 1)),
			0, 100, []abortedTxn{{7, 2}, {7, 0}}, []int64{3}, "[0,6)", 3, 2},
		{"interleaved", join(txn(plainBatch(0, 1), 7), txn(plainBatch(1, 1), 8), plainBatch(2, 1), txn(plainBatch(3, 1), 7), mark(4, 7, 0), txn(plainBatch(5, 1), 8), mark(6, 8, 1)),
			0, 100, []abortedTxn{{7, 0}}, []int64{1, 2, 5}, "[0,7)", 2, 2},
		{"aborted, begun before the asked offset", join(txn(plainBatch(10, 4), 7), mark(14, 7, 0)), 12, 100, []abortedTxn{{7, 3}}, nil, "[12,15)", 1, 2},
		{"records of the producer outside of a transaction", join(rawBatch{base: 0, deltas: []int{0}, producer: 7}), 0, 100, []abortedTxn{{7, 0}}, []int64{0}, "[0,1)", 0, 0},
		{"control batch of another kind", join(rawBatch{base: 0, deltas: []int{0}, attrs: attrControl, producer: -1, marker: 2}, plainBatch(1, 1)), 0, 100,
			[]abortedTxn{{7, 1}}, []int64{1}, "[0,2)", 1, 0},
		{"marker whose record was compacted away", join(rawBatch{base: 0, attrs: attrTxn | attrControl, producer: 7}, plainBatch(1, 1)), 0, 100, nil, []int64{1}, "[0,2)", 1, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := walk(c.buf, c.next, c.limit, c.aborted)
			if w.err != nil {
				t.Fatal(w.err)
			}
			if !slices.Equal(w.offsets, c.want) || strings.Join(w.ranges, " ") != c.ranges {
				t.Errorf("offsets %v in %v, want %v in %s", w.offsets, w.ranges, c.want, c.ranges)
			}
			if w.control != c.control || w.aborted != c.skipped {
				t.Errorf("%d control and %d aborted offsets, want %d and %d", w.control, w.aborted, c.control, c.skipped)
			}
		})
	}
}

func TestRecordSetFields(t *testing.T) {
	b := plainBatch(10, 3)
	if w := walk(b.bytes(), 0, 100, nil); w.epoch != 3 || !slices.Equal(w.times, []int64{testTime, testTime + 10, testTime + 20}) {
		t.Errorf("leader epoch %d, create times %v", w.epoch, w.times)
	}
	b.attrs |= attrLogAppend
	if w := walk(b.bytes(), 0, 100, nil); !slices.Equal(w.times, []int64{testTime + 5000, testTime + 5000, testTime + 5000}) {
		t.Errorf("append times %v", w.times)
	}
}

// TestStretchesAreCut reads a long record set as several stretches without a seam.
func TestStretchesAreCut(t *testing.T) {
	var raw []byte
	var want []int64
	for i := range int64(40) {
		b := plainBatch(2*i, 2)
		b.value = strings.Repeat("x", 50_000)
		raw = append(raw, b.bytes()...)
		want = append(want, 2*i, 2*i+1)
	}
	w := walk(raw, 0, 1000, nil)
	if w.err != nil || !slices.Equal(w.offsets, want) {
		t.Fatalf("offsets %v, %v", w.offsets, w.err)
	}
	if got := strings.Join(w.ranges, " "); got != "[0,22) [22,44) [44,66) [66,80)" {
		t.Errorf("stretches %s", got)
	}
}

func TestRecordSetErrors(t *testing.T) {
	good := plainBatch(10, 3).bytes()
	zipped := plainBatch(10, 3)
	zipped.attrs = codecLZ4
	odd := func(deltas ...int) []byte { return rawBatch{base: 10, deltas: deltas, lastDelta: 5}.bytes() }
	record := func(body ...byte) []byte { // one record of these bytes
		b := slices.Clone(good[:batchHeaderBytes])
		binary.BigEndian.PutUint32(b[57:], 1)
		b = append(b, body...)
		binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-batchOverhead))
		return seal(b)
	}
	cases := []struct {
		name string
		buf  []byte
		want error
		says string
	}{
		{"a flipped bit", patched(good, len(good)-2, 0xff), ErrCorrupt, "checksum"},
		{"magic 1", patched(good, batchMagicAt, 1), ErrOldFormat, "v0 or v1"},
		{"magic 0", patched(good, batchMagicAt, 0), ErrOldFormat, "v0 or v1"},
		{"magic 3", patched(good, batchMagicAt, 3), ErrCorrupt, "magic byte 3"},
		{"negative base", patched(good, 0, 0xff), ErrCorrupt, "length"},
		{"length below the header", patched(good, batchLengthAt, 0, 0, 0, 48), ErrCorrupt, "length 48"},
		{"negative length", patched(good, batchLengthAt, 0xff), ErrCorrupt, "length -"},
		{"negative last delta", seal(patched(good, 23, 0xff)), ErrCorrupt, "last offset delta"},
		{"offset overflow", seal(patched(good, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), ErrCorrupt, "last offset delta"},
		{"negative count", seal(patched(good, 57, 0xff)), ErrCorrupt, "records"},
		{"more records than bytes", seal(patched(good, 57, 0x7f, 0xff, 0xff, 0xff)), ErrCorrupt, "records in"},
		{"fewer records than bytes", seal(patched(good, 60, 1)), ErrCorrupt, "behind its last record"},
		{"offset beyond the last", odd(0, 6), ErrCorrupt, "offset of record 1"},
		{"offset twice", odd(1, 1), ErrCorrupt, "offset of record 1"},
		{"offset below the base", odd(-1), ErrCorrupt, "offset of record 0"},
		{"record length beyond the batch", record(0x40, 0, 0, 0, 1, 1, 0), ErrCorrupt, "length of record 0"},
		{"negative record length", record(0x01, 0, 0, 0, 1, 1, 0), ErrCorrupt, "length of record 0"},
		{"key beyond the record", record(12, 0, 0, 0, 40, 1, 0), ErrCorrupt, "key of record 0"},
		{"value beyond the record", record(12, 0, 0, 0, 1, 40, 0), ErrCorrupt, "value of record 0"},
		{"more headers than bytes", record(12, 0, 0, 0, 1, 1, 40), ErrCorrupt, "headers of record 0"},
		{"negative headers", record(12, 0, 0, 0, 1, 1, 1), ErrCorrupt, "headers of record 0"},
		{"a varint without an end", record(12, 0, 0x80, 0x80, 0x80, 0x80, 0x80), ErrCorrupt, "record 0"},
		{"unknown codec", seal(patched(good, batchAttrsAt, 0, 5)), ErrCorrupt, "codec"},
		{"plain bytes called gzip", seal(patched(good, batchAttrsAt, 0, codecGzip)), ErrCorrupt, "gzip"},
		{"plain bytes called snappy", seal(patched(good, batchAttrsAt, 0, codecSnappy)), ErrCorrupt, "snappy"},
		{"plain bytes called lz4", seal(patched(good, batchAttrsAt, 0, codecLZ4)), ErrCorrupt, "lz4"},
		{"plain bytes called zstd", seal(patched(good, batchAttrsAt, 0, codecZstd)), ErrCorrupt, "zstd"},
		{"compressed, count changed", seal(patched(zipped.bytes(), 60, 4)), ErrCorrupt, "record 3"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := walk(c.buf, 0, math.MaxInt64, []abortedTxn{{1, 1 << 40}})
			if !errors.Is(w.err, c.want) || !strings.Contains(w.err.Error(), c.says) {
				t.Errorf("error %v, want %v that says %q", w.err, c.want, c.says)
			}
			// What lies before is handed out, and the error comes after it.
			w = walk(append(join(plainBatch(0, 2)), c.buf...), 0, math.MaxInt64, nil)
			if !errors.Is(w.err, c.want) || !slices.Equal(w.offsets, []int64{0, 1}) || len(w.ranges) != 1 || w.ranges[0] != "[0,2)" {
				t.Errorf("behind a good batch: offsets %v in %v, error %v", w.offsets, w.ranges, w.err)
			}
		})
	}
}

func TestControlWithoutType(t *testing.T) {
	b := seal(patched(rawBatch{base: 5, deltas: []int{0}, attrs: attrTxn | attrControl, producer: 7}.bytes(), batchHeaderBytes+4, 1))
	w := walk(append(join(rawBatch{base: 0, deltas: []int{0}, attrs: attrTxn, producer: 7}), b...), 0, 100, []abortedTxn{{7, 0}})
	if !errors.Is(w.err, ErrCorrupt) || !strings.Contains(w.err.Error(), "without a type") {
		t.Errorf("error %v", w.err)
	}
}

// FuzzRecordBatch reads foreign bytes as a record set: whatever they are, offsets ascend within ranges that touch, and
// no batch needs more memory than the bound.
func FuzzRecordBatch(f *testing.F) {
	z := plainBatch(3, 40)
	z.attrs, z.value = codecLZ4, strings.Repeat("ab", 40)
	f.Add(join(plainBatch(0, 3), z), int64(1), int64(30), int64(7), int64(0), true)
	f.Add(join(rawBatch{base: 0, deltas: []int{0}, attrs: attrTxn, producer: 7}, rawBatch{base: 1, deltas: []int{0}, attrs: attrTxn | attrControl, producer: 7}),
		int64(0), int64(10), int64(7), int64(0), false)
	for _, seed := range compressedSeeds(f) {
		f.Add(seed, int64(0), int64(math.MaxInt64), int64(1), int64(1), true)
	}
	const most = 8 << 20
	un := decompressor{limit: most} // one for all, as a leader's goroutine has
	f.Cleanup(un.close)
	f.Fuzz(func(t *testing.T, raw []byte, next, limit, producer, first int64, reseal bool) {
		if reseal { // let mutants past the checksum
			for at := 0; at+batchHeaderBytes <= len(raw); {
				n := int(int32(binary.BigEndian.Uint32(raw[at+batchLengthAt:]))) + batchOverhead
				if n < batchHeaderBytes || n > len(raw)-at {
					break
				}
				seal(raw[at : at+n])
				at += n
			}
		}
		s := recordSet{unzip: &un}
		s.reset(raw, max(next, 0), limit, []abortedTxn{{producer, first}})
		r := newReply()
		defer r.release()
		at := max(next, 0)
		for more := true; more; {
			st := newStretch(0, r)
			var err error
			if more, err = s.fill(st); err != nil {
				st.release()
				return
			}
			check(t, st, at, limit)
			if st.size > int64(len(raw))+3*most+4*largeChunk {
				t.Fatalf("a stretch keeps %d bytes of memory", st.size)
			}
			at = st.End
			st.release()
		}
	})
}

func check(t *testing.T, st *stretch, start, limit int64) {
	t.Helper()
	if st.Start != start || st.End < st.Start || (st.End > st.Start && st.End > limit) {
		t.Fatalf("stretch [%d,%d) after %d, limit %d", st.Start, st.End, start, limit)
	}
	if st.Control+st.Aborted+int64(len(st.Records)) > st.End-st.Start && st.Control+st.Aborted == 0 {
		t.Fatalf("%d records in [%d,%d)", len(st.Records), st.Start, st.End)
	}
	last := st.Start - 1
	for _, rec := range st.Records {
		if rec.Offset <= last && rec.Offset < st.Start || rec.Offset >= st.End {
			t.Fatalf("offset %d after %d in [%d,%d)", rec.Offset, last, st.Start, st.End)
		}
		last = rec.Offset
	}
}

// BenchmarkRecordBatch parses record batches of 1,000 events of 300 bytes.
func BenchmarkRecordBatch(b *testing.B) {
	msgs := make([]*Message, 1000)
	for i := range msgs {
		msgs[i] = &Message{Key: fmt.Appendf(nil, "u%d", i%100), TimestampMs: testTime + int64(i),
			Value: fmt.Appendf(nil, `{"schema_version":3,"event_id":"%016x","event_type":"page_view","payload":{"page":"/home/%d","referrer":"google"},"metadata":{"event_timestamp":"2026-06-04T11:01:23.456Z","trace_id":"%08x","source":"web-frontend"}}`, i*7919, i%50, i*31)}
	}
	for _, zip := range []bool{false, true} {
		b.Run(map[bool]string{false: "none", true: "lz4"}[zip], func(b *testing.B) {
			var enc batchEncoder
			raw := enc.append(nil, msgs, -1, -1, -1)
			if !zip {
				plain := append(slices.Clone(raw[:batchHeaderBytes]), enc.plain...)
				binary.BigEndian.PutUint32(plain[batchLengthAt:], uint32(len(plain)-batchOverhead))
				raw = seal(patched(plain, batchAttrsAt, 0, 0))
			}
			un := decompressor{limit: 1 << 24}
			defer un.close()
			s := recordSet{unzip: &un}
			r := newReply()
			defer r.release()
			b.ReportAllocs()
			b.SetBytes(int64(len(enc.plain)))
			records := 0
			for b.Loop() {
				s.reset(raw, 0, math.MaxInt64, nil)
				st := newStretch(0, r)
				if _, err := s.fill(st); err != nil {
					b.Fatal(err)
				}
				records += len(st.Records)
				st.release()
			}
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// TestNoAllocationPerRecord holds the steady state to a handful of allocations per stretch, whatever its records.
func TestNoAllocationPerRecord(t *testing.T) {
	var raw []byte
	for i := range int64(4) {
		z := plainBatch(500*i, 500)
		z.attrs = codecLZ4
		raw = append(raw, z.bytes()...)
	}
	un := decompressor{limit: 1 << 24}
	defer un.close()
	s := recordSet{unzip: &un}
	r := newReply()
	defer r.release()
	read := 0
	n := testing.AllocsPerRun(200, func() {
		s.reset(raw, 0, math.MaxInt64, nil)
		st := newStretch(0, r)
		if _, err := s.fill(st); err != nil {
			t.Fatal(err)
		}
		read = len(st.Records)
		st.release()
	})
	if read != 2000 || n > 20 {
		t.Errorf("%g allocations for %d records", n, read)
	}
}
