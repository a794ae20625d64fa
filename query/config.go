package query

import (
	"fmt"
	"runtime"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Config bounds what queries may cost.
type Config struct {
	// MemoryLimit is what the SQL engine may take, all statements together; each of MaxConcurrent gets an equal
	// share, so that one cannot starve the others; default 1GiB.
	MemoryLimit units.Bytes `yaml:"memory_limit" jsonschema_description:"Memory of the SQL engine, all statements together; default 1GiB."`
	// SpillLimit is what a statement may write to disk when its share of memory is not enough; default 4GiB.
	SpillLimit units.Bytes `yaml:"spill_limit" jsonschema_description:"Disk that one statement may use for what does not fit its memory; default 4GiB."`
	// Threads of one statement; default the CPUs of the process.
	Threads int `yaml:"threads" jsonschema_description:"Threads of one statement; default: the CPUs."`
	// MaxConcurrent bounds the statements that run at the same time; further ones wait for QueueTimeout; default 4.
	MaxConcurrent int `yaml:"max_concurrent" jsonschema_description:"Statements at the same time; default 4."`
	// MaxScans bounds the plain scans that run at the same time; default 32.
	MaxScans int `yaml:"max_scans" jsonschema_description:"Plain scans at the same time; default 32."`
	// QueueTimeout is how long a statement or a scan waits for its turn; default 10s.
	QueueTimeout units.Duration `yaml:"queue_timeout" jsonschema_description:"How long a statement waits for its turn; default 10s."`
	// Timeout bounds a statement or a scan from its start to its last row; default 5m.
	Timeout units.Duration `yaml:"timeout" jsonschema_description:"Longest run of a statement; default 5m."`
	// MaxResultRows ends a statement or a scan with an error after so many rows; default 0, no bound.
	MaxResultRows int64 `yaml:"max_result_rows" jsonschema_description:"Rows that a statement may give; 0 is no bound."`
	// MaxStatement bounds the text of a statement; default 1MiB.
	MaxStatement units.Bytes `yaml:"max_statement" jsonschema_description:"Longest statement; default 1MiB."`
	// CacheDir holds copies of data files (for warehouses that are not on this disk), hot rows on their way to the
	// SQL engine, and what that spills; default: a folder of its own that goes when the process ends.
	CacheDir string `yaml:"cache_dir" jsonschema_description:"Folder of cached data files; default: a temporary one."`
	// CacheSize bounds the copies of data files; default 4GiB.
	CacheSize units.Bytes `yaml:"cache_size" jsonschema_description:"Bound of cached data files; default 4GiB."`
	// Downloads bounds the data files that are fetched at the same time; default 8.
	Downloads int `yaml:"downloads" jsonschema_description:"Data files fetched at the same time; default 8."`
	// ManifestCache bounds the manifests that are held in memory; default 64MiB.
	ManifestCache units.Bytes `yaml:"manifest_cache" jsonschema_description:"Manifests held in memory; default 64MiB."`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.MemoryLimit == 0 {
		c.MemoryLimit = 1 << 30
	}
	if c.SpillLimit == 0 {
		c.SpillLimit = 4 << 30
	}
	if c.Threads == 0 {
		c.Threads = runtime.GOMAXPROCS(0)
	}
	if c.MaxConcurrent == 0 {
		c.MaxConcurrent = 4
	}
	if c.MaxScans == 0 {
		c.MaxScans = 32
	}
	if c.QueueTimeout == 0 {
		c.QueueTimeout = units.Duration(10 * time.Second)
	}
	if c.Timeout == 0 {
		c.Timeout = units.Duration(5 * time.Minute)
	}
	if c.MaxStatement == 0 {
		c.MaxStatement = 1 << 20
	}
	if c.CacheSize == 0 {
		c.CacheSize = 4 << 30
	}
	if c.Downloads == 0 {
		c.Downloads = 8
	}
	if c.ManifestCache == 0 {
		c.ManifestCache = 64 << 20
	}
	return c
}

// minStatementMemory is the least that a statement can do anything useful with.
const minStatementMemory = 32 << 20

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.MaxConcurrent < 1 || c.MaxConcurrent > 256:
		return fmt.Errorf("max_concurrent: %d is not within 1 to 256", c.MaxConcurrent)
	case c.MemoryLimit/units.Bytes(c.MaxConcurrent) < minStatementMemory:
		return fmt.Errorf("memory_limit: %s is less than %s for each of max_concurrent %d statements", c.MemoryLimit, units.Bytes(minStatementMemory), c.MaxConcurrent)
	case c.SpillLimit < 0:
		return fmt.Errorf("spill_limit: %s is negative", c.SpillLimit)
	case c.Threads < 1 || c.Threads > 1024:
		return fmt.Errorf("threads: %d is not within 1 to 1024", c.Threads)
	case c.MaxScans < 1:
		return fmt.Errorf("max_scans: %d is less than 1", c.MaxScans)
	case c.QueueTimeout.D() < 0:
		return fmt.Errorf("queue_timeout: %s is negative", c.QueueTimeout)
	case c.Timeout.D() < time.Millisecond:
		return fmt.Errorf("timeout: %s is shorter than 1ms", c.Timeout)
	case c.MaxResultRows < 0:
		return fmt.Errorf("max_result_rows: %d is negative", c.MaxResultRows)
	case c.MaxStatement < 1<<10 || c.MaxStatement > 16<<20:
		return fmt.Errorf("max_statement: %s is not within 1KiB to 16MiB", c.MaxStatement)
	case c.CacheSize < 1<<20:
		return fmt.Errorf("cache_size: %s is less than 1MiB", c.CacheSize)
	case c.Downloads < 1 || c.Downloads > 256:
		return fmt.Errorf("downloads: %d is not within 1 to 256", c.Downloads)
	case c.ManifestCache < 0:
		return fmt.Errorf("manifest_cache: %s is negative", c.ManifestCache)
	}
	return nil
}
