package commit

import (
	"testing"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

// TestResolve: where recovery stops, a person says where to read on, and nothing doubles by it.
func TestResolve(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	s := newScene(t, cat, wh)
	s.dropRows(s.snaps[2]) // rows 6 to 9 are gone, and nobody says so any more
	s.rewrite(s.rows, false)
	s.expire(s.rows)
	_, _, err := readState(t.Context(), cat, wh, s.rows, "events")
	isErr(t, err, engine.ErrNeedsDecision)

	for name, to := range map[string]offset.Vector{"rows would double": {0: 5, 1: 6}, "a partition is left out": {0: 6}} {
		if _, err := Resolve(t.Context(), cat, wh, s.rows, "events", Resolution{To: to}); err == nil {
			t.Errorf("%s: taken", name)
		} else {
			isErr(t, err, ErrResolve)
		}
	}
	before := s.meta(s.rows).CurrentSnapshot().SnapshotID
	dry, err := Resolve(t.Context(), cat, wh, s.rows, "events", Resolution{DryRun: true})
	s.must(err)
	if !dry.Offsets.Equal(at(6)) || dry.SnapshotID != 0 || dry.Epoch != 1 || s.meta(s.rows).CurrentSnapshot().SnapshotID != before {
		t.Errorf("dry run: %+v", dry)
	}
	got, err := Resolve(t.Context(), cat, wh, s.rows, "events", Resolution{})
	s.must(err)
	st, r, err := readState(t.Context(), cat, wh, s.rows, "events")
	s.must(err)
	if !st.Offsets.Equal(at(6)) || st.Epoch != 1 || st.SnapshotID != got.SnapshotID || r.Kind != ledger.KindRewind || !r.LastRow.Equal(at(5)) || r.TopicID != "t1" {
		t.Errorf("after it: %+v, record %+v", st, r)
	}
	// The writer that was there is fenced and goes on from the decision.
	b := s.batchOf(allRows, rng(0, 10, 11))
	defer release(b)
	_, err = s.c.Commit(t.Context(), b)
	isErr(t, err, engine.ErrRewound)
	s.recover(s.c)
	s.lake.commit(s.c, rng(0, 6, 12), rng(1, 6, 12))
	s.wantRows(s.rows, at(12), func(int32, int64) bool { return true })

	// A decision to leave something out is taken as well.
	s.replace()
	if _, err := Resolve(t.Context(), cat, wh, s.rows, "events", Resolution{To: at(20), Topic: engine.Topic{TopicID: "t2"}}); err != nil {
		t.Fatal(err)
	}
	s.topic.TopicID = "t2"
	if st := s.recover(s.c); !st.Offsets.Equal(at(20)) || st.Epoch != 2 {
		t.Errorf("recovered %+v", st)
	}
}
