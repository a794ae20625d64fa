package client

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Config says where a catalog is and how long to wait for it.
type Config struct {
	// URI is the catalog's base, without /v1: http://127.0.0.1:8181, or https://host/api/catalog. Several, separated by
	// commas, are processes on one database: the first that answers is used, until it fails.
	URI string `yaml:"uri"`
	// Warehouse is sent with GET /v1/config; catalogs that serve several choose by it. Firn's own needs none.
	Warehouse string `yaml:"warehouse"`
	// Prefix stands between /v1 and the rest of every path; by default the catalog says it.
	Prefix string `yaml:"prefix"`
	// Token is the bearer token that every request carries; default none.
	Token units.Secret `yaml:"token"`
	// ClientID and ClientSecret get a token at TokenURI instead (OAuth2 client credentials), which is replaced before its
	// end.
	ClientID     string       `yaml:"client_id"`
	ClientSecret units.Secret `yaml:"client_secret"`
	// TokenURI is the token endpoint; default that of the catalog, /v1/oauth/tokens.
	TokenURI string `yaml:"token_uri"`
	// Scope is asked for with a token; default catalog, as the protocol has it.
	Scope string `yaml:"scope"`
	// TLS is for a catalog at https.
	TLS TLS `yaml:"tls"`
	// TrustTransactions sends commits of several tables as one transaction also to a catalog that is not Firn's. It must make
	// all of it or nothing, also when others commit to one of the tables meanwhile: Iceberg's reference implementation
	// drops a table's part then and reports success. Without it such a catalog gets one table at a time.
	TrustTransactions bool `yaml:"trust_transactions"`
	// Timeout bounds one request, its answer included; default 30s.
	Timeout units.Duration `yaml:"timeout"`
	// DialTimeout bounds making a connection; default 5s, and 2s where there is another address to try.
	DialTimeout units.Duration `yaml:"dial_timeout"`
	// MaxAnswer bounds the body of an answer; default 256MiB. A table's metadata with every snapshot must fit.
	MaxAnswer units.Bytes `yaml:"max_answer"`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = units.Duration(30 * time.Second)
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = units.Duration(5 * time.Second)
		if strings.Contains(c.URI, ",") {
			c.DialTimeout = units.Duration(2 * time.Second)
		}
	}
	if c.Scope == "" {
		c.Scope = "catalog"
	}
	if c.MaxAnswer == 0 {
		c.MaxAnswer = 256 << 20
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	if _, err := c.bases(); err != nil {
		return fmt.Errorf("uri: %w", err)
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	if c.TokenURI != "" {
		if _, err := parseBase(c.TokenURI); err != nil {
			return fmt.Errorf("token_uri: %w", err)
		}
	}
	switch {
	case c.Timeout.D() < 100*time.Millisecond:
		return fmt.Errorf("timeout: %s is shorter than 100ms", c.Timeout.D())
	case c.DialTimeout.D() < 10*time.Millisecond:
		return fmt.Errorf("dial_timeout: %s is shorter than 10ms", c.DialTimeout.D())
	case c.MaxAnswer < 64<<10:
		return fmt.Errorf("max_answer: %d is less than 64KiB", c.MaxAnswer)
	case c.ClientID != "" && !c.Token.IsZero():
		return errors.New("client_id: token is set as well: leave out one of them")
	case (c.ClientID == "") != c.ClientSecret.IsZero():
		return errors.New("client_id: it needs client_secret, and that needs it")
	case strings.ContainsAny(c.Token.Reveal(), "\r\n\x00"):
		return errors.New("token: it has a line end or a NUL")
	}
	return nil
}

// maxAddresses bounds what URI lists.
const maxAddresses = 16

// bases parses the addresses in URI.
func (c Config) bases() ([]*url.URL, error) {
	list := strings.Split(c.URI, ",")
	if len(list) > maxAddresses {
		return nil, fmt.Errorf("it lists %d addresses, at most %d are taken: put a balancer in front", len(list), maxAddresses)
	}
	out := make([]*url.URL, len(list))
	for i, s := range list {
		var err error
		if out[i], err = parseBase(strings.TrimSpace(s)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseBase parses one address. The messages show no user information: it may be a password.
func parseBase(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("it is empty: write the catalog's address, as in http://127.0.0.1:8181")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("it is not a URL: write http://host:port or https://host/path")
	case u.User != nil:
		return nil, fmt.Errorf("%s has a user name in it: set token instead", u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("%q: write http://host:port or https://host/path", s)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q has a query or a fragment: write the base only", s)
	}
	u.Path = strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v1")
	u.RawPath = ""
	return u, nil
}
