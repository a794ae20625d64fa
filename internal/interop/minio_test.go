//go:build interop

package interop

import (
	"testing"
	"time"
)

// TestListedActsOnMinIO is what PyIceberg, DuckDB and Trino do on a warehouse on S3, with the keys that the catalog hands out.
func TestListedActsOnMinIO(t *testing.T) {
	s3 := minio(t)
	l := startedOn(newLakeOn(t, time.Second, s3), pyiceberg)
	py := l.engine
	l.holdActs("PyIceberg", nil)
	l.engine = duckdb(t, l.uri)
	l.holdActs("DuckDB", nil)
	duck := l.engine
	l.engine = trino(t, l.uri, "TRINO_S3", s3.endpoint, "AWS_ACCESS_KEY_ID", s3.key, "AWS_SECRET_ACCESS_KEY", s3.secret)
	l.holdActs("Trino", nil)
	l.commitAtOnce(py, py, l.engine, 3)
	l.holdPast(py, duck, l.engine)
}
