package sqlstore

import (
	"fmt"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Synchronous says how far an acknowledged commit is safe.
type Synchronous string

const (
	SyncFull   Synchronous = "full"   // survives a power failure: one fsync per commit
	SyncNormal Synchronous = "normal" // survives a killed process; a power failure may take back the last commits
)

// Options tune a store. The zero value is made usable by WithDefaults.
type Options struct {
	// Synchronous is SQLite's durability level; default full.
	Synchronous Synchronous `yaml:"synchronous"`
	// BusyTimeout bounds the wait for another process that writes to the same file; default 5s.
	BusyTimeout units.Duration `yaml:"busy_timeout"`
	// Readers is the number of connections that read beside the one writer; default 4. Ignored in memory.
	Readers int `yaml:"readers"`
}

// WithDefaults fills unset fields.
func (o Options) WithDefaults() Options {
	if o.Synchronous == "" {
		o.Synchronous = SyncFull
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = units.Duration(5 * time.Second)
	}
	if o.Readers == 0 {
		o.Readers = 4
	}
	return o
}

// Validate names the first option that cannot be used.
func (o Options) Validate() error {
	switch o.Synchronous {
	case SyncFull, SyncNormal:
	default:
		return fmt.Errorf("synchronous: %q is not known, use %q or %q", o.Synchronous, SyncFull, SyncNormal)
	}
	if o.BusyTimeout < 0 {
		return fmt.Errorf("busy_timeout: %s is negative", o.BusyTimeout.D())
	}
	if o.Readers < 1 || o.Readers > 64 {
		return fmt.Errorf("readers: %d is not within 1 to 64", o.Readers)
	}
	return nil
}
