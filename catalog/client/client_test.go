package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/units"
)

const metadata = `{"format-version":2,"table-uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1","location":"s3://b/t",
 "last-sequence-number":0,"last-updated-ms":1602638573590,"last-column-id":1,"current-schema-id":0,
 "schemas":[{"type":"struct","schema-id":0,"fields":[{"id":1,"name":"x","required":false,"type":"long"}]}],
 "default-spec-id":0,"partition-specs":[{"spec-id":0,"fields":[]}],"last-partition-id":999,
 "default-sort-order-id":0,"sort-orders":[{"order-id":0,"fields":[]}],"properties":{}}`

var users = catalog.Identifier{"ns", "users"}

// foreign answers /v1/config as a catalog that is not Firn's, and everything else by next.
func foreign(t *testing.T, config string, next http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/config" {
			fmt.Fprint(w, config)
			return
		}
		next(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// connect trusts the transactions of whatever it connects to, and takes it for one with views: what comes of them is what
// most tests are about.
func connect(t *testing.T, cfg Config, reg prometheus.Registerer) *Client {
	t.Helper()
	cfg.TrustTransactions = true
	c, err := New(t.Context(), cfg, nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	c.views = true
	t.Cleanup(c.Close)
	return c
}

// calls are the requests of each kind.
var calls = []struct {
	name string
	kind kind
	call func(context.Context, *Client) error
}{
	{"load", reads, func(ctx context.Context, c *Client) error {
		_, err := c.LoadTable(ctx, users, catalog.LoadAll)
		return err
	}},
	{"list", reads, func(ctx context.Context, c *Client) error {
		_, err := c.ListNamespaces(ctx, nil)
		return err
	}},
	{"create", changes, func(ctx context.Context, c *Client) error {
		_, err := c.CreateTable(ctx, users, catalog.CreateTable{Schema: iceberg.NewSchema(0)})
		return err
	}},
	{"create namespace", changes, func(ctx context.Context, c *Client) error {
		return c.CreateNamespace(ctx, users[:1], nil)
	}},
	{"drop", changes, func(ctx context.Context, c *Client) error { return c.DropTable(ctx, users, false) }},
	{"commit", commits, func(ctx context.Context, c *Client) error {
		_, err := c.CommitTable(ctx, catalog.TableCommit{Identifier: users})
		return err
	}},
	{"transaction", transacts, func(ctx context.Context, c *Client) error {
		return c.CommitTransaction(ctx, []catalog.TableCommit{{Identifier: users}})
	}},
	{"load view", reads, func(ctx context.Context, c *Client) error {
		_, err := c.LoadView(ctx, users)
		return err
	}},
	{"commit view", commits, func(ctx context.Context, c *Client) error {
		_, err := c.CommitView(ctx, catalog.ViewCommit{Identifier: users})
		return err
	}},
	{"rename view", changes, func(ctx context.Context, c *Client) error { return c.RenameView(ctx, users, users) }},
	{"drop view", changes, func(ctx context.Context, c *Client) error { return c.DropView(ctx, users) }},
}

var sentinels = []error{catalog.ErrNoSuchTable, catalog.ErrNoSuchView, catalog.ErrNoSuchNamespace, catalog.ErrExists, catalog.ErrNotEmpty, catalog.ErrConflict,
	catalog.ErrUnknownOutcome, catalog.ErrUnavailable, catalog.ErrInvalid, catalog.ErrDenied, catalog.ErrUnsupported, catalog.ErrNoHistory}

// wantOnly checks that err is the wanted sentinel and none of the others.
func wantOnly(t *testing.T, what string, err, want error) {
	t.Helper()
	for _, s := range sentinels {
		if errors.Is(err, s) != (s == want) { //nolint:errorlint // want is one of the sentinels itself
			t.Errorf("%s: got %v, want %v alone", what, err, want)
			return
		}
	}
}

// wantByStatus is what each kind of request makes of each status, when the body is the protocol's error model
// with a type that no client knows.
func wantByStatus(k kind, name string, status int) error {
	lost := catalog.ErrUnknownOutcome
	if k == reads {
		lost = catalog.ErrUnavailable
	}
	switch status {
	case 401, 403, 419:
		return catalog.ErrDenied
	case 404:
		switch {
		case k == transacts:
			return catalog.ErrUnsupported
		case name == "list" || name == "create namespace":
			return catalog.ErrNoSuchNamespace
		case name == "create":
			return catalog.ErrNoSuchNamespace
		case strings.HasSuffix(name, " view"):
			return catalog.ErrNoSuchView
		}
		return catalog.ErrNoSuchTable
	case 405, 501:
		return catalog.ErrUnsupported
	case 409:
		if k == changes {
			return catalog.ErrExists
		}
		return catalog.ErrConflict
	case 425, 429, 503:
		return catalog.ErrUnavailable
	case 408:
		return lost
	case 301, 302, 307, 308:
		return catalog.ErrInvalid
	}
	if status/100 == 4 {
		return catalog.ErrInvalid
	}
	return lost
}

func TestEveryStatus(t *testing.T) {
	var status atomic.Int64
	srv := foreign(t, `{"defaults":{},"overrides":{}}`, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		fmt.Fprintf(w, `{"error":{"message":"m","type":"SomeOtherException","code":%d}}`, status.Load())
	})
	c := connect(t, Config{URI: srv.URL}, nil)
	for code := 300; code < 600; code++ {
		if code == 304 { // has no body, and nobody asks for it
			continue
		}
		status.Store(int64(code))
		for _, call := range calls {
			wantOnly(t, fmt.Sprintf("%s %d", call.name, code), call.call(t.Context(), c), wantByStatus(call.kind, call.name, code))
		}
	}
}

func TestExceptionNames(t *testing.T) {
	var status int
	var body string
	srv := foreign(t, `{}`, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	c := connect(t, Config{URI: srv.URL}, nil)
	model := func(typ string) string { return `{"error":{"message":"m","type":"` + typ + `","code":1}}` }
	for _, tc := range []struct {
		call   int
		status int
		body   string
		want   error
	}{
		{0, 404, model(wire.TypeNoSuchTable), catalog.ErrNoSuchTable},
		{0, 404, model(wire.TypeNoSuchNamespace), catalog.ErrNoSuchNamespace},
		{0, 404, model(wire.TypeNoHistory), catalog.ErrNoHistory},
		{0, 404, model(wire.TypeNoSuchEndpoint), catalog.ErrUnsupported},
		{0, 404, "<html>not here</html>", catalog.ErrInvalid},
		{0, 404, "", catalog.ErrInvalid},
		{2, 406, model(wire.TypeUnsupported), catalog.ErrUnsupported},
		{4, 409, model(wire.TypeNotEmpty), catalog.ErrNotEmpty},
		{5, 409, model(wire.TypeCommitFailed), catalog.ErrConflict},
		{5, 409, model(wire.TypeAlreadyExists), catalog.ErrExists},
		{5, 409, "", catalog.ErrConflict},
		{5, 404, "<html>", catalog.ErrInvalid},
		{6, 404, "", catalog.ErrUnsupported},
		{6, 404, model(wire.TypeNoSuchTable), catalog.ErrNoSuchTable},
		// What is said beside a status that leaves the outcome open does not close it.
		{5, 500, model(wire.TypeCommitFailed), catalog.ErrUnknownOutcome},
		{5, 503, model(wire.TypeUnavailable), catalog.ErrUnavailable},
		{5, 503, model(wire.TypeCommitUnknown), catalog.ErrUnknownOutcome},
		{5, 503, "upstream connect error", catalog.ErrUnknownOutcome},
		{6, 503, "", catalog.ErrUnknownOutcome},
		{0, 503, "", catalog.ErrUnavailable},
		{5, 409, model(wire.TypeCommitUnknown), catalog.ErrUnknownOutcome},
		// A success that cannot be read.
		{5, 200, "", catalog.ErrUnknownOutcome},
		{5, 200, "{", catalog.ErrUnknownOutcome},
		{5, 200, "{}", catalog.ErrUnknownOutcome},
		{5, 200, `{"metadata":{"format-version":99}}`, catalog.ErrUnknownOutcome},
		{2, 200, `{"metadata":[]}`, catalog.ErrUnknownOutcome},
		{0, 200, "{", catalog.ErrInvalid},
		{0, 200, `{"metadata":"x"}`, catalog.ErrInvalid},
		{1, 200, `<html>`, catalog.ErrInvalid},
	} {
		status, body = tc.status, tc.body
		wantOnly(t, fmt.Sprintf("%s %d %s", calls[tc.call].name, tc.status, tc.body), calls[tc.call].call(t.Context(), c), tc.want)
	}
}

// TestNoAnswer cuts the connection at every place it can break.
func TestNoAnswer(t *testing.T) {
	for _, tc := range []struct {
		name string
		sent bool
		do   func(http.ResponseWriter, *http.Request)
	}{
		{"cut before the answer", true, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"cut within the answer", true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"metadata"`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{"no answer in time", true, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}},
		{"an answer over the limit", true, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"pad":"%s"}`, strings.Repeat("x", 70<<10))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := foreign(t, `{}`, tc.do)
			timeout := 20 * time.Second
			if strings.Contains(tc.name, "in time") {
				timeout = 500 * time.Millisecond // enough for a connection on a machine that is busy
			}
			c := connect(t, Config{URI: srv.URL, Timeout: units.Duration(timeout), MaxAnswer: 64 << 10}, nil)
			for _, call := range calls {
				if strings.Contains(tc.name, "limit") && (call.name == "create namespace" || call.name == "drop" || call.name == "transaction") {
					continue // the answer's body is not looked at
				}
				want := catalog.ErrUnknownOutcome
				if call.kind == reads {
					want = catalog.ErrUnavailable
					if strings.Contains(tc.name, "limit") {
						want = catalog.ErrInvalid
					}
				}
				wantOnly(t, call.name, call.call(t.Context(), c), want)
			}
		})
	}
}

