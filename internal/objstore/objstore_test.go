package objstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/objstore/objtest"
)

func TestMemory(t *testing.T) {
	objtest.Run(t, func(*testing.T) objstore.Store { return objstore.NewMemory() })
}

func TestLocal(t *testing.T) {
	objtest.Run(t, func(t *testing.T) objstore.Store { return local(t, t.TempDir()) })
}

func local(t *testing.T, dir string) *objstore.Local {
	t.Helper()
	s, err := objstore.NewLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestLocalStaysInside(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	s := local(t, dir)
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Get(t.Context(), "link/secret", 1<<30); err == nil {
		t.Fatalf("a symbolic link led outside: %q", b)
	}
	if _, err := s.Put(t.Context(), "link/new", strings.NewReader("x"), objstore.Overwrite); err == nil {
		t.Fatal("a symbolic link led a write outside")
	}
}

func TestLocalLeavesNoTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	s := local(t, dir)
	for range 3 {
		_, _ = s.Put(t.Context(), "a/b", strings.NewReader("x"), objstore.IfAbsent)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "a"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d files, %v; want the object alone", len(entries), err)
	}
	if err := s.Delete(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !os.IsNotExist(err) {
		t.Fatal("the empty directory stayed")
	}
}

func TestKey(t *testing.T) {
	for _, c := range []struct{ uri, loc, key string }{
		{"file:///w", "file:///w/t/data/x.parquet", "t/data/x.parquet"},
		{"file:///w/", "file:/w/t/x", "t/x"},
		{"s3://lake/warehouse", "s3a://lake/warehouse/t/x", "t/x"},
		{"s3://lake", "s3://lake/t%20x/y", "t%20x/y"},
		{"s3://lake/warehouse", "s3://lake/warehouse2/t/x", ""},
		{"s3://lake/warehouse", "s3://other/warehouse/t/x", ""},
		{"s3://lake/warehouse", "s3://lake/warehouse", ""},
		{"s3://lake/warehouse", "s3://lake/warehouse/../x", ""},
		{"s3://lake/warehouse", "s3://lake/warehouse/%2e%2e/x", ""},
		{"file:///w", "/w/t/x", ""},
		{"file:///w", "http://169.254.169.254/latest", ""},
	} {
		w := objstore.Warehouse{URI: strings.TrimRight(c.uri, "/")}
		key, err := w.Key(c.loc)
		if key != c.key && c.key != "" || (err == nil) != (c.key != "") {
			t.Errorf("%s in %s: %q, %v; want %q", c.loc, c.uri, key, err, c.key)
		}
		if err != nil && !errors.Is(err, objstore.ErrOutsideRoot) && !errors.Is(err, objstore.ErrBadKey) {
			t.Errorf("%s: %v", c.loc, err)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, bad := range []string{"", "lake", "s3://", "file://host/x", "gs://lake/x", "s3://lake/../x"} {
		if _, err := objstore.Open(t.Context(), bad, objstore.Options{}); err == nil || !strings.Contains(err.Error(), "s3://bucket/prefix") {
			t.Errorf("%q: %v: want an error that shows the right form", bad, err)
		}
	}
	if _, err := objstore.Open(t.Context(), "s3://lake/w", objstore.Options{Endpoint: "localhost:9000"}); err == nil || !strings.Contains(err.Error(), "http://host:port") {
		t.Errorf("endpoint without scheme: %v", err)
	}
	dir := t.TempDir()
	w, err := objstore.Open(t.Context(), "file://"+dir+"/w/", objstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if p, ok := w.LocalPath("t/x"); !ok || p != filepath.Join(dir, "w", "t", "x") {
		t.Errorf("local path %q", p)
	}
	if key, err := w.Key(w.Location("t/x")); err != nil || key != "t/x" {
		t.Errorf("%q, %v", key, err)
	}
}

func TestS3Unreachable(t *testing.T) {
	s, err := objstore.NewS3(objstore.S3Config{Options: objstore.Options{Endpoint: "http://127.0.0.1:1"}, Bucket: "lake"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "k", 1<<30); !errors.Is(err, objstore.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	_, err = s.Put(t.Context(), "k", strings.NewReader("x"), objstore.IfAbsent)
	if !errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, objstore.ErrUnknownResult) {
		t.Errorf("put: %v: a refused connection wrote nothing for sure", err)
	}
}
