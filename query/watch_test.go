package query_test

import (
	"context"
	"errors"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

// TestWatch: commits are told of with their rows and offsets, from a version or a snapshot on, and no more is loaded than
// a commit needs.
func TestWatch(t *testing.T) {
	l := newLake(t)
	s := l.table(0, "ns", "t")
	q := l.service()
	enough := errors.New("enough")
	hear := func(r query.WatchRequest, n int, then ...func()) (got []query.Commit) {
		t.Helper()
		r.Table = catalog.Identifier{"ns", "t"}
		err := q.Watch(t.Context(), r, func(c query.Commit) error {
			if got = append(got, c); len(got) == n {
				return enough
			}
			if len(then) > 0 {
				then[0]()
				then = then[1:]
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatalf("%d commits, then %v", len(got), err)
		}
		return got
	}
	live := hear(query.WatchRequest{}, 3, func() { s.add(3) }, func() { s.add(2) })
	if live[0].Head {
		t.Errorf("the first event is of the present version, not %+v", live[0])
	}
	for i, want := range []struct{ added, total int64 }{{3, 3}, {2, 5}} {
		c := live[i+1]
		v, err := offset.DecodeVector(c.Offsets)
		if !c.Head || c.AddedRows != want.added || c.TotalRows != want.total || c.Operation != "append" || err != nil || v[0] != want.total {
			t.Errorf("commit %d: %+v at %v, %v", i, c, v, err)
		}
	}
	s.add(1)
	after := hear(query.WatchRequest{AfterSnapshot: live[1].SnapshotID}, 2)
	if after[0].Version != live[2].Version || after[0].SnapshotID != live[2].SnapshotID || after[1].AddedRows != 1 || after[1].TotalRows != 6 {
		t.Errorf("after snapshot %d: %+v", live[1].SnapshotID, after)
	}
	if same := hear(query.WatchRequest{After: live[1].Version}, 2); same[0] != after[0] || same[1] != after[1] {
		t.Errorf("after the version of that snapshot: %+v, after the snapshot %+v", same, after)
	}
}

func TestWatchCannot(t *testing.T) {
	l := newLake(t)
	l.table(0, "ns", "t").add(1)
	tab := catalog.Identifier{"ns", "t"}
	deaf := l.service(func(p *parts) { p.cat = struct{ catalog.Catalog }{l.cat} })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, c := range []struct {
		q    *query.Service
		r    query.WatchRequest
		want error
	}{
		{deaf, query.WatchRequest{Table: tab}, catalog.ErrUnsupported},
		{l.service(), query.WatchRequest{Table: catalog.Identifier{"ns", "none"}}, catalog.ErrNoSuchTable},
		{l.service(), query.WatchRequest{Table: catalog.Identifier{"ns", "none"}, AfterSnapshot: 5}, catalog.ErrNoSuchTable},
		{l.service(), query.WatchRequest{Table: tab, AfterSnapshot: 5}, catalog.ErrWatchEnded},
		{l.service(), query.WatchRequest{Table: tab, After: 1 << 40}, catalog.ErrWatchEnded},
	} {
		if err := c.q.Watch(ctx, c.r, func(query.Commit) error { return nil }); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.r, err, c.want)
		}
	}
}
