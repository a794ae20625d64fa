package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/past"
)

// pastTable is what a name such as events__at_20261124T120007Z asks for. It stands for the table before the time in all that
// is asked about rights and storage.
type pastTable struct {
	base catalog.Identifier
	at   time.Time
	who  *auth.Principal // who asks for it; nil: nobody whom the catalog knows
}

// pastOf reads a name; nil where it has no time in it, or a real table has that very name.
func (s *Service) pastOf(ctx context.Context, id catalog.Identifier) (*pastTable, error) {
	base, at, ok := past.ParseName(id.Name())
	if !ok || checkTableName(id) != nil {
		return nil, nil
	}
	switch _, err := s.store.Head(ctx, id); {
	case err == nil:
		return nil, nil
	case errors.Is(err, catalog.ErrNoSuchTable), errors.Is(err, catalog.ErrNoSuchNamespace):
	default:
		return nil, err
	}
	return &pastTable{base: append(id.Namespace()[:len(id)-1:len(id)-1], base), at: at}, nil
}

// resolvePast finds out whether the table in a request's path is one of a past time.
func (h *handler) resolvePast(e endpoint, r *request) (err error) {
	if strings.Contains(e.path, "{t}") {
		if r.past, err = h.s.pastOf(r.Context(), r.id()); r.past != nil {
			r.past.who = r.who
		}
	}
	return err
}

// subject is the table whose rights and files a request is about.
func (r *request) subject() catalog.Identifier {
	if r.past != nil {
		return r.past.base
	}
	return r.id()
}

// subjectOf is subject for a table that a body names.
func (s *Service) subjectOf(ctx context.Context, id catalog.Identifier) (catalog.Identifier, error) {
	p, err := s.pastOf(ctx, id)
	if p == nil || err != nil {
		return id, err
	}
	return p.base, nil
}

// checkUnmade refuses a change of a table that a past time makes of another one. Of a table that is not there it says so.
func (s *Service) checkUnmade(ctx context.Context, id catalog.Identifier) error {
	p, err := s.pastOf(ctx, id)
	if p == nil || err != nil {
		return err
	}
	if _, err := s.store.Head(ctx, p.base); err != nil {
		return fmt.Errorf("%w: %s", catalog.ErrNoSuchTable, id)
	}
	return fmt.Errorf("%w: %s is table %s as of %s: it can be read and nothing else", catalog.ErrInvalid, id, p.base, p.at.Format(time.RFC3339Nano))
}

// checkNewName refuses to make a table or a view of a name that means another one as of a time. One that has such a name
// from before keeps it, and is what the name means.
func checkNewName(id catalog.Identifier) error {
	if base, at, ok := past.ParseName(id.Name()); ok {
		return fmt.Errorf("%w: the name %s means table %s as of %s: choose one without a time at its end", catalog.ErrInvalid, id, base, at.Format(time.RFC3339Nano))
	}
	return nil
}

// free checks that a name can be taken by a new table or view.
func (s *Service) free(ctx context.Context, id catalog.Identifier, kind string) error {
	if err := checkNewName(id); err != nil {
		return err
	}
	return s.store.Free(ctx, id, kind)
}

// loadPast answers with a table of a past time.
func (h *handler) loadPast(r *request) (reply, error) {
	d, err := h.s.loadPast(r.Context(), r.past)
	if err != nil {
		return reply{}, fmt.Errorf("load table %s: %w", r.id(), err)
	}
	out := wire.LoadTable{MetadataLocation: &d.location, Metadata: d.full, Config: h.properties(r)}
	if _, err := h.lend(r, d.tableID, d.root, &out); err != nil {
		return reply{}, err
	}
	return ok(out), nil
}

// pastExists answers whether a table of a past time could be loaded.
func (h *handler) pastExists(r *request) (reply, error) {
	_, _, err := h.s.stateAt(r.Context(), r.past)
	return reply{http.StatusNoContent, nil}, err
}
