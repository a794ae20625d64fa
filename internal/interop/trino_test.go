//go:build interop

package interop

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/nettest"
)

// trino is a server over the catalog at an address, and its driver. env goes to the script.
func trino(t *testing.T, uri string, env ...string) *driver {
	t.Helper()
	python, err := script("venv.sh")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(env); i += 2 {
		t.Setenv(env[i], env[i+1])
	}
	t.Setenv("FIRN_OWNER", strconv.Itoa(os.Getpid()))
	dir := filepath.Join(t.TempDir(), "trino")
	at, err := script("trino.sh", "start", dir, strconv.Itoa(nettest.FreePorts(t, 1)), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := script("trino.sh", "stop", dir); err != nil {
			t.Error(err)
		}
		if said, err := os.ReadFile(filepath.Join(dir, "log")); t.Failed() {
			t.Logf("Trino's log: %s %v", tail(string(said), 60), err)
		}
	})
	return startDriver(t, "Trino", python, "trino_acts.py", at)
}

// TestTrino is Trino 476 at a table that Firn writes, at tables of a past time, and at a table of its own.
func TestTrino(t *testing.T) {
	l := started(t, time.Second, func(t *testing.T, uri string) *driver { return trino(t, uri) })
	l.holdActs("Trino")
	l.holdReads("Trino")
	l.holdPast(l.engine)
	py := pyiceberg(t, l.uri)
	l.commitAtOnce(py, py, l.engine, 3)
	l.engine.always = args("table", table)
	l.does(adds("append", 5, nil), false)
	l.does(removes("delete", 0, 10, 40, 0, nil), false) // by position: merge-on-read
}
