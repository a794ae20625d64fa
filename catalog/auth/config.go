package auth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firnlake/firn/internal/units"
)

const (
	// maxEntries bounds each list of the configuration.
	maxEntries = 1000
	// minSecret is the least length of a token or a client secret, in bytes. Shorter ones can be guessed.
	minSecret = 16
	// minKey is the least length of the key that signs tokens, in bytes: that of the hash.
	minKey = 32
	// maxSkew bounds how far the clock of an issuer may be off.
	maxSkew = 5 * time.Minute
	// maxParts and maxPart bound the names in grants as the catalog bounds those of tables; the last part is the table's.
	maxParts = 33
	maxPart  = 1024
)

// Config says who may use the catalog and what for. When it names anybody, everybody else is refused.
type Config struct {
	Tokens        []Token        `yaml:"tokens" jsonschema_description:"Static bearer tokens."`
	Clients       []Client       `yaml:"clients" jsonschema_description:"OAuth2 clients, which get short-lived tokens at POST /v1/oauth/tokens (client credentials)."`
	TokenLifetime units.Duration `yaml:"token_lifetime" jsonschema_description:"How long a token that the catalog issues is valid; default 15m."`
	// SigningKey must be the same in every catalog that shares a database.
	SigningKey units.Secret `yaml:"signing_key" jsonschema_description:"Signs the tokens that the catalog issues, at least 32 bytes. Default: a file in the data directory, made on first use. Several catalogs need one key."`
	// SigningKeyFile is where the key is kept when SigningKey is empty; made on first use. Empty too: in memory.
	SigningKeyFile string `yaml:"signing_key_file" jsonschema_description:"Where that file is."`

	OIDC  []Issuer `yaml:"oidc" jsonschema_description:"Issuers whose signed tokens (JWT) are accepted."`
	MTLS  MTLS     `yaml:"mtls" jsonschema_description:"Client certificates. Needs catalog.tls."`
	Roles []Role   `yaml:"roles" jsonschema_description:"What principals may do. What no role grants is refused."`
}

// Token is a bearer token that does not change.
type Token struct {
	Name  string       `yaml:"name" jsonschema:"required" jsonschema_description:"The principal's name in the audit trail."`
	Token units.Secret `yaml:"token" jsonschema:"required" jsonschema_description:"env:NAME or file:PATH; at least 16 bytes."`
	Roles []string     `yaml:"roles" jsonschema_description:"Names of roles."`
}

// Client is an OAuth2 client.
type Client struct {
	ID     string       `yaml:"id" jsonschema:"required" jsonschema_description:"client_id; the principal's name in the audit trail."`
	Secret units.Secret `yaml:"secret" jsonschema:"required" jsonschema_description:"client_secret as env:NAME or file:PATH; at least 16 bytes."`
	Roles  []string     `yaml:"roles" jsonschema_description:"Names of roles."`
}

// Issuer is somebody else's token service.
type Issuer struct {
	Issuer         string            `yaml:"issuer" jsonschema:"required" jsonschema_description:"The iss of its tokens, an https URL; its keys are found by discovery."`
	Audience       string            `yaml:"audience" jsonschema:"required" jsonschema_description:"What the aud of its tokens must hold."`
	JWKS           string            `yaml:"jwks_uri" jsonschema_description:"Where its keys are; default: as its discovery document says."`
	Algorithms     []string          `yaml:"algorithms" jsonschema:"enum=RS256,enum=ES256,enum=EdDSA" jsonschema_description:"Signatures that are accepted; default all three."`
	PrincipalClaim string            `yaml:"principal_claim" jsonschema_description:"The claim that names the principal; default sub."`
	Roles          []string          `yaml:"roles" jsonschema_description:"Roles of every principal of this issuer."`
	RolesClaim     string            `yaml:"roles_claim" jsonschema_description:"A claim with a list of names, such as groups, that role_of turns into roles."`
	RoleOf         map[string]string `yaml:"role_of" jsonschema_description:"Which name in roles_claim gives which role. A name that is not here gives none."`
	ClockSkew      units.Duration    `yaml:"clock_skew" jsonschema_description:"How far its clock may be off; default 30s, at most 5m."`
	KeyLifetime    units.Duration    `yaml:"key_lifetime" jsonschema_description:"How long its keys are used before they are fetched again; default 5m."`
}

