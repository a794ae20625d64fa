package auth

import (
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/units"
)

const (
	canary  = "canary-0123456789abcdef0123456789abcdef"
	canary2 = "canary-fedcba9876543210fedcba9876543210"
)

func good() Config {
	return Config{
		Tokens:     []Token{{Name: "ingest", Token: units.NewSecret(canary), Roles: []string{"writer"}}},
		Clients:    []Client{{ID: "spark", Secret: units.NewSecret(canary2), Roles: []string{"reader"}}},
		SigningKey: units.NewSecret(canary + canary2),
		OIDC: []Issuer{{Issuer: "https://login.example.org", Audience: "firn", Roles: []string{"reader"},
			RolesClaim: "groups", RoleOf: map[string]string{"data-eng": "writer"}}},
		MTLS: MTLS{ClientCA: "ca.pem", Principals: []CertifiedClient{{Name: "trino", DNS: "trino.example.org", Roles: []string{"reader"}}}},
		Roles: []Role{{Name: "reader", Grants: []Grant{{Allow: Read, Below: []string{"analytics"}}}},
			{Name: "writer", Grants: []Grant{{Allow: Write, Table: []string{"analytics", "events"}}}}},
	}
}

func TestConfig(t *testing.T) {
	if err := good().WithDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	if (Config{}).Enabled() || !good().Enabled() {
		t.Error("who is named decides whether access is checked")
	}
	for want, wreck := range map[string]func(*Config){
		"tokens[0].token: it has less than 16":           func(c *Config) { c.Tokens[0].Token = units.NewSecret("canary") },
		"tokens[0].token: it has a line end":             func(c *Config) { c.Tokens[0].Token = units.NewSecret(canary + "\n") },
		"tokens[0].name":                                 func(c *Config) { c.Tokens[0].Name = "a\nb" },
		"tokens[0].roles[0]: there is no role \"writr\"": func(c *Config) { c.Tokens[0].Roles = []string{"writr"} },
		"tokens[1].name: there are two":                  func(c *Config) { c.Tokens = append(c.Tokens, Token{Name: "ingest", Token: units.NewSecret(canary2)}) },
		"tokens[1].token: it is that of tokens[0]":       func(c *Config) { c.Tokens = append(c.Tokens, Token{Name: "x", Token: units.NewSecret(canary)}) },
		"clients[0].secret: it has less":                 func(c *Config) { c.Clients[0].Secret = units.NewSecret("canary") },
		"clients[0].id: \"a:b\" has a colon":             func(c *Config) { c.Clients[0].ID = "a:b" },
		"clients[1].id: there are two":                   func(c *Config) { c.Clients = append(c.Clients, c.Clients[0]) },
		"clients[0].roles[0]":                            func(c *Config) { c.Clients[0].Roles = []string{"x"} },
		"signing_key: it has less than 32":               func(c *Config) { c.SigningKey = units.NewSecret("canary-canary-canary") },
		"token_lifetime":                                 func(c *Config) { c.TokenLifetime = units.Duration(48 * time.Hour) },
		"oidc[0].issuer: \"http://login.example.org\"":   func(c *Config) { c.OIDC[0].Issuer = "http://login.example.org" },
		"oidc[0].issuer: it is no URL":                   func(c *Config) { c.OIDC[0].Issuer = ownIssuer },
		"oidc[0].jwks_uri":                               func(c *Config) { c.OIDC[0].JWKS = "http://login.example.org/keys" },
		"oidc[0].audience: it is empty":                  func(c *Config) { c.OIDC[0].Audience = "" },
		"oidc[0].algorithms[0]: \"none\"":                func(c *Config) { c.OIDC[0].Algorithms = []string{"none"} },
		"oidc[0].algorithms[1]: \"HS256\"":               func(c *Config) { c.OIDC[0].Algorithms = []string{"RS256", "HS256"} },
		"oidc[0].clock_skew":                             func(c *Config) { c.OIDC[0].ClockSkew = units.Duration(time.Hour) },
		"oidc[0].key_lifetime":                           func(c *Config) { c.OIDC[0].KeyLifetime = units.Duration(time.Second) },
		"oidc[0].roles_claim":                            func(c *Config) { c.OIDC[0].RoleOf = nil },
		"oidc[0].role_of: \"data-eng\" gives":            func(c *Config) { c.OIDC[0].RoleOf["data-eng"] = "x" },
		"oidc[0].roles[0]":                               func(c *Config) { c.OIDC[0].Roles = []string{"x"} },
		"oidc[1].issuer":                                 func(c *Config) { c.OIDC = append(c.OIDC, c.OIDC[0]) },
		"mtls.client_ca: it needs":                       func(c *Config) { c.MTLS.Principals = nil },
		"mtls.principals[0]: set exactly one":            func(c *Config) { c.MTLS.Principals[0].URI = "spiffe://x" },
		"mtls.principals[0].roles[0]":                    func(c *Config) { c.MTLS.Principals[0].Roles = []string{"x"} },
		"mtls.principals[0].name":                        func(c *Config) { c.MTLS.Principals[0].Name = "" },
		"roles[1].name: there are two":                   func(c *Config) { c.Roles[1].Name = "reader" },
		"roles[0].grants[0].allow: it is missing":        func(c *Config) { c.Roles[0].Grants[0].Allow = None },
		"roles[0].grants[0].allow: on what":              func(c *Config) { c.Roles[0].Grants[0].All = true },
		"roles[0].grants[0].below: 0 parts":              func(c *Config) { c.Roles[0].Grants[0].Below = []string{} },
		"roles[0].grants[0].below: \"\" can":             func(c *Config) { c.Roles[0].Grants[0].Below = []string{""} },
		"roles[0].grants[0].below: \"*\" would":          func(c *Config) { c.Roles[0].Grants[0].Below = []string{"*"} },
		"roles[1].grants[0].table: 1 parts":              func(c *Config) { c.Roles[1].Grants[0].Table = []string{"events"} },
		"roles[1].grants[0].table: \"a\\x00b\" can":      func(c *Config) { c.Roles[1].Grants[0].Table = []string{"a\x00b", "c"} },
		"roles: 1001 entries":                            func(c *Config) { c.Roles = make([]Role, 1001) },
	} {
		c := good()
		wreck(&c)
		err := c.WithDefaults().Validate()
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("a secret stands in %q", err)
		}
	}
}
