package commit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/config"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/ledger"
)

// ErrTable reports an existing table that the pipeline cannot write to; the error names the column and the remedy.
var ErrTable = errors.New("table cannot be ingested into")

// maxPropertyTries bounds how often a change of properties is tried again beside other commits.
const maxPropertyTries = 10

// defaultProperties are set on a new table, and on an existing one where they are absent. The retention is that of
// the table; main's own, which the committer sets, is what the expiry of other engines obeys first.
func defaultProperties() map[string]string {
	return map[string]string{
		"write.parquet.compression-codec":      "zstd",
		"history.expire.min-snapshots-to-keep": strconv.Itoa(keepSnapshots),
		"history.expire.max-snapshot-age-ms":   strconv.FormatInt(keepSnapshotsFor.Milliseconds(), 10),
	}
}

// EnsureTable returns the table, created when it is missing, with the properties set. partitionBy is as in the
// configuration: day(metadata.event_timestamp), bucket(16, key.user_id), a plain column. An existing table must hold
// the ledger columns and columns for everything in schema; its partitioning is changed by the committer alone, with the
// rows that first need it. Properties that an earlier layout of the configuration has set and props lacks are taken out.
// Several processes may do this at once.
func EnsureTable(ctx context.Context, cat catalog.Catalog, id catalog.Identifier, schema *iceberg.Schema, partitionBy []string, props map[string]string) (*catalog.Table, error) {
	if err := checkLedger(id, schema); err != nil {
		return nil, err
	}
	spec, err := partitionSpec(schema, partitionBy)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", id, err)
	}
	t, err := cat.LoadTable(ctx, id, catalog.LoadRefs)
	if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
		t, err = createTable(ctx, cat, id, catalog.CreateTable{Schema: schema, Partition: spec, Properties: newProperties(props, partitionBy)})
	}
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", id, err)
	}
	if err := checkFits(id, schema, t.Metadata.CurrentSchema()); err != nil {
		return nil, err
	}
	return setProperties(ctx, cat, t, props)
}

func newProperties(props map[string]string, partitionBy []string) map[string]string {
	all := defaultProperties()
	if len(partitionBy) > 0 {
		all[PropPartitionBy] = wish(partitionBy)
	}
	for k, v := range props {
		all[k] = v
	}
	all[table.PropertyFormatVersion] = "2"
	return all
}

// createTable makes namespace and table. Whoever loses the race takes the winner's; and so does one whose answer was
// lost: the table that is there then is checked like any.
func createTable(ctx context.Context, cat catalog.Catalog, id catalog.Identifier, req catalog.CreateTable) (*catalog.Table, error) {
	ns := id.Namespace()
	for n := 1; n <= len(ns); n++ {
		err := cat.CreateNamespace(ctx, ns[:n], nil)
		// A foreign catalog may not have nested namespaces of their own; then the last level decides.
		if err != nil && !errors.Is(err, catalog.ErrExists) && (n == len(ns) || !errors.Is(err, catalog.ErrInvalid)) {
			return nil, err
		}
	}
	t, err := cat.CreateTable(ctx, id, req)
	if errors.Is(err, catalog.ErrExists) || errors.Is(err, catalog.ErrUnknownOutcome) || errors.Is(err, catalog.ErrConflict) {
		return cat.LoadTable(ctx, id, catalog.LoadRefs)
	}
	return t, err
}

// setProperties sets those of props that differ and those of the defaults that are absent, and removes what an earlier
// layout has set.
func setProperties(ctx context.Context, cat catalog.Catalog, t *catalog.Table, props map[string]string) (*catalog.Table, error) {
	for try := 0; ; try++ {
		have, want := t.Metadata.Properties(), iceberg.Properties{}
		outdated := layout.Outdated(have, props)
		for k, v := range defaultProperties() {
			if _, ok := have[k]; !ok || slices.Contains(outdated, k) {
				want[k] = v
			}
		}
		outdated = slices.DeleteFunc(outdated, func(k string) bool { return want[k] != "" })
		for k, v := range props {
			if have[k] != v {
				want[k] = v
			} else {
				delete(want, k)
			}
		}
		var updates table.Updates
		if len(outdated) > 0 {
			updates = append(updates, table.NewRemovePropertiesUpdate(outdated))
		}
		if len(want) > 0 {
			updates = append(updates, table.NewSetPropertiesUpdate(want))
		}
		if len(updates) == 0 {
			return t, nil
		}
		after, err := cat.CommitTable(ctx, catalog.TableCommit{Identifier: t.Identifier,
			Requirements: table.Requirements{table.AssertTableUUID(t.Metadata.TableUUID())}, Updates: updates})
		if err == nil {
			return after, nil
		}
		// Setting them twice does no harm, so an unknown outcome is simply tried again.
		if o := classify(err); (o != conflict && o != unknown) || try == maxPropertyTries || ctx.Err() != nil {
			return nil, fmt.Errorf("table %s: set its properties: %w", t.Identifier, err)
		}
		if t, err = cat.LoadTable(ctx, t.Identifier, catalog.LoadRefs); err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Identifier, err)
		}
	}
}

