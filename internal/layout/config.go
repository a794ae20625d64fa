package layout

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/config"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/units"
)

// PropManaged names the properties that the configuration has set, so that one that is taken out of it is taken out of
// the table as well, and what somebody else has set is left alone.
const PropManaged = "firn.layout"

// Iceberg's names of what iceberg-go has no constant for.
const (
	propBloomFPP = "write.parquet.bloom-filter-fpp.column"
	// uncompressed is what Iceberg calls the codec none.
	uncompressed = "uncompressed"
)

// Bounds of Config.
const (
	minFileSize, minRowGroupSize       = 1 << 20, 64 << 10
	minBloomSize, maxBloomSize         = 32, 128 << 20
	maxRowGroupRows                    = 100_000_000
	defaultBloomFPP                    = 0.01
	defaultFileSize                    = table.WriteTargetFileSizeBytesDefault
	defaultRowGroupSize          int64 = 128 << 20
)

// Config is the layout of one pipeline's table. What is empty is as the table's properties say.
type Config struct {
	// FileSize is where a file of one commit ends and the next begins.
	FileSize units.Bytes `yaml:"file_size" jsonschema_description:"Files of one commit end near this size (write.target-file-size-bytes); default 512MiB."`
	// RowGroupSize and RowGroupRows end a row group, whichever comes first.
	RowGroupSize units.Bytes `yaml:"row_group_size" jsonschema_description:"Stored bytes of a row group (write.parquet.row-group-size-bytes); default 128MiB."`
	RowGroupRows int64       `yaml:"row_group_rows" jsonschema_description:"Most rows of a row group (write.parquet.row-group-limit); default 1048576."`
	// Statistics is how much the manifests tell of columns; ColumnStatistics of single ones, by dotted path.
	Statistics       Statistics            `yaml:"statistics" jsonschema_description:"What manifests tell of columns: none, counts, truncate(16) or full (write.metadata.metrics.default); default truncate(16)."`
	ColumnStatistics map[string]Statistics `yaml:"column_statistics" jsonschema_description:"The same for single columns, such as payload.note: counts."`
	// BloomFilters are the columns with a filter in each row group.
	BloomFilters    []string    `yaml:"bloom_filters" jsonschema_description:"Columns with a Bloom filter, such as key.user_id: point lookups leave out files and row groups that lack the value."`
	BloomFilterFPP  float64     `yaml:"bloom_filter_fpp" jsonschema_description:"Share of absent values that a filter may take for present; default 0.01."`
	BloomFilterSize units.Bytes `yaml:"bloom_filter_size" jsonschema_description:"Most bytes of one filter; default 1MiB."`
}

// Statistics is a mode of column statistics as text.
type Statistics string

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Statistics) UnmarshalText(text []byte) error {
	m, err := datafile.ParseMetricsMode(string(text))
	if err != nil {
		return err
	}
	*s = Statistics(m.String())
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (s Statistics) MarshalText() ([]byte, error) { return []byte(s), nil }

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.FileSize != 0 && c.FileSize < minFileSize:
		return fmt.Errorf("file_size: %s is too little: at least 1MiB", c.FileSize)
	case c.RowGroupSize != 0 && c.RowGroupSize < minRowGroupSize:
		return fmt.Errorf("row_group_size: %s is too little: at least 64KiB", c.RowGroupSize)
	case c.RowGroupRows < 0 || c.RowGroupRows > maxRowGroupRows:
		return fmt.Errorf("row_group_rows: %d is not within 1 to %d", c.RowGroupRows, maxRowGroupRows)
	case c.BloomFilterFPP < 0 || c.BloomFilterFPP >= 1:
		return fmt.Errorf("bloom_filter_fpp: %g is not between 0 and 1, such as 0.01", c.BloomFilterFPP)
	case c.BloomFilterSize != 0 && (c.BloomFilterSize < minBloomSize || c.BloomFilterSize > maxBloomSize):
		return fmt.Errorf("bloom_filter_size: %s is not within 32B to 128MiB", c.BloomFilterSize)
	}
	for i, name := range c.BloomFilters {
		if slices.Contains(c.BloomFilters[:i], name) {
			return fmt.Errorf("bloom_filters: %s is named twice", name)
		}
	}
	return nil
}

// Check reports the first column that the schema does not have, or that cannot have what is asked for it.
func (c Config) Check(sc *iceberg.Schema) error {
	known := leaves(sc)
	names := slices.Sorted(maps.Keys(known))
	for _, key := range slices.Sorted(maps.Keys(c.ColumnStatistics)) {
		f, ok := known[key]
		switch {
		case !ok:
			return fmt.Errorf("layout.column_statistics: there is no column %q%s", key, config.DidYouMean(key, names))
		case ledger.IsColumn(f.Name) && c.ColumnStatistics[key] != "full":
			return fmt.Errorf("layout.column_statistics: %s has full statistics always: recovery reads them", key)
		}
	}
	for _, key := range c.BloomFilters {
		f, ok := known[key]
		if !ok {
			return fmt.Errorf("layout.bloom_filters: there is no column %q%s", key, config.DidYouMean(key, names))
		}
		if _, ok := f.Type.(iceberg.BooleanType); ok {
			return fmt.Errorf("layout.bloom_filters: %s is a boolean, of which a filter says nothing", key)
		}
	}
	return nil
}

