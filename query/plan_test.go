package query

import (
	"testing"

	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
)

// TestInFiles: a row beyond the snapshot's vector is in none of its files, whatever their statistics allow.
func TestInFiles(t *testing.T) {
	t.Parallel()
	committed := &pinned{Pin: Pin{Committed: offset.Vector{0: 100, 1: 50}}}
	one := func(p int32, at int64) past.Rows {
		return past.Rows{From: offset.Vector{p: at}, To: offset.Vector{p: at + 1}}
	}
	for name, c := range map[string]struct {
		p     *pinned
		r     past.Rows
		of    int32
		at    int64
		holds bool
		none  bool // and nothing else either: no manifest is read
	}{
		"the last committed":      {committed, one(1, 49), 1, 49, true, false},
		"the first that is not":   {committed, one(1, 50), 1, 50, false, true},
		"a partition not seen":    {committed, one(2, 0), 2, 0, false, true},
		"from on":                 {committed, past.Rows{From: offset.Vector{0: 100}}, 0, 100, false, false},
		"from on, another":        {committed, past.Rows{From: offset.Vector{0: 100}}, 1, 49, true, false},
		"all, as of other engine": {committed, past.Rows{}, 7, 1, true, false},
		"not Firn's table":        {&pinned{Pin: Pin{Committed: offset.Vector{}}}, one(1, 50), 1, 50, true, false},
		"the past of a table":     {&pinned{Pin: Pin{Committed: offset.Vector{1: 40}}, below: offset.Vector{1: 40}}, one(1, 45), 1, 45, false, true},
	} {
		r := c.p.inFiles(c.r)
		if r.Holds(c.of, c.at) != c.holds || r.None() != c.none {
			t.Errorf("%s: holds %t, none %t", name, r.Holds(c.of, c.at), r.None())
		}
	}
}