// TestTransactionsOfOthers: a catalog that is not Firn's is sent no transaction, whatever it says of itself, unless its owner
// vouches for it. Iceberg's reference implementation drops the part of a table that somebody else commits to meanwhile.
func TestTransactionsOfOthers(t *testing.T) {
	for _, tc := range []struct {
		config string
		trust  bool
		sent   bool
	}{
		{`{}`, false, false},
		{`{"endpoints":["` + endpointTransaction + `"]}`, false, false},
		{`{"endpoints":["` + endpointTransaction + `"]}`, true, true},
		{`{"endpoints":["` + endpointHistory + `"]}`, true, false},
		{`{"endpoints":["` + endpointHistory + `","` + endpointTransaction + `"]}`, false, true},
	} {
		sent := false
		srv := foreign(t, tc.config, func(w http.ResponseWriter, _ *http.Request) { sent = true; w.WriteHeader(http.StatusNoContent) })
		c, err := New(t.Context(), Config{URI: srv.URL, TrustTransactions: tc.trust}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.CommitTransaction(t.Context(), []catalog.TableCommit{{Identifier: users}})
		if sent != tc.sent || (err == nil) != tc.sent || err != nil && !errors.Is(err, catalog.ErrUnsupported) {
			t.Errorf("%s, trusted %t: sent %t, %v", tc.config, tc.trust, sent, err)
		}
	}
}

// TestSurelyNotSent: no connection, so nothing can have been changed.
func TestSurelyNotSent(t *testing.T) {
	srv := foreign(t, `{}`, func(http.ResponseWriter, *http.Request) {})
	c := connect(t, Config{URI: srv.URL}, nil)
	srv.Close()
	for _, call := range calls {
		wantOnly(t, call.name+", refused", call.call(t.Context(), c), catalog.ErrUnavailable)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, call := range calls {
		err := call.call(gone, c)
		wantOnly(t, call.name+", cancelled before", err, catalog.ErrUnavailable)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v does not say that the caller gave up", call.name, err)
		}
	}
	if _, err := New(t.Context(), Config{URI: srv.URL}, nil, nil); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("New on a catalog that is down: %v", err)
	}
}

