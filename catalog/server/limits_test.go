package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// TestSlowBody: a client that sends a request's body drop by drop does not keep the catalog for longer than a request may
// take, and the connection of one that is quick serves many.
func TestSlowBody(t *testing.T) {
	f := start(t, server.Config{Store: "sqlite::memory:", RequestTimeout: units.Duration(200 * time.Millisecond)},
		&objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	srv := httptest.NewServer(f.Handler())
	t.Cleanup(srv.Close)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	if _, err := fmt.Fprintf(conn, "POST /v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"namespace\""); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if took := time.Since(began); res.StatusCode != http.StatusRequestTimeout || took > 5*time.Second {
		t.Errorf("HTTP %d after %s", res.StatusCode, took)
	}

	c := f.dial(t)
	for range 3 { // one connection, used again after its read deadline has passed
		if _, err := c.ListNamespaces(t.Context(), nil); err != nil {
			t.Error(err)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// stuck is a store whose writes last as long as their context.
type stuck struct {
	objstore.Store
	on atomic.Bool
}

func (s *stuck) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	if s.on.Load() {
		<-ctx.Done()
		return objstore.Info{}, fmt.Errorf("%w: %w", objstore.ErrUnavailable, ctx.Err())
	}
	return s.Store.Put(ctx, key, body, mode)
}

// TestTimePerRequest: a read that storage does not answer is 503 in time; so is a change before its effect, and after it
// the answer says that nobody knows.
func TestTimePerRequest(t *testing.T) {
	s := &stuck{Store: objstore.NewMemory()}
	f := start(t, server.Config{Store: "sqlite::memory:", RequestTimeout: units.Duration(150 * time.Millisecond)}, &objstore.Warehouse{Store: s, URI: "s3://lake/warehouse"})
	made := f.makeTable(t, "t")
	f.append(t, made, 1)
	s.on.Store(true)
	defer s.on.Store(false)
	for _, tc := range []struct {
		method, path, body, kind string
		status                   int
	}{
		{"GET", "/v1/namespaces/ns/tables/t", "", "ServiceUnavailableException", 503},
		{"POST", "/v1/namespaces/ns/views", viewBody("v"), "ServiceUnavailableException", 503},
		{"POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`, "CommitStateUnknownException", 500},
	} {
		began := time.Now()
		w := f.ask(t, tc.method, tc.path, tc.body)
		got := want[failure](t, w, tc.status)
		if took := time.Since(began); got.Error.Type != tc.kind || took > 5*time.Second {
			t.Errorf("%s %s: %s after %s", tc.method, tc.path, w.Body, took)
		}
		if tc.status == 503 && w.Header().Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", tc.method, tc.path)
		}
	}
}

// beingRead posts n bodies that have begun and do not end until end is called.
func beingRead(t *testing.T, n int, post func(io.Reader)) (end func()) {
	t.Helper()
	var slow sync.WaitGroup
	var ends []*io.PipeWriter
	for range n {
		body, end := io.Pipe()
		ends = append(ends, end)
		slow.Go(func() { post(body) })
		if _, err := end.Write([]byte("{")); err != nil { // it is being read
			t.Fatal(err)
		}
	}
	return func() {
		for _, end := range ends {
			_ = end.Close()
		}
		slow.Wait()
	}
}

// TestBodiesAtOnce: large bodies wait until there is room for them in memory, and small ones do not wait for them.
func TestBodiesAtOnce(t *testing.T) {
	const size = 100 << 10
	f := start(t, server.Config{Store: "sqlite::memory:", MaxBody: size, RequestTimeout: units.Duration(time.Second)},
		&objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	post := func(body io.Reader, length int64) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/namespaces", body)
		r.ContentLength = length
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, r)
		return w
	}
	end := beingRead(t, 4, func(body io.Reader) { post(body, size) }) // as many as there is room for
	large := func() io.Reader { return strings.NewReader(`{"namespace":["a"]` + strings.Repeat(" ", size-20) + `}`) }
	if w := post(large(), size-1); w.Code != 503 || !strings.Contains(w.Body.String(), "waiting for room") {
		t.Errorf("a large one beside four others: HTTP %d %s", w.Code, w.Body)
	}
	if w := post(large(), -1); w.Code != 503 { // it does not say how much it sends
		t.Errorf("one of unknown length: HTTP %d %s", w.Code, w.Body)
	}
	if w := post(strings.NewReader(`{"namespace":["small"]}`), 23); w.Code != 200 {
		t.Errorf("a small one: HTTP %d %s", w.Code, w.Body)
	}
	end()
	if w := post(large(), size-1); w.Code != 200 {
		t.Errorf("with room again: HTTP %d %s", w.Code, w.Body)
	}
}

// TestBodyOfManyValues: what takes a hundred times as much when it is decoded is refused before. Commas in strings are none.
func TestBodyOfManyValues(t *testing.T) {
	f := memory(t)
	many := strings.Repeat("{},", 500_000)
	w := f.ask(t, "POST", "/v1/transactions/commit", `{"table-changes":[`+many+`{}]}`)
	if w.Code != 413 || !strings.Contains(w.Body.String(), "JSON values") {
		t.Errorf("HTTP %d %.200s", w.Code, w.Body)
	}
	w = f.ask(t, "POST", "/v1/namespaces", `{"namespace":["x"],"properties":{"a":"`+many+`\\\"`+many+`"}}`)
	if w.Code != 200 {
		t.Errorf("HTTP %d %.200s", w.Code, w.Body)
	}
}
