package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/units"
)

// What may become of a request at one of several processes.
const (
	answers  = "answers"
	busy     = "busy"     // 503 in the catalog's own words: it did not begin
	proxied  = "proxied"  // 503 of a proxy: it may have begun
	broken   = "broken"   // 500
	cuts     = "cuts"     // reads the request and says nothing
	loses    = "loses"    // takes effect, and the answer is lost
	tooMany  = "tooMany"  // 429
	conflict = "conflict" // 409
)

// process is one catalog of several on one database.
type process struct {
	*httptest.Server
	asked, effect atomic.Int64
	behaviour     atomic.Value // string
}

func newProcess(t interface{ Cleanup(func()) }) *process {
	p := &process{}
	p.will(answers)
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *process) will(do string) { p.behaviour.Store(do) }

func (p *process) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/config" {
		fmt.Fprint(w, `{"endpoints":["POST /v1/{prefix}/transactions/commit"]}`)
		return
	}
	p.asked.Add(1)
	refuse := func(code int, body string) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
	model := func(code int, typ string) {
		refuse(code, fmt.Sprintf(`{"error":{"message":"m","type":%q,"code":%d}}`, typ, code))
	}
	switch p.behaviour.Load() {
	case cuts:
		panic(http.ErrAbortHandler)
	case busy:
		model(503, wire.TypeUnavailable)
	case proxied:
		refuse(503, "upstream connect error")
	case broken:
		model(500, wire.TypeInternal)
	case loses:
		p.effect.Add(1)
		panic(http.ErrAbortHandler)
	case tooMany:
		model(429, wire.TypeTooMany)
	case conflict:
		model(409, wire.TypeCommitFailed)
	case answers:
		p.effect.Add(1)
		body := metadata
		if strings.Contains(r.URL.Path, "/views/") {
			body = viewMetadata("1", "0")
		}
		fmt.Fprintf(w, `{"metadata":%s,"namespaces":[]}`, body)
	}
}

// TestSeveralAddresses: whatever each of two processes makes of a request, it has an effect once at most, the error says
// the truth about that, and the next request begins where the answer came from.
func TestSeveralAddresses(t *testing.T) {
	all := []string{answers, busy, proxied, broken, cuts, loses, tooMany, conflict}
	for _, first := range all {
		for _, call := range calls {
			a, b := newProcess(t), newProcess(t)
			c := connect(t, Config{URI: a.URL + ", " + b.URL}, nil)
			a.will(first)
			err := call.call(t.Context(), c)
			what := fmt.Sprintf("%s where the first %s", call.name, first)
			elsewhere := first == busy || call.kind == reads && slices.Contains([]string{proxied, broken, cuts, loses}, first)
			if got := b.asked.Load() == 1; got != elsewhere {
				t.Errorf("%s: the second was asked: %t", what, got)
			}
			switch {
			case elsewhere || first == answers:
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			case first == tooMany:
				wantOnly(t, what, err, catalog.ErrUnavailable)
			case first == conflict:
				wantOnly(t, what, err, catalog.ErrConflict)
			default:
				wantOnly(t, what, err, catalog.ErrUnknownOutcome)
			}
			if call.kind != reads && a.effect.Load()+b.effect.Load() > 1 {
				t.Errorf("%s: it took effect twice", what)
			}
			moved := first != answers && first != tooMany && first != conflict
			if c.at.current() == 1 != moved {
				t.Errorf("%s: the next request begins at %d", what, c.at.current())
			}
		}
	}
}

// TestEffectsOnce: over random failures of random processes, the outcome that a caller is told is what happened.
func TestEffectsOnce(t *testing.T) {
	ps := []*process{newProcess(t), newProcess(t), newProcess(t)}
	c := connect(t, Config{URI: ps[0].URL + "," + ps[1].URL + "," + ps[2].URL}, nil)
	total := func() (n int64) {
		for _, p := range ps {
			n += p.effect.Load()
		}
		return n
	}
	rapid.Check(t, func(r *rapid.T) {
		for _, p := range ps {
			p.will(rapid.SampledFrom([]string{answers, busy, proxied, broken, cuts, loses}).Draw(r, "behaviour"))
		}
		call := rapid.SampledFrom(calls).Draw(r, "call")
		before := total()
		err := call.call(t.Context(), c)
		n := total() - before
		switch {
		case call.kind == reads:
			if slices.ContainsFunc(ps, func(p *process) bool { return p.behaviour.Load() == answers }) && err != nil {
				r.Fatalf("%s fails with %v though one answers", call.name, err)
			}
		case err == nil && n != 1, errors.Is(err, catalog.ErrUnavailable) && n != 0, errors.Is(err, catalog.ErrUnknownOutcome) && n > 1:
			r.Fatalf("%s: %v, and it took effect %d times", call.name, err, n)
		}
	})
}