// TestServerClosesWithoutReading: the connection was made, so nobody knows what the other side took.
func TestServerClosesWithoutReading(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	srv := foreign(t, `{}`, func(http.ResponseWriter, *http.Request) {})
	c := connect(t, Config{URI: srv.URL}, nil)
	c.at = newAddresses([]string{"http://" + lis.Addr().String() + "/v1"})
	err = calls[5].call(t.Context(), c)
	wantOnly(t, "commit", err, catalog.ErrUnknownOutcome)
}

func TestNegotiation(t *testing.T) {
	var got []string
	record := func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.EscapedPath()+" lean="+r.Header.Get(wire.LeanHeader))
		fmt.Fprintf(w, `{"metadata":%s,"namespaces":[]}`, metadata)
	}
	t.Run("foreign", func(t *testing.T) {
		got = nil
		srv := foreign(t, `{"defaults":{"prefix":"no"},"overrides":{"prefix":"a/b c"},"endpoints":["GET /v1/{prefix}/namespaces"]}`, record)
		c := connect(t, Config{URI: srv.URL + "/v1/", Prefix: "mine"}, nil)
		if _, err := c.LoadTable(t.Context(), catalog.Identifier{"x", "y.z", "t/ü"}, catalog.LoadRefs); err != nil {
			t.Fatal(err)
		}
		if want := "GET /v1/a/b%20c/namespaces/x%1Fy%2Ez/tables/t%2F%C3%BC lean="; len(got) != 1 || got[0] != want {
			t.Errorf("asked %q, want %q", got, want)
		}
		wantOnly(t, "transaction", calls[6].call(t.Context(), c), catalog.ErrUnsupported)
		_, err := c.HistoryAt(t.Context(), users, time.Now())
		wantOnly(t, "history", err, catalog.ErrUnsupported)
		if len(got) != 1 || c.Firn() {
			t.Errorf("the server was asked for what it does not have: %q", got)
		}
	})
	t.Run("firn", func(t *testing.T) {
		got = nil
		srv := foreign(t, `{"endpoints":["`+endpointHistory+`","`+endpointTransaction+`"]}`, record)
		c := connect(t, Config{URI: srv.URL}, nil)
		if err := calls[5].call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := calls[6].call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if want := "POST /v1/namespaces/ns/tables/users lean=1"; !c.Firn() || got[0] != want {
			t.Errorf("asked %q, want %q", got[0], want)
		}
	})
	t.Run("separator", func(t *testing.T) {
		got = nil
		srv := foreign(t, `{"overrides":{"namespace-separator":"%2E"}}`, record)
		c := connect(t, Config{URI: srv.URL}, nil)
		if _, err := c.LoadTable(t.Context(), catalog.Identifier{"x", "y", "t"}, catalog.LoadRefs); err != nil {
			t.Fatal(err)
		}
		if want := "GET /v1/namespaces/x%2Ey/tables/t lean="; got[0] != want {
			t.Errorf("asked %q, want %q", got[0], want)
		}
	})
	t.Run("another address", func(t *testing.T) {
		srv := foreign(t, `{"overrides":{"uri":"https://elsewhere/v1"}}`, record)
		if _, err := New(t.Context(), Config{URI: srv.URL}, nil, nil); !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), "elsewhere") {
			t.Errorf("got %v", err)
		}
	})
}