// Properties are the table properties that c stands for, with codec (none for the table's own), and PropManaged.
func (c Config) Properties(codec string) map[string]string {
	p := map[string]string{}
	number := func(key string, n int64) {
		if n != 0 {
			p[key] = strconv.FormatInt(n, 10)
		}
	}
	number(table.WriteTargetFileSizeBytesKey, int64(c.FileSize))
	number(table.ParquetRowGroupSizeBytesKey, int64(c.RowGroupSize))
	number(table.ParquetRowGroupLimitKey, c.RowGroupRows)
	number(table.ParquetBloomFilterMaxBytesKey, int64(c.BloomFilterSize))
	if c.Statistics != "" {
		p[table.DefaultWriteMetricsModeKey] = string(c.Statistics)
	}
	for name, mode := range c.ColumnStatistics {
		p[table.MetricsModeColumnConfPrefix+"."+name] = string(mode)
	}
	for _, name := range c.BloomFilters {
		p[table.ParquetBloomFilterColumnEnabledKeyPrefix+"."+name] = "true"
		if c.BloomFilterFPP != 0 {
			p[propBloomFPP+"."+name] = strconv.FormatFloat(c.BloomFilterFPP, 'g', -1, 64)
		}
	}
	switch codec {
	case "":
	case "none":
		p[table.ParquetCompressionKey] = uncompressed
	default:
		p[table.ParquetCompressionKey] = codec
	}
	if len(p) > 0 {
		p[PropManaged] = strings.Join(slices.Sorted(maps.Keys(p)), " ")
	}
	return p
}

// Outdated are the properties in have that an earlier configuration has set and want does not any more.
func Outdated(have, want map[string]string) []string {
	managed := have[PropManaged]
	if managed == "" {
		return nil
	}
	var out []string
	for _, key := range append(strings.Fields(managed), PropManaged) {
		_, wanted := want[key]
		if _, ok := have[key]; ok && !wanted {
			out = append(out, key)
		}
	}
	return out
}

// leaves are the columns of values by dotted path: those in structs, lists (element) and maps (key, value) as well.
func leaves(sc *iceberg.Schema) map[string]iceberg.NestedField {
	out := map[string]iceberg.NestedField{}
	var walk func(path string, f iceberg.NestedField)
	walk = func(path string, f iceberg.NestedField) {
		switch t := f.Type.(type) {
		case *iceberg.StructType:
			for _, k := range t.FieldList {
				walk(path+"."+k.Name, k)
			}
		case *iceberg.ListType:
			walk(path+".element", t.ElementField())
		case *iceberg.MapType:
			walk(path+".key", t.KeyField())
			walk(path+".value", t.ValueField())
		default:
			out[path] = f
		}
	}
	for _, f := range sc.Fields() {
		walk(f.Name, f)
	}
	return out
}

// OptionsOf reads a table's properties into the options of its files. What they do not say, or say in a way that firn
// cannot follow, is as in base.
func OptionsOf(props iceberg.Properties, sc *iceberg.Schema, base datafile.WriteOptions) datafile.WriteOptions {
	o := base
	switch codec := strings.ToLower(props[table.ParquetCompressionKey]); {
	case codec == uncompressed:
		o.Codec = "none"
	case codec != "":
		if _, ok := datafile.Codecs[codec]; ok {
			o.Codec = codec
		}
	}
	if n, ok := positive(props, table.ParquetRowGroupLimitKey); ok {
		o.RowGroupRows = min(n, maxRowGroupRows)
	}
	if n, ok := positive(props, table.ParquetRowGroupSizeBytesKey); ok {
		o.RowGroupBytes = max(n, minRowGroupSize)
	} else if o.RowGroupBytes == 0 {
		o.RowGroupBytes = defaultRowGroupSize
	}
	if n, ok := positive(props, table.ParquetBloomFilterMaxBytesKey); ok {
		o.BloomBytes = min(max(n, minBloomSize), maxBloomSize)
	}
	if m, err := datafile.ParseMetricsMode(props[table.DefaultWriteMetricsModeKey]); err == nil {
		o.Metrics = m
	}
	o.Columns = columnsOf(props, sc)
	return o
}

func columnsOf(props iceberg.Properties, sc *iceberg.Schema) map[int]datafile.ColumnOptions {
	out := map[int]datafile.ColumnOptions{}
	for name, f := range leaves(sc) {
		var c datafile.ColumnOptions
		if m, err := datafile.ParseMetricsMode(props[table.MetricsModeColumnConfPrefix+"."+name]); err == nil {
			c.Metrics = m
		}
		if ledger.IsColumn(name) {
			c.Metrics = datafile.MetricsFull
		}
		if strings.EqualFold(props[table.ParquetBloomFilterColumnEnabledKeyPrefix+"."+name], "true") {
			c.Bloom = defaultBloomFPP
			if p, err := strconv.ParseFloat(props[propBloomFPP+"."+name], 64); err == nil && p > 0 && p < 1 {
				c.Bloom = p
			}
		}
		if c != (datafile.ColumnOptions{}) {
			out[f.ID] = c
		}
	}
	return out
}

// FileSize is where a table's files end.
func FileSize(props iceberg.Properties) int64 {
	if n, ok := positive(props, table.WriteTargetFileSizeBytesKey); ok {
		return max(n, minFileSize)
	}
	return defaultFileSize
}

func positive(props iceberg.Properties, key string) (int64, bool) {
	n, err := strconv.ParseInt(props[key], 10, 64)
	return n, err == nil && n > 0
}
