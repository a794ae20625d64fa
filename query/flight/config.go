package flight

import (
	"fmt"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Config tunes the Flight service.
type Config struct {
	// Listen is the address to serve on; default 127.0.0.1:31337. One that others can reach needs a token or AllowAnonymous.
	Listen string `yaml:"listen" jsonschema_description:"host:port of Arrow Flight and Flight SQL; default 127.0.0.1:31337."`
	// Token, when set, is the bearer token (or the password of any user) that every call must carry.
	Token units.Secret `yaml:"token" jsonschema_description:"Bearer token that every call must carry; env:NAME or file:PATH."`
	// AllowAnonymous lets everybody who reaches Listen read every table; default off.
	AllowAnonymous bool `yaml:"allow_anonymous" jsonschema_description:"Needed to listen beyond loopback without a token."`
	// TLS, when both files are named, encrypts; without it a token travels in the clear.
	TLS TLS `yaml:"tls" jsonschema_description:"Certificate and key, PEM files; empty serves plain gRPC."`
	// MaxMessage bounds one message from a client: a statement, a batch of bound parameters; default 16MiB.
	MaxMessage units.Bytes `yaml:"max_message" jsonschema_description:"Largest message taken from a client; default 16MiB."`
	// MaxBatch is the size to which record batches are cut before they are sent; default 2MiB, because many clients
	// take at most 4MiB unless told otherwise. A single row is never cut.
	MaxBatch units.Bytes `yaml:"max_batch" jsonschema_description:"Size to which sent record batches are cut; default 2MiB."`
	// MaxStatement bounds the text of a statement; default 256KiB.
	MaxStatement units.Bytes `yaml:"max_statement" jsonschema_description:"Longest SQL text; default 256KiB."`
	// MaxConcurrent bounds the calls that run a query at the same time; further ones are refused; default 64.
	MaxConcurrent int `yaml:"max_concurrent" jsonschema_description:"Queries at the same time; default 64."`
	// MaxWatches bounds the watches of tables that run at the same time; further ones are refused; default 256.
	MaxWatches int `yaml:"max_watches" jsonschema_description:"Watches of tables at the same time; default 256."`
	// MaxHandles bounds the prepared statements that are held; default 4096.
	MaxHandles int `yaml:"max_handles" jsonschema_description:"Prepared statements held for clients; default 4096."`
	// MaxBound bounds the bound parameters held by all prepared statements together; default 256MiB.
	MaxBound units.Bytes `yaml:"max_bound" jsonschema_description:"Memory of bound parameters, all statements together; default 256MiB."`
	// HandleTTL is how long a prepared statement is kept after its last use, and how long a ticket is
	// good; default 1h.
	HandleTTL units.Duration `yaml:"handle_ttl" jsonschema_description:"Life of unused prepared statements and of tickets; default 1h."`
}

// TLS names the files of a certificate.
type TLS struct {
	Cert string `yaml:"cert" jsonschema_description:"PEM file of the certificate chain."`
	Key  string `yaml:"key" jsonschema_description:"PEM file of the private key."`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:31337"
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 16 << 20
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 2 << 20
	}
	if c.MaxStatement == 0 {
		c.MaxStatement = 256 << 10
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = 64
	}
	if c.MaxWatches == 0 {
		c.MaxWatches = 256
	}
	if c.MaxHandles == 0 {
		c.MaxHandles = 4096
	}
	if c.MaxBound == 0 {
		c.MaxBound = 256 << 20
	}
	if c.HandleTTL == 0 {
		c.HandleTTL = units.Duration(time.Hour)
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	local, err := units.CheckListen(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	switch {
	case !local && !c.AllowAnonymous && c.Token.Reveal() == "":
		return fmt.Errorf("listen: %s can be reached from outside and no token is set: set token, listen on 127.0.0.1, or say allow_anonymous: true", c.Listen)
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return fmt.Errorf("tls: cert and key go together")
	case c.MaxMessage < 64<<10 || c.MaxMessage > 1<<30:
		return fmt.Errorf("max_message: %s is not within 64KiB to 1GiB", c.MaxMessage)
	case c.MaxBatch < 16<<10 || c.MaxBatch > 1<<30:
		return fmt.Errorf("max_batch: %s is not within 16KiB to 1GiB", c.MaxBatch)
	case c.MaxStatement < 1<<10 || c.MaxStatement > c.MaxMessage/4:
		return fmt.Errorf("max_statement: %s is not within 1KiB to a quarter of max_message", c.MaxStatement)
	case c.MaxConcurrent < 1:
		return fmt.Errorf("max_concurrent: %d is less than 1", c.MaxConcurrent)
	case c.MaxWatches < 1:
		return fmt.Errorf("max_watches: %d is less than 1", c.MaxWatches)
	case c.MaxHandles < 1:
		return fmt.Errorf("max_handles: %d is less than 1", c.MaxHandles)
	case c.MaxBound < 1<<10:
		return fmt.Errorf("max_bound: %s is less than 1KiB", c.MaxBound)
	case c.HandleTTL.D() < time.Second:
		return fmt.Errorf("handle_ttl: %s is shorter than 1s", c.HandleTTL)
	}
	return nil
}
