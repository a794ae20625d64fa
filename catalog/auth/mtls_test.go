package auth

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := ecKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) leaf(t *testing.T, tmpl x509.Certificate) (certPEM, keyPEM []byte) {
	t.Helper()
	key := ecKey(t)
	tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = big.NewInt(2), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestClientCertificates(t *testing.T) {
	ca, stranger, dir := newAuthority(t), newAuthority(t), t.TempDir()
	caFile := write(t, dir, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
	cert, key := ca.leaf(t, x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"}})
	certFile, keyFile := write(t, dir, "cert.pem", cert), write(t, dir, "key.pem", key)

	cfg := local()
	cfg.MTLS = MTLS{ClientCA: caFile, Principals: []CertifiedClient{{Name: "by subject", Subject: "CN=trino,O=Example", Roles: []string{"reader"}},
		{Name: "by dns", DNS: "spark.example.org"}, {Name: "by uri", URI: "spiffe://example/ingest", Roles: []string{"writer"}}}}
	a := newTest(t, cfg, Options{})
	conf, err := ServerTLS(certFile, keyFile, a.TLS())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.Authenticate(r.Context(), r.Header.Values("Authorization"), r.TLS)
		if err != nil {
			fmt.Fprint(w, "error: ", err)
			return
		}
		fmt.Fprint(w, p.Name, " ", p.Via)
	}))
	srv.TLS = conf
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	ask := func(from *authority, tmpl x509.Certificate, header string) string {
		tc := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
		if from != nil {
			pair, err := tls.X509KeyPair(from.leaf(t, tmpl))
			if err != nil {
				t.Fatal(err)
			}
			tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		tr := &http.Transport{TLSClientConfig: tc, DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			return "cut: " + err.Error()
		}
		defer res.Body.Close()
		body := make([]byte, 500)
		n, _ := res.Body.Read(body)
		return string(body[:n])
	}
	spiffe, err := url.Parse("spiffe://example/ingest")
	if err != nil {
		t.Fatal(err)
	}
	trino := pkix.Name{CommonName: "trino", Organization: []string{"Example"}}
	for name, got := range map[string][2]string{
		"subject":           {ask(&ca, x509.Certificate{Subject: trino}, ""), "by subject mtls"},
		"dns":               {ask(&ca, x509.Certificate{DNSNames: []string{"x", "spark.example.org"}}, ""), "by dns mtls"},
		"uri":               {ask(&ca, x509.Certificate{URIs: []*url.URL{spiffe}}, ""), "by uri mtls"},
		"none":              {ask(nil, x509.Certificate{}, ""), "error: no credentials"},
		"token alone":       {ask(nil, x509.Certificate{}, "Bearer "+canary), "ingest token"},
		"unknown":           {ask(&ca, x509.Certificate{Subject: pkix.Name{CommonName: "trino"}}, ""), "error: the credentials are not accepted: no principal"},
		"name as DNS":       {ask(&ca, x509.Certificate{Subject: pkix.Name{CommonName: "spark.example.org"}}, ""), "error: the credentials"},
		"other authority":   {ask(&stranger, x509.Certificate{Subject: trino}, ""), "cut: "},
		"with a bad token":  {ask(&ca, x509.Certificate{Subject: trino}, "Bearer wrong"), "error: the credentials are not accepted: the token"},
		"with a good token": {ask(&ca, x509.Certificate{Subject: trino}, "Bearer "+canary), "ingest token"},
	} {
		if !strings.HasPrefix(got[0], got[1]) {
			t.Errorf("%s: %q, want %q", name, got[0], got[1])
		}
	}
	// A connection that outlives its certificate.
	late := newTest(t, cfg, Options{Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	leaf := &x509.Certificate{Subject: trino, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
	if _, err := late.Authenticate(t.Context(), nil, state); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("an expired certificate: %v", err)
	}
	if _, err := late.Authenticate(t.Context(), nil, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("a certificate that was not verified: %v", err)
	}

	for want, bad := range map[string]string{"no certificate in PEM": write(t, dir, "junk", []byte("junk")), "no such file": filepath.Join(dir, "none")} {
		cfg.MTLS.ClientCA = bad
		if _, err := New(cfg.WithDefaults(), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := ServerTLS(certFile, filepath.Join(dir, "none"), nil); err == nil {
		t.Error("a key that is not there")
	}
	if _, err := ServerTLS(certFile, caFile, nil); err == nil {
		t.Error("a certificate in the place of a key")
	}
}
