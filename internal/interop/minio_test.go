//go:build interop

package interop

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/nettest"
)

// TestListedActsOnMinIO is what PyIceberg, DuckDB and Trino do on a warehouse on S3, with temporary keys to each table that the
// catalog gets for them.
func TestListedActsOnMinIO(t *testing.T) {
	s3 := minio(t)
	l := startedOn(newLakeOn(t, time.Second, s3), pyiceberg)
	py := l.engine
	l.holdActs("PyIceberg")
	l.holdReads("PyIceberg")
	l.engine = duckdb(t, l.uri)
	l.holdActs("DuckDB")
	l.holdReads("DuckDB")
	duck := l.engine
	l.engine = trino(t, l.uri, "TRINO_S3", s3.endpoint)
	l.holdActs("Trino")
	l.holdReads("Trino")
	l.commitAtOnce(py, py, l.engine, 3)
	l.holdPast(py, duck, l.engine)
}

// minio starts a server with a bucket.
func minio(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{name: "lake"}
	port := nettest.FreePorts(t, 1)
	b.endpoint = "http://" + loopback(port)
	t.Setenv("FIRN_OWNER", strconv.Itoa(os.Getpid()))
	dir := filepath.Join(t.TempDir(), "minio")
	b.dir = dir
	if _, err := script("minio.sh", "start", dir, strconv.Itoa(port), b.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := script("minio.sh", "stop", dir); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(filepath.Join(dir, "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		switch k, v, _ := strings.Cut(strings.TrimSpace(line), "="); k {
		case "MINIO_ROOT_USER":
			b.key = v
		case "MINIO_ROOT_PASSWORD":
			b.secret = v
		}
	}
	return b
}
