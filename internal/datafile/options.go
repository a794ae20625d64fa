package datafile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/compress"
)

// Codecs are the compressions by name.
var Codecs = map[string]compress.Compression{
	"zstd": compress.Codecs.Zstd, "snappy": compress.Codecs.Snappy, "lz4": compress.Codecs.Lz4Raw, "none": compress.Codecs.Uncompressed,
}

// WriteOptions tune one file.
type WriteOptions struct {
	Codec        string // zstd, snappy, lz4 or none
	RowGroupRows int64  // most rows of a row group
	// RowGroupBytes ends a row group earlier, once so many stored bytes are reached, about; 0: rows alone count.
	RowGroupBytes int64
	// Metrics is how much of a column the statistics tell; the zero value is truncate(16).
	Metrics MetricsMode
	// Columns are what single columns have apart from the others, by field id.
	Columns map[int]ColumnOptions
	// BloomBytes is the most that one filter takes; 0: 1 MiB.
	BloomBytes int64
	// Mem is for Arrow memory that outlives a call. The writer has none at present: its buffers are Go's, and pooled.
	Mem memory.Allocator
}

// ColumnOptions are what one column has apart from the others.
type ColumnOptions struct {
	Metrics MetricsMode // unset: that of the file
	// Bloom is the share of absent values that a filter of this column may take for present, such as 0.01; 0: no filter.
	Bloom float64
}

// Defaults of WriteOptions.
const (
	defaultRowGroupRows = 1 << 20
	defaultBloomBytes   = 1 << 20
)

// DefaultWriteOptions compresses with zstd at its fastest level.
func DefaultWriteOptions() WriteOptions {
	return WriteOptions{Codec: "zstd", RowGroupRows: defaultRowGroupRows, Mem: memory.DefaultAllocator}
}

// MetricsMode says how much a manifest tells of a column (Iceberg's write.metadata.metrics.*). A positive one is
// truncate(n): counts, and bounds of which strings keep n characters and binaries n bytes.
type MetricsMode int32

// The other modes.
const (
	MetricsUnset  MetricsMode = 0
	MetricsNone   MetricsMode = -1 // the column's size alone
	MetricsCounts MetricsMode = -2 // and how many values, nulls and NaNs
	MetricsFull   MetricsMode = -3 // and bounds as the values are, up to 4096 bytes
)

const (
	// DefaultMetrics is what Iceberg's own writers take.
	DefaultMetrics MetricsMode = 16
	// maxMetricsLength is what of a value the file's own statistics keep.
	maxMetricsLength = statsBytes
)

// ParseMetricsMode reads none, counts, truncate(n) or full.
func ParseMetricsMode(text string) (MetricsMode, error) {
	switch t := strings.ToLower(strings.TrimSpace(text)); t {
	case "none":
		return MetricsNone, nil
	case "counts":
		return MetricsCounts, nil
	case "full":
		return MetricsFull, nil
	default:
		if inner, ok := strings.CutPrefix(t, "truncate("); ok {
			if inner, ok = strings.CutSuffix(inner, ")"); ok {
				if n, err := strconv.Atoi(strings.TrimSpace(inner)); err == nil && n >= 1 && n <= maxMetricsLength {
					return MetricsMode(n), nil
				}
			}
		}
	}
	return MetricsUnset, fmt.Errorf("statistics %q: take none, counts, truncate(16) with a number from 1 to %d, or full", text, maxMetricsLength)
}

func (m MetricsMode) String() string {
	switch m {
	case MetricsUnset:
		return ""
	case MetricsNone:
		return "none"
	case MetricsCounts:
		return "counts"
	case MetricsFull:
		return "full"
	}
	return "truncate(" + strconv.Itoa(int(m)) + ")"
}

// metrics is the mode of a column.
func (o *WriteOptions) metrics(id int) MetricsMode {
	m := o.Columns[id].Metrics
	if m == MetricsUnset {
		m = o.Metrics
	}
	if m == MetricsUnset {
		m = DefaultMetrics
	}
	return m
}
