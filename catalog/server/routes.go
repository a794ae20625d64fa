package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
)

func (h *handler) config(r *request) (reply, error) {
	defaults := h.properties(r)
	if h.who != nil && h.who.Issues() {
		defaults["token-exchange-enabled"] = "false" // Iceberg's Java client asks for a new token with its secret instead
	}
	return ok(wire.Config{Defaults: defaults, Overrides: map[string]string{}, Endpoints: h.listed,
		KeyLifetime: isoDuration(h.s.cfg.IdempotencyLifetime.D())}), nil
}

// page reads pageToken and pageSize. A client that sends no token gets everything, as the protocol asks.
func (h *handler) page(r *request) (sqlstore.Page, error) {
	q := r.URL.Query()
	if !q.Has("pageToken") {
		return sqlstore.Page{}, nil
	}
	p := sqlstore.Page{Limit: h.s.cfg.MaxPage}
	if v := q.Get("pageSize"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return p, fmt.Errorf("%w: pageSize %q is not a positive number", catalog.ErrInvalid, v)
		}
		p.Limit = min(n, p.Limit)
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Get("pageToken"))
	if err == nil && len(after) > 0 { // it is the last name of the page before: what is none has an answer of its own in each database
		err = checkName(string(after))
	}
	if err != nil {
		return p, fmt.Errorf("%w: pageToken is none that this catalog gave: begin again with an empty one", catalog.ErrInvalid)
	}
	p.After = string(after)
	return p, nil
}

// filtered is a page of those names that keep lets through. Pages of the store are read until it is full: a short page
// would tell how many names are hidden, and a token of a hidden one its name.
func filtered(page sqlstore.Page, keep func(catalog.Identifier) bool, read func(sqlstore.Page) ([]catalog.Identifier, bool, error)) (out []catalog.Identifier, more bool, err error) {
	if keep == nil {
		return read(page)
	}
	for {
		ids, more, err := read(page)
		if err != nil {
			return nil, false, err
		}
		for _, id := range ids {
			if !keep(id) {
				continue
			}
			if page.Limit > 0 && len(out) == page.Limit {
				return out, true, nil
			}
			out = append(out, id)
		}
		if !more || len(ids) == 0 {
			return out, false, nil
		}
		page.After = ids[len(ids)-1].Name()
	}
}

func nextPage(ids []catalog.Identifier, more bool) *string {
	if !more || len(ids) == 0 {
		return nil
	}
	t := base64.RawURLEncoding.EncodeToString([]byte(ids[len(ids)-1].Name()))
	return &t
}

func (h *handler) listNamespaces(r *request) (reply, error) {
	page, err := h.page(r)
	if err != nil {
		return reply{}, err
	}
	var parent catalog.Identifier
	if p := r.URL.Query().Get("parent"); p != "" {
		parent = wire.DecodeNamespace(p)
	}
	ids, more, err := filtered(page, r.keeps(seesNamespace), func(p sqlstore.Page) ([]catalog.Identifier, bool, error) {
		return h.s.listNamespaces(r.Context(), parent, p)
	})
	if err != nil {
		return reply{}, err
	}
	out := wire.Namespaces{Namespaces: make([][]string, len(ids)), Next: nextPage(ids, more)}
	for i, id := range ids {
		out.Namespaces[i] = id
	}
	return ok(out), nil
}

func (h *handler) createNamespace(r *request) (reply, error) {
	var body wire.Namespace
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	if err := h.s.CreateNamespace(r.Context(), body.Namespace, body.Properties); err != nil {
		return reply{}, err
	}
	body.Properties = h.s.placed(body.Namespace, body.Properties)
	return ok(body), nil
}

func (h *handler) loadNamespace(r *request) (reply, error) {
	props, err := h.s.LoadNamespace(r.Context(), r.ns)
	return ok(wire.Namespace{Namespace: r.ns, Properties: props}), err
}

func (h *handler) namespaceExists(r *request) (reply, error) {
	_, err := h.s.LoadNamespace(r.Context(), r.ns)
	return reply{http.StatusNoContent, nil}, err
}

func (h *handler) dropNamespace(r *request) (reply, error) {
	return reply{http.StatusNoContent, nil}, h.s.DropNamespace(r.Context(), r.ns)
}

func (h *handler) updateNamespace(r *request) (reply, error) {
	var body wire.UpdateProperties
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	c, err := h.s.UpdateNamespace(r.Context(), r.ns, body.Removals, body.Updates)
	list := func(s []string) []string { return append([]string{}, s...) } // never null in JSON
	return ok(wire.UpdatedProperties{Updated: list(c.Updated), Removed: list(c.Removed), Missing: list(c.Missing)}), err
}

func (h *handler) listTables(r *request) (reply, error) {
	return h.list(r, h.s.listTables)
}

