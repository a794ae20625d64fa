package events

import (
	"bytes"
	"testing"

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

func TestContractIsOne(t *testing.T) {
	if _, err := decode.LoadContract(Contract()); err != nil {
		t.Fatal(err)
	}
}
