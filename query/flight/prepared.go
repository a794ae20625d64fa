package flight

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/query"
)

// prepared is one prepared statement. Bound parameters are kept as the IPC bytes that go into its tickets.
type prepared struct {
	query   string
	options wireOptions
	result  *arrow.Schema
	params  *arrow.Schema
	bound   []byte
	used    time.Time
}

// preparedSet holds the prepared statements of all clients, within the bounds of Config. Entries that nobody used
// for the time to live go when room is needed or when they are asked for.
type preparedSet struct {
	max      int
	maxBound int64 // bytes, all statements together
	ttl      time.Duration
	now      func() time.Time

	mu    sync.Mutex
	byID  map[string]*prepared
	bound int64
	swept time.Time
}

func newPreparedSet(c Config, now func() time.Time) *preparedSet {
	return &preparedSet{max: c.MaxHandles, maxBound: int64(c.MaxBound), ttl: c.HandleTTL.D(), now: now, byID: map[string]*prepared{}}
}

// add keeps p and returns its handle, which cannot be guessed.
func (s *preparedSet) add(p prepared) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(len(s.byID) >= s.max)
	if len(s.byID) >= s.max {
		return "", fmt.Errorf("%w: %d prepared statements are open (max_handles): close some", query.ErrLimit, s.max)
	}
	id := rand.Text()
	p.used = s.now()
	s.byID[id] = &p
	return id, nil
}

// get returns a copy; its fields are never changed in place.
func (s *preparedSet) get(id string) (prepared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findLocked(id)
	if err != nil {
		return prepared{}, err
	}
	return *p, nil
}

// bind replaces the bound parameters.
func (s *preparedSet) bind(id string, params []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findLocked(id)
	if err != nil {
		return err
	}
	grow := int64(len(params) - len(p.bound))
	if grow > 0 && s.bound+grow > s.maxBound {
		s.sweepLocked(true)
	}
	if grow > 0 && s.bound+grow > s.maxBound {
		return fmt.Errorf("%w: bound parameters hold %d bytes (max_bound)", query.ErrLimit, s.bound)
	}
	s.bound += grow
	p.bound = params
	return nil
}

// drop forgets the statement; one that is not there is no error, for closing twice is none.
func (s *preparedSet) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(id)
}

func (s *preparedSet) dropLocked(id string) {
	if p := s.byID[id]; p != nil {
		s.bound -= int64(len(p.bound))
		delete(s.byID, id)
	}
}

func (s *preparedSet) findLocked(id string) (*prepared, error) {
	p, now := s.byID[id], s.now()
	if p != nil && now.Sub(p.used) >= s.ttl {
		s.dropLocked(id)
		p = nil
	}
	if p == nil {
		return nil, ErrNoHandle
	}
	p.used = now
	return p, nil
}

// sweepLocked drops the expired: at most once in a hundredth of their life, or at once when room is needed.
func (s *preparedSet) sweepLocked(needed bool) {
	now := s.now()
	if !needed && now.Sub(s.swept) < s.ttl/100 {
		return
	}
	s.swept = now
	for id, p := range s.byID {
		if now.Sub(p.used) >= s.ttl {
			s.dropLocked(id)
		}
	}
}

func (s *preparedSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}