// TestNobodyListens: an address where nobody listens costs one try, and when nobody listens anywhere each is tried once.
func TestNobodyListens(t *testing.T) {
	gone := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String()
	}
	p, reg := newProcess(t), prometheus.NewRegistry()
	c := connect(t, Config{URI: gone() + "," + gone() + "," + p.URL}, reg)
	for range 3 {
		for _, call := range calls {
			if err := call.call(t.Context(), c); err != nil {
				t.Errorf("%s: %v", call.name, err)
			}
		}
	}
	if n := failovers(t, reg); n != 2 {
		t.Errorf("%v failovers, two addresses are dead", n)
	}
	p.Close()
	for _, call := range calls {
		wantOnly(t, call.name, call.call(t.Context(), c), catalog.ErrUnavailable)
	}
}

// TestWatchElsewhere: a watch goes on at another process, from the last event on.
func TestWatchElsewhere(t *testing.T) {
	var mu sync.Mutex
	var after []string
	serve := func(events string) *httptest.Server {
		return foreign(t, `{"endpoints":["`+endpointWatch+`"]}`, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			after = append(after, r.Header.Get("Last-Event-Id"))
			mu.Unlock()
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, events)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	}
	event := func(v int) string { return fmt.Sprintf("id: %d\nevent: change\ndata: {\"version\":%d}\n\n", v, v) }
	a, b := serve(event(7)+event(8)), serve(event(9))
	c := connect(t, Config{URI: a.URL + "," + b.URL}, nil)
	enough := errors.New("enough")
	var got []int64
	err := c.Watch(t.Context(), users, 0, func(e catalog.Event) error {
		if got = append(got, e.Version); e.Version == 9 {
			return enough
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	if !errors.Is(err, enough) || !slices.Equal(got, []int64{7, 8, 9}) || !slices.Equal(after, []string{"", "8"}) {
		t.Errorf("events %v, %v; asked for what is after %q", got, err, after)
	}
}

// TestTokenElsewhere: a token is had from whichever process answers.
func TestTokenElsewhere(t *testing.T) {
	p := newProcess(t)
	token := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/oauth/tokens") {
			fmt.Fprint(w, `{"access_token":"t","token_type":"bearer","expires_in":3600}`)
			return
		}
		p.serve(w, r)
	}))
	defer token.Close()
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	c := connect(t, Config{URI: dead.URL + "," + token.URL, ClientID: "c", ClientSecret: units.NewSecret("s")}, nil)
	if _, err := c.LoadTable(t.Context(), users, catalog.LoadRefs); err != nil {
		t.Error(err)
	}
}

// TestTokenHangs: a token endpoint that does not answer in time has lost its turn, though the request is over.
func TestTokenHangs(t *testing.T) {
	var hangs atomic.Bool
	asked := make(chan struct{}, 2)
	serve := func(first bool) *httptest.Server {
		p := newProcess(t)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case !strings.HasSuffix(r.URL.Path, "/oauth/tokens"):
				p.serve(w, r)
			case first && hangs.Load():
				_, _ = io.Copy(io.Discard, r.Body)
				asked <- struct{}{}
				<-r.Context().Done()
			default:
				fmt.Fprint(w, `{"access_token":"t","token_type":"bearer","expires_in":3600}`)
			}
		}))
		t.Cleanup(s.Close)
		return s
	}
	c := connect(t, Config{URI: serve(true).URL + "," + serve(false).URL, ClientID: "c", ClientSecret: units.NewSecret("s")}, nil)
	hangs.Store(true)
	c.creds.refused("t")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(context.DeadlineExceeded) // as a deadline would, but surely not before the endpoint was asked
	}()
	_, err := c.LoadTable(ctx, users, catalog.LoadRefs)
	wantOnly(t, "without a token", err, catalog.ErrUnavailable)
	if _, err := c.LoadTable(t.Context(), users, catalog.LoadRefs); err != nil {
		t.Error(err)
	}
}

// TestGivenUp: a request that its caller has cancelled says nothing of the address.
func TestGivenUp(t *testing.T) {
	asked := make(chan struct{}, 1)
	hang := foreign(t, `{}`, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		<-r.Context().Done()
	})
	reg := prometheus.NewRegistry()
	c := connect(t, Config{URI: hang.URL + "," + newProcess(t).URL}, reg)
	for _, call := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		if err := call.call(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call.name, err)
		}
	}
	if n := failovers(t, reg); n != 0 || c.at.current() != 0 {
		t.Errorf("%v failovers, the next request begins at %d", n, c.at.current())
	}
}

func TestAddressesRefused(t *testing.T) {
	for _, uri := range []string{",", "http://a:1,", "http://a:1,ftp://b", strings.Repeat("http://a:1,", maxAddresses) + "http://a:1"} {
		if err := (Config{URI: uri}).WithDefaults().Validate(); err == nil {
			t.Errorf("%q is taken", uri)
		}
	}
}

func failovers(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "firn_catalog_client_failovers_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}
