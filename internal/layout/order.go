package layout

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/config"
)

// ErrSortBy reports a sort_by that cannot be used; the error says which part and what would do.
var ErrSortBy = errors.New("sort_by cannot be used")

// maxSortKeys bounds sort_by; each key costs eight bytes a row while rows are sorted.
const maxSortKeys = 8

// SortFields reads entries such as "key.user_id", "metadata.event_timestamp desc", "note asc nulls last". Nulls come
// first when ascending and last when descending, unless said otherwise, as in Iceberg.
func SortFields(sc *iceberg.Schema, sortBy []string) ([]table.SortField, error) {
	if len(sortBy) > maxSortKeys {
		return nil, fmt.Errorf("%w: %d columns, at most %d", ErrSortBy, len(sortBy), maxSortKeys)
	}
	var out []table.SortField
	for _, entry := range sortBy {
		f, err := sortField(sc, entry)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrSortBy, entry, err)
		}
		if slices.ContainsFunc(out, func(o table.SortField) bool { return o.SourceID() == f.SourceID() }) {
			return nil, fmt.Errorf("%w: %q: the column is named twice", ErrSortBy, entry)
		}
		out = append(out, f)
	}
	return out, nil
}

func sortField(sc *iceberg.Schema, entry string) (table.SortField, error) {
	words := strings.Fields(entry)
	if len(words) == 0 {
		return table.SortField{}, errors.New("name a column")
	}
	s := table.SortField{Transform: iceberg.IdentityTransform{}, Direction: table.SortASC, NullOrder: table.NullsFirst}
	known := leaves(sc)
	f, ok := known[words[0]]
	if !ok {
		return s, fmt.Errorf("there is no column %q%s", words[0], config.DidYouMean(words[0], slices.Sorted(maps.Keys(known))))
	}
	if pathOf(sc.Fields(), f.ID) == nil {
		return s, fmt.Errorf("column %s is no single value of a row: take one outside of lists and maps", words[0])
	}
	s.SourceIDs = []int{f.ID}
	rest := words[1:]
	if len(rest) > 0 && (strings.EqualFold(rest[0], "asc") || strings.EqualFold(rest[0], "desc")) {
		if strings.EqualFold(rest[0], "desc") {
			s.Direction, s.NullOrder = table.SortDESC, table.NullsLast
		}
		rest = rest[1:]
	}
	if len(rest) == 2 && strings.EqualFold(rest[0], "nulls") {
		switch strings.ToLower(rest[1]) {
		case "first":
			s.NullOrder, rest = table.NullsFirst, nil
		case "last":
			s.NullOrder, rest = table.NullsLast, nil
		}
	}
	if len(rest) > 0 {
		return s, fmt.Errorf("%q is not understood: write COLUMN [asc|desc] [nulls first|nulls last]", strings.Join(rest, " "))
	}
	return s, nil
}

// SortKey is one column to sort by.
type SortKey struct {
	Path       []int // of the column in a batch: a column, then children of structs
	Desc       bool
	NullsFirst bool
}

// SortKeys are the keys of a table's sort order for batches in the schema; ok is false where the order is none, or one
// that firn cannot keep (a transform, a column that the rows lack): then files are written unsorted, and say so.
func SortKeys(order table.SortOrder, sc *iceberg.Schema) (keys []SortKey, ok bool) {
	if order.IsUnsorted() {
		return nil, false
	}
	for _, f := range order.Fields() {
		if _, identity := f.Transform.(iceberg.IdentityTransform); !identity || len(f.SourceIDs) != 1 {
			return nil, false
		}
		path := pathOf(sc.Fields(), f.SourceID())
		if path == nil {
			return nil, false
		}
		keys = append(keys, SortKey{Path: path, Desc: f.Direction == table.SortDESC, NullsFirst: f.NullOrder == table.NullsFirst})
	}
	return keys, len(keys) > 0
}

// pathOf finds a column of values by id, not in lists and maps; Arrow's fields stand in the order of Iceberg's.
func pathOf(fields []iceberg.NestedField, id int) []int {
	for i, f := range fields {
		switch t := f.Type.(type) {
		case *iceberg.StructType:
			if sub := pathOf(t.FieldList, id); sub != nil {
				return append([]int{i}, sub...)
			}
		case *iceberg.ListType, *iceberg.MapType:
		default:
			if f.ID == id {
				return []int{i}
			}
		}
	}
	return nil
}

// rowsOf counts the rows.
func rowsOf(rows []arrow.RecordBatch) (n int64) {
	for _, r := range rows {
		n += r.NumRows()
	}
	return n
}
