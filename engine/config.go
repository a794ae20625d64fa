package engine

import (
	"fmt"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Config is the pace of one pipeline.
type Config struct {
	// CommitInterval is the time between two snapshots while rows arrive.
	CommitInterval units.Duration
	// Phase is when in each CommitInterval, counted from the Unix epoch, the batch is cut, more than 0: pipelines of one process
	// with phases of their own do not all commit at one moment. 0: a CommitInterval after the start, and so on.
	Phase units.Duration
	// CatchUpInterval is the time between two snapshots while all that is read is behind: batches grow up to it, or to the bound
	// of the batch. Not more than CommitInterval: a pipeline that is behind commits as a live one.
	CatchUpInterval units.Duration
	// MaxMemory bounds the Arrow bytes that a pipeline holds: see BatchMemory and TailMemory.
	MaxMemory units.Bytes
	// AheadRows is how many rows of the open batch are encoded together while it fills, by a committer that does so. What is left
	// at the end of the interval is fewer.
	AheadRows int64
	// DrainTimeout is what the last commit may take at shutdown.
	DrainTimeout units.Duration
	// Standby is how long a fenced pipeline watches the other writer; it takes over when the table stood still for so long.
	Standby units.Duration
	// OnGap is what to do when Kafka has dropped offsets that were not read: GapStop (the default), or GapRecord.
	OnGap string
	// RetryMin and RetryMax bound the wait between two attempts after a failure.
	RetryMin, RetryMax units.Duration
}

// tailShare is the part of MaxMemory for committed rows.
const tailShare = 4

// TailMemory is how many bytes of MaxMemory are for committed rows that queries under way may still ask for.
func (c Config) TailMemory() int64 { return int64(c.MaxMemory) / tailShare }

// BatchMemory is how many bytes of MaxMemory are for the batch being filled and the batch being committed together; when it is
// reached the fetch waits.
func (c Config) BatchMemory() int64 { return int64(c.MaxMemory) - c.TailMemory() }

// What a pipeline does when Kafka has dropped offsets that it has not read.
const (
	GapStop   = "stop"   // a person decides
	GapRecord = "record" // the gap is noted in the gaps table and jumped over, in one commit
)

// DefaultConfig returns the pace of a live pipeline: a commit a second.
func DefaultConfig() Config {
	return Config{
		CommitInterval:  units.Duration(time.Second),
		CatchUpInterval: CatchUp(units.Duration(time.Second)),
		MaxMemory:       160 << 20,
		AheadRows:       2048,
		DrainTimeout:    units.Duration(4 * time.Second),
		Standby:         units.Duration(10 * time.Second),
		OnGap:           GapStop,
		RetryMin:        units.Duration(200 * time.Millisecond),
		RetryMax:        units.Duration(10 * time.Second),
	}
}

// CatchUp is the CatchUpInterval that goes with a commit interval: five of them, at most half a minute more.
func CatchUp(interval units.Duration) units.Duration {
	return min(5*interval, interval+units.Duration(30*time.Second))
}

// Validate reports the first value that cannot work, with the range that does.
func (c Config) Validate() error {
	switch {
	case c.CommitInterval.D() < 50*time.Millisecond || c.CommitInterval.D() > time.Hour:
		return fmt.Errorf("commit_interval is %s: take 50ms to 1h, such as 1s", c.CommitInterval.D())
	case c.Phase.D() < 0 || c.Phase.D() > c.CommitInterval.D():
		return fmt.Errorf("the phase is %s of an interval of %s: it must lie within", c.Phase.D(), c.CommitInterval.D())
	case c.CatchUpInterval.D() < 0 || c.CatchUpInterval.D() > time.Hour:
		return fmt.Errorf("catch_up_interval is %s: take at most 1h, such as 5s; not more than commit_interval keeps to that", c.CatchUpInterval.D())
	case c.OnGap != "" && c.OnGap != GapStop && c.OnGap != GapRecord:
		return fmt.Errorf("on_gap is %q: take %s or %s", c.OnGap, GapStop, GapRecord)
	case c.MaxMemory < 16<<20:
		return fmt.Errorf("max_memory is %d bytes: take at least 16MiB", c.MaxMemory)
	case c.AheadRows < 1:
		return fmt.Errorf("%d rows to encode ahead: at least 1", c.AheadRows)
	case c.DrainTimeout.D() <= 0, c.Standby.D() <= 0, c.RetryMin.D() <= 0, c.RetryMax.D() < c.RetryMin.D():
		return fmt.Errorf("drain_timeout, standby and the retry bounds must be positive and in order")
	}
	return nil
}
