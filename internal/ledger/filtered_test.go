package ledger

import (
	"errors"
	"reflect"
	"testing"

	"github.com/firnlake/firn/internal/offset"
)

func TestFilteredRoundTrip(t *testing.T) {
	r := sample(40)
	r.Filtered = map[int32]Filtered{}
	for p := int32(0); p < 40; p += 3 {
		var f Filtered
		for o := int64(p); o < 900; o += int64(p)%7 + 1 {
			f.Add(o)
		}
		r.Filtered[p] = f
	}
	m, err := r.Summary()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSummary(m)
	if err != nil || !reflect.DeepEqual(got.Filtered, r.Filtered) {
		t.Fatalf("%+v, %v", got.Filtered, err)
	}
	whole := m[KeyFiltered]
	for _, bad := range []string{"2" + whole[1:], whole[:len(whole)-4], whole + "AA", "1", whole + "!", "1" + whole[9:]} {
		m[KeyFiltered] = bad
		if _, err := ParseSummary(m); bad != "1" && !errors.Is(err, ErrBadRecord) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	r.Filtered[0] = Filtered{First: 5, Count: r.Offsets[0]}
	if _, err := r.Summary(); err == nil {
		t.Error("more were written than the vector leaves room for")
	}
}

// The digest does not depend on order or batches, and tells sets apart that differ in one offset.
func TestFilteredDigest(t *testing.T) {
	var a, b, c, d Filtered
	for o := range int64(1000) {
		a.Add(o)
		if o%2 == 0 {
			b.Add(999 - o)
		} else {
			c.Add(999 - o)
		}
		if o != 500 {
			d.Add(o)
		}
	}
	d.Add(1000)
	if b.Plus(c) != a || c.Plus(b) != a || a.Plus(Filtered{}) != a || (Filtered{}).Plus(a) != a {
		t.Errorf("%+v and %+v make %+v, not %+v", b, c, b.Plus(c), a)
	}
	if d.Count != a.Count || d.Digest == a.Digest || Mix(0) == 0 {
		t.Errorf("%+v is not told from %+v", d, a)
	}
}

func FuzzFiltered(f *testing.F) {
	f.Add("1AAoFAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		v := offset.Vector{0: 100, 1: 20, 5: 1 << 40}
		m, err := decodeFiltered(s, v)
		if err != nil {
			return
		}
		text, err := encodeFiltered(m, v)
		if err != nil {
			t.Fatalf("%s was read as %v and cannot be written: %v", s, m, err)
		}
		if again, err := decodeFiltered(text, v); err != nil || len(m) != len(again) || len(m) > 0 && !reflect.DeepEqual(m, again) {
			t.Errorf("%s: %v, then %v, %v", s, m, again, err)
		}
	})
}
