package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
)

const (
	// maxErrorBody bounds what is read of an answer that is not a success, in bytes.
	maxErrorBody = 64 << 10
	// maxIdleConns is how many connections are kept for the next request.
	maxIdleConns = 16
	// idleTimeout is shorter than that of the usual servers and proxies (60 s and more), so that a commit
	// seldom meets a connection that the other side has just closed: its outcome would be unknown.
	idleTimeout = 30 * time.Second
)

// Endpoints as GET /v1/config names them, where the protocol leaves a server the choice.
const (
	endpointTransaction = "POST /v1/{prefix}/transactions/commit"
	endpointWatch       = "GET /v1/{prefix}/firn/namespaces/{namespace}/tables/{table}/events"
	endpointViews       = "GET /v1/{prefix}/namespaces/{namespace}/views/{view}"
	endpointHistory     = "GET /v1/{prefix}/firn/namespaces/{namespace}/tables/{table}/history"
)

// Client is a catalog behind the Iceberg REST protocol. All methods are safe for concurrent use.
type Client struct {
	cfg       Config
	log       *slog.Logger
	m         *metrics
	http      *http.Client
	at        *addresses // base URLs with /v1 and the prefix
	separator string     // of the parts of a namespace in a URL
	firn      bool       // the server is Firn's own: lean answers and history
	watch     bool       // the server tells of commits
	views     bool       // the server keeps views
	creds     *credentials
	noTx      bool // the server has no transactions over several tables, or none to rely on
}

var (
	_ catalog.Catalog       = (*Client)(nil)
	_ catalog.HistoryKeeper = (*Client)(nil)
	_ catalog.Watcher       = (*Client)(nil)
	_ catalog.Viewer        = (*Client)(nil)
)

// New asks the catalog for its configuration and returns a client of it. The error is ErrUnavailable where
// a later call may succeed. Close the client to give back its connections. log and reg may be nil.
func New(ctx context.Context, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("catalog client: %w", err)
	}
	bases, err := cfg.bases()
	if err != nil {
		return nil, fmt.Errorf("catalog client: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("catalog client: metrics: %w", err)
	}
	tlsConf, err := cfg.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("catalog client: %w", err)
	}
	var roots, tokens []string
	for _, b := range bases {
		roots = append(roots, b.String()+"/v1")
		tokens = append(tokens, b.String()+"/v1/oauth/tokens")
	}
	if cfg.TokenURI != "" {
		tokens = []string{cfg.TokenURI}
	}
	c := &Client{cfg: cfg, log: log, m: m, separator: wire.Separator, at: newAddresses(roots)}
	c.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: cfg.DialTimeout.D(), KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   cfg.DialTimeout.D(),
			TLSClientConfig:       tlsConf,
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          maxIdleConns,
			MaxIdleConnsPerHost:   maxIdleConns,
			IdleConnTimeout:       idleTimeout,
			ExpectContinueTimeout: time.Second,
		},
	}
	c.creds = newCredentials(cfg, newAddresses(tokens), c.http)
	if err := c.negotiate(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("catalog client: %w", err)
	}
	return c, nil
}

// Close gives back idle connections. Requests under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Firn tells whether the server is Firn's own, which keeps the commit history and gives lean answers.
func (c *Client) Firn() bool { return c.firn }

// negotiate reads GET /v1/config: the prefix, and what the server can do. Overrides win over Config, and
// Config wins over defaults, as the protocol says.
func (c *Client) negotiate(ctx context.Context) error {
	var q url.Values
	if c.cfg.Warehouse != "" {
		q = url.Values{"warehouse": {c.cfg.Warehouse}}
	}
	var conf wire.Config
	if _, err := c.call(ctx, op{name: "config", method: http.MethodGet, path: "/config", query: q}, nil, &conf); err != nil {
		return err
	}
	for _, s := range []string{conf.Overrides["uri"], conf.Defaults["uri"]} {
		if s != "" && !slices.ContainsFunc(c.at.roots, func(ours string) bool { return sameHost(ours, s) }) {
			return fmt.Errorf("%w: %s names another address for itself, %q: set uri to that one if it is right", catalog.ErrInvalid, c.at, s)
		}
	}
	prefix := conf.Overrides["prefix"]
	if prefix == "" {
		prefix = c.cfg.Prefix
	}
	if prefix == "" {
		prefix = conf.Defaults["prefix"]
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		for _, part := range strings.Split(prefix, "/") { // a server may give more than one segment
			for i := range c.at.roots {
				c.at.roots[i] += "/" + wire.EncodeSegment(part)
			}
		}
	}
	for _, s := range []string{conf.Defaults["namespace-separator"], conf.Overrides["namespace-separator"]} {
		if d, err := url.QueryUnescape(s); err == nil && d != "" {
			c.separator = d
		}
	}
	for _, s := range []string{conf.Defaults["view-endpoints-supported"], conf.Overrides["view-endpoints-supported"]} {
		if s != "" { // how servers that list no endpoints say it
			c.views = s == "true"
		}
	}
	if len(conf.Endpoints) > 0 { // otherwise the protocol's own list holds, which has transactions
		c.noTx = true
	}
	for _, e := range conf.Endpoints {
		switch e {
		case endpointTransaction:
			c.noTx = false
		case endpointHistory:
			c.firn = true
		case endpointWatch:
			c.watch = true
		case endpointViews:
			c.views = true
		}
	}
	if !c.firn && !c.cfg.TrustTransactions {
		c.noTx = true
	}
	c.log.Debug("catalog found", "uri", c.at.String(), "firn", c.firn, "transactions", !c.noTx)
	return nil
}