// TestTokenStaysHere: it goes to the catalog, not along a redirect, and into no message.
func TestTokenStaysHere(t *testing.T) {
	const canary = "canary-token-5d1f"
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, Authorization=%q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	srv := foreign(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+canary {
			t.Errorf("Authorization=%q", r.Header.Get("Authorization"))
		}
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	c := connect(t, Config{URI: srv.URL, Token: units.NewSecret(canary)}, nil)
	for _, call := range calls {
		err := call.call(t.Context(), c)
		wantOnly(t, call.name, err, catalog.ErrInvalid)
		if strings.Contains(fmt.Sprintf("%v %+v", err, c.cfg), canary) {
			t.Errorf("%s: the token is shown", call.name)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	var opened atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/broken") {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, strings.Repeat(" ", 1000)+`{"error":{"type":"CommitFailedException"}}`)
			return
		}
		fmt.Fprintf(w, `{"metadata":%s}`, metadata)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	reg := prometheus.NewRegistry()
	c := connect(t, Config{URI: srv.URL}, reg)
	for range 20 {
		if err := calls[5].call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		_, err := c.CommitTable(t.Context(), catalog.TableCommit{Identifier: catalog.Identifier{"ns", "broken"}})
		wantOnly(t, "conflict", err, catalog.ErrConflict)
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for 40 commits in turn", n)
	}
	if n := counted(t, reg, "conflict"); n != 20 {
		t.Errorf("%v conflicts counted", n)
	}
	again := connect(t, Config{URI: srv.URL}, reg) // two clients of one process share their metrics
	if again.m.requests != c.m.requests {
		t.Error("a second client counts elsewhere")
	}
}

// counted sums the requests that ended in an outcome.
func counted(t *testing.T, reg *prometheus.Registry, outcome string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "firn_catalog_client_requests_total" && l.GetName() == "outcome" && l.GetValue() == outcome {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

func TestListingsEnd(t *testing.T) {
	endless := false
	srv := foreign(t, `{}`, func(w http.ResponseWriter, r *http.Request) {
		switch token := r.URL.Query().Get("pageToken"); {
		case endless:
			fmt.Fprint(w, `{"namespaces":[["x"]],"next-page-token":"same"}`)
		case token == "":
			fmt.Fprint(w, `{"namespaces":[["a"]],"next-page-token":"2"}`)
		default:
			fmt.Fprint(w, `{"namespaces":[["b","c"]],"next-page-token":null}`)
		}
	})
	c := connect(t, Config{URI: srv.URL}, nil)
	got, err := c.ListNamespaces(t.Context(), nil)
	if err != nil || fmt.Sprint(got) != "[a b.c]" {
		t.Errorf("listed %v, %v", got, err)
	}
	endless = true
	_, err = c.ListNamespaces(t.Context(), nil)
	wantOnly(t, "a listing without end", err, catalog.ErrInvalid)
}

// TestNothingIsSentForBadNames: an empty part would address something else, a whole namespace for one.
func TestNothingIsSentForBadNames(t *testing.T) {
	srv := foreign(t, `{}`, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("sent %s %s", r.Method, r.URL) })
	c := connect(t, Config{URI: srv.URL}, nil)
	for _, id := range []catalog.Identifier{nil, {"t"}, {"", "t"}, {"ns", ""}, {"a\x1fb", "t"}, {"ns", "\x00"}, {"ns", "\xff"}} {
		_, err := c.LoadTable(t.Context(), id, catalog.LoadAll)
		wantOnly(t, "load", err, catalog.ErrInvalid)
		wantOnly(t, "drop", c.DropTable(t.Context(), id, true), catalog.ErrInvalid)
		_, err = c.CommitTable(t.Context(), catalog.TableCommit{Identifier: id})
		wantOnly(t, "commit", err, catalog.ErrInvalid)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want string // in the error; empty: it is good
	}{
		{Config{URI: "http://127.0.0.1:8181"}, ""},
		{Config{URI: "https://host/api/catalog/v1/"}, ""},
		{Config{}, "uri"},
		{Config{URI: "127.0.0.1:8181"}, "http://"},
		{Config{URI: "ftp://x"}, "http://"},
		{Config{URI: "http://"}, "http://"},
		{Config{URI: "http://me:hush@host"}, "token"},
		{Config{URI: "http://host?x=1"}, "query"},
		{Config{URI: "http://host", Timeout: 1}, "timeout"},
		{Config{URI: "http://host", DialTimeout: 1}, "dial_timeout"},
		{Config{URI: "http://host", MaxAnswer: 1}, "max_answer"},
		{Config{URI: "http://host", Token: units.NewSecret("a\nb")}, "token"},
	} {
		err := tc.cfg.WithDefaults().Validate()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.cfg, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the password is shown: %v", err)
		}
	}
}

// FuzzAnswer: whatever a server says, a client neither panics nor takes it for a table without metadata.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"metadata":`+metadata+`}`))
	f.Add(409, []byte(`{"error":{"message":"m","type":"CommitFailedException","code":409}}`))
	f.Add(200, []byte(`{"metadata":`+viewMetadata("1", "0")+`}`))
	f.Add(200, []byte(`{"metadata":{"format-version":2,"snapshots":[null],"refs":{"main":null}}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			status = 200
		}
		c := &Client{cfg: Config{}.WithDefaults(), at: newAddresses([]string{"http://catalog/v1"}), separator: wire.Separator, views: true}
		c.creds = newCredentials(c.cfg, newAddresses([]string{"http://catalog/v1/oauth/tokens"}), nil)
		c.m, _ = newMetrics(nil)
		c.http = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body)))}, nil
		}), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		tab, err := c.CommitTable(t.Context(), catalog.TableCommit{Identifier: users, Updates: table.Updates{}})
		if (tab == nil) == (err == nil) || err == nil && tab.Metadata == nil {
			t.Errorf("table %v, error %v", tab, err)
		}
		v, err := c.LoadView(t.Context(), users)
		if (v == nil) == (err == nil) {
			t.Errorf("view %v, error %v", v, err)
		}
		if err == nil {
			_, _ = c.ReplaceView(t.Context(), v, catalog.ViewDefinition{Schema: iceberg.NewSchema(0), SQL: map[string]string{"spark": "s"}})
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
