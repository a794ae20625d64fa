package broker

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// Config tunes the embedded broker.
type Config struct {
	Listen string `yaml:"listen" jsonschema_description:"Address to serve Kafka clients on; port 0 picks a free one; default 127.0.0.1:9092."`
	// Advertise is what clients are told to connect to: Kafka clients go where the metadata says, not where they began.
	Advertise      string `yaml:"advertise" jsonschema_description:"host:port that clients are told to connect to; default listen."`
	AllowAnonymous bool   `yaml:"allow_anonymous" jsonschema_description:"Needed to listen beyond loopback: this broker knows no authentication."`
	Dir            string `yaml:"dir" jsonschema_description:"Directory of the log; default broker under the data directory."`

	// RetentionBytes is for all topics together, unlike Kafka's retention.bytes, because it is the disk that is bounded.
	RetentionBytes    units.Bytes    `yaml:"retention_bytes" jsonschema_description:"Disk for the log, all topics together; what consumers still need is kept beyond it; default 256MiB."`
	RetentionTime     units.Duration `yaml:"retention_time" jsonschema_description:"Age at which records go; default 7d."`
	RetentionInterval units.Duration `yaml:"retention_interval" jsonschema_description:"How often the log is cut; default 2s."`
	// SegmentBytes is the grain of retention: each partition may hold one segment more than RetentionBytes.
	SegmentBytes units.Bytes `yaml:"segment_bytes" jsonschema_description:"Size at which a partition begins a new file; default 4MiB."`
	DiskReserve  units.Bytes `yaml:"disk_reserve" jsonschema_description:"Free disk below which producers are refused; default 64MiB."`
	SyncWrites   bool        `yaml:"sync_writes" jsonschema_description:"Sync every batch to disk, against power cuts; default off."`

	MaxConnections  int         `yaml:"max_connections" jsonschema_description:"Client connections at a time; more are closed at once; default 512."`
	MaxRequestBytes units.Bytes `yaml:"max_request_bytes" jsonschema_description:"Size of one request; default 32MiB."`
}

// Bounds of the configuration.
const (
	minSegmentBytes = 64 << 10
	minRequestBytes = 2 << 20 // a batch of message.max.bytes and what surrounds it
	maxRequestBytes = 1 << 30
	maxPartitions   = 1024
)

// WithDefaults fills unset fields; Dir has no default of its own.
func (c Config) WithDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:9092"
	}
	if c.RetentionBytes == 0 {
		c.RetentionBytes = 256 << 20
	}
	if c.RetentionTime == 0 {
		c.RetentionTime = units.Duration(7 * 24 * time.Hour)
	}
	if c.RetentionInterval == 0 {
		c.RetentionInterval = units.Duration(2 * time.Second)
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = min(4<<20, max(minSegmentBytes, c.RetentionBytes/16))
	}
	if c.DiskReserve == 0 {
		c.DiskReserve = 64 << 20
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 512
	}
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = 32 << 20
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	if err := c.validateAddresses(); err != nil {
		return err
	}
	switch {
	case c.Dir == "":
		return errors.New("dir: name the directory of the log")
	case c.SegmentBytes < minSegmentBytes || c.SegmentBytes > 1<<30:
		return fmt.Errorf("segment_bytes: %s is not within %s to 1GiB", c.SegmentBytes, units.Bytes(minSegmentBytes))
	case c.RetentionBytes < 2*c.SegmentBytes:
		return fmt.Errorf("retention_bytes: %s is less than two segments (segment_bytes is %s)", c.RetentionBytes, c.SegmentBytes)
	case c.RetentionTime.D() < time.Second:
		return fmt.Errorf("retention_time: %s is shorter than 1s", c.RetentionTime)
	case c.RetentionInterval.D() < 10*time.Millisecond || c.RetentionInterval.D() > time.Hour:
		return fmt.Errorf("retention_interval: %s is not within 10ms to 1h", c.RetentionInterval)
	case c.DiskReserve < 0:
		return fmt.Errorf("disk_reserve: %d is negative", c.DiskReserve)
	case c.MaxConnections < 1:
		return fmt.Errorf("max_connections: %d is less than 1", c.MaxConnections)
	case c.MaxRequestBytes < minRequestBytes || c.MaxRequestBytes > maxRequestBytes:
		return fmt.Errorf("max_request_bytes: %s is not within %s to %s", c.MaxRequestBytes, units.Bytes(minRequestBytes), units.Bytes(maxRequestBytes))
	}
	return nil
}

func (c Config) validateAddresses() error {
	local, err := units.CheckListen(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if !local && !c.AllowAnonymous {
		return fmt.Errorf("listen: %s can be reached from outside and this broker knows no authentication: listen on 127.0.0.1, or say allow_anonymous: true", c.Listen)
	}
	if c.Advertise == "" {
		host, _, _ := net.SplitHostPort(c.Listen) // CheckListen has read it
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return fmt.Errorf("advertise: %s is no address that clients can connect to: set the host:port that they reach this machine by", c.Listen)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(c.Advertise)
	if err != nil || host == "" {
		return fmt.Errorf("advertise: %q is not host:port", c.Advertise)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("advertise: %q has no port within 1 to 65535", c.Advertise)
	}
	return nil
}
