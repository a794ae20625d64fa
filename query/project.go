package query

import (
	"fmt"

	"github.com/apache/iceberg-go"
)

// selectColumns is the part of a schema with these top-level columns, in the order asked for; nil is all of them.
func selectColumns(sc *iceberg.Schema, names []string) (*iceberg.Schema, error) {
	if names == nil {
		return sc, nil
	}
	fields := make([]iceberg.NestedField, 0, len(names))
	seen := map[string]bool{}
	for _, n := range names {
		at := -1
		for i, f := range sc.Fields() {
			if f.Name == n {
				at = i
			}
		}
		if at < 0 {
			known := make([]string, 0, sc.NumFields())
			for _, f := range sc.Fields() {
				known = append(known, f.Name)
			}
			return nil, fmt.Errorf("%w: no column %q%s", ErrInvalidSQL, n, didYouMean(n, known))
		}
		if seen[n] {
			return nil, fmt.Errorf("%w: column %q is named twice", ErrInvalidSQL, n)
		}
		seen[n] = true
		fields = append(fields, sc.Field(at))
	}
	return iceberg.NewSchema(sc.ID, fields...), nil
}
