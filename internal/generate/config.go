package generate

import (
	"fmt"
	"log/slog"
	"time"
)

// Shares that make a demo look like life. WithDefaults leaves a share of 0 alone: it means none.
const (
	DefaultBrokenShare = 0.001
	DefaultLateShare   = 0.01
)

const (
	maxRate       = 5_000_000
	maxPartitions = 1024
	maxUsers      = 10_000_000 // some 24 bytes each
)

// Config is what to generate. Its zero value, after WithDefaults, is endless and as fast as the records are taken.
type Config struct {
	Rate     float64       `yaml:"rate"`     // events a second; 0 is as fast as they are taken
	Count    int64         `yaml:"count"`    // events to end after; 0 is no end
	Duration time.Duration `yaml:"duration"` // time to end after; 0 is no end

	Seed        uint64  `yaml:"seed"`
	Partitions  int     `yaml:"partitions"` // default 4
	Users       int     `yaml:"users"`      // who is active; default 10,000
	BrokenShare float64 `yaml:"broken_share"`
	LateShare   float64 `yaml:"late_share"`
	TracedShare float64 `yaml:"traced_share"` // of events with a traceparent header; default 0.01, negative is none

	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-"`
	// Log says when records are not taken and when they are again; nil is silent.
	Log *slog.Logger `yaml:"-"`
	// Progress is kept up to date while Run runs. WithDefaults makes one.
	Progress *Progress `yaml:"-"`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.Partitions == 0 {
		c.Partitions = 4
	}
	if c.Users == 0 {
		c.Users = 10_000
	}
	if c.TracedShare == 0 {
		c.TracedShare = 0.01
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = &Progress{}
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	switch {
	case !(c.Rate >= 0 && c.Rate <= maxRate): // not a number fails too
		return fmt.Errorf("rate: %g is not within 0 to %d events a second", c.Rate, maxRate)
	case c.Count < 0:
		return fmt.Errorf("count: %d is negative", c.Count)
	case c.Duration < 0:
		return fmt.Errorf("duration: %s is negative", c.Duration)
	case c.Partitions < 1 || c.Partitions > maxPartitions:
		return fmt.Errorf("partitions: %d is not within 1 to %d", c.Partitions, maxPartitions)
	case c.Users < 1 || c.Users > maxUsers:
		return fmt.Errorf("users: %d is not within 1 to %d", c.Users, maxUsers)
	case !(c.TracedShare <= 1):
		return fmt.Errorf("traced_share: %g is more than 1", c.TracedShare)
	}
	for _, s := range []struct {
		name  string
		share float64
	}{{"broken_share", c.BrokenShare}, {"late_share", c.LateShare}} {
		if !(s.share >= 0 && s.share <= 1) {
			return fmt.Errorf("%s: %g is not within 0 to 1", s.name, s.share)
		}
	}
	return nil
}
