package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/firnlake/firn/internal/units"
)

var epoch = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// clock stands still until it is told.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(epoch.UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func newTest(t *testing.T, cfg Config, o Options) *Authenticator {
	t.Helper()
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func (a *Authenticator) bearer(t *testing.T, token string) (*Principal, error) {
	t.Helper()
	p, err := a.Authenticate(t.Context(), []string{"Bearer " + token}, nil)
	if err != nil && (p != nil || strings.Contains(err.Error(), "canary") || len(token) > 20 && strings.Contains(err.Error(), token)) {
		t.Errorf("the error %q comes with %v, or shows a secret", err, p)
	}
	return p, err
}

func local() Config {
	c := good()
	c.MTLS, c.OIDC = MTLS{}, nil
	return c
}

func TestStaticTokens(t *testing.T) {
	a := newTest(t, local(), Options{Admin: units.NewSecret("canary-admin")})
	p, err := a.bearer(t, canary)
	if err != nil || p.Name != "ingest" || p.Via != ViaToken || p.Rights.Table([]string{"analytics", "events"}) != Write || p.Rights.Overall() != None {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := a.bearer(t, "canary-admin"); err != nil || p.Via != ViaAdmin || p.Rights.Overall() != Manage {
		t.Errorf("%+v, %v", p, err)
	}
	for _, headers := range [][]string{nil, {""}, {"Bearer"}, {"Bearer "}, {"Basic " + canary}, {canary}} {
		if p, err := a.Authenticate(t.Context(), headers, nil); !errors.Is(err, ErrNoCredentials) || p != nil {
			t.Errorf("%q: %v, %v", headers, p, err)
		}
	}
	for _, headers := range [][]string{{"Bearer " + canary + "x"}, {"Bearer " + canary[:20]}, {"Bearer " + canary2}, {"Bearer a.b.c"}, {"Bearer ..."},
		{"Bearer " + canary, "Bearer " + canary}, {"Bearer " + strings.Repeat("x", maxToken+1)}} {
		if p, err := a.Authenticate(t.Context(), headers, nil); !errors.Is(err, ErrBadCredentials) || p != nil || strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("%.60q: %v, %v", headers, p, err)
		}
	}
}

func issue(t *testing.T, a *Authenticator) string {
	t.Helper()
	answer, who, err := a.Issue(TokenRequest{GrantType: "client_credentials", ClientID: "spark", ClientSecret: canary2})
	if err != nil || who.Name != "spark" || answer.TokenType != "bearer" || answer.ExpiresIn != 900 {
		t.Fatalf("%+v, %v, %v", answer, who, err)
	}
	return answer.AccessToken
}

