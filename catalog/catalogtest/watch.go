package catalogtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
)

// watching is a watch that runs.
type watching struct {
	events chan catalog.Event
	done   chan error
	cancel context.CancelFunc
}

func (x *suite) watching(w catalog.Watcher, id catalog.Identifier, after int64) *watching {
	ctx, cancel := context.WithCancel(x.Context())
	r := &watching{events: make(chan catalog.Event, 100), done: make(chan error, 1), cancel: cancel}
	go func() { r.done <- w.Watch(ctx, id, after, func(e catalog.Event) error { r.events <- e; return nil }) }()
	x.Cleanup(func() {
		cancel()
		select {
		case err := <-r.done:
			if err == nil {
				x.Error("a watch ended without a reason")
			}
		case <-time.After(10 * time.Second):
			x.Error("a watch did not end with its context")
		}
	})
	return r
}

func (x *suite) next(w *watching) catalog.Event {
	x.Helper()
	select {
	case e := <-w.events:
		return e
	case err := <-w.done:
		w.done <- err
		x.Fatalf("the watch ended: %v", err)
	case <-time.After(10 * time.Second):
		x.Fatal("no event came")
	}
	return catalog.Event{}
}

// ends waits for the end of a watch that is not asked to end.
func (x *suite) ends(w *watching, want error) {
	x.Helper()
	select {
	case err := <-w.done:
		w.done <- err
		x.is(err, want)
	case <-time.After(10 * time.Second):
		x.Fatalf("the watch goes on, it should end with %v", want)
	}
}

// watch: every commit is told of once and in order, also to one who comes back, and a watch that cannot go on says so.
func (x *suite) watch() {
	w, ok := x.c.(catalog.Watcher)
	t := x.create("t")
	if !x.f.Watched {
		if ok {
			x.is(w.Watch(x.Context(), t.Identifier, 0, func(catalog.Event) error { return nil }), catalog.ErrUnsupported)
		}
		return
	}
	if !ok {
		x.Fatal("the catalog does not implement catalog.Watcher")
	}
	live := x.watching(w, t.Identifier, 0)
	if e := x.next(live); e.Head || e.Version < 1 {
		x.Errorf("a watch begins with %+v, not with the present version", e)
	}
	var heads []catalog.Event
	for id := int64(1); id <= 3; id++ {
		got, err := x.c.CommitTable(x.Context(), Append(t, id, map[string]string{"firn.offsets": fmt.Sprint("o", id)}))
		x.ok(err)
		t = got
		e := x.next(live)
		if !e.Head || e.SnapshotID != id || e.Offsets != fmt.Sprint("o", id) || time.Since(e.At) > time.Minute {
			x.Errorf("commit %d is told of as %+v", id, e)
		}
		heads = append(heads, e)
	}
	_, err := x.commit(t, nil, table.NewSetPropertiesUpdate(iceberg.Properties{"a": "b"}))
	x.ok(err)
	change := x.next(live)
	if change.Head || change.Version != heads[2].Version+1 {
		x.Errorf("a property is told of as %+v", change)
	}

	again := x.watching(w, t.Identifier, heads[0].Version)
	for _, want := range []catalog.Event{heads[1], heads[2], change} {
		if e := x.next(again); e != want {
			x.Errorf("after version %d comes %+v, want %+v", heads[0].Version, e, want)
		}
	}
	x.is(w.Watch(x.Context(), t.Identifier, change.Version+100, func(catalog.Event) error { return nil }), catalog.ErrWatchEnded)
	x.is(w.Watch(x.Context(), x.id("none"), 0, func(catalog.Event) error { return nil }), catalog.ErrNoSuchTable)
	enough := errors.New("enough")
	if err := w.Watch(x.Context(), t.Identifier, heads[0].Version, func(catalog.Event) error { return enough }); !errors.Is(err, enough) {
		x.Errorf("each ended the watch, and it says %v", err)
	}
	x.ok(x.c.DropTable(x.Context(), t.Identifier, false))
	x.ends(live, catalog.ErrNoSuchTable)
	x.ends(again, catalog.ErrNoSuchTable)
}