// MTLS turns client certificates into principals.
type MTLS struct {
	ClientCA   string            `yaml:"client_ca" jsonschema_description:"PEM file with the authorities whose client certificates are accepted."`
	Principals []CertifiedClient `yaml:"principals" jsonschema_description:"Which certificate is which principal. Others are refused."`
}

// CertifiedClient is a principal with a certificate. Exactly one of Subject, DNS and URI is set and compared exactly.
type CertifiedClient struct {
	Name    string   `yaml:"name" jsonschema:"required" jsonschema_description:"The principal's name in the audit trail."`
	Subject string   `yaml:"subject" jsonschema_description:"The whole subject as RFC 2253 writes it: CN=ingest,O=Example."`
	DNS     string   `yaml:"dns" jsonschema_description:"A DNS name among the subject alternative names."`
	URI     string   `yaml:"uri" jsonschema_description:"A URI among the subject alternative names: spiffe://example/ingest."`
	Roles   []string `yaml:"roles" jsonschema_description:"Names of roles."`
}

// Role is a named list of grants.
type Role struct {
	Name   string  `yaml:"name" jsonschema:"required"`
	Grants []Grant `yaml:"grants" jsonschema:"required" jsonschema_description:"What the role may do where."`
}

// Grant gives a level on one thing. Exactly one of All, Below, Namespace and Table is set.
type Grant struct {
	Allow     Level    `yaml:"allow" jsonschema:"required,enum=list,enum=read,enum=write,enum=manage" jsonschema_description:"list: see the name; read: load, and list; write: commit, and read; manage: create, drop, rename, and write."`
	All       bool     `yaml:"all" jsonschema_description:"Every namespace and table."`
	Below     []string `yaml:"below" jsonschema_description:"A namespace and everything in it, as a list of its parts: [analytics, web]."`
	Namespace []string `yaml:"namespace" jsonschema_description:"A namespace alone, as a list of its parts. manage on it lets create tables and namespaces in it."`
	Table     []string `yaml:"table" jsonschema_description:"A table or a view, as a list of its parts: [analytics, events]. Every part is a name as it is: no character is a wildcard."`
}

// Enabled tells whether the configuration names anybody.
func (c Config) Enabled() bool {
	return len(c.Tokens)+len(c.Clients)+len(c.OIDC)+len(c.MTLS.Principals) > 0 || c.MTLS.ClientCA != ""
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.TokenLifetime == 0 {
		c.TokenLifetime = units.Duration(15 * time.Minute)
	}
	c.OIDC = slices.Clone(c.OIDC)
	for i := range c.OIDC {
		c.OIDC[i] = c.OIDC[i].WithDefaults()
	}
	return c
}

// WithDefaults fills unset fields.
func (i Issuer) WithDefaults() Issuer {
	if len(i.Algorithms) == 0 {
		i.Algorithms = []string{"RS256", "ES256", "EdDSA"}
	}
	if i.PrincipalClaim == "" {
		i.PrincipalClaim = "sub"
	}
	if i.ClockSkew == 0 {
		i.ClockSkew = units.Duration(30 * time.Second)
	}
	if i.KeyLifetime == 0 {
		i.KeyLifetime = units.Duration(5 * time.Minute)
	}
	return i
}

