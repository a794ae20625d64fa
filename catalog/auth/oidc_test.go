package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

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
