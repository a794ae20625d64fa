//go:build integration

package integration

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	catalogserver "github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// serveCatalog serves a catalog over wh and returns its URI.
func serveCatalog(t *testing.T, wh *objstore.Warehouse, cfg catalogserver.Config) string {
	t.Helper()
	cfg.Store = "sqlite://" + t.TempDir() + "/catalog.db"
	s, err := catalogserver.New(t.Context(), cfg, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- h.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(h.Shutdown(ctx), s.Close(ctx), wh.Close()); err != nil {
			t.Error(err)
		}
		<-done
	})
	return "http://" + l.Addr().String()
}

// TestOthersUseTheCatalog: PyIceberg and DuckDB create, append, evolve, scan and travel in time through Firn's
// catalog, each reading what the other wrote.
func TestOthersUseTheCatalog(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		wh, err := objstore.Open(t.Context(), "file://"+t.TempDir()+"/warehouse", objstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(pythonRun(t, "interop.py", serveCatalog(t, wh, catalogserver.Config{})))
	})
	t.Run("minio", func(t *testing.T) {
		s := sharedServer(t, "minio")
		s.makeBucket(t, "interop")
		o := s.objstore(t)
		wh, err := objstore.Open(t.Context(), "s3://interop/warehouse", o)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(pythonRun(t, "interop.py", serveCatalog(t, wh, catalogserver.Config{S3: catalogserver.S3Properties{Endpoint: o.Endpoint, Region: o.Region,
			PathStyle: true, VendStaticCredentials: true, AccessKey: o.AccessKey, SecretKey: o.SecretKey}})))
	})
}
