//go:build cgo

package duck

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

// fieldID is the metadata key of Arrow fields that carries the Iceberg field id.
const fieldID = "PARQUET:field_id"

// viewOf is the statement that makes a relation a view. Files of one shape are read together; what a file has under
// another name or type, or has not, is renamed, cast or null, by field id. deleted is a file with the rows that are left out of files, as writeDeleted makes it.
func viewOf(rel query.Relation, files []query.File, deleted string) (string, error) {
	want, err := datafile.ArrowSchema(rel.Schema)
	if err != nil {
		return "", fmt.Errorf("schema of %s: %w", strings.Join(rel.Name, "."), err)
	}
	groups := groupFiles(files)
	selects := make([]string, 0, len(groups)+1)
	for _, g := range groups {
		s, err := selectOf(want, g, rel.Below, deleted)
		if err != nil {
			return "", err
		}
		selects = append(selects, s)
	}
	if len(selects) == 0 {
		s, err := emptySelect(want)
		if err != nil {
			return "", err
		}
		selects = append(selects, s)
	}
	return "CREATE VIEW " + nameOf(rel.Name) + " AS " + strings.Join(selects, " UNION ALL "), nil
}

func nameOf(parts []string) string {
	quoted := make([]string, len(parts))
	for i, p := range parts {
		quoted[i] = quote(p)
	}
	return strings.Join(quoted, ".")
}

// group is files of one shape.
type group struct {
	schema  *arrow.Schema
	whole   bool
	deletes bool // rows of these files are left out
	paths   []string
}

// groupFiles keeps the order of the files' first appearance.
func groupFiles(files []query.File) []*group {
	byShape := map[string]*group{}
	var out []*group
	for _, f := range files {
		deletes := f.Deleted != nil
		key := strconv.FormatBool(f.Whole) + strconv.FormatBool(deletes) + shape(f.Schema.Fields())
		g := byShape[key]
		if g == nil {
			g = &group{schema: f.Schema, whole: f.Whole, deletes: deletes}
			byShape[key] = g
			out = append(out, g)
		}
		g.paths = append(g.paths, f.Path)
	}
	return out
}

// shape is the same text for schemas that read the same.
func shape(fields []arrow.Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "(%q %s %s", f.Name, idOf(f), f.Type.Name())
		if n, ok := f.Type.(arrow.NestedType); ok {
			b.WriteString(shape(n.Fields()))
		} else {
			b.WriteString(f.Type.Fingerprint() + f.Type.String())
		}
		b.WriteByte(')')
	}
	return b.String()
}

func idOf(f arrow.Field) string {
	id, _ := f.Metadata.GetValue(fieldID)
	return id
}

func selectOf(want *arrow.Schema, g *group, below offset.Vector, deleted string) (string, error) {
	columns := make([]string, want.NumFields())
	for i, f := range want.Fields() {
		e, err := columnOf(f, g.schema.Fields(), "")
		if err != nil {
			return "", err
		}
		columns[i] = e + " AS " + quote(f.Name)
	}
	paths := make([]string, len(g.paths))
	for i, p := range g.paths {
		paths[i] = text(p)
	}
	from := "read_parquet([" + strings.Join(paths, ", ") + "], hive_partitioning = false"
	if g.deletes {
		// Names with a blank in front, so that no column of a table is taken for them.
		from += `, filename = ' file', file_row_number = true) AS " rows" ANTI JOIN read_parquet([` + text(deleted) +
			`]) AS " deleted" ON " rows"." file" = " deleted"."file_path" AND " rows"."file_row_number" = " deleted"."pos"`
	} else {
		from += ")"
	}
	s := "SELECT " + strings.Join(columns, ", ") + " FROM " + from
	if below != nil && !g.whole {
		s += " WHERE " + belowOf(below)
	}
	return s, nil
}

