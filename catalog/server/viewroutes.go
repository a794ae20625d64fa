package server

import (
	"fmt"
	"net/http"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
)

func (h *handler) listViews(r *request) (reply, error) {
	return h.list(r, h.s.listViews)
}

func (h *handler) createView(r *request) (reply, error) {
	var body wire.CreateView
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	r.table = body.Name
	v, err := h.s.createView(r.Context(), r.id(), body)
	return h.view(r, "create", v, err)
}

func (h *handler) registerView(r *request) (reply, error) {
	var body wire.RegisterTable
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	r.table = body.Name
	v, err := h.s.registerView(r.Context(), r.id(), body.MetadataLocation)
	return h.view(r, "register", v, err)
}

func (h *handler) loadView(r *request) (reply, error) {
	v, err := h.s.loadView(r.Context(), r.id())
	return h.view(r, "load", v, err)
}

func (h *handler) replaceView(r *request) (reply, error) {
	var body wire.CommitView
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	if body.Identifier != nil && body.Identifier.ID().String() != r.id().String() {
		return reply{}, fmt.Errorf("%w: the path names view %s, the body %s", catalog.ErrInvalid, r.id(), body.Identifier.ID())
	}
	v, err := h.s.commitView(r.Context(), r.id(), body.Requirements, body.Updates)
	return h.view(r, "commit", v, err)
}

// view answers with a view, or with what went wrong.
func (h *handler) view(r *request, what string, v sqlstore.View, err error) (reply, error) {
	if err != nil {
		return reply{}, fmt.Errorf("%s view %s: %w", what, r.id(), err)
	}
	return ok(wire.LoadTable{MetadataLocation: &v.MetadataLocation, Metadata: v.Body, Config: h.properties(r)}), nil
}

func (h *handler) viewExists(r *request) (reply, error) {
	return reply{http.StatusNoContent, nil}, h.s.viewExists(r.Context(), r.id())
}

func (h *handler) dropView(r *request) (reply, error) {
	return reply{http.StatusNoContent, nil}, h.s.dropView(r.Context(), r.id())
}

func (h *handler) renameView(r *request) (reply, error) {
	var body wire.Rename
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	return reply{http.StatusNoContent, nil}, h.s.renameView(r.Context(), body.Source.ID(), body.Destination.ID())
}
