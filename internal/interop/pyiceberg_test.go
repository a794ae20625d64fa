//go:build integration || interop

package interop

import (
	"errors"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/nettest"
)

func pyiceberg(t *testing.T, uri string) *driver {
	t.Helper()
	bin, err := script("venv.sh")
	if err != nil {
		t.Fatal(err)
	}
	return startDriver(t, "PyIceberg", bin, "pyiceberg_acts.py", uri, table)
}

// TestPyIcebergWhileFirnWrites: what another engine may do to a table that Firn commits to all the while, its compactor as well.
func TestPyIcebergWhileFirnWrites(t *testing.T) {
	t.Parallel()
	l := started(t, time.Second/2, pyiceberg)
	l.role("compact", "--http", loopback(nettest.FreePorts(t, 1)))
	l.pyIcebergActs(false)
}

// TestPyIcebergWhileFirnIsDown: the same to a table whose writer was killed.
func TestPyIcebergWhileFirnIsDown(t *testing.T) {
	t.Parallel()
	l := started(t, time.Second/2, pyiceberg)
	l.pyIcebergActs(true)
}

// pyIcebergActs begins with what leaves every row, so that the audit has to be clean.
func (l *lake) pyIcebergActs(down bool) {
	l.does(act{verb: "set_property", args: args("key", "commit.retry.num-retries", "value", "4")}, down)
	l.does(act{verb: "add_column", args: args("column", "theirs")}, down)
	l.does(act{verb: "compact"}, down)
	back := l.does(act{verb: "rollback", args: args("back", 2), rewinds: true, settle: 4}, down)
	l.does(act{verb: "set_current", args: args("snapshot", back.Was), rewinds: true}, down)
	l.does(act{verb: "remove_ref", args: args("ref", ledger.TagName(pipeline))}, down)
	l.does(act{verb: "expire"}, down)
	l.does(act{verb: "far", args: args("n", 3)}, down)
	l.does(adds("append", 7, nil), down)
	l.does(adds("append", 5, args("absent", true)), down)
	l.does(adds("add_file", 6, nil), down)
	l.does(removes("delete", 0, 10, 40, 0, nil), down)
	l.does(removes("overwrite", 1, 5, 25, 3, args("n", 3)), down)
	l.does(act{verb: "far", args: args("n", 2)}, down)
}

// TestPyIcebergReplacesTheTable: a table that is dropped stops its pipeline, and the pipeline goes on when it is back; in one
// that was created again it begins anew, once it is told to by a start.
func TestPyIcebergReplacesTheTable(t *testing.T) {
	t.Parallel()
	l := started(t, time.Second/2, pyiceberg)
	l.settled("before the drop")

	var dropped answer
	if err := l.engine.ask("drop", nil, &dropped); err != nil {
		t.Fatal(err)
	}
	l.stopsLoudly("is not there")
	if err := l.engine.ask("register", args("where", dropped.Where), nil); err != nil {
		t.Fatal(err)
	}
	l.commits(2)
	l.settled("registered again")

	if err := l.engine.ask("create_again", nil, nil); err != nil {
		t.Fatal(err)
	}
	l.stopsLoudly("uuid is another")
	l.ingestRole.kill()
	l.ingest()
	l.commits(2)
	l.settled("created again, and the pipeline started again")
}

var beside = flag.Duration("beside", 12*time.Second, "how long PyIceberg commits each second beside Firn")

// maxCommitGap is what Firn owes while another engine commits each second.
const maxCommitGap = 3 * time.Second

// TestFirnCommitsBesideForeignCommits: PyIceberg appends each second, and Firn and its compactor get their turns.
func TestFirnCommitsBesideForeignCommits(t *testing.T) {
	l := started(t, time.Second, pyiceberg)
	l.role("compact", "--http", loopback(nettest.FreePorts(t, 1)))
	l.does(adds("append", 1, nil), false) // its imports are done

	end, gaps := make(chan struct{}), make(chan []time.Duration)
	go func() { gaps <- l.gapsUntil(end) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var foreign int64
	for began := time.Now(); time.Since(began) < *beside; <-tick.C {
		switch err := l.engine.ask("append", args("n", 1), nil); {
		case err == nil:
			foreign++
		case !errors.Is(err, errLost): // its loss is not what is measured
			t.Error(err)
		}
	}
	close(end)
	all := <-gaps
	l.prod.mu.Lock()
	l.prod.own += foreign
	l.prod.mu.Unlock()
	l.settled("after the last foreign commit")
	if len(all) == 0 {
		t.Fatal("firn did not commit")
	}
	slices.Sort(all)
	t.Logf("%d foreign commits in %s; %d of firn, gaps of %s at the median and %s at most", foreign, *beside, len(all), all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
	if all[len(all)-1] > maxCommitGap {
		t.Errorf("a gap of %s between two commits of firn; %s is allowed", all[len(all)-1], maxCommitGap)
	}
}

// gapsUntil measures the time between the pipeline's commits, as they become visible, until end is closed; the time that is
// still open then counts as well.
func (l *lake) gapsUntil(end <-chan struct{}) (gaps []time.Duration) {
	last, _, _ := l.tag()
	at := time.Now()
	for {
		select {
		case <-end:
			return append(gaps, time.Since(at))
		case <-time.After(20 * time.Millisecond):
		}
		if now, _, err := l.tag(); err == nil && now != last {
			gaps = append(gaps, time.Since(at))
			last, at = now, time.Now()
		}
	}
}
