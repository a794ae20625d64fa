package compaction

import (
	"fmt"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction/plan"
	"github.com/firnlake/firn/internal/units"
)

// Config tunes the compactor.
type Config struct {
	// Off stops the compactor; default on.
	Off bool `yaml:"off"`
	// Interval is the pause between two rounds over all tables; default 10s.
	Interval units.Duration `yaml:"interval"`
	// Tables narrows the work to these (namespace.table); default every table with Firn's ledger columns.
	Tables []string `yaml:"tables"`
	// TargetFileSize is what merged files grow to; default 128MiB.
	TargetFileSize units.Bytes `yaml:"target_file_size"`
	// SmallFileSize is from where on a file is left alone; default and at most half of TargetFileSize.
	SmallFileSize units.Bytes `yaml:"small_file_size"`
	// MinInputFiles is how many small files of one partition and tier make a merge; default 8. Fewer: fewer live files,
	// more rewriting.
	MinInputFiles int `yaml:"min_input_files"`
	// MaxJobBytes bounds the data rewritten before a commit, and with it the temporary disk space; default 256MiB.
	MaxJobBytes units.Bytes `yaml:"max_job_bytes"`
	// ColdAfter is how long a partition got no file until what is left there is merged too; default 1h.
	ColdAfter units.Duration `yaml:"cold_after"`
	// MaxManifests is how many manifests a table may have; default 100. Above, they are merged whatever it costs. What
	// arrives until a merge is committed comes on top: a few seconds' commits.
	MaxManifests int `yaml:"max_manifests"`
	// ManifestInterval is the pause between two looks at all tables' manifests; default 5s.
	ManifestInterval units.Duration `yaml:"manifest_interval"`
	// SnapshotWindow is how long a snapshot can be read after it was the head; default 15m.
	SnapshotWindow units.Duration `yaml:"snapshot_window"`
	// MinSnapshots are kept of each branch, however old; default 20.
	MinSnapshots int `yaml:"min_snapshots"`
	// SnapshotTags keep what main stood at at full minutes when it leaves the window: rules every/keep, separated by
	// commas; default 5m/24h,1h/7d,24h/90d, "off" for none. A table's properties firn.snapshots.tags and
	// firn.snapshots.window come first.
	SnapshotTags string `yaml:"snapshot_tags"`
	// ExpireInterval is the pause between two expiries of a table; default 1m.
	ExpireInterval units.Duration `yaml:"expire_interval"`
	// OrphanGrace is how long a file stays after its last snapshot expired; default 1h, at least 10m. It must exceed the
	// longest query.
	OrphanGrace units.Duration `yaml:"orphan_grace"`
	// StrayGrace is how old a file must be that no snapshot was seen to name; default 24h, at least OrphanGrace. It must
	// exceed the time that any writer holds on to stored files before it commits them, outages included.
	StrayGrace units.Duration `yaml:"stray_grace"`
	// OrphanInterval is the pause between two sweeps for such files; default 10m.
	OrphanInterval units.Duration `yaml:"orphan_interval"`
	// TempDir is where merged files are built; default the system's.
	TempDir string `yaml:"temp_dir"`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	setDefault(&c.Interval, units.Duration(10*time.Second))
	setDefault(&c.TargetFileSize, 128<<20)
	setDefault(&c.SmallFileSize, c.TargetFileSize/2)
	setDefault(&c.MinInputFiles, 8)
	setDefault(&c.MaxJobBytes, max(256<<20, c.TargetFileSize))
	setDefault(&c.ColdAfter, units.Duration(time.Hour))
	setDefault(&c.MaxManifests, 100)
	setDefault(&c.ManifestInterval, units.Duration(5*time.Second))
	setDefault(&c.SnapshotWindow, units.Duration(15*time.Minute))
	setDefault(&c.MinSnapshots, 20)
	setDefault(&c.SnapshotTags, "5m/24h,1h/7d,24h/90d")
	setDefault(&c.ExpireInterval, units.Duration(time.Minute))
	setDefault(&c.OrphanGrace, units.Duration(time.Hour))
	setDefault(&c.StrayGrace, max(c.OrphanGrace, units.Duration(24*time.Hour)))
	setDefault(&c.OrphanInterval, units.Duration(10*time.Minute))
	return c
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// minOrphanGrace is longer than any attempt to commit takes.
const minOrphanGrace = 10 * time.Minute

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	for _, t := range c.Tables {
		if id, err := catalog.ParseIdentifier(t); err != nil || len(id) < 2 {
			return fmt.Errorf("tables: %q is not namespace.table", t)
		}
	}
	_, badTags := plan.ParseCalendar(c.SnapshotTags)
	switch {
	case c.Interval.D() < 100*time.Millisecond:
		return fmt.Errorf("interval: %s is shorter than 100ms", c.Interval)
	case c.TargetFileSize < 1<<20:
		return fmt.Errorf("target_file_size: %s is less than 1MiB", c.TargetFileSize)
	case c.SmallFileSize < 1 || c.SmallFileSize > c.TargetFileSize/2:
		return fmt.Errorf("small_file_size: %s is not within 1 and half of target_file_size (%s): two small files must fit into one", c.SmallFileSize, c.TargetFileSize)
	case c.MinInputFiles < 2 || c.MinInputFiles > maxJobFiles:
		return fmt.Errorf("min_input_files: %d is not within 2 and %d", c.MinInputFiles, maxJobFiles)
	case c.MaxJobBytes < c.TargetFileSize:
		return fmt.Errorf("max_job_bytes: %s is less than target_file_size (%s)", c.MaxJobBytes, c.TargetFileSize)
	case c.ColdAfter.D() < c.Interval.D():
		return fmt.Errorf("cold_after: %s is shorter than interval (%s)", c.ColdAfter, c.Interval)
	case c.MaxManifests < 10:
		return fmt.Errorf("max_manifests: %d is less than 10", c.MaxManifests)
	case c.ManifestInterval.D() < 100*time.Millisecond:
		return fmt.Errorf("manifest_interval: %s is shorter than 100ms", c.ManifestInterval)
	case c.SnapshotWindow < 0:
		return fmt.Errorf("snapshot_window: %s is negative", c.SnapshotWindow)
	case badTags != nil:
		return fmt.Errorf("snapshot_tags: %w", badTags)
	case c.MinSnapshots < 1:
		return fmt.Errorf("min_snapshots: %d is less than 1", c.MinSnapshots)
	case c.ExpireInterval.D() < time.Second:
		return fmt.Errorf("expire_interval: %s is shorter than 1s", c.ExpireInterval)
	case c.OrphanGrace.D() < minOrphanGrace:
		return fmt.Errorf("orphan_grace: %s is shorter than %s: a query under way would lose its files", c.OrphanGrace, minOrphanGrace)
	case c.StrayGrace < c.OrphanGrace:
		return fmt.Errorf("stray_grace: %s is shorter than orphan_grace (%s): a commit under way would lose its files", c.StrayGrace, c.OrphanGrace)
	case c.OrphanInterval.D() < time.Second:
		return fmt.Errorf("orphan_interval: %s is shorter than 1s", c.OrphanInterval)
	}
	return nil
}

