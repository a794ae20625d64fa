package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// ownCatalog opens the database and the warehouse of Firn's own catalog, beside a process that may serve them: the
// database keeps the two apart.
func ownCatalog(ctx context.Context, cfg *Config, log *slog.Logger) (srv *server.Server, done func() error, err error) {
	if cfg.Catalog.URI != "" {
		return nil, nil, fmt.Errorf("%w: catalog.uri names a catalog elsewhere: run this where its database is configured (catalog.store)", ErrUsage)
	}
	if err := Local(cfg); err != nil {
		return nil, nil, err
	}
	if cfg.Warehouse == "" { // that of firn up
		cfg.Warehouse = "file://" + filepath.ToSlash(filepath.Join(cfg.Data, "warehouse"))
	}
	wh, err := objstore.Open(ctx, cfg.Warehouse, cfg.objectStore())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if srv, err = server.New(ctx, cfg.Catalog.Config, wh, log, nil); err != nil {
		return nil, nil, errors.Join(err, wh.Close())
	}
	return srv, func() error { return errors.Join(srv.Close(context.WithoutCancel(ctx)), wh.Close()) }, nil
}

// ExportCatalog writes into the warehouse all that a catalog can be made of anew. The report is complete where a
// table failed.
func ExportCatalog(ctx context.Context, cfg *Config, log *slog.Logger) (*server.ExportReport, error) {
	srv, done, err := ownCatalog(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	r, err := srv.Export(ctx)
	return r, errors.Join(err, done())
}

// RestoreCatalog makes the catalog of what the warehouse holds. The report is complete where a table failed.
func RestoreCatalog(ctx context.Context, cfg *Config, o server.RestoreOptions, log *slog.Logger) (*server.RestoreReport, error) {
	srv, done, err := ownCatalog(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	r, err := srv.Restore(ctx, o)
	return r, errors.Join(err, done())
}

// ParseNamedTable reads NAME=LOCATION.
func ParseNamedTable(text string) (server.NamedTable, error) {
	name, place, ok := strings.Cut(text, "=")
	id, err := catalog.ParseIdentifier(name)
	if !ok || place == "" || err != nil || len(id) < 2 {
		return server.NamedTable{}, fmt.Errorf("%w: --table %q: write namespace.table=LOCATION, the location of a table or of one metadata file", ErrUsage, text)
	}
	return server.NamedTable{Name: id, Place: place}, nil
}
