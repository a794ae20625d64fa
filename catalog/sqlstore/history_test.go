package sqlstore

import (
	"errors"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
)

// TestPruneHistory: more rows than one transaction deletes; what the table was at the time and later stays known.
func TestPruneHistory(t *testing.T) {
	s, err := Open(t.Context(), "sqlite::memory:", Options{}, PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	began := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	now := began
	s.now = func() time.Time { return now }
	id := catalog.Identifier{"ns", "t"}
	if err := s.CreateNamespace(t.Context(), id.Namespace(), nil); err != nil {
		t.Fatal(err)
	}
	heads, err := s.Commit(t.Context(), []Change{{Head: Head{UUID: "u", Location: "s3://lake/t", FormatVersion: 2}, Name: id, Skeleton: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	const commits = 2*pruneHistoryBatch + 300
	for i := range commits { // commit i at second i
		now = began.Add(time.Duration(i) * time.Second)
		if heads, err = s.Commit(t.Context(), []Change{{Head: heads[0], From: heads[0].Version, Name: id, History: &History{SnapshotID: int64(i), Offsets: "o"}}}); err != nil {
			t.Fatal(err)
		}
	}
	at := began.Add((commits - 100) * time.Second)
	ms := at.UnixMilli() - 1 // the last commit before it is that of the second before
	for _, c := range []struct {
		dry  bool
		want int64
	}{{true, commits - 101}, {false, commits - 101}, {true, 0}, {false, 0}} {
		n, err := s.PruneHistory(t.Context(), id, ms, c.dry)
		if err != nil || n != c.want {
			t.Errorf("pruned (dry: %v) %d, want %d, %v", c.dry, n, c.want, err)
		}
	}
	for second, want := range map[int]int64{commits - 101: commits - 101, commits - 100: commits - 100, commits: commits - 1} {
		row, err := s.HistoryAt(t.Context(), id, began.Add(time.Duration(second)*time.Second).UnixMilli())
		if err != nil || row.SnapshotID != want {
			t.Errorf("at second %d: %+v, %v, want snapshot %d", second, row, err, want)
		}
	}
	if _, err := s.HistoryAt(t.Context(), id, began.UnixMilli()); !errors.Is(err, catalog.ErrNoHistory) {
		t.Errorf("what was forgotten: %v", err)
	}
}
