package server_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/units"
)

// refusedShare checks an answer to one who has all of its share.
func refusedShare(t *testing.T, w *httptest.ResponseRecorder, words ...string) {
	t.Helper()
	got := want[failure](t, w, 429)
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for _, s := range words {
		if !strings.Contains(got.Error.Message, s) {
			t.Errorf("%q does not say %q", got.Error.Message, s)
		}
	}
}

// TestShareOfWatches: one principal cannot have all watches. The operator can, and what ends is free again.
func TestShareOfWatches(t *testing.T) {
	f := guarded(t, nil, nil, func(c *server.Config) { c.MaxWatchers, c.WatchHeartbeat = 4, units.Duration(10*time.Millisecond) })
	if err := f.Service().CreateNamespace(t.Context(), catalog.Identifier{"ns"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Service().CreateTable(t.Context(), catalog.Identifier{"ns", "t"}, catalog.CreateTable{Schema: catalogtest.Schema()}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(f.Handler())
	defer srv.Close()
	const path = "/v1/firn/namespaces/ns/tables/t/events"
	var ends []func()
	watch := func(token string) (end func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := srv.Client().Do(req) //nolint:bodyclose // end closes it
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK {
			t.Fatalf("HTTP %d", res.StatusCode)
		}
		end = func() { cancel(); _ = res.Body.Close() }
		ends = append(ends, end)
		return end
	}
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	first := watch(canaryOf("reader"))
	watch(canaryOf("reader"))
	refusedShare(t, f.as(t, "reader", "GET", path, ""), "reader has 2", "catalog.max_watchers")
	watch(canaryOf("read"))()
	first()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w := httptest.NewRecorder()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
		req.Header.Set("Authorization", "Bearer "+canaryOf("reader"))
		f.Handler().ServeHTTP(w, req)
		cancel()
		if w.Code == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the place of a watch that has ended is not free: HTTP %d %s", w.Code, w.Body)
		}
	}
	for range 3 {
		watch(canaryAdmin)
	}
}

// TestShareOfBodies: one principal's large bodies do not keep those of others waiting.
func TestShareOfBodies(t *testing.T) {
	const size = 100 << 10
	f := guarded(t, nil, nil, func(c *server.Config) { c.MaxBody, c.RequestTimeout = size, units.Duration(time.Second) })
	post := func(who string, body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/namespaces", body)
		r.ContentLength = size - 1
		r.Header.Set("Authorization", "Bearer "+canaryOf(who))
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, r)
		return w
	}
	end := beingRead(t, 2, func(body io.Reader) { post("writer", body) }) // half of what there is room for
	large := func() io.Reader { return strings.NewReader(`{"namespace":["a"]` + strings.Repeat(" ", size-20) + `}`) }
	refusedShare(t, post("writer", large()), "writer", "catalog.max_body")
	if w := post("manage", large()); w.Code != 403 { // it may not do it, which it learns at once
		t.Errorf("another principal: HTTP %d %s", w.Code, w.Body)
	}
	end()
	if w := post("writer", large()); w.Code == 429 || w.Code == 503 {
		t.Errorf("with room again: HTTP %d %s", w.Code, w.Body)
	}
}

// TestShareOfPastTables: one principal cannot have all tables of a past time. What is there already is for everybody.
func TestShareOfPastTables(t *testing.T) {
	f := guarded(t, nil, nil, func(c *server.Config) { c.AsOf.MaxTables = 4 })
	if err := f.Service().CreateNamespace(t.Context(), catalog.Identifier{"ns"}, nil); err != nil {
		t.Fatal(err)
	}
	tab, err := f.Service().CreateTable(t.Context(), catalog.Identifier{"ns", "t"}, catalog.CreateTable{Schema: catalogtest.Schema()})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for id := range int64(4) {
		tab = f.append(t, tab, id+1)
		at := time.UnixMilli(tab.Metadata.LastUpdatedMillis()).UTC()
		paths = append(paths, "/v1/namespaces/ns/tables/t__at_"+strings.Replace(at.Format("20060102T150405.000Z"), ".", "_", 1))
		time.Sleep(3 * time.Millisecond)
	}
	want[loaded](t, f.as(t, "reader", "GET", paths[0], ""), 200)
	want[loaded](t, f.as(t, "reader", "GET", paths[1], ""), 200)
	refusedShare(t, f.as(t, "reader", "GET", paths[2], ""), "reader has had 2", "catalog.as_of.max_tables")
	want[loaded](t, f.as(t, "read", "GET", paths[2], ""), 200)
	want[loaded](t, f.as(t, "reader", "GET", paths[2], ""), 200) // it is made
	want[loaded](t, f.as(t, "admin", "GET", paths[3], ""), 200)
}