// ledgerTypes are the columns that every ingested table has.
var ledgerTypes = map[string]iceberg.Type{
	ledger.ColPartition: iceberg.PrimitiveTypes.Int32, ledger.ColOffset: iceberg.PrimitiveTypes.Int64,
	ledger.ColTimestamp: iceberg.PrimitiveTypes.TimestampTz, ledger.ColIngestedAt: iceberg.PrimitiveTypes.TimestampTz,
}

func checkLedger(id catalog.Identifier, sc *iceberg.Schema) error {
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset, ledger.ColTimestamp, ledger.ColIngestedAt} {
		f, ok := topLevel(sc.Fields(), name)
		if !ok {
			return fmt.Errorf("%w: %s has no column %s %s: add it, or name a table that firn may create", ErrTable, id, name, ledgerTypes[name])
		}
		if !f.Type.Equals(ledgerTypes[name]) {
			return fmt.Errorf("%w: %s: column %s is a %s and must be a %s", ErrTable, id, name, f.Type, ledgerTypes[name])
		}
	}
	return nil
}

func topLevel(fields []iceberg.NestedField, name string) (iceberg.NestedField, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f, true
		}
	}
	return iceberg.NestedField{}, false
}

// checkFits reports the first column of want that have cannot take, or that have requires and want does not give.
func checkFits(id catalog.Identifier, want, have *iceberg.Schema) error {
	if err := checkLedger(id, have); err != nil {
		return err
	}
	if err := fits(want.Fields(), have.Fields(), ""); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrTable, id, err)
	}
	return nil
}

func fits(want, have []iceberg.NestedField, path string) error {
	var names []string
	for _, h := range have {
		names = append(names, h.Name)
		if w, ok := topLevel(want, h.Name); h.Required && (!ok || !w.Required) {
			return fmt.Errorf("column %s is required in the table, and events may lack it: make it optional there", path+h.Name)
		}
	}
	for _, w := range want {
		h, ok := topLevel(have, w.Name)
		if !ok {
			return fmt.Errorf("there is no column %s %s%s; add it with ALTER TABLE … ADD COLUMN", path+w.Name, w.Type, config.DidYouMean(w.Name, names))
		}
		if err := typeFits(w.Type, h.Type, path+w.Name); err != nil {
			return err
		}
	}
	return nil
}

func typeFits(want, have iceberg.Type, path string) error {
	switch w := want.(type) {
	case *iceberg.StructType:
		if h, ok := have.(*iceberg.StructType); ok {
			return fits(w.FieldList, h.FieldList, path+".")
		}
	case *iceberg.ListType:
		if h, ok := have.(*iceberg.ListType); ok {
			return typeFits(w.Element, h.Element, path+".element")
		}
	case *iceberg.MapType:
		if h, ok := have.(*iceberg.MapType); ok {
			if err := typeFits(w.KeyType, h.KeyType, path+".key"); err != nil {
				return err
			}
			return typeFits(w.ValueType, h.ValueType, path+".value")
		}
	default:
		if want.Equals(have) || widens(want, have) {
			return nil
		}
	}
	return fmt.Errorf("column %s is a %s in the table and a %s in the contract", path, have, want)
}

// widens reports Iceberg's promotions: an engine may have widened a column since.
func widens(from, to iceberg.Type) bool {
	switch f := from.(type) {
	case iceberg.Int32Type:
		_, ok := to.(iceberg.Int64Type)
		return ok
	case iceberg.Float32Type:
		_, ok := to.(iceberg.Float64Type)
		return ok
	case iceberg.DecimalType:
		t, ok := to.(iceberg.DecimalType)
		return ok && t.Scale() == f.Scale() && t.Precision() >= f.Precision()
	}
	return false
}
