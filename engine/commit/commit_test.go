package commit

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

func TestCommitAndRecover(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	st := l.recover(c)
	if len(st.Offsets) != 0 || st.Epoch != 0 || st.SnapshotID != 0 || st.Source != StepNew {
		t.Fatalf("a new table gives %+v", st)
	}
	first := l.commit(c, rng(0, 5, 10), rng(1, 0, 3))
	second := l.commit(c, rng(0, 10, 12), rng(2, 7, 8))
	if first.SnapshotID == 0 || first.SnapshotID == second.SnapshotID || second.Attempts != 1 || second.Files != 1 || second.FileBytes == 0 {
		t.Errorf("committed %+v and %+v", first, second)
	}
	for _, p := range []string{phaseEncode, phaseUpload, phaseManifest, phaseCatalog} {
		if second.Phases[p] <= 0 {
			t.Errorf("phase %s took %s", p, second.Phases[p])
		}
	}
	want := offset.Vector{0: 12, 1: 3, 2: 8}
	st = l.recover(l.committer(l.cat))
	if !st.Offsets.Equal(want) || !second.Offsets.Equal(want) || st.Source != StepHead || st.SnapshotID != second.SnapshotID {
		t.Errorf("recovered %+v, committed %s", st, second.Offsets)
	}
	if !maps.Equal(st.LeaderEpochs, map[int32]int32{0: 3, 2: 3}) {
		t.Errorf("leader epochs %v of the partitions that moved last", st.LeaderEpochs)
	}
	meta := l.meta(l.rows)
	if id := refID(meta, "firn.events"); id == nil || *id != second.SnapshotID {
		t.Errorf("the tag stands at %v", id)
	}
	r, err := record(meta.CurrentSnapshot())
	l.must(err)
	if r.Prev != first.SnapshotID || r.ClusterID != "c1" || r.TopicID != "t1" || r.Kind != ledger.KindIngest || !maps.Equal(r.LastRow, offset.Vector{0: 11, 1: 2, 2: 7}) ||
		len(r.Ranges) != 2 || r.Ranges[0].LeaderEpoch != 3 || r.Watermark.IsZero() {
		t.Errorf("record %+v", r)
	}
	l.wantRows(l.rows, want, func(p int32, o int64) bool { return p == 0 && o >= 5 || p == 1 || p == 2 && o >= 7 })
	for name, ref := range meta.Refs() {
		if name == table.MainBranch && (ref.MinSnapshotsToKeep == nil || *ref.MinSnapshotsToKeep != keepSnapshots || ref.MaxSnapshotAgeMs == nil) {
			t.Errorf("main's retention: %+v", ref)
		}
	}
}

func TestWatermarkNeverFalls(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	var last time.Time
	for i, at := range []time.Duration{time.Hour, 0, 2 * time.Hour, -time.Hour} {
		b := l.batchOf(allRows, rng(0, int64(i), int64(i)+1))
		b.MaxEvent = l.now.Add(at)
		_, err := c.Commit(t.Context(), b)
		release(b)
		l.must(err)
		r, err := record(l.meta(l.rows).CurrentSnapshot())
		l.must(err)
		if r.Watermark.Before(last) {
			t.Errorf("the watermark fell from %s to %s", last, r.Watermark)
		}
		last = r.Watermark
	}
	if want := l.now.Add(2*time.Hour - time.Minute); !last.Equal(want) {
		t.Errorf("watermark %s, want %s", last, want)
	}
}

