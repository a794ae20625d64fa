package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxClaimRoles bounds the names that are read of a roles claim.
const maxClaimRoles = 1000

// anyAlgorithm are those that some token may have. A token without a signature has none of them.
var anyAlgorithm = []jose.SignatureAlgorithm{jose.HS256, jose.RS256, jose.ES256, jose.EdDSA}

// issuer checks the tokens of somebody else.
type issuer struct {
	cfg        Issuer
	algorithms []jose.SignatureAlgorithm
	base       []*node
	byName     map[string]*node
	keys       *keySet
	now        func() time.Time
}

func newIssuer(ctx context.Context, cfg Issuer, roles map[string]*node, o Options) *issuer {
	i := &issuer{cfg: cfg, byName: map[string]*node{}, now: o.Now}
	for _, a := range cfg.Algorithms {
		i.algorithms = append(i.algorithms, jose.SignatureAlgorithm(a))
	}
	for _, r := range cfg.Roles {
		i.base = append(i.base, roles[r])
	}
	for name, r := range cfg.RoleOf {
		i.byName[name] = roles[r]
	}
	hc := o.HTTP
	if hc == nil {
		hc = &http.Client{Timeout: fetchTimeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	i.keys = &keySet{ctx: ctx, issuer: cfg.Issuer, uri: cfg.JWKS, lifetime: cfg.KeyLifetime.D(), http: hc, now: o.Now}
	return i
}

// byJWT finds the issuer that a token names, and lets that one's keys decide whether it is telling the truth.
func (a *Authenticator) byJWT(ctx context.Context, token string) (*Principal, error) {
	t, err := jwt.ParseSigned(token, anyAlgorithm)
	if err != nil {
		return nil, fmt.Errorf("%w: the token is no JWT with an accepted signature", ErrBadCredentials)
	}
	var says struct {
		Issuer string `json:"iss"`
	}
	if err := t.UnsafeClaimsWithoutVerification(&says); err != nil {
		return nil, fmt.Errorf("%w: the token has no readable claims", ErrBadCredentials)
	}
	if says.Issuer == ownIssuer {
		return a.byOwn(token)
	}
	i, ok := a.issuers[says.Issuer]
	if !ok {
		return nil, fmt.Errorf("%w: the token's issuer is not one of this catalog's", ErrBadCredentials)
	}
	return i.principal(ctx, token)
}

func (i *issuer) principal(ctx context.Context, token string) (*Principal, error) {
	t, err := jwt.ParseSigned(token, i.algorithms)
	if err != nil {
		return nil, fmt.Errorf("%w: the token's signature is of a kind that is not accepted from its issuer", ErrBadCredentials)
	}
	h := t.Headers[0] // ParseSigned takes exactly one signature
	keys, err := i.keys.find(ctx, h.KeyID, h.Algorithm)
	if err != nil {
		return nil, err
	}
	var c jwt.Claims
	var all map[string]json.RawMessage
	verified := false
	for _, k := range keys {
		if err := t.Claims(k, &c, &all); err == nil {
			verified = true
			break
		}
	}
	if !verified {
		return nil, fmt.Errorf("%w: the token's signature is not that of its issuer", ErrBadCredentials)
	}
	if err := checkClaims(c, i.cfg.Issuer, i.cfg.Audience, i.now(), i.cfg.ClockSkew.D()); err != nil {
		return nil, err
	}
	var name string
	if err := json.Unmarshal(all[i.cfg.PrincipalClaim], &name); err != nil || checkPrincipal("claim", name) != nil {
		return nil, fmt.Errorf("%w: the token's claim %s is no name", ErrBadCredentials, i.cfg.PrincipalClaim)
	}
	return &Principal{Name: name, Via: ViaOIDC, Issuer: i.cfg.Issuer, Rights: Rights{i.roles(all)}}, nil
}

// roles are those of every principal of the issuer and those that the claim stands for. A claim of another form gives none.
func (i *issuer) roles(claims map[string]json.RawMessage) []*node {
	roles := i.base[:len(i.base):len(i.base)]
	if i.cfg.RolesClaim == "" {
		return roles
	}
	var names []string
	if json.Unmarshal(claims[i.cfg.RolesClaim], &names) != nil {
		return roles
	}
	for _, n := range names[:min(len(names), maxClaimRoles)] {
		if r, ok := i.byName[n]; ok {
			roles = append(roles, r)
		}
	}
	return roles
}
