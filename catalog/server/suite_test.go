package server_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// fixture is a server over a warehouse.
type fixture struct {
	*server.Server
	wh  *objstore.Warehouse
	cfg server.Config
}

// memory is a server whose database and warehouse end with the test.
func memory(t *testing.T) *fixture {
	t.Helper()
	return start(t, server.Config{Store: "sqlite::memory:"}, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
}

// disk is a server in a directory of its own.
func disk(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	wh, err := objstore.Open(t.Context(), "file://"+dir+"/warehouse", objstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wh.Close() })
	return start(t, server.Config{Store: "sqlite://" + dir + "/catalog.db"}, wh)
}

// elsewhere, when it is set, puts the database of a test in another place than the test says.
var elsewhere func(*testing.T, server.Config) server.Config

func start(t *testing.T, cfg server.Config, wh *objstore.Warehouse) *fixture {
	t.Helper()
	if elsewhere != nil {
		cfg = elsewhere(t, cfg)
	}
	s, err := server.New(t.Context(), cfg, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &fixture{s, wh, cfg}
}

// dial serves the fixture over HTTP and connects to it.
func (f *fixture) dial(t *testing.T) *client.Client {
	t.Helper()
	srv := httptest.NewServer(f.Handler())
	t.Cleanup(srv.Close)
	c, err := client.New(t.Context(), client.Config{URI: srv.URL, Token: units.NewSecret(f.cfg.Token.Reveal())}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var all = catalogtest.Features{Transactions: true, History: true, Kept: true, Watched: true, Nested: true, Versions: true, Lean: true}

// overHTTP is what the client has besides.
var overHTTP = func() catalogtest.Features { f := all; f.Views = true; return f }()

func TestSuiteInProcess(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		catalogtest.Run(t, func(t *testing.T) catalog.Catalog { return memory(t).Service() }, all)
	})
	t.Run("disk", func(t *testing.T) {
		catalogtest.Run(t, func(t *testing.T) catalog.Catalog { return disk(t).Service() }, all)
	})
}

func TestSuiteOverHTTP(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		catalogtest.Run(t, func(t *testing.T) catalog.Catalog { return memory(t).dial(t) }, overHTTP)
	})
	t.Run("disk", func(t *testing.T) {
		catalogtest.Run(t, func(t *testing.T) catalog.Catalog { return disk(t).dial(t) }, overHTTP)
	})
}
