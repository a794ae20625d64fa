package offset

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func roundTrip(t *testing.T, v, last Vector, ranges []Range) int {
	t.Helper()
	vs, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeVector(vs)
	if err != nil || !got.Equal(v) {
		t.Fatalf("vector %v came back as %v, %v", v, got, err)
	}
	rs, err := EncodeRanges(ranges, v)
	if err != nil {
		t.Fatal(err)
	}
	gotR, err := DecodeRanges(rs, v)
	if err != nil || !slices.Equal(gotR, ranges) {
		t.Fatalf("ranges %v came back as %v, %v", ranges, gotR, err)
	}
	ls, err := EncodeLastRows(last, v)
	if err != nil {
		t.Fatal(err)
	}
	gotL, err := DecodeLastRows(ls, v)
	if err != nil || !maps.Equal(gotL, last) {
		t.Fatalf("last rows %v came back as %v, %v", last, gotL, err)
	}
	return len(vs) + len(rs) + len(ls)
}

func TestCodecRoundTrips(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, 0))
	roundTrip(t, Vector{}, Vector{}, []Range{})
	roundTrip(t, Vector{math.MaxInt32: math.MaxInt64, 3: 0}, Vector{math.MaxInt32: 0},
		[]Range{{Partition: math.MaxInt32, Start: 0, End: math.MaxInt64, LeaderEpoch: math.MaxInt32}})
	for range 2000 {
		v, last, ranges := Vector{}, Vector{}, []Range{}
		for range rnd.IntN(20) {
			v[int32(rnd.IntN(30))] = rnd.Int64() >> rnd.IntN(64)
		}
		for _, p := range v.Partitions() {
			if rnd.IntN(3) > 0 {
				ranges = append(ranges, Range{p, v[p] - rnd.Int64N(v[p]+1)>>rnd.IntN(63), v[p], int32(rnd.IntN(3)) - 1})
			}
			if v[p] > 0 && rnd.IntN(3) > 0 {
				last[p] = rnd.Int64N(v[p])
			}
		}
		roundTrip(t, v, last, ranges)
	}
}

func TestCodecIsSmall(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 0))
	total := 0
	const rounds = 50
	for range rounds {
		v, last, ranges := Vector{}, Vector{}, []Range{}
		for p := range int32(256) {
			v[p] = 40_000_000 + rnd.Int64N(8_000)
			last[p] = v[p] - 1
			ranges = append(ranges, Range{p, v[p] - rnd.Int64N(60), v[p], 4})
		}
		total += roundTrip(t, v, last, ranges)
	}
	t.Logf("256 partitions: %d bytes a snapshot", total/rounds)
	if total/rounds > 900 {
		t.Errorf("%d bytes a snapshot, want at most 900", total/rounds)
	}
}

func TestCodecRefuses(t *testing.T) {
	good, _ := Vector{0: 5, 1: 300}.Encode()
	for _, s := range []string{"", "1", "2AAA", good[1:], good[:len(good)-1], good + "A", good + "AA", "1!", "1" + "_____w8A", good + "\n"} {
		if v, err := DecodeVector(s); !errors.Is(err, ErrCodec) {
			t.Errorf("%q decoded to %v, %v", s, v, err)
		}
	}
	v := Vector{0: 5}
	for _, rs := range [][]Range{{{0, 1, 4, -1}}, {{1, 0, 0, -1}}, {{0, 6, 5, -1}}, {{0, 1, 5, -1}, {0, 1, 5, -1}}, {{0, -1, 5, -1}}, {{0, 1, 5, -2}}} {
		if s, err := EncodeRanges(rs, v); err == nil {
			t.Errorf("ranges %v were coded as %q", rs, s)
		}
	}
	for _, last := range []Vector{{0: 5}, {1: 0}, {0: -1}} {
		if s, err := EncodeLastRows(last, v); err == nil {
			t.Errorf("last rows %v were coded as %q", last, s)
		}
	}
	if s, err := (Vector{0: -1}).Encode(); err == nil {
		t.Errorf("a negative offset was coded as %q", s)
	}
}

func FuzzCodec(f *testing.F) {
	v := Vector{0: 5, 1: 300, 9: 1 << 40}
	vs, _ := v.Encode()
	rs, _ := EncodeRanges([]Range{{1, 100, 300, 2}}, v)
	ls, _ := EncodeLastRows(Vector{0: 4}, v)
	f.Add(vs, rs, ls)
	f.Fuzz(func(t *testing.T, vs, rs, ls string) {
		v, err := DecodeVector(vs)
		if err != nil {
			return
		}
		if again, err := v.Encode(); err != nil || again != vs {
			t.Fatalf("%q decodes and encodes to %q, %v", vs, again, err)
		}
		if ranges, err := DecodeRanges(rs, v); err == nil {
			if again, err := EncodeRanges(ranges, v); err != nil || again != rs {
				t.Fatalf("%q decodes and encodes to %q, %v", rs, again, err)
			}
		}
		if rows, err := DecodeLastRows(ls, v); err == nil {
			if again, err := EncodeLastRows(rows, v); err != nil || again != ls {
				t.Fatalf("%q decodes and encodes to %q, %v", ls, again, err)
			}
		}
	})
}
