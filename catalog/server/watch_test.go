package server_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// TestEvents: what a client that is not Firn's reads.
func TestEvents(t *testing.T) {
	f := start(t, server.Config{Store: "sqlite::memory:", MaterializeInterval: hours, WatchHeartbeat: units.Duration(10e6), MaxWatchers: 2},
		&objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	tab := f.makeTable(t, "t")
	tab = f.append(t, f.append(t, tab, 1), 2)
	srv := httptest.NewServer(f.Handler())
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/v1/firn/namespaces/ns/tables/t/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "2")
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("HTTP %d, %s", res.StatusCode, got)
	}
	lines := bufio.NewScanner(res.Body)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("%q did not come: %v", want, lines.Err())
	}
	until(`id: 3`)
	until(`event: commit`)
	until(`data: {"version":3,`)
	until(`: watching`) // and again, while nothing happens
	until(`: watching`)
	f.append(t, tab, 3)
	until(`id: 4`)

	// The number of watches is bounded; what runs ends when the catalog does, and says so.
	slot, release := context.WithCancel(t.Context())
	w := f.Service().(catalog.Watcher)
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- w.Watch(slot, tab.Identifier, 0, func(catalog.Event) error { close(began); return nil })
	}()
	<-began
	if err := w.Watch(t.Context(), tab.Identifier, 0, func(catalog.Event) error { return nil }); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("a third watch of two: %v", err)
	}
	release()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a watch whose context has ended: %v", err)
	}
	f.EndWatches()
	until(`event: end`)
	until(`data: {"reason":"again"`)
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("after the end comes %q", lines.Text())
		}
	}
	want[failure](t, f.ask(t, "GET", "/v1/firn/namespaces/ns/tables/t/events?after=x", ""), 400)
	want[failure](t, f.ask(t, "GET", "/v1/firn/namespaces/ns/tables/none/events", ""), 404)
}

// TestWatchFarBehind: whoever is too far behind is told to begin anew, instead of being sent a day of commits.
func TestWatchFarBehind(t *testing.T) {
	f := lasting(t)
	made := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/"+f.makeTable(t, "t").Identifier.Name(), ""), 200)
	key, err := f.wh.Key(made.Location)
	if err != nil {
		t.Fatal(err)
	}
	far := key[:strings.LastIndexByte(key, '/')+1] + "20001-far.metadata.json" // the version of a table that is registered from it
	f.put(t, far, f.read(t, key))
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/register", `{"name":"t","overwrite":true,"metadata-location":"`+f.wh.Location(far)+`"}`), 200)
	id := catalog.Identifier{"ns", "t"}
	for _, w := range []catalog.Watcher{f.Service().(catalog.Watcher), f.dial(t)} {
		err := w.Watch(t.Context(), id, 1, func(catalog.Event) error { return nil })
		if !errors.Is(err, catalog.ErrWatchEnded) || !strings.Contains(err.Error(), "20000 behind") {
			t.Errorf("far behind: %v", err)
		}
	}
}
