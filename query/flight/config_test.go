package flight

import (
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/units"
)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"listen: \"x\" is not host:port":                func(c *Config) { c.Listen = "x" },
		"listen: 0.0.0.0:1 can be reached from outside": func(c *Config) { c.Listen = "0.0.0.0:1" },
		"listen: :1 can be reached from outside":        func(c *Config) { c.Listen = ":1" },
		"listen: firn.example:1 can be reached":         func(c *Config) { c.Listen = "firn.example:1" },
		"tls: cert and key go together":                 func(c *Config) { c.TLS.Cert = "x" },
		"max_message: 1KiB":                             func(c *Config) { c.MaxMessage = 1 << 10 },
		"max_batch: 1B":                                 func(c *Config) { c.MaxBatch = 1 },
		"max_statement: 16MiB":                          func(c *Config) { c.MaxStatement = 16 << 20 },
		"max_concurrent: -1":                            func(c *Config) { c.MaxConcurrent = -1 },
		"max_handles: -1":                               func(c *Config) { c.MaxHandles = -1 },
		"max_bound: 1B":                                 func(c *Config) { c.MaxBound = 1 },
		"handle_ttl: 1ms":                               func(c *Config) { c.HandleTTL = units.Duration(time.Millisecond) },
	} {
		c := Config{}.WithDefaults()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for name, c := range map[string]Config{
		"defaults":  {},
		"token":     {Listen: "0.0.0.0:1", Token: units.NewSecret("x")},
		"anonymous": {Listen: ":1", AllowAnonymous: true},
		"local":     {Listen: "localhost:0"},
		"ipv6":      {Listen: "[::1]:0"},
	} {
		if err := c.WithDefaults().Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