// Validate names the first value that cannot be used. No error shows a secret.
func (c Config) Validate() error {
	for name, n := range map[string]int{"tokens": len(c.Tokens), "clients": len(c.Clients), "oidc": len(c.OIDC),
		"mtls.principals": len(c.MTLS.Principals), "roles": len(c.Roles)} {
		if n > maxEntries {
			return fmt.Errorf("%s: %d entries: at most %d", name, n, maxEntries)
		}
	}
	if d := c.TokenLifetime.D(); d < time.Minute || d > 24*time.Hour {
		return fmt.Errorf("token_lifetime: %s is not within 1m to 1d", d)
	}
	if k := c.SigningKey.Reveal(); k != "" && len(k) < minKey {
		return fmt.Errorf("signing_key: it has less than %d bytes: make one with openssl rand -hex 32", minKey)
	}
	roles := map[string]bool{}
	for i, r := range c.Roles {
		if roles[r.Name] {
			return fmt.Errorf("roles[%d].name: there are two roles %q", i, r.Name)
		}
		roles[r.Name] = true
		if err := r.Validate(); err != nil {
			return fmt.Errorf("roles[%d].%w", i, err)
		}
	}
	return first(c.validateTokens(roles), c.validateClients(roles), c.validateIssuers(roles), c.validateMTLS(roles))
}

// first is the first error of several, for a message that starts with the key that it is about.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func knownRoles(key string, have map[string]bool, want []string) error {
	for i, r := range want {
		if !have[r] {
			return fmt.Errorf("%s[%d]: there is no role %q in catalog.auth.roles", key, i, r)
		}
	}
	return nil
}

func checkSecret(key string, s units.Secret) error {
	switch v := s.Reveal(); {
	case len(v) < minSecret:
		return fmt.Errorf("%s: it has less than %d bytes: make one with openssl rand -hex 32", key, minSecret)
	case strings.ContainsAny(v, "\r\n\x00"):
		return fmt.Errorf("%s: it has a line end or a NUL", key)
	}
	return nil
}

// checkPrincipal checks a name that logs and the audit trail will hold.
func checkPrincipal(key, name string) error {
	if name == "" || len(name) > maxPrincipal || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return fmt.Errorf("%s: %q is no name: 1 to %d bytes of UTF-8 without control characters", key, name, maxPrincipal)
	}
	return nil
}

func (c Config) validateTokens(roles map[string]bool) error {
	names, values := map[string]bool{}, map[string]int{}
	for i, t := range c.Tokens {
		at := fmt.Sprintf("tokens[%d]", i)
		if err := first(checkPrincipal(at+".name", t.Name), checkSecret(at+".token", t.Token), knownRoles(at+".roles", roles, t.Roles)); err != nil {
			return err
		}
		if names[t.Name] {
			return fmt.Errorf("%s.name: there are two tokens of %q: give each a name", at, t.Name)
		}
		names[t.Name] = true
		if j, ok := values[t.Token.Reveal()]; ok {
			return fmt.Errorf("%s.token: it is that of tokens[%d]", at, j)
		}
		values[t.Token.Reveal()] = i
	}
	return nil
}

func (c Config) validateClients(roles map[string]bool) error {
	ids := map[string]bool{}
	for i, cl := range c.Clients {
		at := fmt.Sprintf("clients[%d]", i)
		if err := first(checkPrincipal(at+".id", cl.ID), checkSecret(at+".secret", cl.Secret), knownRoles(at+".roles", roles, cl.Roles)); err != nil {
			return err
		}
		if strings.Contains(cl.ID, ":") {
			return fmt.Errorf("%s.id: %q has a colon, which separates id and secret in clients", at, cl.ID)
		}
		if ids[cl.ID] {
			return fmt.Errorf("%s.id: there are two clients %q", at, cl.ID)
		}
		ids[cl.ID] = true
	}
	return nil
}

func (c Config) validateIssuers(roles map[string]bool) error {
	seen := map[string]bool{}
	for i, o := range c.OIDC {
		at := fmt.Sprintf("oidc[%d]", i)
		if seen[o.Issuer] {
			return fmt.Errorf("%s.issuer: %q stands here twice", at, o.Issuer)
		}
		seen[o.Issuer] = true
		if err := first(o.Validate(), knownRoles("roles", roles, o.Roles)); err != nil {
			return fmt.Errorf("%s.%w", at, err)
		}
		for name, role := range o.RoleOf {
			if !roles[role] {
				return fmt.Errorf("%s.role_of: %q gives the role %q, which is not in catalog.auth.roles", at, name, role)
			}
		}
	}
	return nil
}

