//go:build integration

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// keys reads the random keys that the script gave the server.
func (s *server) keys(t *testing.T) (access, secret string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		k, v, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		switch k {
		case "MINIO_ROOT_USER":
			access = v
		case "MINIO_ROOT_PASSWORD":
			secret = v
		}
	}
	return access, secret
}

// makeBucket creates a bucket over S3, as an operator would.
func (s *server) makeBucket(t *testing.T, name string) {
	t.Helper()
	access, secret := s.keys(t)
	c, err := minio.New(s.addr(), &minio.Options{Creds: credentials.NewStaticV4(access, secret, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *server) objstore(t *testing.T) objstore.Options {
	access, secret := s.keys(t)
	return objstore.Options{Endpoint: "http://" + s.addr(), Region: "us-east-1", AccessKey: units.NewSecret(access), SecretKey: units.NewSecret(secret)}
}
