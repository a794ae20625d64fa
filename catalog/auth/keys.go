package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// fetchTimeout bounds one fetch of an issuer's keys, discovery and keys each.
	fetchTimeout = 5 * time.Second
	// minRefetch is the pause between two fetches, whatever key ids tokens name: a stranger can name any.
	minRefetch = 10 * time.Second
	// maxStale is how long keys are used when their issuer does not answer.
	maxStale = time.Hour
	// maxKeys bounds the keys of an issuer, maxKeysBody the document that they come in, in bytes.
	maxKeys     = 64
	maxKeysBody = 256 << 10
	// minRSA is the least size of an RSA key, in bits.
	minRSA = 2048
)

// keySet holds the public keys of an issuer.
type keySet struct {
	ctx      context.Context // ends fetches at Close
	issuer   string
	uri      string // empty: by discovery
	lifetime time.Duration
	http     *http.Client
	now      func() time.Time

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys came
	tried   time.Time // when they were last asked for
	failed  error     // of the last fetch
	running chan struct{}
}

// find returns the keys that a token with this header may be signed with; without a key id all that fit.
func (s *keySet) find(ctx context.Context, kid, alg string) ([]any, error) {
	for {
		s.mu.Lock()
		now := s.now()
		age, pause := now.Sub(s.fetched), now.Sub(s.tried)
		known := !s.fetched.IsZero() && age < maxStale
		found := s.match(kid, alg)
		mayTry := s.running == nil && (s.tried.IsZero() || pause >= minRefetch || pause < 0)
		fresh := known && age < s.lifetime && age >= 0
		switch {
		case fresh && len(found) > 0, known && len(found) > 0 && !mayTry && s.running == nil:
			s.mu.Unlock()
			return found, nil
		case mayTry:
			s.running = make(chan struct{})
			go s.refresh(s.running)
		case s.running == nil:
			err := s.failed
			s.mu.Unlock()
			if known && err == nil {
				return nil, fmt.Errorf("%w: the token's key is not one of its issuer's", ErrBadCredentials)
			}
			return nil, fmt.Errorf("%w: %s: %w", ErrKeysUnavailable, s.issuer, errors.Join(err))
		}
		done := s.running
		s.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrKeysUnavailable, ctx.Err())
		}
	}
}

func (s *keySet) match(kid, alg string) (found []any) {
	for _, k := range s.keys {
		if kid != "" && k.KeyID != kid || k.Algorithm != "" && k.Algorithm != alg {
			continue
		}
		found = append(found, k.Key)
	}
	return found
}

// refresh fetches the keys once and closes done.
func (s *keySet) refresh(done chan struct{}) {
	keys, err := s.fetch()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried, s.failed, s.running = s.now(), err, nil
	if err == nil {
		s.keys, s.fetched = keys, s.tried
	}
	close(done)
}

// wait ends when no fetch runs.
func (s *keySet) wait() {
	s.mu.Lock()
	done := s.running
	s.mu.Unlock()
	if done != nil {
		<-done
	}
}

func (s *keySet) fetch() ([]jose.JSONWebKey, error) {
	uri := s.uri
	if uri == "" {
		var doc struct {
			Issuer string `json:"issuer"`
			URI    string `json:"jwks_uri"`
		}
		if err := s.get(strings.TrimRight(s.issuer, "/")+"/.well-known/openid-configuration", &doc); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		if doc.Issuer != s.issuer {
			return nil, errors.New("discovery: the document is of another issuer")
		}
		if err := secureURL(doc.URI); err != nil {
			return nil, fmt.Errorf("discovery: jwks_uri: %w", err)
		}
		uri = doc.URI
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.get(uri, &set); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("keys: %d: more than %d", len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) == nil && usable(k) { // of a kind that Firn does not know: others may be of use
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("keys: none of them can verify a signature")
	}
	return keys, nil
}

// usable tells whether k is a public key for signatures. A symmetric one never is: whoever reads it could sign.
func usable(k jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" || !k.Valid() {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= minRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

func (s *keySet) get(uri string, into any) error {
	ctx, cancel := context.WithTimeout(s.ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", uri, res.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxKeysBody+1))
	if err != nil {
		return err
	}
	if len(raw) > maxKeysBody {
		return fmt.Errorf("%s: more than %d bytes", uri, maxKeysBody)
	}
	return json.Unmarshal(raw, into)
}
