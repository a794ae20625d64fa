package registry

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Config says where the registry is and how to speak to it. The zero value means that there is none.
type Config struct {
	URL      string         `yaml:"url" jsonschema_description:"Such as https://registry:8081; a path is kept."`
	Username string         `yaml:"username" jsonschema_description:"Basic authentication, with password."`
	Password units.Secret   `yaml:"password" jsonschema_description:"env:NAME or file:PATH."`
	Token    units.Secret   `yaml:"token" jsonschema_description:"Bearer token, instead of username and password: env:NAME or file:PATH."`
	CAFile   string         `yaml:"ca_file" jsonschema_description:"PEM file of the authorities to trust instead of the system's."`
	CertFile string         `yaml:"cert_file" jsonschema_description:"PEM certificate to show to the registry, with key_file."`
	KeyFile  string         `yaml:"key_file"`
	Timeout  units.Duration `yaml:"timeout" jsonschema_description:"Of one request; default 5s."`
	Wait     units.Duration `yaml:"wait" jsonschema_description:"How long a registry that is away is asked again before the pipeline starts over, which asks on; default 15s."`
}

const (
	defaultTimeout = 5 * time.Second
	defaultWait    = 15 * time.Second
)

// WithDefaults fills unset fields of a Config that is there.
func (c Config) WithDefaults() Config {
	if c.URL == "" {
		return c
	}
	if c.Timeout == 0 {
		c.Timeout = units.Duration(defaultTimeout)
	}
	if c.Wait == 0 {
		c.Wait = units.Duration(defaultWait)
	}
	return c
}

// Validate names the first value that cannot be used. A Config without a URL is none, and may set nothing else.
func (c Config) Validate() error {
	if c.URL == "" {
		if c.Username != "" || !c.Password.IsZero() || !c.Token.IsZero() || c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" {
			return errors.New("url: it is missing, and other settings of the registry are there")
		}
		return nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("url: %q is not http://host:port or https://host", redacted(c.URL))
	}
	if u.User != nil {
		return errors.New("url: it holds a name or password: use username and password, which are never shown")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return errors.New("url: it holds a query or a fragment; a host and perhaps a path is what works")
	}
	switch {
	case !c.Token.IsZero() && (c.Username != "" || !c.Password.IsZero()):
		return errors.New("token: keep it, or username and password")
	case (c.Username == "") != c.Password.IsZero():
		return errors.New("username: username and password come together")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("cert_file: cert_file and key_file come together")
	case c.Timeout < 0 || c.Wait < 0:
		return errors.New("timeout: durations cannot be negative")
	}
	return nil
}

// redacted is a URL without what may be a password in it.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "it"
	}
	return u.Redacted()
}