// Validate names the first value that cannot be used.
func (i Issuer) Validate() error {
	i = i.WithDefaults()
	if err := secureURL(i.Issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if i.JWKS != "" {
		if err := secureURL(i.JWKS); err != nil {
			return fmt.Errorf("jwks_uri: %w", err)
		}
	}
	for n, a := range i.Algorithms {
		if !slices.Contains([]string{"RS256", "ES256", "EdDSA"}, a) {
			return fmt.Errorf("algorithms[%d]: %q is not accepted: take RS256, ES256, EdDSA", n, a)
		}
	}
	switch {
	case i.Issuer == ownIssuer:
		return fmt.Errorf("issuer: %q is this catalog's own name", i.Issuer)
	case i.Audience == "":
		return errors.New("audience: it is empty: tokens that the issuer made for other services would be accepted")
	case i.ClockSkew.D() < 0 || i.ClockSkew.D() > maxSkew:
		return fmt.Errorf("clock_skew: %s is not within 0 to %s", i.ClockSkew.D(), maxSkew)
	case i.KeyLifetime.D() < 10*time.Second || i.KeyLifetime.D() > maxStale:
		return fmt.Errorf("key_lifetime: %s is not within 10s to %s", i.KeyLifetime.D(), maxStale)
	case (i.RolesClaim == "") != (len(i.RoleOf) == 0):
		return errors.New("roles_claim: it needs role_of, and role_of needs it")
	}
	return nil
}

// secureURL wants https, or http on this machine for tests and development.
func secureURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("it is no URL as in https://login.example.org/realm")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%q: keys that come without TLS can be anybody's: write https://", s)
}

func (c Config) validateMTLS(roles map[string]bool) error {
	if (c.MTLS.ClientCA == "") != (len(c.MTLS.Principals) == 0) {
		return errors.New("mtls.client_ca: it needs mtls.principals, and they need it")
	}
	for i, p := range c.MTLS.Principals {
		at := fmt.Sprintf("mtls.principals[%d]", i)
		if err := first(checkPrincipal(at+".name", p.Name), knownRoles(at+".roles", roles, p.Roles)); err != nil {
			return err
		}
		set := 0
		for _, s := range []string{p.Subject, p.DNS, p.URI} {
			if s != "" {
				set++
			}
		}
		if set != 1 {
			return fmt.Errorf("%s: set exactly one of subject, dns and uri", at)
		}
	}
	return nil
}

// Validate names the first value that cannot be used.
func (r Role) Validate() error {
	if len(r.Grants) > maxEntries {
		return fmt.Errorf("grants: %d: at most %d", len(r.Grants), maxEntries)
	}
	for i, g := range r.Grants {
		if err := g.Validate(); err != nil {
			return fmt.Errorf("grants[%d].%w", i, err)
		}
	}
	return nil
}

// Validate names the first value that cannot be used.
func (g Grant) Validate() error {
	if g.Allow < List || g.Allow > Manage {
		return errors.New("allow: it is missing: take list, read, write or manage")
	}
	set := 0
	if g.All {
		set++
	}
	for key, parts := range map[string][]string{"below": g.Below, "namespace": g.Namespace, "table": g.Table} {
		if parts == nil {
			continue
		}
		set++
		least, most := 1, maxParts-1
		if key == "table" {
			least, most = 2, maxParts
		}
		if len(parts) < least || len(parts) > most {
			return fmt.Errorf("%s: %d parts: write the name as a list of %d to %d parts, all: true means everything", key, len(parts), least, most)
		}
		for _, p := range parts {
			if p == "" || len(p) > maxPart || !utf8.ValidString(p) || strings.ContainsAny(p, "\x00\x1f") {
				return fmt.Errorf("%s: %q can be no part of a name", key, p)
			}
			if p == "*" || strings.HasSuffix(p, ".*") {
				return fmt.Errorf("%s: %q would be a name, not a pattern: write below: for all in a namespace, or all: true", key, p)
			}
		}
	}
	if set != 1 {
		return errors.New("allow: on what is not clear: set exactly one of all, below, namespace and table")
	}
	return nil
}