func TestOwnTokens(t *testing.T) {
	c := newClock()
	a := newTest(t, local(), Options{Now: c.now})
	token := issue(t, a)
	p, err := a.bearer(t, token)
	if err != nil || p.Name != "spark" || p.Via != ViaClient || p.Rights.Table([]string{"analytics", "x"}) != Read {
		t.Errorf("%+v, %v", p, err)
	}
	for name, q := range map[string]TokenRequest{
		"invalid_client":         {"client_credentials", "spark", canary},
		"invalid_client ":        {"client_credentials", "nobody", canary2},
		"invalid_client  ":       {"client_credentials", "", ""},
		"unsupported_grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange", "spark", canary2},
		"unsupported_grant_typ":  {"password", "spark", canary2},
		"invalid_request":        {"", "spark", canary2},
	} {
		_, _, err := a.Issue(q)
		var o *OAuthError
		if !errors.As(err, &o) || !strings.HasPrefix(o.Code, strings.TrimSpace(name)) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
		if status := o.Status; (status == http.StatusUnauthorized) != (o.Code == "invalid_client") {
			t.Errorf("%s: HTTP %d", name, status)
		}
	}

	c.advance(15*time.Minute + 29*time.Second)
	if _, err := a.bearer(t, token); err != nil {
		t.Errorf("within the allowance for clocks: %v", err)
	}
	c.advance(2 * time.Second)
	if _, err := a.bearer(t, token); !errors.Is(err, ErrBadCredentials) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after its end: %v", err)
	}
	c.advance(-30 * time.Minute)
	if _, err := a.bearer(t, token); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("before its beginning: %v", err)
	}
	c.advance(30*time.Minute - 15*time.Minute - 31*time.Second)

	for name, cfg := range map[string]Config{
		"another key":      func() Config { c := local(); c.SigningKey = units.NewSecret(canary2 + canary); return c }(),
		"client taken out": func() Config { c := local(); c.Clients[0].ID = "other"; return c }(),
		"no clients":       func() Config { c := local(); c.Clients = nil; return c }(),
	} {
		if _, err := newTest(t, cfg, Options{Now: c.now}).bearer(t, token); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgedOwnTokens: no part of a token can be changed.
func TestForgedOwnTokens(t *testing.T) {
	c := newClock()
	a := newTest(t, local(), Options{Now: c.now})
	token := issue(t, a)
	parts := strings.Split(token, ".")
	enc := base64.RawURLEncoding.EncodeToString
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	later := enc([]byte(strings.Replace(string(claims), `"exp":`, `"exp":9`, 1)))
	for name, forged := range map[string]string{
		"no signature":  parts[0] + "." + parts[1] + ".",
		"later":         parts[0] + "." + later + "." + parts[2],
		"none":          enc([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + later + ".",
		"None":          enc([]byte(`{"alg":"None"}`)) + "." + later + ".",
		"no algorithm":  enc([]byte(`{}`)) + "." + later + "." + parts[2],
		"HS384":         enc([]byte(`{"alg":"HS384"}`)) + "." + parts[1] + "." + parts[2],
		"critical":      enc([]byte(`{"alg":"HS256","crit":["x"],"x":1}`)) + "." + parts[1] + "." + parts[2],
		"four parts":    token + ".",
		"other subject": parts[0] + "." + enc([]byte(strings.Replace(string(claims), "spark", "admin", 1))) + "." + parts[2],
	} {
		if p, err := a.bearer(t, forged); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	// Signed by the right key, and yet not a token of this catalog.
	for name, cl := range map[string]jwt.Claims{
		"no end":         {Issuer: ownIssuer, Audience: jwt.Audience{ownIssuer}, Subject: "spark"},
		"other audience": {Issuer: ownIssuer, Audience: jwt.Audience{"x"}, Subject: "spark", Expiry: jwt.NewNumericDate(c.now().Add(time.Hour))},
		"other issuer":   {Issuer: "x", Audience: jwt.Audience{ownIssuer}, Subject: "spark", Expiry: jwt.NewNumericDate(c.now().Add(time.Hour))},
		"nobody":         {Issuer: ownIssuer, Audience: jwt.Audience{ownIssuer}, Expiry: jwt.NewNumericDate(c.now().Add(time.Hour))},
	} {
		tok, err := jwt.Signed(a.signer.sig).Claims(cl).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		if p, err := a.bearer(t, tok); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.key")
	var wg sync.WaitGroup
	keys := make([]string, 8)
	for i := range keys {
		wg.Go(func() {
			k, err := keyFile(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = string(k)
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != 64 || k != keys[0] {
			t.Fatal("processes that start at once have different keys")
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	short := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(short, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyFile(short); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a short key: %v", err)
	}
	if _, err := keyFile(filepath.Join(short, "x")); err == nil {
		t.Error("a key file where none can be")
	}
}

// idp is a token service.
type idp struct {
	*httptest.Server
	mu      sync.Mutex
	jwks    []jose.JSONWebKey
	raw     []byte // instead of jwks
	status  int
	says    string // the issuer in its discovery document
	fetches atomic.Int64
}

func newIDP(t *testing.T) *idp {
	s := &idp{status: http.StatusOK}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.says, "jwks_uri": s.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		s.fetches.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		w.WriteHeader(s.status)
		if s.raw != nil {
			_, _ = w.Write(s.raw)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: s.jwks})
	})
	s.Server = httptest.NewServer(mux)
	s.says = s.URL
	t.Cleanup(s.Close)
	return s
}

func (s *idp) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *idp) config() Config {
	c := local()
	c.OIDC = []Issuer{{Issuer: s.URL, Audience: "firn", Roles: []string{"reader"}, RolesClaim: "groups", RoleOf: map[string]string{"data-eng": "writer"}}}
	return c
}

func (s *idp) claims(more map[string]any) map[string]any {
	c := map[string]any{"iss": s.URL, "aud": []string{"other", "firn"}, "sub": "ann", "exp": epoch.Add(time.Hour).Unix(), "iat": epoch.Unix()}
	for k, v := range more {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims any) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		opts = opts.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOIDC(t *testing.T) {
	s, c := newIDP(t), newClock()
	ec := ecKey(t)
	edPub, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.jwks = []jose.JSONWebKey{{Key: rsaKey().Public(), KeyID: "r", Algorithm: "RS256", Use: "sig"}, {Key: ec.Public(), KeyID: "e"}, {Key: edPub, KeyID: "d"},
		{Key: rsaKey().Public(), KeyID: "enc", Use: "enc"}}
	a := newTest(t, s.config(), Options{Now: c.now})
	for kid, tok := range map[string]string{"r": sign(t, jose.RS256, rsaKey(), "r", s.claims(nil)), "e": sign(t, jose.ES256, ec, "e", s.claims(nil)),
		"d": sign(t, jose.EdDSA, ed, "d", s.claims(nil)), "none": sign(t, jose.ES256, ec, "", s.claims(nil))} {
		p, err := a.bearer(t, tok)
		if err != nil || p.Name != "ann" || p.Via != ViaOIDC || p.Issuer != s.URL || p.Rights.Table([]string{"analytics", "events"}) != Read {
			t.Errorf("key %s: %+v, %v", kid, p, err)
		}
	}
	p, err := a.bearer(t, sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"groups": []string{"x", "data-eng", "admin"}})))
	if err != nil || p.Rights.Table([]string{"analytics", "events"}) != Write || p.Rights.Overall() != None {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := a.bearer(t, sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"groups": "data-eng"}))); err != nil || p.Rights.Table([]string{"analytics", "events"}) != Read {
		t.Errorf("a claim that is no list: %+v, %v", p, err)
	}

	der, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, jose.ES256, ec, "e", s.claims(nil))
	parts := strings.Split(good, ".")
	for name, tok := range map[string]string{
		"HS256 with the public key":   sign(t, jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "r", s.claims(nil)),
		"PS256":                       sign(t, jose.PS256, rsaKey(), "r", s.claims(nil)),
		"RS512":                       sign(t, jose.RS512, rsaKey(), "r", s.claims(nil)),
		"a key for encryption":        sign(t, jose.RS256, rsaKey(), "enc", s.claims(nil)),
		"another's key":               sign(t, jose.ES256, ecKey(t), "e", s.claims(nil)),
		"none":                        base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"another audience":            sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"aud": "firn2"})),
		"no audience":                 sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"aud": nil})),
		"another issuer":              sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"iss": s.URL + "/"})),
		"this catalog":                sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"iss": ownIssuer})),
		"no issuer":                   sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"iss": nil})),
		"expired":                     sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"exp": epoch.Add(-31 * time.Second).Unix()})),
		"without end":                 sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"exp": nil})),
		"an end that is text":         sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"exp": "tomorrow"})),
		"not yet":                     sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"nbf": epoch.Add(31 * time.Second).Unix()})),
		"issued in the future":        sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"iat": epoch.Add(31 * time.Second).Unix()})),
		"no name":                     sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"sub": nil})),
		"a name with a line end":      sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"sub": "ann\nadmin"})),
		"a number":                    sign(t, jose.ES256, ec, "e", s.claims(map[string]any{"sub": 7})),
		"a key in the token's header": withJWK(t, ecKey(t), s.claims(nil)),
	} {
		if p, err := a.bearer(t, tok); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	// Each issuer has its own list.
	narrow := s.config()
	narrow.OIDC[0].Algorithms = []string{"RS256"}
	if p, err := newTest(t, narrow, Options{Now: c.now}).bearer(t, good); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("ES256 of an issuer that signs by RS256: %+v, %v", p, err)
	}
	for name, claims := range map[string]map[string]any{"just expired": {"exp": epoch.Add(-29 * time.Second).Unix()}, "nearly valid": {"nbf": epoch.Add(29 * time.Second).Unix()}} {
		if _, err := a.bearer(t, sign(t, jose.ES256, ec, "e", s.claims(claims))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func withJWK(t *testing.T, key *ecdsa.PrivateKey, claims any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestKeyRotation: a new key is found at once, one that is gone ends with the keys' lifetime, and strangers cannot make
// the catalog fetch more than once in ten seconds.
func TestKeyRotation(t *testing.T) {
	s, c := newIDP(t), newClock()
	first, second := ecKey(t), ecKey(t)
	s.jwks = []jose.JSONWebKey{{Key: first.Public(), KeyID: "1"}}
	a := newTest(t, s.config(), Options{Now: c.now})
	one, two := sign(t, jose.ES256, first, "1", s.claims(nil)), sign(t, jose.ES256, second, "2", s.claims(nil))
	for range 20 {
		if _, err := a.bearer(t, one); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		if _, err := a.bearer(t, sign(t, jose.ES256, second, fmt.Sprint("made-up-", i), s.claims(nil))); !errors.Is(err, ErrBadCredentials) {
			t.Fatal(err)
		}
	}
	if n := s.fetches.Load(); n != 1 {
		t.Errorf("%d fetches for 70 tokens", n)
	}
	s.set(func() { s.jwks = []jose.JSONWebKey{{Key: second.Public(), KeyID: "2"}} })
	c.advance(minRefetch)
	if _, err := a.bearer(t, two); err != nil {
		t.Errorf("the new key is not found: %v", err)
	}
	if _, err := a.bearer(t, one); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("the old key still holds: %v", err)
	}
	if n := s.fetches.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
	// A key that is taken back while nobody uses a new one.
	s.set(func() { s.jwks = []jose.JSONWebKey{{Key: first.Public(), KeyID: "1"}} })
	c.advance(4 * time.Minute)
	if _, err := a.bearer(t, two); err != nil {
		t.Errorf("within the keys' lifetime: %v", err)
	}
	c.advance(2 * time.Minute)
	if _, err := a.bearer(t, two); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("after it: %v", err)
	}
}

// TestIssuerAway: known keys hold for an hour; without any nobody can say, and that is not 'refused'.
func TestIssuerAway(t *testing.T) {
	s, c := newIDP(t), newClock()
	key := ecKey(t)
	s.jwks = []jose.JSONWebKey{{Key: key.Public(), KeyID: "1"}}
	claims := s.claims(map[string]any{"exp": epoch.Add(3 * time.Hour).Unix()})
	tok := sign(t, jose.ES256, key, "1", claims)

	s.set(func() { s.status = http.StatusInternalServerError })
	a := newTest(t, s.config(), Options{Now: c.now})
	for range 5 {
		if _, err := a.bearer(t, tok); !errors.Is(err, ErrKeysUnavailable) {
			t.Errorf("no keys yet: %v", err)
		}
	}
	if n := s.fetches.Load(); n != 1 {
		t.Errorf("%d fetches of an issuer that is away", n)
	}
	s.set(func() { s.status = http.StatusOK })
	c.advance(minRefetch)
	if _, err := a.bearer(t, tok); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.status = http.StatusInternalServerError })
	c.advance(59 * time.Minute)
	if _, err := a.bearer(t, tok); err != nil {
		t.Errorf("away for less than an hour: %v", err)
	}
	c.advance(2 * time.Minute)
	if _, err := a.bearer(t, tok); !errors.Is(err, ErrKeysUnavailable) {
		t.Errorf("away for more than an hour: %v", err)
	}
}

