package dedup

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/units"
)

// ErrConfig reports a deduplication that does not fit its table; the error names the place.
var ErrConfig = errors.New("deduplication cannot be used")

// Bounds of a configuration.
const (
	defaultWindow = 10 * time.Minute
	minWindow     = time.Second
	maxWindow     = 7 * 24 * time.Hour
	// defaultMaxIDs takes at most 128 MB.
	defaultMaxIDs = 4_000_000
	minMaxIDs     = 1_000
	maxMaxIDs     = 1_000_000_000
)

// Config is the deduplication of one pipeline. The zero value is off.
type Config struct {
	// Column holds the id, as the table has it: after a transform.
	Column string `yaml:"column" jsonschema_description:"Column of the table that holds the id of an event: string, uuid, int, long, binary or fixed; rows where it is null stay. Empty: off."`
	// Window is how far apart, in Kafka's timestamps, an event is told from a row with its id.
	Window units.Duration `yaml:"window" jsonschema_description:"An event is dropped when a row with its id has a Kafka timestamp at most so far from its own; default 10m. Up to a quarter more is told as well."`
	// MaxIDs bounds what is held in memory.
	MaxIDs int `yaml:"max_ids" jsonschema_description:"Ids that are held in memory, 32 bytes each at most; default 4000000. It should be the events of one and a half windows: beyond it the oldest are forgotten, and counted."`
}

// Active tells whether anything is deduplicated.
func (c Config) Active() bool { return c.Column != "" }

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if !c.Active() {
		return c
	}
	if c.Window == 0 {
		c.Window = units.Duration(defaultWindow)
	}
	if c.MaxIDs == 0 {
		c.MaxIDs = defaultMaxIDs
	}
	return c
}

// Validate names the first value that cannot be used whatever the table is.
func (c Config) Validate() error {
	switch {
	case !c.Active() && (c.Window != 0 || c.MaxIDs != 0):
		return errors.New("column: name the column that holds the id of an event, or take dedup out")
	case !c.Active():
		return nil
	case strings.ContainsAny(c.Column, ". "):
		return fmt.Errorf("column: %q: name a column of the table itself; for one inside of a struct, or for several together, compute one: transform.columns (docs/deduplication.md)", c.Column)
	case strings.HasPrefix(c.Column, "_kafka_"):
		return fmt.Errorf("column: %s is a column of the ledger: no two records share it", c.Column)
	case c.Window.D() < minWindow || c.Window.D() > maxWindow:
		return fmt.Errorf("window: %s: take %s to %s", c.Window, units.Duration(minWindow), units.Duration(maxWindow))
	case c.MaxIDs < minMaxIDs || c.MaxIDs > maxMaxIDs:
		return fmt.Errorf("max_ids: %d: take %d to %d", c.MaxIDs, minMaxIDs, maxMaxIDs)
	}
	return nil
}

// Check holds the configuration against the table's schema.
func (c Config) Check(sc *iceberg.Schema) error {
	if !c.Active() {
		return nil
	}
	for _, f := range sc.Fields() {
		if f.Name != c.Column {
			continue
		}
		switch f.Type.(type) {
		case iceberg.StringType, iceberg.UUIDType, iceberg.BinaryType, iceberg.FixedType, iceberg.Int32Type, iceberg.Int64Type:
			return nil
		}
		return fmt.Errorf("%w: dedup.column: %s is a %s: take a string, uuid, int, long, binary or fixed", ErrConfig, f.Name, f.Type)
	}
	return fmt.Errorf("%w: dedup.column: the table has no column %s", ErrConfig, c.Column)
}
