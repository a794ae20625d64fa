package commit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/config"
)

// firstPartitionField is the id that Iceberg gives the first field of a spec.
const firstPartitionField = 1000

// ErrPartition reports a partition_by that cannot be used; the error says which part and what would do.
var ErrPartition = errors.New("partition_by cannot be used")

// transforms are the forms of partition_by, by name; n tells that a number comes first.
var transforms = map[string]struct {
	n    bool
	make func(int) iceberg.Transform
}{
	"identity": {false, func(int) iceberg.Transform { return iceberg.IdentityTransform{} }},
	"year":     {false, func(int) iceberg.Transform { return iceberg.YearTransform{} }},
	"month":    {false, func(int) iceberg.Transform { return iceberg.MonthTransform{} }},
	"day":      {false, func(int) iceberg.Transform { return iceberg.DayTransform{} }},
	"hour":     {false, func(int) iceberg.Transform { return iceberg.HourTransform{} }},
	"bucket":   {true, func(n int) iceberg.Transform { return iceberg.BucketTransform{NumBuckets: n} }},
	"truncate": {true, func(n int) iceberg.Transform { return iceberg.TruncateTransform{Width: n} }},
}

const maxTransformNumber = 1 << 20

// CheckPartitionBy reports the first entry of partition_by that does not fit the schema. Errors wrap ErrPartition.
func CheckPartitionBy(sc *iceberg.Schema, partitionBy []string) error {
	_, err := partitionSpec(sc, partitionBy)
	return err
}

// partitionSpec reads entries such as day(metadata.event_timestamp), bucket(16, key.user_id), truncate(4, name) or a
// plain column.
func partitionSpec(sc *iceberg.Schema, partitionBy []string) (*iceberg.PartitionSpec, error) {
	if len(partitionBy) == 0 {
		return iceberg.UnpartitionedSpec, nil
	}
	var opts []iceberg.PartitionOption
	for i, entry := range partitionBy {
		name, column, transform, err := partitionField(sc, entry)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrPartition, entry, err)
		}
		id := firstPartitionField + i
		opts = append(opts, iceberg.AddPartitionFieldByName(column, name, transform, sc, &id))
	}
	spec, err := iceberg.NewPartitionSpecOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrPartition, partitionBy, err)
	}
	if err := oneDecimal(sc, spec); err != nil {
		return nil, err
	}
	return &spec, nil
}

// oneDecimal refuses a second partition field that is a decimal: iceberg-go v0.7.0 gives the Avro types of both one name, so no
// manifest of such a spec can be written, and no commit made.
func oneDecimal(sc *iceberg.Schema, spec iceberg.PartitionSpec) error {
	first := ""
	for _, f := range spec.PartitionType(sc).FieldList {
		switch _, is := f.Type.(iceberg.DecimalType); {
		case is && first != "":
			return fmt.Errorf("%w: %s and %s are both decimals, and a table can be partitioned by one: take one out, or write bucket(16, …) of it", ErrPartition, first, f.Name)
		case is:
			first = f.Name
		}
	}
	return nil
}

func partitionField(sc *iceberg.Schema, entry string) (name, column string, t iceberg.Transform, err error) {
	fn, args := "identity", entry
	if open := strings.IndexByte(entry, '('); open >= 0 {
		if !strings.HasSuffix(entry, ")") {
			return "", "", nil, errors.New("the parenthesis is not closed")
		}
		fn, args = strings.ToLower(strings.TrimSpace(entry[:open])), entry[open+1:len(entry)-1]
	}
	form, ok := transforms[fn]
	if !ok {
		var known []string
		for k := range transforms {
			known = append(known, k)
		}
		return "", "", nil, fmt.Errorf("there is no transform %q%s", fn, config.DidYouMean(fn, known))
	}
	n, column := 0, strings.TrimSpace(args)
	if form.n {
		number, rest, ok := strings.Cut(args, ",")
		if n, err = strconv.Atoi(strings.TrimSpace(number)); !ok || err != nil || n < 1 || n > maxTransformNumber {
			return "", "", nil, fmt.Errorf("%s takes a number from 1 to %d and a column, as in %s(16, user_id)", fn, maxTransformNumber, fn)
		}
		column = strings.TrimSpace(rest)
	}
	f, err := partitionColumn(sc, column)
	if err != nil {
		return "", "", nil, err
	}
	if t = form.make(n); !t.CanTransform(f.Type) {
		return "", "", nil, fmt.Errorf("column %s is a %s, which %s does not take", column, f.Type, fn)
	}
	return partitionName(column, fn, n), column, t, nil
}

// partitionColumn finds the column, which must not lie in a list or a map.
func partitionColumn(sc *iceberg.Schema, column string) (iceberg.NestedField, error) {
	var known []string
	fields := columns("", sc.Fields(), &known)
	if f, ok := fields[column]; ok {
		return f, nil
	}
	if _, ok := sc.FindFieldByName(column); ok {
		return iceberg.NestedField{}, fmt.Errorf("column %s is no single value of a row: take a primitive column", column)
	}
	return iceberg.NestedField{}, fmt.Errorf("there is no column %q%s", column, config.DidYouMean(column, known))
}

// columns gives the primitive columns by dotted path, those in structs included.
func columns(prefix string, fields []iceberg.NestedField, names *[]string) map[string]iceberg.NestedField {
	out := map[string]iceberg.NestedField{}
	for _, f := range fields {
		switch t := f.Type.(type) {
		case *iceberg.StructType:
			for k, v := range columns(prefix+f.Name+".", t.FieldList, names) {
				out[k] = v
			}
		case *iceberg.ListType, *iceberg.MapType:
		default:
			out[prefix+f.Name] = f
			*names = append(*names, prefix+f.Name)
		}
	}
	return out
}

// partitionName is the field's name. Dots of nested columns become underscores: Avro, in which manifests are written,
// has none in names, and engines differ in how they get round that. A plain column keeps its own name.
func partitionName(column, fn string, n int) string {
	flat := strings.ReplaceAll(column, ".", "_")
	switch fn {
	case "identity":
		if flat != column {
			return flat + "_value"
		}
		return column
	case "bucket":
		return flat + "_bucket_" + strconv.Itoa(n)
	case "truncate":
		return flat + "_trunc_" + strconv.Itoa(n)
	}
	return flat + "_" + fn
}
