//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// quietTime is how long a stopped pipeline is watched: it must not change its table in it.
const quietTime = 2 * time.Second

// fetchUnderWay is longer than a broker keeps a fetch with nothing to answer. One that a frozen process had sent before
// would otherwise bring it the records that are about to go.
const fetchUnderWay = 500 * time.Millisecond

// TestTopicAgain: the topic is deleted and made again, with fewer records than were read and with more, under a running
// ingest and under one that is down. Its offsets mean other records now: Firn stops, loudly, until a person has decided.
func TestTopicAgain(t *testing.T) {
	for _, c := range []struct {
		name    string
		share   float64 // of what was read before
		running bool
	}{{"fewer", 0.3, true}, {"more", 2.5, true}, {"fewer-down", 0.3, false}, {"more-down", 2.5, false}} {
		t.Run(c.name, func(t *testing.T) {
			const records = 2000
			r := newRig(t, "again-"+c.name)
			w := r.ingest(way{interval: rigInterval})
			r.write(records)
			w.start(t)
			r.settled("before", w)
			if !c.running {
				w.kill()
			}
			head, rows, err := r.head(t.Context(), table)
			if err != nil {
				t.Fatal(err)
			}
			r.prod.remakeTopic(rigPartitions)
			r.write(int(records * c.share))
			if !c.running {
				w.start(t)
			}
			r.untilStopped(w, "the topic is not the one that was read before")
			w.kill()
			w.start(t)
			r.untilStopped(w, "the topic is not the one that was read before")
			time.Sleep(quietTime)
			if id, n, err := r.head(t.Context(), table); err != nil || id != head || n != rows {
				t.Errorf("a stopped pipeline changed its table from %d (%d rows) to %d (%d rows), %v", head, rows, id, n, err)
			}
			if c.share > 1 {
				r.resolvesTo(w, rows, "--this-topic")
			}
		})
	}
}

// resolvesTo takes the way out of a stop that the docs name, at the log's end, and sees that what is written from there
// on arrives without a restart.
func (r *rig) resolvesTo(w *worker, rows int64, args ...string) {
	r.t.Helper()
	var to []string
	for p, o := range r.prod.ends() {
		to = append(to, fmt.Sprintf("%d:%d", p, o))
	}
	plan := r.must(append([]string{"offsets", "resolve", table, "--to", strings.Join(to, " ")}, args...)...)
	if !strings.Contains(plan, "--yes") {
		r.t.Errorf("the plan does not say how to do it:\n%s", plan)
	}
	r.must(append([]string{"offsets", "resolve", table, "--to", strings.Join(to, " "), "--yes"}, args...)...)
	before, _ := r.prod.visible()
	r.write(500)
	after, _ := r.prod.visible()
	r.untilCommitted(rows+after-before, time.Minute)
	w.untilState(r.t, 30*time.Second, "ok")
}

// write writes n events.
func (r *rig) write(n int) {
	r.t.Helper()
	if err := r.prod.write(n); err != nil {
		r.t.Fatal(err)
	}
}

// untilStopped waits until a pipeline has stopped, and holds that it is loud: reason and remedy in the state and in the
// log, not ready, and a metric that says it.
func (r *rig) untilStopped(w *worker, reason string) {
	t := r.t
	t.Helper()
	// The reader and the recovery after it say it in their own words; both name the page or the command.
	says := func(text string) bool {
		return strings.Contains(text, reason) && (strings.Contains(text, "docs/exactly-once.md") || strings.Contains(text, "firn offsets resolve"))
	}
	w.untilState(t, 45*time.Second, "stopped")
	_, cause, err := w.verdict(t.Context())
	if err != nil || !says(cause) {
		t.Errorf("the state gives %q, %v; it should name %q and a remedy", cause, err, reason)
	}
	if log := w.out.String(); !strings.Contains(log, "pipeline does not run") || !says(log) {
		t.Errorf("the log does not name %q and a remedy:\n%s", reason, tail(log, 20))
	}
	if body, code, err := get(t.Context(), "http://"+w.http+"/readyz"); err != nil || code != 503 || !strings.Contains(body, reason) {
		t.Errorf("/readyz answers %d %q, %v", code, body, err)
	}
	body, _, err := get(t.Context(), "http://"+w.http+"/metrics")
	if err != nil || !strings.Contains(body, `firn_pipeline_state{pipeline="user-events",state="stopped"} 1`) {
		t.Errorf("no metric says that the pipeline stopped, %v", err)
	}
	if res := r.client("status", "--http", w.http); res.code != 5 || !strings.Contains(res.stdout+res.err, reason) {
		t.Errorf("firn status: exit code %d\n%s%s", res.code, res.stdout, res.err)
	}
	if res := r.client("offsets", table, "--explain", "--http", w.http); !says(res.stdout) || !strings.Contains(res.stdout, "stopped") {
		t.Errorf("firn offsets --explain: exit code %d\n%s%s", res.code, res.stdout, res.err)
	}
}

