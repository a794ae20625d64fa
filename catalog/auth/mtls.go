package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

type certified struct {
	want      CertifiedClient
	principal *Principal
}

// clientTLS asks clients for a certificate and verifies one that is given. One that gives none may have a token.
func clientTLS(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}, nil
}

// TLS is what a listener must ask of clients; nil when certificates do not matter.
func (a *Authenticator) TLS() *tls.Config { return a.tls }

// byCertificate names the principal of a verified certificate.
func (a *Authenticator) byCertificate(peer *tls.ConnectionState) (*Principal, error) {
	if len(a.certs) == 0 || peer == nil || len(peer.VerifiedChains) == 0 || len(peer.VerifiedChains[0]) == 0 {
		return nil, ErrNoCredentials
	}
	leaf := peer.VerifiedChains[0][0]
	// A connection may be kept for longer than its certificate is valid.
	if now := a.now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return nil, fmt.Errorf("%w: the client certificate is not valid at this time", ErrBadCredentials)
	}
	for _, c := range a.certs {
		if c.matches(leaf) {
			return c.principal, nil
		}
	}
	return nil, fmt.Errorf("%w: no principal has the client certificate of %q", ErrBadCredentials, leaf.Subject.String())
}

func (c certified) matches(leaf *x509.Certificate) bool {
	switch {
	case c.want.Subject != "":
		return leaf.Subject.String() == c.want.Subject
	case c.want.DNS != "":
		return slices.Contains(leaf.DNSNames, c.want.DNS)
	}
	for _, u := range leaf.URIs {
		if u.String() == c.want.URI {
			return true
		}
	}
	return false
}

// ServerTLS completes what TLS asks with the server's own certificate.
func ServerTLS(certFile, keyFile string, clients *tls.Config) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		var lost *os.PathError
		if errors.As(err, &lost) {
			return nil, lost
		}
		return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if clients != nil {
		conf = clients.Clone()
	}
	conf.Certificates = []tls.Certificate{pair}
	conf.NextProtos = []string{"h2", "http/1.1"}
	return conf, nil
}