// TestOffsetsAlone: stretches without a record wait for the next snapshot, and get one of their own after a while.
func TestOffsetsAlone(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 4))
	skip := func(g offset.Range) engine.Committed {
		t.Helper()
		got, err := c.Commit(t.Context(), l.batchOf(skips, g))
		l.must(err)
		return got
	}
	got := skip(rng(0, 4, 6))
	if got.SnapshotID != 0 || !got.Offsets.Equal(offset.Vector{0: 4}) {
		t.Errorf("a stretch without records: %+v; what is on storage ends at 4", got)
	}
	got = l.commit(c, rng(0, 6, 9))
	if !got.Offsets.Equal(offset.Vector{0: 9}) {
		t.Errorf("committed %+v", got)
	}
	r, err := record(l.meta(l.rows).CurrentSnapshot())
	l.must(err)
	if len(r.Ranges) != 1 || r.Ranges[0] != rng(0, 4, 9) {
		t.Errorf("ranges %v", r.Ranges)
	}
	skip(rng(0, 9, 10))
	l.now = l.now.Add(11 * time.Second)
	if got = skip(rng(1, 0, 2)); got.SnapshotID == 0 || got.Files != 0 || !got.Offsets.Equal(offset.Vector{0: 10, 1: 2}) {
		t.Errorf("after the interval: %+v", got)
	}
	if st := l.recover(l.committer(l.cat)); !st.Offsets.Equal(offset.Vector{0: 10, 1: 2}) {
		t.Errorf("recovered %+v", st)
	}
	// What waits needs no more offsets for its turn to come, and nothing waits afterwards.
	nothing := func() engine.Committed {
		t.Helper()
		got, err := c.Commit(t.Context(), &engine.Batch{ID: "nothing", Opened: l.now})
		l.must(err)
		return got
	}
	skip(rng(1, 2, 3))
	if got = nothing(); got.SnapshotID != 0 {
		t.Errorf("before the interval: %+v", got)
	}
	l.now = l.now.Add(11 * time.Second)
	if got = nothing(); got.SnapshotID == 0 || !got.Offsets.Equal(offset.Vector{0: 10, 1: 3}) {
		t.Errorf("an empty batch after the interval: %+v", got)
	}
	l.now = l.now.Add(11 * time.Second)
	if got = nothing(); got.SnapshotID != 0 {
		t.Errorf("nothing waits: %+v", got)
	}
	// What waits is forgotten with the position.
	if got = skip(rng(1, 3, 4)); got.SnapshotID == 0 {
		t.Errorf("after the interval: %+v", got)
	}
	skip(rng(0, 10, 12))
	l.recover(c)
	if got = l.commit(c, rng(0, 10, 13)); !got.Offsets.Equal(offset.Vector{0: 13, 1: 4}) {
		t.Errorf("after recovery: %+v", got)
	}
	l.wantRows(l.rows, offset.Vector{0: 13}, func(_ int32, o int64) bool { return o < 4 || o >= 6 && o < 9 || o >= 10 })
}

func TestRefusesWhatDoesNotContinue(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	b := l.batchOf(allRows, rng(0, 0, 2))
	defer release(b)
	_, err := c.Commit(t.Context(), b)
	isErr(t, err, engine.ErrRewound) // not recovered
	l.recover(c)
	l.commit(c, rng(0, 0, 2))
	for _, g := range []offset.Range{rng(0, 0, 2), rng(0, 1, 3), rng(0, 3, 4)} {
		b := l.batchOf(allRows, g)
		_, err := c.Commit(t.Context(), b)
		release(b)
		isErr(t, err, engine.ErrRewound)
		isErr(t, err, offset.ErrNotContiguous)
		l.recover(c)
	}
	l.wantRows(l.rows, offset.Vector{0: 2}, func(int32, int64) bool { return true })
}

// TestZombie: of two writers of one name the one that comes late is fenced, reads V again, and nothing doubles.
func TestZombie(t *testing.T) {
	l := newLake(t)
	a, b := l.committer(l.cat), l.committer(l.cat)
	l.recover(a)
	l.recover(b)
	l.commit(a, rng(0, 0, 5))
	late := l.batchOf(allRows, rng(0, 0, 7))
	defer release(late)
	_, err := b.Commit(t.Context(), late)
	isErr(t, err, engine.ErrFenced)
	_, err = b.Commit(t.Context(), late)
	isErr(t, err, engine.ErrRewound) // only after Recover
	if st := l.recover(b); !st.Offsets.Equal(offset.Vector{0: 5}) {
		t.Fatalf("recovered %+v", st)
	}
	l.commit(b, rng(0, 5, 7))
	next := l.batchOf(allRows, rng(0, 5, 9))
	defer release(next)
	_, err = a.Commit(t.Context(), next)
	isErr(t, err, engine.ErrFenced)
	l.wantRows(l.rows, offset.Vector{0: 7}, func(int32, int64) bool { return true })
}

