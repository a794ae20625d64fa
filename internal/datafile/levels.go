package datafile

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// scratch is memory that a column's writer uses again and again.
type scratch struct {
	defs, reps []uint8
	positions  []int32
	slots      [2][]slot
	v32        []uint32
	v64        []uint64
	fixed      []byte
	encoded    []byte
	packed     []byte
}

// slot is one value to come while levels are worked out: a position in the array at hand, or -1 when something above is
// null or an empty list, and the levels so far.
type slot struct {
	at       int32
	def, rep uint8
}

// stretch is the values of some rows of a leaf: which of them are there and the levels of all.
type stretch struct {
	array arrow.Array // that the positions are in
	// positions of the values that are there; nil: n in a row from first on.
	positions []int32
	first, n  int
	levels    int // how many values and nulls
	defs      []uint8
	reps      []uint8
}

func (s *stretch) at(i int) int {
	if s.positions != nil {
		return int(s.positions[i])
	}
	return s.first + i
}

// levels works out the levels of rows [from, to) of a column, and which values are there (Dremel, as in the Parquet
// format's "Nested Encoding").
func (l *leaf) levels(a arrow.Array, from, to int, s *scratch) (stretch, error) {
	if l.flat {
		return l.flatLevels(a, from, to, s)
	}
	in := s.slots[0][:0]
	for i := from; i < to; i++ {
		in = append(in, slot{at: int32(i)})
	}
	out := s.slots[1][:0]
	rep := uint8(0)
	for _, n := range l.nodes {
		if err := l.valid(n, a, in); err != nil {
			return stretch{}, err
		}
		switch n.down {
		case wayStruct:
			a = a.(*array.Struct).Field(n.child)
		case wayList, wayMap:
			rep++
			lists := a.(array.ListLike)
			out = expand(out[:0], in, lists, rep)
			in, out = out, in
			if n.down == wayList {
				a = lists.ListValues()
			} else {
				a = lists.ListValues().(*array.Struct).Field(n.child)
			}
		}
	}
	s.slots = [2][]slot{in, out}
	return l.collect(a, in, s), nil
}

// valid raises the definition level of the slots that are there at a nullable node, and ends those that are not.
func (l *leaf) valid(n node, a arrow.Array, slots []slot) error {
	if a.NullN() == 0 && !n.nullable {
		return nil
	}
	for i := range slots {
		x := &slots[i]
		switch {
		case x.at < 0:
		case a.IsNull(int(x.at)) && !n.nullable:
			return fmt.Errorf("column %s: a required value is null", l.col.Path())
		case a.IsNull(int(x.at)):
			x.at = -1
		case n.nullable:
			x.def++
		}
	}
	return nil
}

// expand puts a slot for each element in the place of a list; an empty one leaves one that is ended.
func expand(out, in []slot, lists array.ListLike, rep uint8) []slot {
	for _, x := range in {
		if x.at < 0 {
			out = append(out, x)
			continue
		}
		start, end := lists.ValueOffsets(int(x.at))
		if start == end {
			out = append(out, slot{-1, x.def, x.rep})
			continue
		}
		for at := start; at < end; at++ {
			out = append(out, slot{int32(at), x.def + 1, x.rep})
			x.rep = rep
		}
	}
	return out
}

func (l *leaf) collect(a arrow.Array, slots []slot, s *scratch) stretch {
	s.defs, s.reps, s.positions = grown(s.defs, len(slots)), grown(s.reps, len(slots)), s.positions[:0]
	if s.positions == nil {
		s.positions = []int32{}
	}
	for i, x := range slots {
		s.defs[i], s.reps[i] = x.def, x.rep
		if x.at >= 0 {
			s.positions = append(s.positions, x.at)
		}
	}
	return stretch{array: a, positions: s.positions, n: len(s.positions), levels: len(slots), defs: s.defs, reps: s.reps}
}

// flatLevels is levels without lists: the positions are those of the rows. Columns without nulls, which is most of them,
// cost nothing for each row.
func (l *leaf) flatLevels(a arrow.Array, from, to int, s *scratch) (stretch, error) {
	out := stretch{first: from, n: to - from, levels: to - from}
	full, nulls := uint8(0), false
	for i, n := range l.nodes {
		if i > 0 {
			a = a.(*array.Struct).Field(l.nodes[i-1].child)
		}
		if a.NullN() > 0 && !nulls {
			nulls = true
			s.defs = grown(s.defs, to-from)
			for i := range s.defs {
				s.defs[i] = full
			}
		}
		if nulls {
			for i, def := range s.defs {
				switch {
				case def != full:
				case a.IsValid(from + i):
					if n.nullable {
						s.defs[i]++
					}
				case !n.nullable:
					return out, fmt.Errorf("column %s: a required value is null", l.col.Path())
				default:
					s.defs[i] |= ended
				}
			}
		}
		if n.nullable {
			full++
		}
	}
	out.array = a
	if !nulls {
		s.defs = grown(s.defs, to-from)
		for i := range s.defs {
			s.defs[i] = full
		}
		out.defs = s.defs
		return out, nil
	}
	s.positions = s.positions[:0]
	for i, def := range s.defs {
		s.defs[i] = def &^ ended
		if def == full {
			s.positions = append(s.positions, int32(from+i))
		}
	}
	if len(s.positions) < out.n { // all there after all: nulls lay in other rows
		out.positions, out.n = s.positions, len(s.positions)
		if out.positions == nil {
			out.positions = []int32{}
		}
	}
	out.defs = s.defs
	return out, nil
}

// ended marks the level of a row that is null further up, so that it does not look like one that is there.
const ended = 0x80
