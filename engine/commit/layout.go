package commit

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/layout"
)

// The properties by which a table says what the configuration last asked for. A changed configuration changes the table;
// a table that another engine changed since stays as that engine left it.
const (
	PropPartitionBy = "firn.partition-by"
	PropSortBy      = "firn.sort-by"
)

// evolution is in what schema the rows of a commit are, how they are partitioned and sorted, and what the commit changes of
// the table for that.
type evolution struct {
	growth                 // its updates and needs with those of the layout; no needs: nothing that files depend on changes
	shapes []*arrow.Schema // of the rows that it is for
	spec   iceberg.PartitionSpec
	order  table.SortOrder
}

// same tells that files written for e fit what o says.
func (e evolution) same(o evolution) bool {
	return e.schema.ID == o.schema.ID && e.schema.Equals(o.schema) &&
		e.spec.ID() == o.spec.ID() && e.spec.Equals(o.spec) && e.order.OrderID() == o.order.OrderID() && e.order.Equals(o.order)
}

// evolve holds the table against the rows and the configuration.
func (c *Committer) evolve(meta table.Metadata, shapes []*arrow.Schema) (evolution, error) {
	g, err := grow(meta, shapes)
	if err != nil {
		return evolution{}, err
	}
	e := evolution{growth: g, shapes: shapes, spec: meta.PartitionSpec(), order: meta.SortOrder()}
	props := meta.Properties()
	partitionBy, sortBy := wish(c.cfg.PartitionBy), wish(c.cfg.SortBy)
	respec := c.cfg.PartitionBy != nil && changed(props, PropPartitionBy, partitionBy)
	resort := c.cfg.SortBy != nil && changed(props, PropSortBy, sortBy)
	if !respec && !resort {
		return e, nil
	}
	b, err := table.MetadataBuilderFromBase(meta, "")
	if err != nil {
		return e, fmt.Errorf("layout: %w", err)
	}
	for _, u := range g.updates { // a new partitioning may be by a new column
		if err := u.Apply(b); err != nil {
			return e, fmt.Errorf("layout: %w", err)
		}
	}
	meta = g.after(meta)
	set := iceberg.Properties{}
	if respec {
		set[PropPartitionBy] = partitionBy
		if err := c.evolveSpec(&e, meta, b); err != nil {
			return e, err
		}
	}
	if resort {
		set[PropSortBy] = sortBy
		if err := c.evolveOrder(&e, meta, b); err != nil {
			return e, err
		}
	}
	e.updates = append(e.updates, table.NewSetPropertiesUpdate(set))
	if len(e.needs) > len(g.needs) && len(g.needs) == 0 {
		e.needs = append(e.needs, table.AssertCurrentSchemaID(meta.CurrentSchema().ID))
	}
	return e, nil
}

// wish is a list of the configuration as one property has it.
func wish(entries []string) string { return strings.Join(entries, ", ") }

// changed tells that the configuration wants something else than when it was last followed. One that is empty changes
// only what it asked for before.
func changed(props iceberg.Properties, key, want string) bool {
	have, known := props[key]
	return have != want && (known || want != "")
}

// evolveSpec adds the partition spec that the configuration asks for. Fields keep the ids that they have in any spec of
// the table, so going back to an earlier partitioning is going back to its spec.
func (c *Committer) evolveSpec(e *evolution, meta table.Metadata, b *table.MetadataBuilder) error {
	want, err := partitionSpec(meta.CurrentSchema(), c.cfg.PartitionBy)
	if err != nil {
		return err
	}
	if sameFieldsOf(*want, e.spec) {
		return nil
	}
	if meta.Version() < 2 {
		c.log.Warn("partition_by is not followed: a table of format version 1 cannot drop partition fields; upgrade it to version 2", "table", c.main.id.String())
		return nil
	}
	last := 999 // Iceberg numbers partition fields from 1000 on
	if n := meta.LastPartitionSpecID(); n != nil {
		last = *n
	}
	got, known := knownSpec(meta, *want)
	if !known {
		if got, err = c.newSpec(meta, *want, last, b); err != nil {
			return fmt.Errorf("%w: %v: %w", ErrPartition, c.cfg.PartitionBy, err)
		}
		e.updates = append(e.updates, table.NewAddPartitionSpecUpdate(&got, false))
	}
	e.spec = got
	// The id is said, not "the one just added": a catalog that numbers otherwise refuses, instead of taking files for
	// those of another spec.
	e.updates = append(e.updates, table.NewSetDefaultSpecUpdate(got.ID()))
	e.needs = append(e.needs, table.AssertDefaultSpecID(meta.DefaultPartitionSpec()), table.AssertLastAssignedPartitionID(last))
	return nil
}

