//go:build interop

package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/nettest"
)

// TestSpark is one session of Spark 3.5 with Iceberg 1.10, at one lake after the other.
func TestSpark(t *testing.T) {
	said, err := script("spark.sh")
	if err != nil {
		t.Fatal(err)
	}
	python, jars, _ := strings.Cut(said, "\n")
	began := time.Now()
	session := startDriver(t, "Spark", python, "spark_acts.py", jars, t.TempDir())
	t.Logf("the session started in %s", time.Since(began).Round(time.Millisecond))
	spark := func(_ *testing.T, uri string) *driver {
		at := *session
		at.always = args("uri", uri, "table", table)
		return &at
	}

	t.Run("its own acts, and past times", func(t *testing.T) {
		l := started(t, time.Second, spark)
		l.sparkOwn()
	})
	t.Run("on MinIO", func(t *testing.T) { // with temporary keys to each table that the catalog gets for it
		l := startedOn(newLakeOn(t, time.Second, minio(t)), spark)
		l.sparkOwn()
	})
	t.Run("while firn writes", func(t *testing.T) {
		l := started(t, time.Second, spark)
		l.role("compact", "--http", loopback(nettest.FreePorts(t, 1)))
		l.sparkActs(false)
	})
	t.Run("while firn is down", func(t *testing.T) {
		l := started(t, time.Second, spark)
		l.sparkActs(true)
	})
	t.Run("cherry-pick of what is there", func(t *testing.T) { cherryPickOfWhatIsThere(t, spark) })
	t.Run("create or replace", func(t *testing.T) { createOrReplace(t, spark) })
}

// sparkOwn is what Spark does with tables of its own, and reads of Firn's.
func (l *lake) sparkOwn() {
	l.t.Helper()
	l.holdActs("Spark")
	l.holdReads("Spark")
	py := pyiceberg(l.t, l.uri)
	l.commitAtOnce(py, py, l.engine, 3)
	l.holdPast(l.engine)
}

// sparkActs begins with what leaves every row, so that the audit has to be clean.
func (l *lake) sparkActs(down bool) {
	l.does(act{verb: "set_property", args: args("key", "commit.retry.num-retries", "value", "4")}, down)
	l.does(act{verb: "add_column", args: args("column", "theirs")}, down)
	l.does(act{verb: "update", args: args("partition", 2, "first", 0, "end", 50)}, down)
	l.does(act{verb: "rewrite_data_files"}, down)
	l.does(act{verb: "rewrite_manifests"}, down)
	back := l.does(act{verb: "rollback", args: args("back", 2), rewinds: true, settle: 4}, down)
	l.does(act{verb: "set_current", args: args("snapshot", back.Was), rewinds: true}, down)
	if down { // in a table that moves, what comes next is never what was picked
		l.does(act{verb: "pick_next", args: args("back", 2), rewinds: true, settle: 4}, down)
		l.does(act{verb: "overwrite_all"}, down) // and this one would take out what Firn wrote meanwhile
	}
	l.does(act{verb: "remove_ref", args: args("ref", ledger.TagName(pipeline))}, down)
	l.does(act{verb: "expire", args: args("retention", down)}, down)
	l.does(act{verb: "expire_by_name"}, down)
	l.does(act{verb: "far", args: args("n", 3)}, down)
	l.does(adds("append", 7, nil), down)
	l.does(adds("append_absent", 5, nil), down)
	l.does(removes("delete", 0, 10, 40, 0, args("mode", "copy-on-write")), down)
	l.does(removes("delete", 3, 20, 30, 0, args("mode", "merge-on-read")), down)
	l.does(act{verb: "rewrite_data_files"}, down)
	l.does(removes("merge", 1, 5, 25, 3, args("n", 3)), down)
	l.does(act{verb: "far", args: args("n", 2)}, down)
}

// cherryPickOfWhatIsThere: after a rollback Firn has read the rows again, and Spark adds those of the abandoned line once
// more. Nobody but a person can say what the table is to hold then; the remedy is a rollback to where the message says.
func cherryPickOfWhatIsThere(t *testing.T, spark func(*testing.T, string) *driver) {
	l := started(t, time.Second, spark)
	back := l.does(act{verb: "rollback", args: args("back", 2), rewinds: true, settle: 4}, false)
	if err := l.engine.ask("cherrypick", args("snapshot", back.Was), nil); err != nil {
		t.Fatal(err)
	}
	l.stopsLoudly("is a cherry-pick of")
	if code, out, _ := l.firn("audit", table); code == 0 || !strings.Contains(out, "doubled_rows") {
		t.Errorf("firn audit: exit code %d: %s", code, out)
	}
	l.setBack()
}

// createOrReplace: nothing of Firn leads to the table as it is then; the remedy is the same.
func createOrReplace(t *testing.T, spark func(*testing.T, string) *driver) {
	l := started(t, time.Second, spark)
	l.settled("before")
	for _, down := range []bool{false, true} {
		if l.commits(1); down {
			l.ingestRole.kill()
		}
		if err := l.engine.ask("replace", nil, nil); err != nil {
			t.Fatal(err)
		}
		if down {
			l.ingest()
		}
		l.stopsLoudly("does not descend from any snapshot of firn")
		l.setBack()
	}
}

// setBack does what the message of a stop says, with the other engine, and Firn goes on without a start.
func (l *lake) setBack() {
	l.t.Helper()
	tag, _, err := l.tag()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.engine.ask("set_current", args("snapshot", tag), nil); err != nil {
		l.t.Fatal(err)
	}
	l.commits(2)
	l.settled("main set back to firn's last snapshot")
}
