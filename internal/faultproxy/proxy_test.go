package faultproxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counter is a server that says how often it was asked, and keeps what it was sent.
type counter struct {
	mu   sync.Mutex
	seen []string
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, fmt.Sprintf("%s %s %s %s %s", r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Mark"), b))
	w.Header().Set("X-Count", fmt.Sprint(len(c.seen)))
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", "4711")
		return
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "answer %d", len(c.seen))
}

func (c *counter) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func start(t *testing.T, opts ...Option) (*counter, *Proxy, *http.Client) {
	t.Helper()
	c := &counter{}
	srv := httptest.NewServer(c)
	p, err := New(strings.TrimPrefix(srv.URL, "http://"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return c, p, client
}

func post(t *testing.T, c *http.Client, p *Proxy, body string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.Addr()+"/a%2Fb?x=1", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Mark", "m")
	res, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// TestFaults: what the client sees and how often the request took effect, for each kind, and that the next one passes.
func TestFaults(t *testing.T) {
	const late = 500 * time.Millisecond // long beside an answer, also on a machine that is busy
	for _, c := range []struct {
		fault   Fault
		status  int // 0: no answer
		body    string
		atOnce  int // effects when the client has its answer
		finally int
		unseen  []int
	}{
		{Fault{Kind: Pass}, 202, "answer 1", 1, 1, nil},
		{Fault{Kind: Refuse}, 503, "no server", 0, 0, nil},
		{Fault{Kind: Cut}, 0, "", 0, 0, nil},
		{Fault{Kind: Lose}, 0, "", 1, 1, []int{202}},
		{Fault{Kind: Fail}, 500, "invalid response", 1, 1, []int{202}},
		{Fault{Kind: Repeat}, 202, "answer 2", 2, 2, []int{202}},
		{Fault{Kind: Again, Delay: late}, 202, "answer 1", 1, 2, []int{202}},
		{Fault{Kind: Hold, Delay: late}, 0, "", 0, 1, []int{202}},
		{Fault{Kind: Slow, Delay: late}, 202, "answer 1", 1, 1, nil},
	} {
		t.Run(c.fault.Kind.String(), func(t *testing.T) {
			t.Parallel()
			srv, p, client := start(t)
			rule := p.Plan(1, c.fault, func(r *http.Request) bool { return r.Method == http.MethodPost })
			began := time.Now()
			status, body, err := post(t, client, p, "payload")
			if (err != nil) != (c.status == 0) || status != c.status || !strings.Contains(body, c.body) {
				t.Errorf("the client sees %d %q %v", status, body, err)
			}
			if c.fault.Kind == Slow && time.Since(began) < late {
				t.Errorf("answered after %s", time.Since(began))
			}
			if n := srv.times(); n != c.atOnce {
				t.Errorf("%d effects at once, want %d", n, c.atOnce)
			}
			for deadline := time.Now().Add(5 * time.Second); srv.times() < c.finally || len(rule.Late()) < len(c.unseen); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d effects in the end, want %d; unseen answers %v", srv.times(), c.finally, rule.Late())
				}
			}
			if rule.Met() != 1 || !slices.Equal(rule.Late(), c.unseen) {
				t.Errorf("met %d, unseen answers %v", rule.Met(), rule.Late())
			}
			if status, _, err := post(t, client, p, "next"); status != 202 || err != nil {
				t.Errorf("the next request: %d, %v", status, err)
			}
			if n := srv.times(); n != c.finally+1 {
				t.Errorf("%d effects, want %d", n, c.finally+1)
			}
			for _, s := range srv.seen[:c.finally] {
				if want := "POST " + p.Addr() + " /a%2Fb?x=1 m payload"; s != want {
					t.Errorf("the server saw %q, want %q", s, want)
				}
			}
		})
	}
}

func TestPlan(t *testing.T) {
	srv, p, client := start(t)
	other := p.Plan(5, Fault{Kind: Cut}, func(r *http.Request) bool { return r.Method == http.MethodDelete })
	two := p.Plan(2, Fault{Kind: Refuse}, nil)
	then := p.Plan(1, Fault{Kind: Fail}, nil)
	var got []int
	for range 4 {
		status, _, err := post(t, client, p, "x")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, status)
	}
	if want := []int{503, 503, 500, 202}; !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v", got, want)
	}
	if other.Met() != 0 || two.Met() != 2 || then.Met() != 1 || srv.times() != 2 {
		t.Errorf("met %d, %d, %d; %d effects", other.Met(), two.Met(), then.Met(), srv.times())
	}
	p.Plan(1, Fault{Kind: Cut}, nil)
	p.Clear()
	if status, _, err := post(t, client, p, "x"); status != 202 || err != nil {
		t.Errorf("after Clear: %d, %v", status, err)
	}
}

func TestRewritingAndHead(t *testing.T) {
	_, p, client := start(t, Rewriting(func(r *http.Request, b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("answer"), []byte("another answer"))
	}))
	if status, body, err := post(t, client, p, ""); status != 202 || body != "another answer 1" || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+p.Addr()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ContentLength != 4711 {
		t.Errorf("HEAD says %d bytes", res.ContentLength)
	}
}

// TestServerAway: without a server the client sees its connection end, and a Close drops what is held back.
func TestServerAway(t *testing.T) {
	p, err := New("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	if _, _, err := post(t, client, p, "x"); err == nil {
		t.Error("an answer without a server")
	}
	rule := p.Plan(1, Fault{Kind: Hold, Delay: time.Hour}, nil)
	if _, _, err := post(t, client, p, "x"); err == nil {
		t.Error("a held request was answered")
	}
	began := time.Now()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if time.Since(began) > 5*time.Second || len(rule.Late()) != 0 {
		t.Errorf("Close took %s, late answers %v", time.Since(began), rule.Late())
	}
}