// list answers with a page of the tables or the views of a namespace.
func (h *handler) list(r *request, of func(context.Context, catalog.Identifier, sqlstore.Page) ([]catalog.Identifier, bool, error)) (reply, error) {
	page, err := h.page(r)
	if err != nil {
		return reply{}, err
	}
	ids, more, err := filtered(page, r.keeps(seesTable), func(p sqlstore.Page) ([]catalog.Identifier, bool, error) {
		return of(r.Context(), r.ns, p)
	})
	if err != nil {
		return reply{}, err
	}
	out := wire.Tables{Identifiers: make([]wire.TableIdentifier, len(ids)), Next: nextPage(ids, more)}
	for i, id := range ids {
		out.Identifiers[i] = wire.NewTableIdentifier(id)
	}
	return ok(out), nil
}

func (h *handler) createTable(r *request) (reply, error) {
	var body wire.CreateTable
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	r.table = body.Name
	req := catalog.CreateTable{Schema: body.Schema, Location: body.Location, Properties: body.Properties}
	if body.Partition != nil {
		req.Partition = &body.Partition.PartitionSpec
	}
	if body.WriteOrder != nil {
		req.SortOrder = &body.WriteOrder.SortOrder
	}
	if body.Stage {
		m, err := h.s.StageTable(r.Context(), r.id(), req) // leaves no receipt, as it has no effect
		if err != nil {
			return reply{}, err
		}
		return h.staged(r, m, req.Location == "")
	}
	l, err := h.s.create(r.Context(), r.id(), req)
	if err != nil {
		return reply{}, fmt.Errorf("create table %s: %w", r.id(), err)
	}
	return h.changed(r, l, "create table", true)
}

func (h *handler) registerTable(r *request) (reply, error) {
	var body wire.RegisterTable
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	r.table = body.Name
	l, err := h.s.register(r.Context(), r.id(), body.MetadataLocation, body.Overwrite)
	if err != nil {
		return reply{}, fmt.Errorf("register table %s: %w", r.id(), err)
	}
	return h.changed(r, l, "register table", true)
}

// loaded answers with metadata in the library's form. location is nil for a table that is only staged.
func (h *handler) loaded(r *request, m table.Metadata, location *string) (reply, error) {
	doc, err := json.Marshal(m)
	if err != nil {
		return reply{}, fmt.Errorf("encode metadata: %w", err)
	}
	return ok(wire.LoadTable{MetadataLocation: location, Metadata: doc, Config: h.properties(r)}), nil
}

// table answers with a table's state: lean to Firn itself, from a metadata file to everybody else.
func (h *handler) table(r *request, l *lean, config bool) (reply, error) {
	var out wire.LoadTable
	if config {
		out.Config = h.properties(r)
	}
	if r.lean() {
		st, err := l.state()
		if err != nil {
			return reply{}, err
		}
		if loc := l.head.MaterializedLocation; loc != "" {
			out.MetadataLocation = &loc
		}
		out.Metadata = compose(st)
		r.out.Header().Set(wire.VersionHeader, strconv.FormatInt(l.head.Version, 10))
		return ok(out), nil
	}
	d, err := h.s.expose(r.Context(), l.head.ID, l.head.Version)
	if err != nil {
		return reply{}, err
	}
	lent := false
	if config {
		if lent, err = h.lend(r, l.head.ID, l.meta.Location(), &out); err != nil {
			return reply{}, err
		}
	}
	out.MetadataLocation, out.Metadata = &d.location, d.full
	refs := r.URL.Query().Get("snapshots") == "refs"
	if refs {
		out.Metadata = d.refs
	}
	r.out.Header().Set(wire.VersionHeader, strconv.FormatInt(d.version, 10))
	if lent { // no tag: a client that was told to keep its answer would keep keys that have ended
		return ok(out), nil
	}
	tag := h.etag(r, d, refs)
	r.out.Header().Set("ETag", tag)
	if notModified(r.Request, tag) {
		return reply{http.StatusNotModified, nil}, nil
	}
	return ok(out), nil
}

func (h *handler) loadTable(r *request) (reply, error) {
	switch r.URL.Query().Get("snapshots") {
	case "", "all", "refs":
	default:
		return reply{}, fmt.Errorf("%w: snapshots=%q: use all or refs", catalog.ErrInvalid, r.URL.Query().Get("snapshots"))
	}
	if r.lean() && r.URL.Query().Get("snapshots") == "all" {
		return h.loadAll(r)
	}
	if r.past != nil && !r.lean() { // Firn's own processes ask AS OF
		return h.loadPast(r)
	}
	l, err := h.s.current(r.Context(), r.id())
	if err != nil {
		return reply{}, fmt.Errorf("load table: %w", err)
	}
	return h.table(r, l, true)
}

