package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
