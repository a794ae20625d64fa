package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Errors of authentication; the catalog gives each its status.
var (
	// ErrNoCredentials: the request names nobody (401).
	ErrNoCredentials = errors.New("no credentials: send Authorization: Bearer with a token of this catalog")
	// ErrBadCredentials: what it names is not accepted (401).
	ErrBadCredentials = errors.New("the credentials are not accepted")
	// ErrKeysUnavailable: an issuer's keys cannot be fetched, so nobody can say (503).
	ErrKeysUnavailable = errors.New("the keys of the token's issuer cannot be fetched now")
)

const (
	// maxToken bounds a bearer token, in bytes.
	maxToken = 16 << 10
	// maxPrincipal bounds a principal's name, in bytes.
	maxPrincipal = 256
)

// Via says how a principal proved who it is.
type Via string

// The ways.
const (
	ViaToken  Via = "token"
	ViaClient Via = "client"
	ViaOIDC   Via = "oidc"
	ViaMTLS   Via = "mtls"
	ViaAdmin  Via = "admin" // the one token that may do everything
)

// Principal is who sends a request.
type Principal struct {
	Name   string
	Via    Via
	Issuer string // of ViaOIDC
	Rights Rights
}

// Key is unique among principals: two issuers may know different people by one name.
func (p *Principal) Key() string { return fmt.Sprintf("%s:%q:%q", p.Via, p.Issuer, p.Name) }

// Options of an Authenticator that are not configuration.
type Options struct {
	// Admin, when set, is a bearer token that may do everything.
	Admin units.Secret
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// HTTP fetches the keys of issuers; nil is a client that follows no redirect.
	HTTP *http.Client
}

// Authenticator tells who requests come from.
type Authenticator struct {
	now     func() time.Time
	tokens  []staticToken
	clients map[string]*client
	certs   []certified
	issuers map[string]*issuer
	signer  *signer
	tls     *tls.Config
	stop    context.CancelFunc
}

type staticToken struct {
	hash      [sha256.Size]byte
	principal *Principal
}

// New makes an Authenticator. cfg has its defaults and is valid.
func New(cfg Config, o Options) (*Authenticator, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	roles := map[string]*node{}
	for _, r := range cfg.Roles {
		roles[r.Name] = newRights(r.Grants)
	}
	rights := func(names []string) (r Rights) {
		for _, n := range names {
			r.roles = append(r.roles, roles[n])
		}
		return r
	}
	ctx, stop := context.WithCancel(context.Background())
	a := &Authenticator{now: o.Now, clients: map[string]*client{}, issuers: map[string]*issuer{}, stop: stop}
	if s := o.Admin.Reveal(); s != "" {
		a.tokens = append(a.tokens, staticToken{sha256.Sum256([]byte(s)), &Principal{Name: "token", Via: ViaAdmin, Rights: Everything()}})
	}
	for _, t := range cfg.Tokens {
		a.tokens = append(a.tokens, staticToken{sha256.Sum256([]byte(t.Token.Reveal())), &Principal{Name: t.Name, Via: ViaToken, Rights: rights(t.Roles)}})
	}
	for _, c := range cfg.Clients {
		a.clients[c.ID] = &client{hash: sha256.Sum256([]byte(c.Secret.Reveal())), principal: &Principal{Name: c.ID, Via: ViaClient, Rights: rights(c.Roles)}}
	}
	for _, i := range cfg.OIDC {
		a.issuers[i.Issuer] = newIssuer(ctx, i, roles, o)
	}
	var err error
	if len(a.clients) > 0 {
		if a.signer, err = newSigner(cfg); err != nil {
			stop()
			return nil, fmt.Errorf("catalog auth: signing key: %w", err)
		}
	}
	if cfg.MTLS.ClientCA != "" {
		if a.tls, err = clientTLS(cfg.MTLS.ClientCA); err != nil {
			stop()
			return nil, fmt.Errorf("catalog auth: mtls.client_ca: %w", err)
		}
		for _, p := range cfg.MTLS.Principals {
			a.certs = append(a.certs, certified{p, &Principal{Name: p.Name, Via: ViaMTLS, Rights: rights(p.Roles)}})
		}
	}
	return a, nil
}

// Close ends the fetches that run and waits for them.
func (a *Authenticator) Close() {
	a.stop()
	for _, i := range a.issuers {
		i.keys.wait()
	}
}

// Issues tells whether the catalog has clients of its own to give tokens to.
func (a *Authenticator) Issues() bool { return len(a.clients) > 0 }

// Authenticate names the principal of a request. authorization are its headers of that name; peer is the connection's TLS state, nil without TLS. A header that is not accepted is not
// made good by a certificate.
func (a *Authenticator) Authenticate(ctx context.Context, authorization []string, peer *tls.ConnectionState) (*Principal, error) {
	switch len(authorization) {
	case 0:
		return a.byCertificate(peer)
	case 1:
	default:
		return nil, fmt.Errorf("%w: there are %d Authorization headers", ErrBadCredentials, len(authorization))
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, ErrNoCredentials
	}
	if len(token) > maxToken {
		return nil, fmt.Errorf("%w: a token of %d bytes: more than %d", ErrBadCredentials, len(token), maxToken)
	}
	if p := a.byToken(token); p != nil {
		return p, nil
	}
	if strings.Count(token, ".") != 2 || a.signer == nil && len(a.issuers) == 0 {
		return nil, fmt.Errorf("%w: the token is unknown", ErrBadCredentials)
	}
	return a.byJWT(ctx, token)
}

// byToken compares with every token, so that the time tells nothing.
func (a *Authenticator) byToken(token string) (found *Principal) {
	hash := sha256.Sum256([]byte(token))
	for i := range a.tokens {
		if subtle.ConstantTimeCompare(hash[:], a.tokens[i].hash[:]) == 1 {
			found = a.tokens[i].principal
		}
	}
	return found
}