// loadAll is Firn's own load of every snapshot: it needs no metadata file.
func (h *handler) loadAll(r *request) (reply, error) {
	if err := checkTableName(r.id()); err != nil {
		return reply{}, fmt.Errorf("load table: %w", err)
	}
	st, err := h.s.store.Load(r.Context(), r.id(), sqlstore.Scope{AllSnapshots: true, FullLog: true, MetadataLog: h.s.cfg.MetadataLog})
	if err != nil {
		return reply{}, fmt.Errorf("load table: %w", err)
	}
	out := wire.LoadTable{Metadata: compose(st), Config: h.properties(r)}
	if st.MaterializedLocation != "" {
		out.MetadataLocation = &st.MaterializedLocation
	}
	r.out.Header().Set(wire.VersionHeader, strconv.FormatInt(st.Version, 10))
	return ok(out), nil
}

func (h *handler) tableExists(r *request) (reply, error) {
	if r.past != nil && !r.lean() {
		return h.pastExists(r)
	}
	return reply{http.StatusNoContent, nil}, h.s.TableExists(r.Context(), r.id())
}

func (h *handler) commitTable(r *request) (reply, error) {
	var body wire.CommitTable
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	if body.Identifier != nil && body.Identifier.ID().String() != r.id().String() {
		return reply{}, fmt.Errorf("%w: the path names table %s, the body %s", catalog.ErrInvalid, r.id(), body.Identifier.ID())
	}
	if !creates(body.Requirements) {
		if err := h.s.checkUnmade(r.Context(), r.id()); err != nil {
			return reply{}, fmt.Errorf("commit table: %w", err)
		}
	}
	commits := []catalog.TableCommit{{Identifier: r.id(), Requirements: body.Requirements, Updates: body.Updates}}
	if err := h.s.vet(r.Context(), commits); err != nil {
		return reply{}, fmt.Errorf("commit table: %w", err)
	}
	after, err := h.s.commit(r.Context(), commits)
	if err != nil {
		return reply{}, fmt.Errorf("commit table: %w", err)
	}
	return h.changed(r, after[0], "commit table", false)
}

// changed answers a request that has taken effect. Where the metadata file cannot be written the answer cannot
// say so, and the client must find out rather than take it for refused.
func (h *handler) changed(r *request, l *lean, what string, config bool) (reply, error) {
	rep, err := h.table(r, l, config)
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: %w: it has taken effect, but its metadata file is not written: %w", what, r.id(), catalog.ErrUnknownOutcome, err)
	}
	return rep, nil
}

func (h *handler) commitTransaction(r *request) (reply, error) {
	var body wire.CommitTransaction
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	commits := make([]catalog.TableCommit, len(body.Changes))
	for i, c := range body.Changes {
		if c.Identifier == nil {
			return reply{}, fmt.Errorf("%w: table-changes[%d] has no identifier", catalog.ErrInvalid, i)
		}
		if !creates(c.Requirements) {
			if err := h.s.checkUnmade(r.Context(), c.Identifier.ID()); err != nil {
				return reply{}, fmt.Errorf("commit transaction: %w", err)
			}
		}
		commits[i] = catalog.TableCommit{Identifier: c.Identifier.ID(), Requirements: c.Requirements, Updates: c.Updates}
	}
	if err := h.s.vet(r.Context(), commits); err != nil {
		return reply{}, fmt.Errorf("commit transaction: %w", err)
	}
	return reply{http.StatusNoContent, nil}, h.s.CommitTransaction(r.Context(), commits)
}

func (h *handler) dropTable(r *request) (reply, error) {
	purge, err := strconv.ParseBool(r.URL.Query().Get("purgeRequested"))
	if err != nil && r.URL.Query().Has("purgeRequested") {
		return reply{}, fmt.Errorf("%w: purgeRequested=%q is neither true nor false", catalog.ErrInvalid, r.URL.Query().Get("purgeRequested"))
	}
	if err := h.s.checkUnmade(r.Context(), r.id()); err != nil {
		return reply{}, fmt.Errorf("drop table: %w", err)
	}
	return reply{http.StatusNoContent, nil}, h.s.DropTable(r.Context(), r.id(), purge)
}

func (h *handler) renameTable(r *request) (reply, error) {
	var body wire.Rename
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	if err := h.s.checkUnmade(r.Context(), body.Source.ID()); err != nil {
		return reply{}, fmt.Errorf("rename table: %w", err)
	}
	return reply{http.StatusNoContent, nil}, h.s.RenameTable(r.Context(), body.Source.ID(), body.Destination.ID())
}

// reportMetrics takes what engines say about their scans and keeps nothing of it.
func (h *handler) reportMetrics(r *request) (reply, error) {
	var report struct {
		Type string `json:"report-type"`
	}
	if err := h.decode(r, &report); err != nil {
		return reply{}, err
	}
	if report.Type == "" {
		return reply{}, fmt.Errorf("%w: report-type is missing", catalog.ErrInvalid)
	}
	return reply{http.StatusNoContent, nil}, h.s.TableExists(r.Context(), r.subject())
}
