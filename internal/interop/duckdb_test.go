//go:build integration || interop

package interop

import (
	"testing"
	"time"
)

func duckdb(t *testing.T, uri string) *driver {
	t.Helper()
	bin, err := script("venv.sh")
	if err != nil {
		t.Fatal(err)
	}
	return startDriver(t, "DuckDB", bin, "duckdb_acts.py", uri)
}

// TestListedActs: what PyIceberg and DuckDB do with tables of their own and read of past times, while Firn commits.
func TestListedActs(t *testing.T) {
	t.Parallel()
	l := started(t, time.Second/2, pyiceberg)
	py := l.engine
	l.holdActs("PyIceberg")
	l.holdReads("PyIceberg")
	l.engine = duckdb(t, l.uri)
	l.holdActs("DuckDB")
	l.holdReads("DuckDB")
	l.commitAtOnce(py, py, l.engine, 5)
	l.holdPast(py, l.engine)
}