// belowOf keeps the rows before the vector; a partition that it does not know had none.
func belowOf(v offset.Vector) string {
	if len(v) == 0 {
		return "false"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s < CASE %s", quote(ledger.ColOffset), quote(ledger.ColPartition))
	for _, p := range v.Partitions() {
		fmt.Fprintf(&b, " WHEN %d THEN %d", p, v[p])
	}
	b.WriteString(" ELSE -1 END")
	return b.String()
}

// columnOf is the expression that gives field want out of the fields of a file, or of the struct at prefix.
func columnOf(want arrow.Field, have []arrow.Field, prefix string) (string, error) {
	i := slices.IndexFunc(have, func(f arrow.Field) bool { return idOf(f) == idOf(want) })
	if i < 0 {
		t, err := sqlType(want.Type)
		return "CAST(NULL AS " + t + ")", err
	}
	return convert(want.Type, have[i].Type, prefix+quote(have[i].Name))
}

func convert(want, have arrow.DataType, ref string) (string, error) {
	switch w := want.(type) {
	case *arrow.StructType:
		h, ok := have.(*arrow.StructType)
		if !ok {
			return "", mismatch(want, have, ref)
		}
		if shape(w.Fields()) == shape(h.Fields()) {
			return ref, nil
		}
		parts := make([]string, w.NumFields())
		for i, f := range w.Fields() {
			e, err := columnOf(f, h.Fields(), ref+".")
			if err != nil {
				return "", err
			}
			parts[i] = quote(f.Name) + " := " + e
		}
		return "CASE WHEN " + ref + " IS NULL THEN NULL ELSE struct_pack(" + strings.Join(parts, ", ") + ") END", nil
	case *arrow.ListType:
		h, ok := have.(*arrow.ListType)
		if !ok {
			return "", mismatch(want, have, ref)
		}
		e, err := convert(w.Elem(), h.Elem(), "x")
		if err != nil || e == "x" {
			return ref, err
		}
		return "list_transform(" + ref + ", lambda x: " + e + ")", nil
	case *arrow.MapType:
		h, ok := have.(*arrow.MapType)
		if !ok {
			return "", mismatch(want, have, ref)
		}
		return convertMap(w, h, ref)
	}
	wt, err := sqlType(want)
	if err != nil {
		return "", err
	}
	if ht, err := sqlType(have); err == nil && ht == wt {
		return ref, nil
	}
	return "CAST(" + ref + " AS " + wt + ")", nil
}

// convertMap takes a map apart when its keys or values changed: DuckDB's own cast would pair their fields by name.
func convertMap(want, have *arrow.MapType, ref string) (string, error) {
	k, err := convert(want.KeyType(), have.KeyType(), "x.key")
	if err != nil {
		return "", err
	}
	v, err := convert(want.ItemType(), have.ItemType(), "x.value")
	if err != nil || k == "x.key" && v == "x.value" {
		return ref, err
	}
	return "map_from_entries(list_transform(map_entries(" + ref + "), lambda x: struct_pack(k := " + k + ", v := " + v + ")))", nil
}

func mismatch(want, have arrow.DataType, ref string) error {
	return fmt.Errorf("%w: %s is %s in a file and %s in the table", query.ErrCorrupt, ref, have, want)
}

// emptySelect gives the columns and no row.
func emptySelect(want *arrow.Schema) (string, error) {
	columns := make([]string, want.NumFields())
	for i, f := range want.Fields() {
		t, err := sqlType(f.Type)
		if err != nil {
			return "", err
		}
		columns[i] = "CAST(NULL AS " + t + ") AS " + quote(f.Name)
	}
	return "SELECT " + strings.Join(columns, ", ") + " WHERE false", nil
}

// deletedRows is the rows that are left out: the path of a file on this disk, and the position in it.
func deletedRows(files []query.File) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, f := range files {
			if f.Deleted == nil {
				continue
			}
			for it := f.Deleted.Iterator(); it.HasNext(); {
				if !yield(f.Path, int64(it.Next())) {
					return
				}
			}
		}
	}
}

// hotFile encodes hot rows as a Parquet file: they are a few seconds of rows, and on the way of the cold ones they
// meet the same types, casts and filters. RegisterView is unsafe under user SQL (docs/decisions).
func hotFile(rel query.Relation) ([]byte, error) {
	var buf bytes.Buffer
	o := datafile.DefaultWriteOptions()
	o.Codec = "none"
	if _, err := datafile.Write(&buf, rel.Schema, rel.Hot, o); err != nil {
		return nil, fmt.Errorf("hot rows of %s: %w", strings.Join(rel.Name, "."), err)
	}
	return buf.Bytes(), nil
}
