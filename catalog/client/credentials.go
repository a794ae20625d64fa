package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/firnlake/firn/catalog"
)

const (
	// defaultLifetime is that of a token whose issuer does not say it.
	defaultLifetime = 5 * time.Minute
	// refreshAfter is the part of its lifetime after which a token is replaced, in percent: well before a request could
	// meet its end.
	refreshAfter = 80
	// refreshPause is how long a token that still holds is used before another try to replace it, after one failed.
	refreshPause = 5 * time.Second
	// maxTokenAnswer bounds the answer of the token endpoint, in bytes.
	maxTokenAnswer = 64 << 10
)

// credentials are the token that requests carry: a static one, or one that the client gets for its secret and replaces
// before its end. Safe for concurrent use; one replacement runs at a time.
type credentials struct {
	cfg  Config
	at   *addresses // of the token endpoint
	http *http.Client
	now  func() time.Time

	slot chan struct{} // held while a token is asked for

	mu      sync.Mutex
	token   string
	expires time.Time
	refresh time.Time
}

func newCredentials(cfg Config, at *addresses, hc *http.Client) *credentials {
	return &credentials{cfg: cfg, at: at, http: hc, now: time.Now, slot: make(chan struct{}, 1)}
}

// renewable tells whether a token that was refused can be replaced.
func (c *credentials) renewable() bool { return c.cfg.ClientID != "" }

// bearer returns the token for a request; empty when none is configured. Its errors mean that the request was not sent.
func (c *credentials) bearer(ctx context.Context) (string, error) {
	if !c.renewable() {
		return c.cfg.Token.Reveal(), nil
	}
	if t, ok := c.current(false); ok {
		return t, nil
	}
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-ctx.Done():
		return "", fmt.Errorf("%w: waiting for a token: %w", catalog.ErrUnavailable, ctx.Err())
	}
	if t, ok := c.current(false); ok { // another request has got it meanwhile
		return t, nil
	}
	err := c.fetch(ctx)
	if err == nil {
		t, _ := c.current(true)
		return t, nil
	}
	if t, ok := c.current(true); ok { // it holds for some time yet
		c.mu.Lock()
		c.refresh = c.now().Add(refreshPause)
		c.mu.Unlock()
		return t, nil
	}
	return "", err
}

// current returns the token unless it is time to replace it; at the last moment, unless it has ended.
func (c *credentials) current(last bool) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.refresh
	if last {
		end = c.expires
	}
	return c.token, c.token != "" && c.now().Before(end)
}

// refused forgets a token that the catalog did not accept, unless it has been replaced already.
func (c *credentials) refused(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

// fetch asks for a token, at one address after the other until one can answer.
func (c *credentials) fetch(ctx context.Context) (err error) {
	c.at.each(func(i int, uri string) bool {
		if err = c.fetchFrom(ctx, uri); !errors.Is(err, catalog.ErrUnavailable) {
			return true
		}
		c.at.leave(ctx, i)
		return ctx.Err() != nil
	})
	return err
}

// fetchFrom asks for a token by client credentials (RFC 6749, 4.4).
func (c *credentials) fetchFrom(ctx context.Context, uri string) error {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.cfg.ClientID}, "client_secret": {c.cfg.ClientSecret.Reveal()}, "scope": {c.cfg.Scope}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("%w: token endpoint: %w", catalog.ErrInvalid, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "firn")
	began := c.now()
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: token endpoint: %w", catalog.ErrUnavailable, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxTokenAnswer+1))
	if err != nil || len(raw) > maxTokenAnswer {
		return fmt.Errorf("%w: token endpoint %s: the answer cannot be read", catalog.ErrUnavailable, uri)
	}
	if res.StatusCode != http.StatusOK {
		return tokenFailure(uri, res.StatusCode, raw)
	}
	var a struct {
		Token   string `json:"access_token"`
		Type    string `json:"token_type"`
		Expires int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(raw, &a); err != nil || a.Token == "" || strings.ContainsAny(a.Token, "\r\n\x00") {
		return fmt.Errorf("%w: token endpoint %s: the answer holds no token", catalog.ErrInvalid, uri)
	}
	if a.Type != "" && !strings.EqualFold(a.Type, "bearer") {
		return fmt.Errorf("%w: token endpoint %s: tokens of type %q are not supported", catalog.ErrInvalid, uri, a.Type)
	}
	life := time.Duration(min(max(a.Expires, 0), int64((365*24*time.Hour)/time.Second))) * time.Second
	if life == 0 {
		life = defaultLifetime
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.expires, c.refresh = a.Token, began.Add(life), began.Add(life*refreshAfter/100)
	return nil
}

// tokenFailure classifies an answer that is no token. It quotes the error's code alone: a description may repeat what was sent.
func tokenFailure(uri string, status int, raw []byte) error {
	var e struct {
		Code string `json:"error"`
	}
	_ = json.Unmarshal(raw, &e) // the status says enough
	if len(e.Code) > 40 || strings.ContainsFunc(e.Code, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		e.Code = "no OAuth error"
	}
	sentinel, remedy := catalog.ErrUnavailable, ""
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden || e.Code == "invalid_client" || e.Code == "unauthorized_client":
		sentinel, remedy = catalog.ErrDenied, ": check client_id and client_secret"
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
	case status >= 300:
		sentinel, remedy = catalog.ErrInvalid, ": does the catalog issue tokens itself? set token_uri otherwise"
	}
	return fmt.Errorf("%w: token endpoint %s: HTTP %d %s%s", sentinel, uri, status, e.Code, remedy)
}

// TLS says which servers are believed, and which certificate the client shows.
type TLS struct {
	CA   string `yaml:"ca" jsonschema_description:"PEM file of the authorities that sign the catalog's certificate; default those of the machine."`
	Cert string `yaml:"cert" jsonschema_description:"PEM file of the client's certificate."`
	Key  string `yaml:"key" jsonschema_description:"PEM file of its private key."`
}

// Validate names the first value that cannot be used.
func (t TLS) Validate() error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("cert: it needs key, and that needs it")
	}
	return nil
}

func (t TLS) config() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		raw, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("tls.ca: %s has no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