// TestRetentionOvertakes: Kafka drops records that were not read, while ingest is down and while it stands still. Firn
// stops instead of going on behind the gap.
func TestRetentionOvertakes(t *testing.T) {
	for _, c := range []struct {
		name         string
		pause, awake func(*worker, *testing.T)
	}{
		{"down", func(w *worker, _ *testing.T) { w.kill() }, func(w *worker, t *testing.T) { w.start(t) }},
		{"frozen", func(w *worker, t *testing.T) { w.signal(t, syscall.SIGSTOP) }, func(w *worker, t *testing.T) { w.signal(t, syscall.SIGCONT) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, "retention-"+c.name)
			w := r.ingest(way{interval: rigInterval})
			r.write(2000)
			w.start(t)
			r.settled("before", w)
			c.pause(w, t)
			time.Sleep(fetchUnderWay)
			head, rows, err := r.head(t.Context(), table)
			if err != nil {
				t.Fatal(err)
			}
			r.write(1000)
			gone := r.prod.ends()
			r.write(500)
			gone[0], gone[1] = gone[0]-3, 1 // one cut within what was not read, one within what was
			r.prod.deleteRecords(gone)
			c.awake(w, t)
			r.untilStopped(w, "kafka no longer holds")
			time.Sleep(quietTime)
			// Partitions whose log still holds the next offset may have gone on; nothing of them may be there twice.
			_, n, err := r.head(t.Context(), table)
			if err != nil || n < rows {
				t.Errorf("%d rows after the stop, %d before (snapshot %d), %v", n, rows, head, err)
			}
			r.distinct(n)
			r.resolvesTo(w, n)
		})
	}
}

// TestRetentionGapIsRecorded: with on_gap: record ingest goes on behind what Kafka no longer holds, and each offset that
// was written is a row, a dead letter or in the gaps table, once.
func TestRetentionGapIsRecorded(t *testing.T) {
	r := newRig(t, "retention-recorded")
	w := r.ingest(way{interval: rigInterval, onGap: "record"})
	r.write(2000)
	w.start(t)
	r.settled("before", w)
	w.kill()
	r.write(1000)
	gone := r.prod.ends()
	r.write(500)
	gone[0], gone[1] = gone[0]-3, 1
	r.prod.deleteRecords(gone)
	w.start(t)
	written := int64(0)
	for _, end := range r.prod.ends() {
		written += end
	}
	var report struct {
		Verdict    string
		Rows       int64
		Distinct   int64
		Partitions []struct {
			DeadLetters int64 `json:"dead_letters"`
			Gaps        int64
		}
		Problems []struct{ Kind string }
	}
	dead, missing := int64(0), int64(0)
	until(t, "all is told apart", time.Minute, func() (bool, string) {
		res := r.client("audit", table, "--kafka", "-o", "json")
		if err := json.Unmarshal([]byte(res.stdout), &report); err != nil {
			return false, err.Error() + res.err
		}
		dead, missing = 0, 0
		for _, p := range report.Partitions {
			dead, missing = dead+p.DeadLetters, missing+p.Gaps
		}
		return report.Rows+dead+missing == written, res.stdout
	})
	if report.Rows != report.Distinct || missing == 0 || report.Verdict == "clean" {
		t.Errorf("of %d: %+v", written, report)
	}
	for _, p := range report.Problems {
		if p.Kind != "retention_gap" {
			t.Errorf("%+v", report)
		}
	}
	w.untilState(t, 30*time.Second, "ok")
	body, _, err := get(t.Context(), "http://"+w.http+"/metrics")
	if want := fmt.Sprintf("firn_ingest_gap_offsets_total{pipeline=\"user-events\"} %d", missing); err != nil || !strings.Contains(body, want) {
		t.Errorf("the metrics do not say %s, %v", want, err)
	}
	if res := r.client("status", "--http", w.http); !strings.Contains(res.stdout, "retention") {
		t.Errorf("firn status does not name the gap:\n%s%s", res.stdout, res.err)
	}
}

