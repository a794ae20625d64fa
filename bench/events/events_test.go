package events

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/firnlake/firn/engine/decode"
)

func TestEventsAreOfTheDemosSize(t *testing.T) {
	in := New(1, 10_000, 1000)
	if avg := in.Bytes / int64(in.Events); avg < 310 || avg > 326 {
		t.Errorf("%d bytes on average, 318 is what the figures say", avg)
	}
}

func TestOneSeedGivesTheSameBytes(t *testing.T) {
	a, b, c := New(7, 100, 30), New(7, 100, 30), New(8, 100, 30)
	last := func(l *Log) []byte { r := l.Fetches[len(l.Fetches)-1].Records; return r[len(r)-1].Value }
	if !bytes.Equal(last(a), last(b)) || bytes.Equal(last(a), last(c)) {
		t.Error("the seed does not decide the bytes")
	}
	if f := a.Fetches[3]; f.Start != 90 || f.End != 100 || len(f.Records) != 10 {
		t.Errorf("last stretch [%d,%d) of %d records", f.Start, f.End, len(f.Records))
	}
}

// Values lie in one buffer, and none reaches into the next.
func TestValuesLieInOneBuffer(t *testing.T) {
	want, got := New(7, 3, 1), New(7, 3, 3).Fetches[0].Records
	for i, r := range got {
		if !bytes.Equal(r.Value, want.Fetches[i].Records[0].Value) || cap(r.Value) != len(r.Value) {
			t.Errorf("value %d: %q, room for %d bytes", i, r.Value, cap(r.Value))
		}
		if i > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(r.Value))) != uintptr(unsafe.Pointer(unsafe.SliceData(got[i-1].Value)))+uintptr(len(got[i-1].Value)) {
			t.Errorf("value %d does not follow the one before", i)
		}
	}
}

func TestContractIsOne(t *testing.T) {
	if _, err := decode.LoadContract(Contract()); err != nil {
		t.Fatal(err)
	}
}
