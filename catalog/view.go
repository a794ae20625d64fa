package catalog

import (
	"context"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/view"
)

// View is a view's state as the catalog gave it.
type View struct {
	Identifier       Identifier
	Metadata         view.Metadata
	MetadataLocation string
}

// ViewDefinition is what a version of a view says.
type ViewDefinition struct {
	// Schema of the view's rows. Ids of its fields are the caller's.
	Schema *iceberg.Schema
	// SQL is the SELECT statement for each dialect ("spark", "trino"), at least one. Dialects are compared without case.
	SQL map[string]string
	// DefaultNamespace and DefaultCatalog complete names in the statements; an empty catalog is the view's own.
	DefaultNamespace Identifier
	DefaultCatalog   string
	// Summary says by whom and why it was made, for people.
	Summary map[string]string
	// At is when it was made; zero is now.
	At time.Time
}

// CreateView says what a new view is like.
type CreateView struct {
	ViewDefinition
	Location   string // of its metadata files; empty: the catalog chooses one under the warehouse
	Properties map[string]string
}

// ViewCommit changes a view: all requirements must hold, then all updates take effect.
type ViewCommit struct {
	Identifier   Identifier
	Requirements view.Requirements
	Updates      view.Updates
}

// Viewer is what a catalog can do besides that keeps views. Firn's own client does; all methods give ErrUnsupported
// where the server keeps none. The rules of Catalog hold: safe for concurrent use, obeying ctx, never retried.
type Viewer interface {
	ListViews(ctx context.Context, ns Identifier) ([]Identifier, error)
	// CreateView gives ErrExists when a view or a table has the name.
	CreateView(ctx context.Context, id Identifier, req CreateView) (*View, error)
	// LoadView gives ErrNoSuchView also for a table.
	LoadView(ctx context.Context, id Identifier) (*View, error)
	// ReplaceView makes d what the view says, whatever it says by now. ErrConflict when the name means another view than was
	// does; a definition that takes a dialect away is ErrInvalid unless the view's properties allow it. Going back to what an
	// earlier version says makes that version the current one again.
	ReplaceView(ctx context.Context, was *View, d ViewDefinition) (*View, error)
	// CommitView applies updates of the protocol, such as properties.
	CommitView(ctx context.Context, c ViewCommit) (*View, error)
	// RenameView gives ErrExists when a view or a table has the new name.
	RenameView(ctx context.Context, from, to Identifier) error
	// DropView removes the view. Its metadata files may stay.
	DropView(ctx context.Context, id Identifier) error
}
