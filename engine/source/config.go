package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/firnlake/firn/internal/units"
)

// Bounds of the configuration.
const (
	maxFetchBytes   = 256 << 20 // a response of that size is held in memory as a whole
	minFetchBytes   = 64 << 10
	minBatchLimit   = 8 << 20 // the greatest window that zstd's levels use without being forced
	maxBatchLimit   = 1 << 30
	maxClientIDSize = 255
)

// Config is how to reach a Kafka cluster and how much to read at once.
type Config struct {
	Brokers  []string `yaml:"brokers" jsonschema_description:"Bootstrap brokers as host:port; empty means the embedded broker of firn up."`
	ClientID string   `yaml:"client_id" jsonschema_description:"Names this client in the broker's logs and quotas; default firn."`
	TLS      TLS      `yaml:"tls" jsonschema_description:"Encryption of the connections to the brokers."`
	SASL     SASL     `yaml:"sasl" jsonschema_description:"Authentication to the brokers."`

	DialTimeout    units.Duration `yaml:"dial_timeout" jsonschema_description:"Bound on a connection's set-up, TLS and SASL included; default 3s."`
	RequestTimeout units.Duration `yaml:"request_timeout" jsonschema_description:"Bound on a broker's answer, beyond fetch_max_wait; default 10s."`
	// FetchMaxWait is how long a broker with nothing new may hold a fetch back. It costs idle requests, never
	// freshness: new data ends the wait.
	FetchMaxWait units.Duration `yaml:"fetch_max_wait" jsonschema_description:"How long a broker with nothing new may hold a fetch back; default 100ms."`

	FetchMaxBytes     units.Bytes `yaml:"fetch_max_bytes" jsonschema_description:"Size of a fetch response, all partitions of one broker; default 16MiB."`
	PartitionMaxBytes units.Bytes `yaml:"partition_max_bytes" jsonschema_description:"Share of one partition in a fetch response; default 2MiB."`
	ReadAhead         units.Bytes `yaml:"read_ahead" jsonschema_description:"Memory for records that were read and not decoded yet, per topic; default 32MiB."`
	// MaxBatchBytes stands between a few hostile bytes and all of the memory.
	MaxBatchBytes units.Bytes `yaml:"max_batch_bytes" jsonschema_description:"Bound on one record batch, uncompressed; default 64MiB."`
}

// TLS encrypts connections. Certificates are always verified.
type TLS struct {
	Enabled  bool   `yaml:"enabled"`
	CAFile   string `yaml:"ca_file" jsonschema_description:"PEM file of the authorities to trust; default the system's."`
	CertFile string `yaml:"cert_file" jsonschema_description:"PEM file of the client's certificate, for mutual TLS."`
	KeyFile  string `yaml:"key_file" jsonschema_description:"PEM file of the client's key, for mutual TLS."`
}

// SASL authenticates to the brokers; an empty mechanism is none.
type SASL struct {
	Mechanism string       `yaml:"mechanism" jsonschema:"enum=plain,enum=scram-sha-256,enum=scram-sha-512"`
	Username  string       `yaml:"username"`
	Password  units.Secret `yaml:"password" jsonschema_description:"env:NAME or file:PATH."`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "firn"
	}
	durations := []struct {
		field *units.Duration
		value time.Duration
	}{{&c.DialTimeout, 3 * time.Second}, {&c.RequestTimeout, 10 * time.Second}, {&c.FetchMaxWait, 100 * time.Millisecond}}
	for _, d := range durations {
		if *d.field == 0 {
			*d.field = units.Duration(d.value)
		}
	}
	sizes := []struct {
		field *units.Bytes
		value units.Bytes
	}{{&c.FetchMaxBytes, 16 << 20}, {&c.PartitionMaxBytes, 2 << 20}, {&c.ReadAhead, 32 << 20}, {&c.MaxBatchBytes, 64 << 20}}
	for _, s := range sizes {
		if *s.field == 0 {
			*s.field = s.value
		}
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("brokers: name at least one broker as host:port")
	}
	for _, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		if err != nil || host == "" {
			return fmt.Errorf("brokers: %q is not host:port", b)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("brokers: %q has no port within 1 to 65535", b)
		}
	}
	switch {
	case len(c.ClientID) > maxClientIDSize:
		return fmt.Errorf("client_id: longer than %d bytes", maxClientIDSize)
	case c.DialTimeout.D() < 10*time.Millisecond:
		return fmt.Errorf("dial_timeout: %s is shorter than 10ms", c.DialTimeout)
	case c.RequestTimeout.D() < 100*time.Millisecond:
		return fmt.Errorf("request_timeout: %s is shorter than 100ms", c.RequestTimeout)
	case c.FetchMaxWait.D() < time.Millisecond || c.FetchMaxWait.D() > 10*time.Second:
		return fmt.Errorf("fetch_max_wait: %s is not within 1ms to 10s", c.FetchMaxWait)
	case c.FetchMaxBytes < minFetchBytes || c.FetchMaxBytes > maxFetchBytes:
		return fmt.Errorf("fetch_max_bytes: %s is not within %s to %s", c.FetchMaxBytes, units.Bytes(minFetchBytes), units.Bytes(maxFetchBytes))
	case c.PartitionMaxBytes < minFetchBytes || c.PartitionMaxBytes > c.FetchMaxBytes:
		return fmt.Errorf("partition_max_bytes: %s is not within %s to fetch_max_bytes (%s)", c.PartitionMaxBytes, units.Bytes(minFetchBytes), c.FetchMaxBytes)
	case c.ReadAhead < minFetchBytes:
		return fmt.Errorf("read_ahead: %s is less than %s", c.ReadAhead, units.Bytes(minFetchBytes))
	case c.MaxBatchBytes < minBatchLimit || c.MaxBatchBytes > maxBatchLimit:
		return fmt.Errorf("max_batch_bytes: %s is not within %s to %s", c.MaxBatchBytes, units.Bytes(minBatchLimit), units.Bytes(maxBatchLimit))
	}
	if err := c.TLS.validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	if err := c.SASL.validate(); err != nil {
		return fmt.Errorf("sasl.%w", err)
	}
	return nil
}

func (t TLS) validate() error {
	switch {
	case !t.Enabled && (t.CAFile != "" || t.CertFile != "" || t.KeyFile != ""):
		return errors.New("enabled: certificates are named and TLS is off: set enabled: true")
	case (t.CertFile == "") != (t.KeyFile == ""):
		return errors.New("cert_file: mutual TLS needs cert_file and key_file")
	}
	return nil
}

func (s SASL) validate() error {
	switch s.Mechanism {
	case "":
		if s.Username != "" || s.Password.Reveal() != "" {
			return errors.New("mechanism: credentials are set without one: plain, scram-sha-256 or scram-sha-512")
		}
		return nil
	case "plain", "scram-sha-256", "scram-sha-512":
	default:
		return fmt.Errorf("mechanism: %q is not one of plain, scram-sha-256, scram-sha-512", s.Mechanism)
	}
	if s.Username == "" || s.Password.Reveal() == "" {
		return errors.New("username: username and password must be set with a mechanism")
	}
	return nil
}

// clientConfig reads the certificates; nil when TLS is off.
func (t TLS) clientConfig() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.cert_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// mechanism is what kafka-go authenticates with; nil when there is none.
func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: s.Username, Password: s.Password.Reveal()}, nil
	}
	algo := scram.SHA256
	if s.Mechanism == "scram-sha-512" {
		algo = scram.SHA512
	}
	m, err := scram.Mechanism(algo, s.Username, s.Password.Reveal())
	if err != nil {
		return nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	return m, nil
}