func TestBadKeyDocuments(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key := ecKey(t)
	many := make([]jose.JSONWebKey, maxKeys+1)
	for i := range many {
		many[i] = jose.JSONWebKey{Key: key.Public(), KeyID: fmt.Sprint(i)}
	}
	for name, set := range map[string]func(*idp){
		"no JSON":             func(s *idp) { s.raw = []byte("<html>") },
		"no keys":             func(s *idp) { s.raw = []byte(`{"keys":[]}`) },
		"null":                func(s *idp) { s.raw = []byte(`null`) },
		"keys of no use":      func(s *idp) { s.raw = []byte(`{"keys":[null,{},{"kty":"EC"},{"kty":"oct","k":"AAAA","kid":"1"}]}`) },
		"a small RSA key":     func(s *idp) { s.jwks = []jose.JSONWebKey{{Key: small.Public(), KeyID: "1"}} },
		"a private key":       func(s *idp) { s.jwks = []jose.JSONWebKey{{Key: key, KeyID: "1"}} },
		"too many":            func(s *idp) { s.jwks = many },
		"too large":           func(s *idp) { s.raw = []byte(`{"keys":[` + strings.Repeat(" ", maxKeysBody) + `]}`) },
		"another's discovery": func(s *idp) { s.says = "https://login.example.org" },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newIDP(t), newClock()
			set(s)
			if _, err := newTest(t, s.config(), Options{Now: c.now}).bearer(t, sign(t, jose.ES256, key, "1", s.claims(nil))); !errors.Is(err, ErrKeysUnavailable) {
				t.Error(err)
			}
		})
	}
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := ecKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) leaf(t *testing.T, tmpl x509.Certificate) (certPEM, keyPEM []byte) {
	t.Helper()
	key := ecKey(t)
	tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = big.NewInt(2), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestClientCertificates(t *testing.T) {
	ca, stranger, dir := newAuthority(t), newAuthority(t), t.TempDir()
	caFile := write(t, dir, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
	cert, key := ca.leaf(t, x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"}})
	certFile, keyFile := write(t, dir, "cert.pem", cert), write(t, dir, "key.pem", key)

	cfg := local()
	cfg.MTLS = MTLS{ClientCA: caFile, Principals: []CertifiedClient{{Name: "by subject", Subject: "CN=trino,O=Example", Roles: []string{"reader"}},
		{Name: "by dns", DNS: "spark.example.org"}, {Name: "by uri", URI: "spiffe://example/ingest", Roles: []string{"writer"}}}}
	a := newTest(t, cfg, Options{})
	conf, err := ServerTLS(certFile, keyFile, a.TLS())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.Authenticate(r.Context(), r.Header.Values("Authorization"), r.TLS)
		if err != nil {
			fmt.Fprint(w, "error: ", err)
			return
		}
		fmt.Fprint(w, p.Name, " ", p.Via)
	}))
	srv.TLS = conf
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	ask := func(from *authority, tmpl x509.Certificate, header string) string {
		tc := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
		if from != nil {
			pair, err := tls.X509KeyPair(from.leaf(t, tmpl))
			if err != nil {
				t.Fatal(err)
			}
			tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		tr := &http.Transport{TLSClientConfig: tc, DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			return "cut: " + err.Error()
		}
		defer res.Body.Close()
		body := make([]byte, 500)
		n, _ := res.Body.Read(body)
		return string(body[:n])
	}
	spiffe, err := url.Parse("spiffe://example/ingest")
	if err != nil {
		t.Fatal(err)
	}
	trino := pkix.Name{CommonName: "trino", Organization: []string{"Example"}}
	for name, got := range map[string][2]string{
		"subject":           {ask(&ca, x509.Certificate{Subject: trino}, ""), "by subject mtls"},
		"dns":               {ask(&ca, x509.Certificate{DNSNames: []string{"x", "spark.example.org"}}, ""), "by dns mtls"},
		"uri":               {ask(&ca, x509.Certificate{URIs: []*url.URL{spiffe}}, ""), "by uri mtls"},
		"none":              {ask(nil, x509.Certificate{}, ""), "error: no credentials"},
		"token alone":       {ask(nil, x509.Certificate{}, "Bearer "+canary), "ingest token"},
		"unknown":           {ask(&ca, x509.Certificate{Subject: pkix.Name{CommonName: "trino"}}, ""), "error: the credentials are not accepted: no principal"},
		"name as DNS":       {ask(&ca, x509.Certificate{Subject: pkix.Name{CommonName: "spark.example.org"}}, ""), "error: the credentials"},
		"other authority":   {ask(&stranger, x509.Certificate{Subject: trino}, ""), "cut: "},
		"with a bad token":  {ask(&ca, x509.Certificate{Subject: trino}, "Bearer wrong"), "error: the credentials are not accepted: the token"},
		"with a good token": {ask(&ca, x509.Certificate{Subject: trino}, "Bearer "+canary), "ingest token"},
	} {
		if !strings.HasPrefix(got[0], got[1]) {
			t.Errorf("%s: %q, want %q", name, got[0], got[1])
		}
	}
	// A connection that outlives its certificate.
	late := newTest(t, cfg, Options{Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	leaf := &x509.Certificate{Subject: trino, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
	if _, err := late.Authenticate(t.Context(), nil, state); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("an expired certificate: %v", err)
	}
	if _, err := late.Authenticate(t.Context(), nil, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("a certificate that was not verified: %v", err)
	}

	for want, bad := range map[string]string{"no certificate in PEM": write(t, dir, "junk", []byte("junk")), "no such file": filepath.Join(dir, "none")} {
		cfg.MTLS.ClientCA = bad
		if _, err := New(cfg.WithDefaults(), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := ServerTLS(certFile, filepath.Join(dir, "none"), nil); err == nil {
		t.Error("a key that is not there")
	}
	if _, err := ServerTLS(certFile, caFile, nil); err == nil {
		t.Error("a certificate in the place of a key")
	}
}

// FuzzAuthorization: no header is a panic, and only the two known secrets name somebody.
func FuzzAuthorization(f *testing.F) {
	cfg := local().WithDefaults()
	a, err := New(cfg, Options{Now: func() time.Time { return epoch }})
	if err != nil {
		f.Fatal(err)
	}
	// As Issue makes it, but for the random id: the processes that fuzz have to agree on it.
	token, err := jwt.Signed(a.signer.sig).Claims(jwt.Claims{Issuer: ownIssuer, Subject: "spark", Audience: jwt.Audience{ownIssuer},
		IssuedAt: jwt.NewNumericDate(epoch), Expiry: jwt.NewNumericDate(epoch.Add(time.Minute))}).Serialize()
	if err != nil {
		f.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	for _, s := range []string{"", "Bearer " + canary, "Bearer " + token, "bearer a.b.c", "Basic eA==", "Bearer " + token + "=",
		"Bearer " + enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(`{"iss":"firn-catalog","sub":"spark"}`)) + ".", "Bearer {}", "Bearer \x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p, err := a.Authenticate(t.Context(), []string{header}, nil)
		if err == nil && !strings.Contains(header, canary) && !strings.Contains(header, token) {
			// Base64 has several spellings of a last character; the claims are the issued ones all the same.
			claims := strings.Split(token, ".")[1]
			if !strings.Contains(header, claims) {
				t.Errorf("%q names %+v", header, p)
			}
		}
		if (p == nil) == (err == nil) {
			t.Errorf("%v and %v", p, err)
		}
	})
}
