package decode

import (
	"errors"
	"fmt"
	"slices"

	"github.com/firnlake/firn/internal/registry"
)

// Schemas knows the schemas that events were written with, by the id in front of them. It waits for a registry that is
// away for a bounded time; only registry.ErrNotFound and registry.ErrUnusable say something about the schema, any other
// error says that it cannot be told now.
type Schemas interface {
	Schema(id uint32) (registry.Schema, error)
}

const (
	// maxPlans bounds the plans of writers' schemas that are kept, by id; the next one starts the cache over.
	maxPlans = 500
	// maxSeen bounds the schema ids that a batch names.
	maxSeen = 16
)

// byID is what a decoder has made of the registry's schemas, by their ids.
type byID[P any] struct {
	made   map[uint32]*P
	last   uint32 // whose lastOf is, when there is one
	lastOf *P
	seen   []uint32 // ids of the present batch
}

// begin begins a batch.
func (s *byID[P]) begin() { s.lastOf, s.seen = nil, s.seen[:0] }

// forget has all made anew.
func (s *byID[P]) forget() {
	s.lastOf = nil
	clear(s.made)
}

// latest is what was made of the schema that the event before named, if that is this one.
func (s *byID[P]) latest(id uint32) *P {
	if s.last == id {
		return s.lastOf
	}
	return nil
}

// of gives what was made of a schema, by make if need be: nil when make gives nil, or when the schema cannot be had now, which is the
// error. A failure is why the events of one that the registry does not have give no rows; it is not kept, for the registry may come to
// know it, and remembers for a while by itself that it does not.
func (s *byID[P]) of(id uint32, schemas Schemas, make func(uint32, registry.Schema) *P) (*P, failure, error) {
	p := s.made[id]
	if p == nil {
		raw, err := schemas.Schema(id)
		if err != nil {
			fail, err := schemaFailure(id, err)
			return nil, fail, err
		}
		if p = make(id, raw); p == nil {
			return nil, failure{}, nil
		}
		s.keep(id, p)
	}
	s.last, s.lastOf = id, p
	if len(s.seen) < maxSeen && !slices.Contains(s.seen, id) {
		s.seen = append(s.seen, id)
	}
	return p, failure{}, nil
}

func (s *byID[P]) keep(id uint32, p *P) {
	if s.made == nil {
		s.made = map[uint32]*P{}
	}
	if len(s.made) >= maxPlans {
		clear(s.made)
	}
	s.made[id] = p
}

// schemaFailure says why the events of a schema that was not to be had give no rows; an error where that cannot be told now.
func schemaFailure(id uint32, err error) (failure, error) {
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return failure{reason: ReasonUnknownSchema, message: fmt.Sprintf("the schema registry does not know id %d", id)}, nil
	case errors.Is(err, registry.ErrUnusable):
		return failure{reason: ReasonUnusableSchema, message: cut(err.Error(), maxMessage)}, nil
	}
	return failure{}, err
}
