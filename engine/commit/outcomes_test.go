package commit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/internal/units"
)

// outcomesByStatus says what an answer with a status means for a commit: with the protocol's error model of a type that
// nobody knows, and with a body that is none (a proxy's page). A status that is not named here is fatal below 500 and
// unknown from there on. docs/exactly-once.md holds the same table.
var outcomesByStatus = map[int]struct{ modelled, page outcome }{
	300: {unknown, unknown}, 301: {fatal, fatal}, 302: {fatal, fatal}, 303: {unknown, unknown}, 304: {unknown, unknown}, 307: {fatal, fatal}, 308: {fatal, fatal},
	404: {gone, fatal},
	408: {unknown, unknown},
	409: {conflict, conflict},
	425: {unavailable, unavailable},
	429: {unavailable, unavailable},
	503: {unavailable, unknown},
}

func wantOutcome(status int, page bool) outcome {
	o, named := outcomesByStatus[status]
	switch {
	case named && page:
		return o.page
	case named:
		return o.modelled
	case status == 501: // the server does not know the request, so it cannot have done it
		return fatal
	case status >= 400 && status < 500:
		return fatal
	}
	return unknown
}

// answering is a client of a catalog whose commits are answered by next.
func answering(t *testing.T, next http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			next(w, r)
			return
		}
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(srv.Close)
	return clientAt(t, srv.URL)
}

func clientAt(t *testing.T, uri string) *client.Client {
	t.Helper()
	c, err := client.New(t.Context(), client.Config{URI: uri, Timeout: units.Duration(300 * time.Millisecond)}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func commitTo(ctx context.Context, c catalog.Catalog) error {
	_, err := c.CommitTable(ctx, catalog.TableCommit{Identifier: catalog.Identifier{"ns", "t"}})
	return err
}

// TestOutcomeOfEveryStatus: over the wire, from 300 to 599. Only what is certain to have had no effect may be called so.
func TestOutcomeOfEveryStatus(t *testing.T) {
	status, body := 0, ""
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	for status = 300; status < 600; status++ {
		for _, page := range []bool{false, true} {
			body = "<html>a proxy</html>"
			if !page {
				raw, err := json.Marshal(map[string]any{"error": map[string]any{"message": "m", "type": "SomethingElse", "code": status}})
				if err != nil {
					t.Fatal(err)
				}
				body = string(raw)
			}
			err := commitTo(t.Context(), c)
			if got, want := classify(err), wantOutcome(status, page); got != want {
				t.Errorf("%d, a page %v: %s, want %s (%v)", status, page, got, want, err)
			}
			// What a server answers after it began is never certain, whatever the body says.
			if o := classify(err); status >= 500 && status != 501 && status != 503 && o != unknown {
				t.Errorf("%d is certain: %s", status, o)
			}
		}
	}
}

// TestOutcomeWithoutAnAnswer: what is known before the request was sent, and what is not after it.
func TestOutcomeWithoutAnAnswer(t *testing.T) {
	hijack := func(say string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte(say))
			_ = conn.Close()
		}
	}
	for what, next := range map[string]http.HandlerFunc{
		"cut after the request": hijack(""),
		"cut in the head":       hijack("HTTP/1.1 200 OK\r\nContent-Le"),
		"cut in the body":       hijack("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"metadata"),
		"no HTTP":               hijack("220 mail.example\r\n"),
		"a timeout": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client went away
			<-r.Context().Done()
		},
		"200 and no JSON":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"200 and nothing":        func(http.ResponseWriter, *http.Request) {},
		"200 and other metadata": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"metadata":{"format-version":9}}`) },
		"CommitStateUnknown in 4xx": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":{"message":"m","type":"CommitStateUnknownException","code":400}}`)
		},
		"CommitFailed in 500": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"error":{"message":"m","type":"CommitFailedException","code":409}}`)
		},
		"409 cut in the head": hijack("HTTP/1.1 409 Conf"),
	} {
		if err := commitTo(t.Context(), answering(t, next)); classify(err) != unknown {
			t.Errorf("%s: %s (%v)", what, classify(err), err)
		}
	}
	// Nobody listens: nothing was sent, and that is certain.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // a connection that is kept may take the request before it breaks
		fmt.Fprint(w, "{}")
	}))
	c := clientAt(t, srv.URL)
	srv.Close()
	if err := commitTo(t.Context(), c); classify(err) != unavailable {
		t.Errorf("refused: %s (%v)", classify(err), err)
	}
}

// TestOutcomesAreDocumented holds the page against the table.
func TestOutcomesAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../docs/exactly-once.md")
	if err != nil {
		t.Fatal(err)
	}
	for status := range outcomesByStatus {
		if !strings.Contains(string(raw), fmt.Sprint(status)) {
			t.Errorf("status %d is not in docs/exactly-once.md", status)
		}
	}
}
