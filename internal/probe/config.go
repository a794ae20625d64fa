package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Levels of visibility.
const (
	LevelHot       = "hot"       // rows that are not committed yet count
	LevelCommitted = "committed" // what every engine sees through the catalog
)

// Producer writes marks. A return without an error means acknowledged. Safe for concurrent use.
type Producer interface {
	ProduceOne(ctx context.Context, topic string, key, value []byte) (partition int32, offset int64, err error)
}

// Reader tells whether a query at a level returns the record of a place. Safe for concurrent use.
type Reader interface {
	Visible(ctx context.Context, level string, partition int32, offset int64) (bool, error)
}

// Config of a probe.
type Config struct {
	Topic  string
	Levels []string // default hot and committed
	// Event builds a valid event of the topic's contract that carries id.
	Event func(id string, at time.Time) (key, value []byte)

	Interval     time.Duration // between marks; default 1s
	Duration     time.Duration // how long marks are written; 0 is until the context ends
	Timeout      time.Duration // after which a mark is lost; default 30s
	PollInterval time.Duration // between an answer and the next question; default 15ms
	MaxInFlight  int           // marks under way; default 64
	MaxReads     int           // questions at a time, per level; default 4

	// OnMark, when set, is told of every measured or lost mark, one at a time.
	OnMark func(Mark)
}

// Mark is the outcome of one mark at one level.
type Mark struct {
	Level     string
	Partition int32
	Offset    int64
	Latency   time.Duration
	Lost      bool
}

const (
	minInterval = time.Millisecond
	// errorPolls is how many poll intervals pass after a question that failed: what is down is not helped by questions.
	errorPolls = 10
	// maxSamples bounds the latencies that are kept for the quantiles, per level; then the latest count.
	maxSamples = 100_000
)

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if len(c.Levels) == 0 {
		c.Levels = []string{LevelHot, LevelCommitted}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.Interval, time.Second}, {&c.Timeout, 30 * time.Second}, {&c.PollInterval, 15 * time.Millisecond}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 64
	}
	if c.MaxReads == 0 {
		c.MaxReads = 4
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	for i, l := range c.Levels {
		if l != LevelHot && l != LevelCommitted {
			return fmt.Errorf("level: %q is not one of %s, %s", l, LevelHot, LevelCommitted)
		}
		if slices.Contains(c.Levels[:i], l) {
			return fmt.Errorf("level: %s is named twice", l)
		}
	}
	switch {
	case c.Topic == "":
		return errors.New("topic: name the topic to write marks into")
	case c.Event == nil:
		return errors.New("event: a probe needs to know how an event of the topic looks")
	case c.Interval < minInterval:
		return fmt.Errorf("interval: %s is shorter than %s", c.Interval, minInterval)
	case c.Duration < 0:
		return fmt.Errorf("duration: %s is negative", c.Duration)
	case c.Timeout < minInterval:
		return fmt.Errorf("timeout: %s is shorter than %s", c.Timeout, minInterval)
	case c.PollInterval < minInterval:
		return fmt.Errorf("poll_interval: %s is shorter than %s", c.PollInterval, minInterval)
	case c.MaxInFlight < 1:
		return fmt.Errorf("max_in_flight: %d is less than 1", c.MaxInFlight)
	case c.MaxReads < 1:
		return fmt.Errorf("max_reads: %d is less than 1", c.MaxReads)
	}
	return nil
}
