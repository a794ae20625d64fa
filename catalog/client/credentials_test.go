package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/units"
)

const canarySecret = "canary-secret-0123456789"

// issuing is a catalog that gives tokens "t1", "t2" and so on, and takes those that accept says.
type issuing struct {
	*httptest.Server
	mu      sync.Mutex
	issued  int
	status  int    // of the token endpoint
	answer  string // of it, instead of a token
	expires int
	refuse  map[string]bool
	asked   []string // tokens of requests
}

func newIssuing(t *testing.T) *issuing {
	t.Helper()
	s := &issuing{status: 200, expires: 100, refuse: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *issuing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/v1/oauth/tokens" {
		_ = r.ParseForm()
		if r.PostForm.Get("grant_type") != "client_credentials" || r.PostForm.Get("client_id") != "firn" || r.PostForm.Get("client_secret") != canarySecret || r.PostForm.Get("scope") != "catalog" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"not `, r.PostForm.Get("client_secret"), `"}`)
			return
		}
		w.WriteHeader(s.status)
		if s.answer != "" || s.status != 200 {
			fmt.Fprint(w, s.answer)
			return
		}
		s.issued++
		fmt.Fprintf(w, `{"access_token":"t%d","token_type":"bearer","expires_in":%d}`, s.issued, s.expires)
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.asked = append(s.asked, token)
	if s.refuse[token] {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"message":"the token has ended","type":"NotAuthorizedException","code":401}}`)
		return
	}
	if r.URL.Path == "/v1/config" {
		fmt.Fprint(w, `{"defaults":{},"overrides":{}}`)
		return
	}
	if r.Method == http.MethodDelete {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	fmt.Fprint(w, `{"namespaces":[]}`)
}

func (s *issuing) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *issuing) config() Config {
	return Config{URI: s.URL, ClientID: "firn", ClientSecret: units.NewSecret(canarySecret)}
}

func TestTokensAreReplacedBeforeTheirEnd(t *testing.T) {
	s := newIssuing(t)
	c := connect(t, s.config(), nil)
	var ahead atomic.Int64
	base := time.Now()
	c.creds.now = func() time.Time { return base.Add(time.Duration(ahead.Load())) }
	list := func() {
		t.Helper()
		if _, err := c.ListNamespaces(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	list()
	ahead.Store(int64(79 * time.Second))
	list()
	ahead.Store(int64(81 * time.Second))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(list)
	}
	wg.Wait()
	s.set(func() {
		if s.issued != 2 || s.asked[0] != "t1" || s.asked[2] != "t1" || s.asked[3] != "t2" || s.asked[len(s.asked)-1] != "t2" {
			t.Errorf("%d tokens were issued; asked with %v", s.issued, s.asked)
		}
		s.status = 503
	})
	// The endpoint is away: the token is used until its end, and the endpoint is not asked at every request.
	ahead.Add(int64(90 * time.Second))
	list()
	list()
	ahead.Add(int64(20 * time.Second))
	if _, err := c.ListNamespaces(t.Context(), nil); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("without a token: %v", err)
	}
	if err := c.DropTable(t.Context(), users, false); !errors.Is(err, catalog.ErrUnavailable) { // nothing was sent, so nothing is unknown
		t.Errorf("a change without a token: %v", err)
	}
	s.set(func() { s.status = 200 })
	list()
}

// TestAnEarlyEndIsMadeGoodOnce: a 401 costs a new token and one more request, also of a change, and no more than that.
func TestAnEarlyEndIsMadeGoodOnce(t *testing.T) {
	s := newIssuing(t)
	c := connect(t, s.config(), nil)
	s.set(func() { s.refuse["t1"] = true })
	if err := c.DropTable(t.Context(), users, false); err != nil {
		t.Error(err)
	}
	s.set(func() {
		s.refuse["t2"], s.refuse["t3"] = true, true
		s.asked = nil
	})
	if err := c.DropTable(t.Context(), users, false); !errors.Is(err, catalog.ErrDenied) {
		t.Error(err)
	}
	s.set(func() {
		if fmt.Sprint(s.asked) != "[t2 t3]" {
			t.Errorf("asked with %v", s.asked)
		}
	})
	static := connect(t, Config{URI: s.URL, Token: units.NewSecret("t9")}, nil)
	s.set(func() { s.refuse["t9"], s.asked = true, nil })
	if err := static.DropTable(t.Context(), users, false); !errors.Is(err, catalog.ErrDenied) {
		t.Error(err)
	}
	s.set(func() {
		if len(s.asked) != 1 {
			t.Errorf("a static token was sent %d times", len(s.asked))
		}
	})
}

