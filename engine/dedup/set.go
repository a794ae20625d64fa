package dedup

import (
	"math/bits"

	"github.com/zeebo/xxh3"
)

// id is the hash of an event's id; the zero value stands for none.
type id = xxh3.Uint128

// set holds ids in an open-addressed table: 16 bytes a slot, at most three quarters of which are taken. It is never taken from.
// The table grows by half, so between a half and three quarters are taken: 21 to 32 bytes an id.
type set struct {
	slots []id
	n     int
}

// minSlots is the first table of a set.
const minSlots = 64

// find is where h is, or the free slot where it belongs.
func (s *set) find(h id) int {
	at, _ := bits.Mul64(h.Hi, uint64(len(s.slots)))
	i := int(at)
	for s.slots[i] != (id{}) && s.slots[i] != h {
		if i++; i == len(s.slots) {
			i = 0
		}
	}
	return i
}

func (s *set) has(h id) bool { return s.n > 0 && s.slots[s.find(h)] == h }

// add tells whether h was not there.
func (s *set) add(h id) bool {
	if 4*(s.n+1) > 3*len(s.slots) {
		s.grow()
	}
	i := s.find(h)
	if s.slots[i] == h {
		return false
	}
	s.slots[i] = h
	s.n++
	return true
}

func (s *set) grow() {
	old := s.slots
	s.slots = make([]id, max(minSlots, len(old)+len(old)/2))
	for _, h := range old {
		if h != (id{}) {
			s.slots[s.find(h)] = h
		}
	}
}

// bytes is the memory of the table.
func (s *set) bytes() int64 { return 16 * int64(len(s.slots)) }