func sameHost(ours, theirs string) bool {
	a, errA := url.Parse(ours)
	b, errB := url.Parse(theirs)
	return errA == nil && errB == nil && a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host)
}

// op is one request: what it is called in errors and metrics, and what its failures mean.
type op struct {
	name   string // of a metric's label and in messages
	method string
	path   string
	query  url.Values
	about  string // the table or namespace, for messages
	kind   kind
	lean   bool // ask Firn's catalog for a lean answer
}

// kind says what a request does to the server's state.
type kind int

const (
	reads     kind = iota // changes nothing: no answer is ErrUnavailable
	changes               // no answer is ErrUnknownOutcome, a 409 is ErrExists
	commits               // no answer is ErrUnknownOutcome, a 409 is ErrConflict
	transacts             // as commits, and a 404 without a name is ErrUnsupported
)

func (o op) String() string {
	if o.about == "" {
		return strings.ReplaceAll(o.name, "_", " ")
	}
	return strings.ReplaceAll(o.name, "_", " ") + " " + o.about
}

// call sends one request and decodes a success into answer, unless that is nil. It returns the headers.
func (c *Client) call(ctx context.Context, o op, body, answer any) (http.Header, error) {
	start := time.Now()
	header, err := c.send(ctx, o, body, answer)
	c.m.observe(o.name, err, time.Since(start))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	return header, nil
}

// send asks one address after the other until one can answer. A request that changes something goes to a second one only
// where the first has surely done nothing with it.
func (c *Client) send(ctx context.Context, o op, body, answer any) (header http.Header, err error) {
	c.at.each(func(i int, root string) bool {
		var failed bool
		header, failed, err = c.sendTo(ctx, root, o, body, answer)
		if failed {
			c.leave(ctx, i, o, err)
		}
		return !failed || ctx.Err() != nil || !errors.Is(err, catalog.ErrUnavailable)
	})
	return header, err
}

// leave makes the next request begin at another address than one that failed.
func (c *Client) leave(ctx context.Context, i int, o op, err error) {
	if c.at.leave(ctx, i) {
		c.m.failovers.Inc()
		c.log.Warn("the catalog fails at one address, the next one is asked from now on", "address", c.at.roots[i], "request", o.name, "error", err)
	}
}

// sendTo sends a request to one address. failed tells that the error is of this address, and another one may do better.
func (c *Client) sendTo(ctx context.Context, root string, o op, body, answer any) (_ http.Header, failed bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout.D())
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// A second GetConn for a request with a body means that the transport knows it wrote nothing on the first.
		GetConn: func(string) { connected.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	res, err := c.exchange(ctx, root, o, body, nil)
	if err != nil {
		var t *noAnswerError
		if errors.As(err, &t) {
			return nil, true, transportError(o, connected.Load(), t.err)
		}
		return nil, false, err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 || res.StatusCode < 200 {
		raw, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // what there is of it; the status alone says enough
		return nil, res.StatusCode >= 500, answerError(o, res, raw)
	}
	limit := int64(c.cfg.MaxAnswer)
	raw, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, true, transportError(o, true, fmt.Errorf("read the answer: %w", err))
	}
	if int64(len(raw)) > limit {
		return nil, false, badAnswer(o, fmt.Errorf("the answer has more than %d bytes: raise max_answer", limit))
	}
	if answer == nil {
		return res.Header, false, nil
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return nil, false, badAnswer(o, fmt.Errorf("the answer is not what the protocol says: is %s an Iceberg REST catalog? %w", root, err))
	}
	return res.Header, false, nil
}

// noAnswerError is what the transport says of a request that was not answered.
type noAnswerError struct{ err error }

func (e *noAnswerError) Error() string { return e.err.Error() }

// exchange sends a request and returns the answer, whatever it is, for the caller to close.
func (c *Client) exchange(ctx context.Context, root string, o op, body any, header http.Header) (*http.Response, error) {
	for again := false; ; again = true {
		token, err := c.creds.bearer(ctx)
		if err != nil {
			return nil, err
		}
		req, err := c.request(ctx, root, o, body, token)
		if err != nil {
			return nil, err
		}
		for k, v := range header {
			req.Header[k] = v
		}
		res, err := c.http.Do(req)
		if err != nil {
			return nil, &noAnswerError{err}
		}
		// A 401 is given before anything is done: with a new token the request may be sent again, whatever its kind.
		if res.StatusCode != http.StatusUnauthorized || again || !c.creds.renewable() {
			return res, nil
		}
		_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody) // so that the connection can be used again
		_ = res.Body.Close()
		c.creds.refused(token)
	}
}

func (c *Client) request(ctx context.Context, root string, o op, body any, token string) (*http.Request, error) {
	target := root + o.path
	if len(o.query) > 0 {
		target += "?" + o.query.Encode()
	}
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%w: encode the request: %w", catalog.ErrInvalid, err)
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, o.method, target, payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "firn")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if o.lean && c.firn {
		req.Header.Set(wire.LeanHeader, "1")
	}
	return req, nil
}
