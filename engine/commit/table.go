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
	"github.com/firnlake/firn/internal/evolve"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/ledger"
)

// ErrTable reports an existing table that the pipeline cannot write to; the error names the column and the remedy.
var ErrTable = errors.New("table cannot be ingested into")

// maxTableTries bounds how often a change of a table's properties or columns is tried again beside other commits.
const maxTableTries = 10

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
// the ledger columns and be able to grow to everything in schema; its columns and its partitioning are changed by the
// committer alone, with the rows that first need it. Properties that an earlier layout of the configuration has set and
// props lacks are taken out. Several processes may do this at once.
func EnsureTable(ctx context.Context, cat catalog.Catalog, id catalog.Identifier, schema *iceberg.Schema, partitionBy []string, props map[string]string) (*catalog.Table, error) {
	return ensureTable(ctx, cat, id, schema, partitionBy, props, true)
}

// EnsureOwnTable is EnsureTable for a table whose columns are firn's own, such as dead letters: it must have them all, but
// for those in later, which are added to a table that was made without them.
func EnsureOwnTable(ctx context.Context, cat catalog.Catalog, id catalog.Identifier, schema *iceberg.Schema, props map[string]string, later ...string) (*catalog.Table, error) {
	return ensureTable(ctx, cat, id, schema, nil, props, false, later...)
}

func ensureTable(ctx context.Context, cat catalog.Catalog, id catalog.Identifier, schema *iceberg.Schema, partitionBy []string, props map[string]string, grows bool, later ...string) (*catalog.Table, error) {
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
	if t, err = addLater(ctx, cat, t, schema, later); err != nil {
		return nil, fmt.Errorf("table %s: %w", id, err)
	}
	if err := checkFits(id, schema, t.Metadata.CurrentSchema(), grows); err != nil {
		return nil, err
	}
	return setProperties(ctx, cat, t, props)
}

// addLater adds the columns in later that the table lacks, as schema has them. Whoever loses the race finds them there.
func addLater(ctx context.Context, cat catalog.Catalog, t *catalog.Table, schema *iceberg.Schema, later []string) (*catalog.Table, error) {
	return alter(ctx, cat, t, fmt.Sprintf("add the columns %v", later), func(meta table.Metadata) (table.Updates, table.Requirements, error) {
		var missing []iceberg.NestedField
		for _, name := range later {
			f, wanted := topLevel(schema.Fields(), name)
			if _, there := topLevel(meta.CurrentSchema().Fields(), name); wanted && !there {
				missing = append(missing, f)
			}
		}
		if len(missing) == 0 {
			return nil, nil, nil
		}
		_, updates, reqs, err := withColumns(meta, missing)
		return updates, reqs, err
	})
}

// alter commits what change makes of a table, or nothing where there is nothing to change, again while others commit. Making
// such a change twice does no harm, so an unknown outcome is simply tried again.
func alter(ctx context.Context, cat catalog.Catalog, t *catalog.Table, what string, change func(table.Metadata) (table.Updates, table.Requirements, error)) (*catalog.Table, error) {
	for try := 0; ; try++ {
		updates, reqs, err := change(t.Metadata)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if len(updates) == 0 {
			return t, nil
		}
		after, err := cat.CommitTable(ctx, catalog.TableCommit{Identifier: t.Identifier, Updates: updates,
			Requirements: append(reqs, table.AssertTableUUID(t.Metadata.TableUUID()))})
		if err == nil {
			return after, nil
		}
		if o := classify(err); (o != conflict && o != unknown) || try == maxTableTries || ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if t, err = cat.LoadTable(ctx, t.Identifier, catalog.LoadRefs); err != nil {
			return nil, err
		}
	}
}

// withColumns is a table with columns more, which are no structs and get new ids, and what makes it so.
func withColumns(meta table.Metadata, cols []iceberg.NestedField) (table.Metadata, table.Updates, table.Requirements, error) {
	sc, last := meta.CurrentSchema(), meta.LastColumnID()
	fields := slices.Clone(sc.Fields())
	for i, f := range cols {
		f.ID = last + 1 + i
		fields = append(fields, f)
	}
	b, err := table.MetadataBuilderFromBase(meta, "")
	if err != nil {
		return nil, nil, nil, err
	}
	if err := b.AddSchema(iceberg.NewSchema(0, fields...)); err != nil {
		return nil, nil, nil, err
	}
	if err := b.SetCurrentSchemaID(-1); err != nil {
		return nil, nil, nil, err
	}
	after, err := b.Build()
	if err != nil {
		return nil, nil, nil, err
	}
	now := after.CurrentSchema()
	return after, table.Updates{table.NewAddSchemaUpdate(now), table.NewSetCurrentSchemaUpdate(now.ID)},
		table.Requirements{table.AssertCurrentSchemaID(sc.ID), table.AssertLastAssignedFieldID(last)}, nil
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
	id := t.Identifier
	t, err := alter(ctx, cat, t, "set its properties", func(meta table.Metadata) (updates table.Updates, _ table.Requirements, _ error) {
		have, want := meta.Properties(), iceberg.Properties{}
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
		if len(outdated) > 0 {
			updates = append(updates, table.NewRemovePropertiesUpdate(outdated))
		}
		if len(want) > 0 {
			updates = append(updates, table.NewSetPropertiesUpdate(want))
		}
		return updates, nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", id, err)
	}
	return t, nil
}

// ledgerTypes are the columns that every ingested table has.
var ledgerTypes = map[string]iceberg.Type{
	ledger.ColPartition: iceberg.PrimitiveTypes.Int32, ledger.ColOffset: iceberg.PrimitiveTypes.Int64,
	ledger.ColTimestamp: iceberg.PrimitiveTypes.TimestampTz, ledger.ColIngestedAt: iceberg.PrimitiveTypes.TimestampTz,
}

func checkLedger(id catalog.Identifier, sc *iceberg.Schema) error {
	if err := ledgerThere(sc); err != nil {
		return fmt.Errorf("table %s: %w", id, err)
	}
	return nil
}

func ledgerThere(sc *iceberg.Schema) error {
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset, ledger.ColTimestamp, ledger.ColIngestedAt} {
		f, ok := topLevel(sc.Fields(), name)
		if !ok {
			return fmt.Errorf("%w: it has no column %s %s: add it, or name a table that firn may create", ErrTable, name, ledgerTypes[name])
		}
		if !f.Type.Equals(ledgerTypes[name]) {
			return fmt.Errorf("%w: column %s is a %s and must be a %s", ErrTable, name, f.Type, ledgerTypes[name])
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

// checkFits reports the columns of want that have can neither take nor grow to take, and those that it requires and want
// does not give. A table whose columns are firn's own does not grow here.
func checkFits(id catalog.Identifier, want, have *iceberg.Schema, grows bool) error {
	if err := checkLedger(id, have); err != nil {
		return err
	}
	g, err := evolve.Grow(have, evolve.Unnumbered(want.Fields()), evolve.Next(have))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrTable, id, err)
	}
	if len(g.Changes) > 0 && !grows {
		return fmt.Errorf("%w: %s has another schema than firn's own: %s there", ErrTable, id, evolve.Describe(g.Changes))
	}
	return nil
}
