package sqlstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/firnlake/firn/catalog"
)

// TestDatabaseFull: a database that can grow no more refuses commits for now and keeps nothing of them; reads go on, and
// with room again so do commits.
func TestDatabaseFull(t *testing.T) {
	s, err := Open(t.Context(), "sqlite://"+t.TempDir()+"/catalog.db", Options{Synchronous: SyncNormal}, PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id := catalog.Identifier{"ns", "t"}
	if err := s.CreateNamespace(t.Context(), id.Namespace(), nil); err != nil {
		t.Fatal(err)
	}
	heads, err := s.Commit(t.Context(), []Change{{Head: Head{UUID: "u", Location: "s3://lake/t", FormatVersion: 2}, Name: id, Skeleton: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	b := s.backend.(*sqliteDB)
	limit := func(pages string) {
		t.Helper()
		var n int64
		c := <-b.turn
		defer func() { b.turn <- c }()
		if err := c.QueryRowContext(t.Context(), "PRAGMA max_page_count = "+pages).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	var pages int
	c := <-b.turn
	err = c.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages)
	b.turn <- c
	if err != nil {
		t.Fatal(err)
	}
	limit(fmt.Sprint(pages + 20))
	commit := func(n int64) error {
		h := heads[0]
		body := fmt.Sprintf(`{"snapshot-id":%d,"summary":%q}`, n, strings.Repeat("x", 2000))
		next, err := s.Commit(t.Context(), []Change{{Head: h, Name: id, From: h.Version, AddSnapshots: []Snapshot{{n, []byte(body)}},
			SetRefs: []Ref{{"main", n, []byte("{}")}}, Log: &LogEntry{n, n}, History: &History{SnapshotID: n}}})
		if err == nil {
			heads = next
		}
		return err
	}
	check := func(last int64) {
		t.Helper()
		st, err := s.Load(t.Context(), id, Scope{AllSnapshots: true, FullLog: true})
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(len(st.Snapshots)); n != last || st.Version != last+1 || int64(len(st.Log)) != last || last > 0 && st.Refs[0].SnapshotID != last {
			t.Errorf("%d snapshots and %d of the log at version %d with refs %v, %d commits were acknowledged", n, len(st.Log), st.Version, st.Refs, last)
		}
	}
	last := int64(0)
	for ; ; last++ {
		if err = commit(last + 1); err != nil {
			break
		}
		if last > 1000 {
			t.Fatal("the database does not become full")
		}
	}
	for range 3 {
		if !errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, catalog.ErrUnknownOutcome) {
			t.Errorf("a commit to a full database: %v", err)
		}
		check(last)
		err = commit(last + 1)
	}
	limit("1073741823")
	if err := commit(last + 1); err != nil {
		t.Errorf("with room again: %v", err)
	}
	check(last + 1)
}
