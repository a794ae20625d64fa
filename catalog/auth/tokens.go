package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// ownIssuer is the iss and the aud of tokens that a catalog issues.
const ownIssuer = "firn-catalog"

// GrantTypes of the token endpoint.
const (
	grantClient   = "client_credentials"
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
)

type client struct {
	hash      [sha256.Size]byte
	principal *Principal
}

// TokenRequest is what a client sends to the token endpoint.
type TokenRequest struct {
	GrantType, ClientID, ClientSecret string
}

// TokenAnswer is the success of RFC 6749, 5.1.
type TokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	IssuedType  string `json:"issued_token_type"`
}

// OAuthError is the failure of RFC 6749, 5.2.
type OAuthError struct {
	Status      int    `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (e *OAuthError) Error() string { return e.Code + ": " + e.Description }

// Issue gives a client a token. An error is an *OAuthError, or the fault of the machine.
func (a *Authenticator) Issue(q TokenRequest) (*TokenAnswer, *Principal, error) {
	switch q.GrantType {
	case grantClient:
	case grantExchange:
		return nil, nil, &OAuthError{http.StatusBadRequest, "unsupported_grant_type",
			"this catalog exchanges no tokens: ask again with grant_type=client_credentials (Iceberg's Java client: token-exchange-enabled=false)"}
	case "":
		return nil, nil, &OAuthError{http.StatusBadRequest, "invalid_request", "grant_type is missing"}
	default:
		return nil, nil, &OAuthError{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials"}
	}
	// One who does not exist costs as much as one with a wrong secret.
	c, known := a.clients[q.ClientID]
	if !known {
		c = &client{}
	}
	hash := sha256.Sum256([]byte(q.ClientSecret))
	if subtle.ConstantTimeCompare(hash[:], c.hash[:]) != 1 || !known {
		return nil, nil, &OAuthError{http.StatusUnauthorized, "invalid_client", "client_id is unknown or client_secret is wrong"}
	}
	token, err := a.signer.sign(q.ClientID, a.now())
	if err != nil {
		return nil, nil, fmt.Errorf("sign a token: %w", err)
	}
	return &TokenAnswer{AccessToken: token, TokenType: "bearer", ExpiresIn: int64(a.signer.lifetime / time.Second),
		IssuedType: "urn:ietf:params:oauth:token-type:access_token"}, c.principal, nil
}

// signer makes and checks the catalog's own tokens.
type signer struct {
	key      []byte
	sig      jose.Signer
	lifetime time.Duration
}

func newSigner(cfg Config) (*signer, error) {
	key := []byte(cfg.SigningKey.Reveal())
	var err error
	if len(key) == 0 {
		if key, err = keyFile(cfg.SigningKeyFile); err != nil {
			return nil, err
		}
	}
	sig, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, err
	}
	return &signer{key: key, sig: sig, lifetime: cfg.TokenLifetime.D()}, nil
}

// keyFile reads the key or makes it. Of two processes that make it at once both end with the same: the second link fails
// and the file of the first is read.
func keyFile(path string) ([]byte, error) {
	raw := make([]byte, minKey)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	fresh := []byte(hex.EncodeToString(raw))
	if path == "" {
		return fresh, nil
	}
	have, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return have, err
	}
	tmp, err := os.CreateTemp(dirOf(path), ".key-*") // 0600, and whole before it has its name
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.Write(fresh)
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readKey(path)
}

func dirOf(path string) string {
	if i := strings.LastIndexByte(path, os.PathSeparator); i > 0 {
		return path[:i]
	}
	return "."
}

// maxKeyFile bounds the key file, in bytes.
const maxKeyFile = 4 << 10

func readKey(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others: chmod 600 it", path)
	}
	if !st.Mode().IsRegular() || st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s is no key file", path)
	}
	key, err := os.ReadFile(path)
	if err == nil && len(key) < minKey {
		err = fmt.Errorf("%s has less than %d bytes: delete it, and one is made", path, minKey)
	}
	return key, err
}

func (s *signer) sign(id string, now time.Time) (string, error) {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	return jwt.Signed(s.sig).Claims(jwt.Claims{Issuer: ownIssuer, Subject: id, Audience: jwt.Audience{ownIssuer}, ID: hex.EncodeToString(nonce),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(s.lifetime))}).Serialize()
}

// byOwn checks a token that says that this catalog issued it.
func (a *Authenticator) byOwn(token string) (*Principal, error) {
	if a.signer == nil {
		return nil, fmt.Errorf("%w: this catalog issues no tokens", ErrBadCredentials)
	}
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, fmt.Errorf("%w: the token is not signed as this catalog signs", ErrBadCredentials)
	}
	var c jwt.Claims
	if err := t.Claims(a.signer.key, &c); err != nil {
		return nil, fmt.Errorf("%w: the token is not signed by this catalog", ErrBadCredentials)
	}
	// Several catalogs that share the key have clocks of their own.
	if err := checkClaims(c, ownIssuer, ownIssuer, a.now(), 30*time.Second); err != nil {
		return nil, err
	}
	// Rights are those of now, not of when the token was made: a client that is taken out is out.
	cl, ok := a.clients[c.Subject]
	if !ok {
		return nil, fmt.Errorf("%w: the token's client is no longer known", ErrBadCredentials)
	}
	return cl.principal, nil
}

// checkClaims checks issuer, audience and times.
func checkClaims(c jwt.Claims, issuer, audience string, now time.Time, skew time.Duration) error {
	if c.Expiry == nil {
		return fmt.Errorf("%w: the token has no exp", ErrBadCredentials)
	}
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{audience}, Time: now}, skew)
	switch {
	case errors.Is(err, jwt.ErrExpired):
		return fmt.Errorf("%w: the token has expired", ErrBadCredentials)
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return fmt.Errorf("%w: the token is not valid yet: compare the clocks", ErrBadCredentials)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return fmt.Errorf("%w: the token is for another audience", ErrBadCredentials)
	case err != nil:
		return fmt.Errorf("%w: the token is not for this catalog", ErrBadCredentials)
	}
	return nil
}