// Bounds of one table's work.
const (
	maxJobFiles         = 500       // inputs of one rewrite
	maxExpire           = 1000      // snapshots expired by one commit
	maxTags             = 100       // tags set by one commit
	targetManifestBytes = 8 << 20   // encoded; manifests of half of it are left alone
	maxManifestEntries  = 4096      // of one manifest that is written
	maxCondemned        = 200_000   // files of a table that wait for their grace to end
	maxQuarantine       = 1000      // files of a table that are left out because they cannot be read
	quarantineTime      = time.Hour // until such a file is tried again
	maxAttempts         = 20        // to commit one rewrite
	maxLooks            = 5         // for a snapshot whose commit got no answer
	maxNamespaceDepth   = 16
	manifestCacheBytes  = 4 << 20 // encoded; decoded they take some ten times that
)

func (c Config) filePolicy(coldSequence int64) plan.Files {
	return plan.Files{TargetBytes: int64(c.TargetFileSize), SmallBytes: int64(c.SmallFileSize), Fanout: c.MinInputFiles,
		MaxFiles: maxJobFiles, ColdSequence: coldSequence}
}

func (c Config) manifestPolicy() plan.Manifests {
	return plan.Manifests{TargetBytes: targetManifestBytes, TargetEntries: maxManifestEntries, Fanout: 8, Max: c.MaxManifests}
}

func (c Config) retention() plan.Retention {
	return plan.Retention{Window: c.SnapshotWindow.D(), Min: c.MinSnapshots, Max: maxExpire}
}