// TestForeignCommits: other engines' commits do not stop Firn, nor does it read anything again for them.
func TestForeignCommits(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 5))
	for i, act := range []func(){
		func() { l.rewrite(l.rows, true) },
		func() { l.rewrite(l.rows, false) },
		func() { l.foreignAppend(l.rows, -1, 1, 2) },
		func() { l.foreignAppend(l.rows, -1, 1); l.rewrite(l.rows, false); l.rewrite(l.rows, true) },
	} {
		act()
		at := int64(5 + i)
		if got := l.commit(c, rng(0, at, at+1)); got.Attempts != 2 {
			t.Errorf("act %d: %d attempts, want a conflict and a success", i, got.Attempts)
		}
		if st := l.recover(l.committer(l.cat)); !st.Offsets.Equal(offset.Vector{0: at + 1}) || st.Epoch != 0 {
			t.Errorf("act %d: recovered %+v", i, st)
		}
	}
	l.wantRows(l.rows, offset.Vector{0: 9}, func(int32, int64) bool { return true })
}

// TestDroppedAndCreatedAgain: whenever a running pipeline notices it, a table that was created again under its name is not
// filled from the topic's start before a person has started the pipeline again.
func TestDroppedAndCreatedAgain(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 5))
	drop := func(id catalog.Identifier) { l.must(l.cat.DropTable(context.Background(), id, false)) }
	create := func(id catalog.Identifier, sc *iceberg.Schema) {
		_, err := EnsureTable(t.Context(), l.cat, id, sc, nil, nil)
		l.must(err)
	}
	commits := func(c *Committer) error {
		b := l.batchOf(allRows, rng(0, 5, 6))
		defer release(b)
		_, err := c.Commit(t.Context(), b)
		return err
	}
	held := func(c *Committer, errs ...error) {
		t.Helper()
		for range 2 { // the next generation's look says the same as the one before
			_, err := c.Recover(t.Context())
			errs = append(errs, err)
		}
		for _, err := range errs {
			isErr(t, err, engine.ErrNeedsDecision)
		}
	}

	drop(l.rows)
	held(c, commits(c)) // between the two, where a commit finds no table
	create(l.rows, testSchema())
	held(c)
	started := l.committer(l.cat)
	if st := l.recover(started); len(st.Offsets) != 0 {
		t.Errorf("a new table of the same name starts at %s", st.Offsets)
	}

	drop(l.rows)
	create(l.rows, testSchema())
	held(started, commits(started)) // after both, by a batch
	started = l.committer(l.cat)
	l.recover(started)

	drop(l.rows)
	create(l.rows, testSchema())
	held(started, started.Check(t.Context())) // after both, by a look at a quiet topic
	started = l.committer(l.cat)
	l.recover(started)

	drop(l.dead)
	create(l.dead, deadSchema())
	held(started)
	l.recover(l.committer(l.cat))
}

func TestTopicIdentity(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 5))
	for _, now := range []engine.Topic{{TopicID: "t2", ClusterID: "c1"}, {TopicID: "t1", ClusterID: "c2"}} {
		l.topic = now
		_, err := c.Recover(t.Context())
		isErr(t, err, engine.ErrTopicRecreated)
	}
	for _, now := range []engine.Topic{{TopicID: "n/a", ClusterID: "c1"}, {TopicID: "t1"}, {}} {
		l.topic = now
		l.recover(c)
	}
	l.commit(c, rng(0, 5, 6)) // a broker that gives no ids does not make the table forget them
	l.topic = engine.Topic{TopicID: "t2", ClusterID: "c1"}
	_, err := c.Recover(t.Context())
	isErr(t, err, engine.ErrTopicRecreated)
}

// TestRowsMustFit: a batch whose rows are not those that its ranges claim never becomes a snapshot.
func TestRowsMustFit(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	for name, rows := range map[string][]int64{"below": {4, 5}, "beyond": {9, 10}, "twice": {6, 6}, "backwards": {7, 6}} {
		l.recover(c)
		b := l.batchOf(skips, rng(0, 5, 10))
		b.Rows = append(b.Rows, l.rowsOf(0, rows...))
		_, err := c.Commit(t.Context(), b)
		release(b)
		if !errors.Is(err, engine.ErrRewound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.recover(c)
	b := l.batchOf(skips, rng(0, 5, 10))
	b.Rows = append(b.Rows, l.rowsOf(1, 5))
	_, err := c.Commit(t.Context(), b)
	release(b)
	isErr(t, err, engine.ErrRewound)
	if l.meta(l.rows).CurrentSnapshot() != nil {
		t.Error("a snapshot was made")
	}
}