// distinct asks the audit without the log whether the table's rows are that many, and distinct.
func (r *rig) distinct(rows int64) {
	r.t.Helper()
	res := r.client("audit", table, "-o", "json")
	if want := fmt.Sprintf("\"rows\": %d,\n  \"distinct\": %d,", rows, rows); !strings.Contains(res.stdout, want) {
		r.t.Errorf("firn audit does not say %q: exit code %d\n%s%s", want, res.code, res.stdout, res.err)
	}
}

// signal sends a signal to a running process.
func (w *worker) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
}

// TestTransactions: producers that commit, abort, and die with a transaction open, beside one without transactions, while
// ingest is killed. What was committed is there once, what was aborted is not, and what waits behind an open
// transaction comes when that is decided.
func TestTransactions(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 4))
	r := newRig(t, "transactions")
	w := r.ingest(way{interval: rigInterval})
	w.start(t)
	for i := range 60 {
		tx := r.transactional(fmt.Sprintf("tx-%d", i%3))
		for range 1 + rnd.IntN(3) {
			r.inTransaction(tx, 1+rnd.IntN(40), rnd.IntN(3) > 0)
		}
		if rnd.IntN(3) == 0 {
			r.write(1 + rnd.IntN(30))
		}
		if rnd.IntN(8) == 0 { // it dies in a transaction; the next of its name ends that
			if err := tx.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			recs, _ := r.prod.records(1 + rnd.IntN(20))
			if err := tx.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		tx.Close()
		if i%6 == 5 {
			w.kill()
			w.start(t)
		}
	}
	for i := range 3 { // what the dead left open
		r.inTransaction(r.transactional(fmt.Sprintf("tx-%d", i)), 1, true)
	}
	r.settled("180 transactions", w)

	open := r.transactional("open")
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	recs, _ := r.prod.records(200) // into every partition
	if err := open.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	_, before, err := r.head(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	r.write(300)
	time.Sleep(quietTime)
	w.untilState(t, 10*time.Second, "ok")
	if _, n, err := r.head(t.Context(), table); err != nil || n != before {
		t.Errorf("%d rows while a transaction is open, %d before it, %v", n, before, err)
	}
	w.kill()
	w.start(t)
	if err := open.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	r.settled("an open transaction that is aborted", w)
}

// transactional is a client for transactions; it ends with the test.
func (r *rig) transactional(id string) *kgo.Client {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(r.topic+"-"+id),
		kgo.TransactionTimeout(time.Minute))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	return cl
}

// inTransaction writes n events in one transaction; they count when it is committed.
func (r *rig) inTransaction(cl *kgo.Client, n int, commit bool) {
	r.t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		r.t.Fatal(err)
	}
	recs, rows := r.prod.records(n)
	if err := cl.ProduceSync(r.t.Context(), recs...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
	if err := cl.EndTransaction(r.t.Context(), kgo.TransactionEndTry(commit)); err != nil {
		r.t.Fatal(err)
	}
	if commit {
		r.prod.rows += rows
		r.prod.dead += int64(n) - rows
	}
}
