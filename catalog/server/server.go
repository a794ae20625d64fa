package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/objstore"
)

// Server is a catalog with its database: Service for the process itself, Handler for everybody else.
type Server struct {
	store   *sqlstore.Store
	service *Service
	handler http.Handler
}

// New opens the database that cfg.Store names and serves its tables, whose files lie in warehouse.
func New(ctx context.Context, cfg Config, warehouse *objstore.Warehouse, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if warehouse == nil || warehouse.Store == nil {
		return nil, errors.New("catalog: no warehouse is given")
	}
	store, err := sqlstore.Open(ctx, cfg.Store, cfg.SQLite, cfg.Postgres)
	if err != nil {
		return nil, err
	}
	service, err := NewService(store, *warehouse, cfg, log, reg)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &Server{store: store, service: service, handler: NewHandler(service)}, nil
}

// Handler speaks the Iceberg REST protocol under /v1/.
func (s *Server) Handler() http.Handler { return s.handler }

// TLS is what the listener needs; nil when the catalog serves plain HTTP.
func (s *Server) TLS() (*tls.Config, error) {
	c := s.service.cfg.TLS
	if c.Cert == "" {
		return nil, nil
	}
	var clients *tls.Config
	if s.service.who != nil {
		clients = s.service.who.TLS()
	}
	conf, err := auth.ServerTLS(c.Cert, c.Key, clients)
	if err != nil {
		return nil, fmt.Errorf("catalog: tls: %w", err)
	}
	return conf, nil
}

// Service is the catalog for the process itself, without HTTP.
func (s *Server) Service() catalog.Catalog { return s.service }

// EndWatches ends the streams of events, which a shutdown of the HTTP server would wait for.
func (s *Server) EndWatches() { s.service.EndWatches() }

// Export writes all that a catalog can be made of anew: see Service.Export.
func (s *Server) Export(ctx context.Context) (*ExportReport, error) { return s.service.Export(ctx) }

// Restore makes the catalog of what the warehouse holds: see Service.Restore.
func (s *Server) Restore(ctx context.Context, o RestoreOptions) (*RestoreReport, error) {
	return s.service.Restore(ctx, o)
}

// Close writes the metadata files that are due and closes the database. Stop the HTTP server before.
func (s *Server) Close(ctx context.Context) error {
	return errors.Join(s.service.Close(ctx), s.store.Close())
}
