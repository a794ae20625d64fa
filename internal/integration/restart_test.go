//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// TestUpRestart: firn up --demo on one directory, stopped and killed and started again. What the embedded broker had
// acknowledged is in the table, once.
func TestUpRestart(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 1))
	data := filepath.Join(t.TempDir(), "data")
	up := func(args ...string) *process {
		return launch(t, nil, append([]string{"up", "--data", data, "--for", firnLife, "--broker-port", "0", "--catalog-port", "0", "--flight-port", "0", "--http-port", "0"}, args...)...)
	}
	client := func(args ...string) result { return run(t, nil, append(args, "--data", data)...) }
	rows := func() (int64, string) {
		n, err := committed(client("tables", "-o", "json"), table)
		return n, fmt.Sprint(n, " rows ", err)
	}
	before := int64(0)
	for i := range 6 {
		p := up("--demo", "--seed", fmt.Sprint(i+1))
		until(t, "more rows after a start", time.Minute, func() (bool, string) {
			n, says := rows()
			return n > before+2000, says
		})
		time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Second))))
		if n, says := rows(); n < before {
			t.Fatalf("%d rows were there before the restart; now %s", before, says)
		} else {
			before = n
		}
		if i%2 == 0 {
			p.kill()
		} else {
			p.stop()
		}
	}
	// Without the demo nothing new is written, and what the broker has is all committed.
	p := up()
	until(t, "no record waits", time.Minute, func() (bool, string) {
		r := client("status", "-o", "json")
		var s status
		if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || len(s.Pipelines) != 1 {
			return false, r.stdout + r.err
		}
		pl := s.Pipelines[0]
		return pl.Verdict.State == "ok" && pl.LagRecords == 0 && pl.PendingRows == 0, fmt.Sprintf("%+v", pl)
	})
	if n, says := rows(); n < before {
		t.Errorf("%d rows were there before the restarts; now %s", before, says)
	}
	if r := client("audit", table, "--kafka"); r.code != 0 {
		t.Errorf("firn audit: exit code %d\n%s%s", r.code, r.stdout, r.err)
	}
	p.stop()
}
