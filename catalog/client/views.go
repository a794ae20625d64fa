package client

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/view"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
)

func (c *Client) viewPath(id catalog.Identifier) string {
	return c.namespacePath(id.Namespace()) + "/views/" + wire.EncodeSegment(id.Name())
}

// viewable checks a request about views before it is sent.
func (c *Client) viewable(what string, id catalog.Identifier, least int) error {
	if err := checkName(id, least); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !c.views {
		return fmt.Errorf("%s %s: %w: %s keeps no views", what, id, catalog.ErrUnsupported, c.at)
	}
	return nil
}

// ListViews implements catalog.Viewer.
func (c *Client) ListViews(ctx context.Context, ns catalog.Identifier) ([]catalog.Identifier, error) {
	if err := c.viewable("list views", ns, 1); err != nil {
		return nil, err
	}
	return c.names(ctx, op{name: "list_views", method: http.MethodGet, path: c.namespacePath(ns) + "/views", about: ns.String()})
}

// CreateView implements catalog.Viewer.
func (c *Client) CreateView(ctx context.Context, id catalog.Identifier, req catalog.CreateView) (*catalog.View, error) {
	if err := c.viewable("create view", id, 2); err != nil {
		return nil, err
	}
	v, err := versionOf(req.ViewDefinition)
	if err != nil {
		return nil, fmt.Errorf("create view %s: %w", id, err)
	}
	v.VersionID, v.SchemaID = view.InitialVersionID, req.Schema.ID
	body := wire.CreateView{Name: id.Name(), Location: req.Location, Schema: req.Schema, Version: v, Properties: req.Properties}
	if body.Properties == nil {
		body.Properties = map[string]string{} // the protocol wants an object, not null
	}
	o := op{name: "create_view", method: http.MethodPost, path: c.namespacePath(id.Namespace()) + "/views", about: id.String(), kind: changes}
	return c.view(ctx, o, id, body)
}

// LoadView implements catalog.Viewer.
func (c *Client) LoadView(ctx context.Context, id catalog.Identifier) (*catalog.View, error) {
	if err := c.viewable("load view", id, 2); err != nil {
		return nil, err
	}
	return c.view(ctx, op{name: "load_view", method: http.MethodGet, path: c.viewPath(id), about: id.String()}, id, nil)
}

// ReplaceView implements catalog.Viewer.
func (c *Client) ReplaceView(ctx context.Context, was *catalog.View, d catalog.ViewDefinition) (*catalog.View, error) {
	v, err := versionOf(d)
	if err != nil {
		return nil, fmt.Errorf("replace view %s: %w", was.Identifier, err)
	}
	return c.CommitView(ctx, catalog.ViewCommit{Identifier: was.Identifier,
		Requirements: view.Requirements{view.AssertViewUUID(was.Metadata.ViewUUID())},
		Updates:      replacing(was.Metadata, v, d.Schema)})
}

// CommitView implements catalog.Viewer.
func (c *Client) CommitView(ctx context.Context, commit catalog.ViewCommit) (*catalog.View, error) {
	id := commit.Identifier
	if err := c.viewable("commit view", id, 2); err != nil {
		return nil, err
	}
	about := wire.NewTableIdentifier(id)
	body := wire.CommitView{Identifier: &about, Requirements: commit.Requirements, Updates: commit.Updates}
	if body.Requirements == nil {
		body.Requirements = view.Requirements{}
	}
	if body.Updates == nil {
		body.Updates = view.Updates{}
	}
	return c.view(ctx, op{name: "commit_view", method: http.MethodPost, path: c.viewPath(id), about: id.String(), kind: commits}, id, body)
}

// RenameView implements catalog.Viewer.
func (c *Client) RenameView(ctx context.Context, from, to catalog.Identifier) error {
	for _, id := range []catalog.Identifier{from, to} {
		if err := c.viewable("rename view", id, 2); err != nil {
			return err
		}
	}
	o := op{name: "rename_view", method: http.MethodPost, path: "/views/rename", about: from.String(), kind: changes}
	_, err := c.call(ctx, o, wire.Rename{Source: wire.NewTableIdentifier(from), Destination: wire.NewTableIdentifier(to)}, nil)
	return err
}

// DropView implements catalog.Viewer.
func (c *Client) DropView(ctx context.Context, id catalog.Identifier) error {
	if err := c.viewable("drop view", id, 2); err != nil {
		return err
	}
	_, err := c.call(ctx, op{name: "drop_view", method: http.MethodDelete, path: c.viewPath(id), about: id.String(), kind: changes}, nil, nil)
	return err
}

// versionOf is a definition in the protocol's words; the ids are still open.
func versionOf(d catalog.ViewDefinition) (*view.Version, error) {
	switch {
	case d.Schema == nil:
		return nil, fmt.Errorf("%w: the view has no schema", catalog.ErrInvalid)
	case len(d.SQL) == 0:
		return nil, fmt.Errorf("%w: the view has no SQL", catalog.ErrInvalid)
	}
	at := d.At
	if at.IsZero() {
		at = time.Now()
	}
	v := &view.Version{TimestampMS: at.UnixMilli(), Summary: view.VersionSummary{}, DefaultCatalog: d.DefaultCatalog,
		DefaultNamespace: append([]string{}, d.DefaultNamespace...)}
	maps.Copy(v.Summary, d.Summary)
	for _, dialect := range slices.Sorted(maps.Keys(d.SQL)) {
		v.Representations = append(v.Representations, view.NewRepresentation(d.SQL[dialect], dialect))
	}
	return v, nil
}

// replacing makes v the current version. A schema or a version that the view has already is named by its id: servers take "the
// last added" only for what they have really added.
func replacing(was view.Metadata, v *view.Version, schema *iceberg.Schema) (updates view.Updates) {
	v.SchemaID = view.LastAddedID
	next := 0
	for _, s := range was.Schemas() {
		if next = max(next, s.ID+1); s.Equals(schema) {
			v.SchemaID = s.ID
		}
	}
	if v.SchemaID == view.LastAddedID {
		updates = append(updates, view.NewAddSchemaUpdate(iceberg.NewSchemaWithIdentifiers(next, schema.IdentifierFieldIDs, schema.Fields()...)))
	}
	for _, have := range was.Versions() {
		if v.VersionID = max(v.VersionID, have.VersionID); have.Equals(v) {
			return append(updates, view.NewSetCurrentVersionUpdate(have.VersionID))
		}
	}
	v.VersionID++
	return append(updates, view.NewAddViewVersionUpdate(v), view.NewSetCurrentVersionUpdate(view.LastAddedID))
}

// view sends a request whose answer carries a view.
func (c *Client) view(ctx context.Context, o op, id catalog.Identifier, body any) (*catalog.View, error) {
	var answer wire.LoadTable // a view is answered in the same shape
	if _, err := c.call(ctx, o, body, &answer); err != nil {
		return nil, err
	}
	m, err := parse("view", answer.Metadata, wholeView)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, badAnswer(o, err))
	}
	v := &catalog.View{Identifier: append(catalog.Identifier{}, id...), Metadata: m}
	if answer.MetadataLocation != nil {
		v.MetadataLocation = *answer.MetadataLocation
	}
	return v, nil
}

// wholeView decodes view metadata and holds that its current version and schema are there.
func wholeView(doc []byte) (view.Metadata, error) {
	m, err := view.ParseMetadataBytes(doc)
	if err != nil {
		return nil, err
	}
	if m.CurrentVersion() == nil {
		return nil, fmt.Errorf("version %d is not there", m.CurrentVersionID())
	}
	m.CurrentSchema() // panics where it is missing
	return m, nil
}
