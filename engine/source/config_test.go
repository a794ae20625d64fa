package source

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

func TestConfigDefaults(t *testing.T) {
	c := Config{Brokers: []string{"127.0.0.1:9092"}}.WithDefaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.FetchMaxWait.D() != 100*time.Millisecond || c.ClientID != "firn" || c.ReadAhead != 32<<20 || c.WithDefaults().MaxBatchBytes != c.MaxBatchBytes {
		t.Errorf("%+v", c)
	}
}

func TestConfigErrors(t *testing.T) {
	secret := units.NewSecret("canary")
	for says, change := range map[string]func(*Config){
		"brokers: name":                       func(c *Config) { c.Brokers = nil },
		`brokers: "nohost"`:                   func(c *Config) { c.Brokers = []string{"nohost"} },
		`brokers: ":9092"`:                    func(c *Config) { c.Brokers = []string{":9092"} },
		`brokers: "h:0" has no port`:          func(c *Config) { c.Brokers = []string{"h:0"} },
		`brokers: "h:65536" has no port`:      func(c *Config) { c.Brokers = []string{"a:1", "h:65536"} },
		"client_id: ":                         func(c *Config) { c.ClientID = strings.Repeat("x", 256) },
		"dial_timeout: 1ms":                   func(c *Config) { c.DialTimeout = units.Duration(time.Millisecond) },
		"request_timeout: 1ms":                func(c *Config) { c.RequestTimeout = units.Duration(time.Millisecond) },
		"fetch_max_wait: 1m":                  func(c *Config) { c.FetchMaxWait = units.Duration(time.Minute) },
		"fetch_max_bytes: 1KiB":               func(c *Config) { c.FetchMaxBytes = 1 << 10 },
		"partition_max_bytes: 32MiB":          func(c *Config) { c.PartitionMaxBytes = 32 << 20 },
		"read_ahead: 1B":                      func(c *Config) { c.ReadAhead = 1 },
		"max_batch_bytes: 1MiB":               func(c *Config) { c.MaxBatchBytes = 1 << 20 },
		"tls.enabled: ":                       func(c *Config) { c.TLS.CAFile = "x" },
		"tls.cert_file: ":                     func(c *Config) { c.TLS = TLS{Enabled: true, CertFile: "x"} },
		"sasl.mechanism: credentials are set": func(c *Config) { c.SASL.Password = secret },
		`sasl.mechanism: "gssapi"`:            func(c *Config) { c.SASL = SASL{Mechanism: "gssapi", Username: "u", Password: secret} },
		"sasl.username: ":                     func(c *Config) { c.SASL = SASL{Mechanism: "plain", Username: "u"} },
	} {
		c := Config{Brokers: []string{"127.0.0.1:9092"}}.WithDefaults()
		change(&c)
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("error %v, want one that begins with %q", err, says)
		}
	}
	if _, err := New(Config{Brokers: []string{"h:1"}}, Options{}, quiet, nil); err == nil || !strings.HasPrefix(err.Error(), "topic") {
		t.Errorf("without a topic: %v", err)
	}
	if _, err := New(Config{Brokers: []string{"h"}}, Options{Topic: "t"}, quiet, nil); err == nil || !strings.HasPrefix(err.Error(), "kafka.brokers") {
		t.Errorf("new: %v", err)
	}
	if _, err := NewProducer(Config{}, quiet); err == nil {
		t.Error("a producer without brokers")
	}
}

// certificate makes an authority and a certificate for 127.0.0.1 by it, and writes both and the key.
func certificate(t *testing.T) (server *tls.Config, files TLS) {
	t.Helper()
	dir := t.TempDir()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	files = TLS{Enabled: true, CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "ca.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for name, block := range map[string]*pem.Block{files.CAFile: {Type: "CERTIFICATE", Bytes: der},
		files.KeyFile: {Type: "PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(must[*x509.Certificate](t)(x509.ParseCertificate(der)))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, files
}

func TestTLS(t *testing.T) {
	server, files := certificate(t)
	c := cluster(t, kfake.SeedTopics(1, testTopic), kfake.TLS(server))
	cfg := configOf(c)
	cfg.TLS = files
	p := newProducer(t, cfg)
	if err := p.Produce(within(t, 10*time.Second), testTopic, []Message{{Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	s := newSource(t, cfg, Options{})
	start(t, s, nil)
	collector(offset.Vector{}).until(t, s, offset.Vector{0: 1})

	for name, change := range map[string]func(*Config){
		"kafka.tls":         func(c *Config) { c.TLS = TLS{} }, // a plain client is told to look at the section
		"certificate":       func(c *Config) { c.TLS = TLS{Enabled: true} },
		"kafka.tls.ca_file": func(c *Config) { c.TLS.CAFile = filepath.Join(t.TempDir(), "none") },
		"no PEM":            func(c *Config) { c.TLS.CAFile = c.TLS.KeyFile },
		"tls.cert_file":     func(c *Config) { c.TLS.KeyFile = c.TLS.CAFile },
	} {
		bad := cfg
		change(&bad)
		if err := Ping(within(t, 5*time.Second), bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSASL logs in by each mechanism, and shows no password where it is refused.
func TestSASL(t *testing.T) {
	for mechanism, method := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, testTopic), kfake.EnableSASL(), kfake.Superuser(method, "user", "right-canary"), kfake.Superuser("SCRAM-SHA-512", "admin", "admin"))
			cfg := configOf(c)
			cfg.SASL = SASL{Mechanism: mechanism, Username: "user", Password: units.NewSecret("right-canary")}
			admin := franz(t, c.ListenAddrs(), kgo.SASL(scram.Auth{User: "admin", Pass: "admin"}.AsSha512Mechanism()))
			produce(t, admin, values(0, 0, 4))
			s := newSource(t, cfg, Options{})
			start(t, s, nil)
			collector(offset.Vector{}).until(t, s, offset.Vector{0: 4})

			cfg.SASL.Password = units.NewSecret("wrong-canary")
			err := Ping(within(t, 5*time.Second), cfg)
			if err == nil || !strings.Contains(err.Error(), "kafka.sasl") || strings.Contains(err.Error(), "canary") {
				t.Errorf("wrong password: %v", err)
			}
			s = newSource(t, cfg, Options{})
			start(t, s, nil)
			eventually(t, "trouble", func() bool { return s.Health() != nil })
			if err := s.Health(); !strings.Contains(err.Error(), "kafka.sasl") || strings.Contains(fmt.Sprintf("%v %+v %#v", err, cfg, s.cfg), "canary") {
				t.Errorf("health: %v", err)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	c, err := newClient(Config{Brokers: []string{"h:1"}}.WithDefaults(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.nodes = map[int32]string{4: "h:9"}
	for _, e := range []struct {
		broker int32
		err    error
		want   string
	}{
		{4, &unreachableError{"h:9", errors.New("connection refused")}, "broker h:9 unreachable: connection refused"},
		{-1, kafka.SASLAuthenticationFailed, "kafka at h:1: authentication failed"},
		{4, errors.New("odd"), "broker 4 at h:9: odd"},
		{5, errors.New("odd"), "broker 5: odd"},
	} {
		if got := c.explain(e.broker, e.err); !strings.HasPrefix(got.Error(), e.want) {
			t.Errorf("%v, want %s", got, e.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.do(ctx, &call{broker: -1}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}
