//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/nettest"
)

// TestPlainCatalog: the main job over Iceberg's own reference REST catalog, which keeps no history, gives no lean answers
// and commits one table after the other: ingest, compaction, queries and a rewind, with Firn killed and the catalog away
// in between. Nothing is lost, nothing doubled.
func TestPlainCatalog(t *testing.T) {
	dir := t.TempDir()
	warehouse := filepath.Join(dir, "warehouse")
	cat := &server{kind: "rest-catalog", dir: filepath.Join(dir, "catalog"), port: nettest.FreePorts(t, 1), extra: []string{warehouse}}
	cat.start(t)
	defer cat.stop(t)
	config, data := filepath.Join(dir, "firn.yaml"), filepath.Join(dir, "data")
	text := fmt.Sprintf("warehouse: file://%s\ncatalog: {uri: \"http://%s\"}\n", warehouse, cat.addr())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	up := func() *process {
		return launch(t, nil, "up", "--demo", "-c", config, "--data", data, "--for", firnLife, "--broker-port", "0", "--flight-port", "0", "--http-port", "0")
	}
	client := func(args ...string) result {
		return run(t, nil, append(args, "--data", data, "--catalog", "http://"+cat.addr())...)
	}
	more := func(what string) {
		t.Helper()
		before, _ := committed(client("tables", "-o", "json"), table)
		until(t, what, time.Minute, func() (bool, string) {
			n, err := committed(client("tables", "-o", "json"), table)
			return n > max(before, 0)+4000, fmt.Sprint(n, " rows, ", before, " before, ", err)
		})
	}
	audit := func() {
		t.Helper()
		if r := client("audit", table, "--kafka"); r.code != 0 {
			t.Errorf("firn audit: exit code %d\n%s%s", r.code, r.stdout, r.err)
		}
	}
	for range 3 {
		p := up()
		more("rows after a start")
		p.kill()
	}
	p := up()
	more("rows after the last start")
	cat.stop(t)
	time.Sleep(3 * time.Second)
	cat.start(t)
	more("rows after the catalog was away")
	audit()

	var snaps []struct {
		ID int64 `json:"snapshot_id"`
	}
	if err := json.Unmarshal([]byte(client("snapshots", table, "-o", "json", "-n", "8").stdout), &snaps); err != nil || len(snaps) != 8 {
		t.Fatalf("%d snapshots, %v", len(snaps), err)
	}
	if r := client("rewind", table, "--to-snapshot", fmt.Sprint(snaps[7].ID), "--yes"); r.code != 0 {
		t.Fatalf("firn rewind: exit code %d\n%s%s", r.code, r.stdout, r.err)
	}
	more("rows after a rewind")
	audit()
	if r := run(t, nil, "sql", "--data", data, "-o", "csv", "SELECT count(*) - count(DISTINCT (_kafka_partition, _kafka_offset)) FROM "+table); r.code != 0 || lastWord(r.stdout) != "0" {
		t.Errorf("doubled rows: exit code %d, %s%s", r.code, r.stdout, r.err)
	}
	offsets := client("offsets", table, "-o", "json")
	var o struct {
		Epoch int64
	}
	if err := json.Unmarshal([]byte(offsets.stdout), &o); err != nil || o.Epoch != 1 {
		t.Errorf("epoch %d, %v: %s%s", o.Epoch, err, offsets.stdout, offsets.err)
	}
	p.stop()
}

func lastWord(s string) string {
	words := strings.Fields(s)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}
