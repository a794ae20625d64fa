package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// maxBody bounds a request or an answer in memory, in bytes: what is to be sent twice or later has to be kept.
	maxBody = 256 << 20
	// headerTimeout bounds how long a client may take for its request's head.
	headerTimeout = 10 * time.Second
)

// Kind is what becomes of a request.
type Kind int

// The kinds.
const (
	Pass   Kind = iota // nothing happens to it
	Refuse             // 503 without effect, in the words of a load balancer
	Cut                // no effect, and the connection ends without an answer
	Lose               // it takes effect, and the connection ends without an answer
	Fail               // it takes effect, and the answer is 500
	Repeat             // it takes effect twice, and the second answer is given
	Again              // it takes effect and is answered, and Delay later it arrives once more
	Hold               // the connection ends at once, and it takes effect Delay later
	Slow               // it takes effect after Delay, and is answered then
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"pass", "refuse", "cut", "lose", "fail", "repeat", "again", "hold", "slow"}[k]
}

// Fault is a kind with its delay, where it has one.
type Fault struct {
	Kind  Kind
	Delay time.Duration
}

// Rule is a fault for some of the requests to come.
type Rule struct {
	p     *Proxy
	match func(*http.Request) bool
	fault Fault
	left  int
	met   int
	late  []int // status codes of what arrived after its client was told otherwise
}

// Met is how many requests the rule was used on.
func (r *Rule) Met() int {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.met
}

// Late returns the answers that no client saw to requests of Lose, Fail, Repeat (the first), Again (the second) and
// Hold, as status codes.
func (r *Rule) Late() []int {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return slices.Clone(r.late)
}

// Proxy stands before one server.
type Proxy struct {
	target    string
	rewrite   func(*http.Request, []byte) []byte
	listener  net.Listener
	server    *http.Server
	transport *http.Transport
	quit      chan struct{} // ends delays
	work      sync.WaitGroup

	mu    sync.Mutex
	rules []*Rule
}

// Option changes a Proxy at its start.
type Option func(*Proxy)

// Rewriting has fn change the body of each successful answer.
func Rewriting(fn func(req *http.Request, body []byte) []byte) Option {
	return func(p *Proxy) { p.rewrite = fn }
}

// New listens on a free port of 127.0.0.1 and passes requests on to target, a host:port.
func New(target string, opts ...Option) (*Proxy, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p := &Proxy{target: target, listener: l, quit: make(chan struct{}),
		// What the client did not ask for must not be added, and a connection that the server closed must not cause a
		// silent second try: the faults are the caller's.
		transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	for _, o := range opts {
		o(p)
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: headerTimeout}
	p.work.Go(func() {
		_ = p.server.Serve(l) // it ends with Close
	})
	return p, nil
}

// Addr is the host:port to use instead of the server's.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Plan puts a fault on the next n requests that match; without match on any.
func (p *Proxy) Plan(n int, f Fault, match func(*http.Request) bool) *Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &Rule{p: p, match: match, fault: f, left: n}
	p.rules = append(p.rules, r)
	return r
}

// Clear forgets what was planned and not used; what was begun goes on.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Close ends the proxy. What is still held back is dropped.
func (p *Proxy) Close() error {
	close(p.quit)
	err := p.server.Close()
	p.work.Wait()
	p.transport.CloseIdleConnections()
	return err
}

// take uses up a fault for a request.
func (p *Proxy) take(req *http.Request) (*Rule, Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if r.left > 0 && (r.match == nil || r.match(req)) {
			r.left--
			r.met++
			return r, r.fault
		}
	}
	return nil, Fault{}
}

func (r *Rule) arrived(a *answer, err error) {
	if r == nil || err != nil {
		return
	}
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.late = append(r.late, a.status)
}

// answer is a server's answer as a whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p.work.Add(1)
	defer p.work.Done()
	body, err := readBounded(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client did not send all of it: no server would act on it
	}
	rule, f := p.take(req)
	switch f.Kind {
	case Refuse:
		http.Error(w, "no server is available to handle this request", http.StatusServiceUnavailable)
		return
	case Cut:
		panic(http.ErrAbortHandler)
	case Lose:
		rule.arrived(p.forward(req, body))
		panic(http.ErrAbortHandler)
	case Fail:
		rule.arrived(p.forward(req, body))
		http.Error(w, "the proxy server received an invalid response from an upstream server", http.StatusInternalServerError)
		return
	case Repeat:
		rule.arrived(p.forward(req, body))
	case Again:
		p.later(rule, f.Delay, req, body)
	case Hold:
		p.later(rule, f.Delay, req, body)
		panic(http.ErrAbortHandler)
	case Slow:
		if !p.pause(f.Delay) {
			panic(http.ErrAbortHandler)
		}
	}
	a, err := p.forward(req, body)
	if err != nil {
		panic(http.ErrAbortHandler) // as without a proxy: the client sees its connection end
	}
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a client that went away is part of the game
}

// later delivers a request after a while, whatever its client does meanwhile.
func (p *Proxy) later(r *Rule, d time.Duration, req *http.Request, body []byte) {
	req = req.Clone(context.WithoutCancel(req.Context()))
	p.work.Go(func() {
		if p.pause(d) {
			r.arrived(p.forward(req, body))
		}
	})
}

func (p *Proxy) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.quit:
		return false
	}
}

// hopHeaders are about one connection, not about the request (RFC 9110, 7.6.1).
var hopHeaders = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func (p *Proxy) forward(req *http.Request, body []byte) (*answer, error) {
	out := req.Clone(context.WithoutCancel(req.Context()))
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.target, ""
	out.Host = req.Host
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	for _, h := range hopHeaders {
		out.Header.Del(h)
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = nil // or Go puts its own
	}
	res, err := p.transport.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	if req.Method != http.MethodHead { // its Content-Length is that of a body which is not sent
		if a.body, err = readBounded(res.Body); err != nil {
			return nil, err
		}
		if p.rewrite != nil && a.status < 300 {
			a.body = p.rewrite(req, a.body)
		}
		a.header.Set("Content-Length", fmt.Sprint(len(a.body)))
		if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
			a.header.Del("Content-Length")
		}
	}
	for _, h := range hopHeaders {
		a.header.Del(h)
	}
	return a, nil
}

var errTooLarge = errors.New("fault proxy: body too large")

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = errTooLarge
	}
	return b, err
}