func knownSpec(meta table.Metadata, want iceberg.PartitionSpec) (iceberg.PartitionSpec, bool) {
	for _, s := range meta.PartitionSpecs() {
		if sameFieldsOf(s, want) {
			return s, true
		}
	}
	return iceberg.PartitionSpec{}, false
}

// newSpec is the spec as the catalog will number it.
func (c *Committer) newSpec(meta table.Metadata, want iceberg.PartitionSpec, last int, b *table.MetadataBuilder) (iceberg.PartitionSpec, error) {
	var opts []iceberg.PartitionOption
	for _, f := range want.Fields() {
		id, name := 0, f.Name
		for _, old := range meta.PartitionSpecs() {
			for _, o := range old.Fields() {
				if o.SourceID() == f.SourceID() && o.Transform.Equals(f.Transform) {
					id, name = o.FieldID, o.Name
				}
			}
		}
		if id == 0 {
			last++
			id = last
		}
		opts = append(opts, iceberg.AddPartitionFieldBySourceID(f.SourceID(), name, f.Transform, meta.CurrentSchema(), &id))
	}
	spec, err := iceberg.NewPartitionSpecOpts(opts...)
	if err != nil {
		return spec, err
	}
	if err := b.AddPartitionSpec(&spec, false); err != nil {
		return spec, err
	}
	if err := b.SetDefaultSpecID(-1); err != nil {
		return spec, err
	}
	got, err := b.CurrentSpec()
	if err != nil {
		return spec, err
	}
	return *got, nil
}

// sameFieldsOf compares what specs do, not how their fields are called.
func sameFieldsOf(a, b iceberg.PartitionSpec) bool {
	var fields [2][]iceberg.PartitionField
	for i, s := range []iceberg.PartitionSpec{a, b} {
		for _, f := range s.Fields() {
			if _, void := f.Transform.(iceberg.VoidTransform); !void {
				fields[i] = append(fields[i], f)
			}
		}
	}
	if len(fields[0]) != len(fields[1]) {
		return false
	}
	for i, f := range fields[0] {
		o := fields[1][i]
		if f.SourceID() != o.SourceID() || !f.Transform.Equals(o.Transform) {
			return false
		}
	}
	return true
}

// evolveOrder adds the sort order that the configuration asks for.
func (c *Committer) evolveOrder(e *evolution, meta table.Metadata, b *table.MetadataBuilder) error {
	fields, err := layout.SortFields(meta.CurrentSchema(), c.cfg.SortBy)
	if err != nil {
		return err
	}
	order := table.UnsortedSortOrder
	if len(fields) > 0 {
		if order, err = table.NewSortOrder(table.InitialSortOrderID, fields); err != nil {
			return fmt.Errorf("%w: %v: %w", layout.ErrSortBy, c.cfg.SortBy, err)
		}
	}
	if sameOrder(order, e.order) {
		return nil
	}
	known := false
	for _, o := range meta.SortOrders() {
		known = known || sameOrder(o, order)
	}
	if err := b.AddSortOrder(&order); err != nil {
		return fmt.Errorf("%w: %v: %w", layout.ErrSortBy, c.cfg.SortBy, err)
	}
	e.order = order // with the id that the builder gave it
	if !known {
		e.updates = append(e.updates, table.NewAddSortOrderUpdate(&order))
	}
	e.updates = append(e.updates, table.NewSetDefaultSortOrderUpdate(order.OrderID()))
	e.needs = append(e.needs, table.AssertDefaultSortOrderID(meta.DefaultSortOrder()))
	return nil
}

func sameOrder(a, b table.SortOrder) bool {
	if a.Len() != b.Len() {
		return false
	}
	var fields []table.SortField
	for _, f := range b.Fields() {
		fields = append(fields, f)
	}
	for i, f := range a.Fields() {
		if !f.Equals(fields[i]) {
			return false
		}
	}
	return true
}

// CheckSortBy reports the first entry of sort_by that does not fit the schema. Errors wrap layout.ErrSortBy.
func CheckSortBy(sc *iceberg.Schema, sortBy []string) error {
	_, err := layout.SortFields(sc, sortBy)
	return err
}