func TestTokenEndpointFailures(t *testing.T) {
	wrong := newIssuing(t).config()
	wrong.ClientSecret = units.NewSecret(canarySecret + "x")
	if _, err := New(t.Context(), wrong, nil, nil); !errors.Is(err, catalog.ErrDenied) || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "client_secret") {
		t.Errorf("a wrong secret: %v", err)
	}
	for _, tc := range []struct {
		status int
		answer string
		want   error
	}{
		{200, `{}`, catalog.ErrInvalid}, {200, `no json`, catalog.ErrInvalid}, {200, `{"access_token":"a\nb"}`, catalog.ErrInvalid},
		{200, `{"access_token":"a","token_type":"mac"}`, catalog.ErrInvalid}, {200, `{"access_token":"` + strings.Repeat("x", maxTokenAnswer) + `"}`, catalog.ErrUnavailable},
		{400, `{"error":"invalid_client"}`, catalog.ErrDenied}, {400, `{"error":"invalid_scope"}`, catalog.ErrInvalid}, {404, ``, catalog.ErrInvalid},
		{302, ``, catalog.ErrInvalid}, {429, ``, catalog.ErrUnavailable}, {500, `{"error":"` + canarySecret + `"}`, catalog.ErrUnavailable}, {503, ``, catalog.ErrUnavailable},
	} {
		s := newIssuing(t)
		s.status, s.answer = tc.status, tc.answer
		_, err := New(t.Context(), s.config(), nil, nil)
		wantOnly(t, fmt.Sprint(tc.status, tc.answer[:min(len(tc.answer), 40)]), err, tc.want)
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("a secret stands in %v", err)
		}
	}
	away := newIssuing(t).config()
	away.TokenURI = "http://127.0.0.1:1/token"
	if _, err := New(t.Context(), away, nil, nil); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("nobody at the token endpoint: %v", err)
	}
	for want, bad := range map[string]Config{
		"client_id: token is set": {URI: "http://h", ClientID: "a", ClientSecret: units.NewSecret("canary"), Token: units.NewSecret("canary")},
		"client_id: it needs":     {URI: "http://h", ClientID: "a"},
		"client_id: it needs ":    {URI: "http://h", ClientSecret: units.NewSecret("canary")},
		"token_uri:":              {URI: "http://h", ClientID: "a", ClientSecret: units.NewSecret("canary"), TokenURI: "h"},
		"tls.cert":                {URI: "http://h", TLS: TLS{Key: "k"}},
	} {
		if err := bad.WithDefaults().Validate(); err == nil || !strings.HasPrefix(err.Error(), strings.TrimSpace(want)) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestTLS(t *testing.T) {
	var certs atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		certs.Store(int64(len(r.TLS.PeerCertificates)))
		fmt.Fprint(w, `{"defaults":{},"overrides":{}}`)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := file("cert.pem", "CERTIFICATE", pair.Certificate[0])
	if _, err := New(t.Context(), Config{URI: srv.URL}, nil, nil); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("an authority that nobody knows: %v", err)
	}
	connect(t, Config{URI: srv.URL, TLS: TLS{CA: cert}}, nil)
	if certs.Load() != 0 {
		t.Error("a certificate was shown")
	}
	connect(t, Config{URI: srv.URL, TLS: TLS{CA: cert, Cert: cert, Key: file("key.pem", "PRIVATE KEY", key)}}, nil)
	if certs.Load() != 1 {
		t.Error("no certificate was shown")
	}
	for want, c := range map[string]TLS{"no certificate in PEM": {CA: file("junk", "JUNK", nil)}, "tls.ca: open": {CA: dir + "/none"}, "tls.cert": {Cert: dir + "/none", Key: dir + "/none"}} {
		if _, err := New(t.Context(), Config{URI: srv.URL, TLS: c}, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
