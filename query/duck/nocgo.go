//go:build !cgo

package duck

import "github.com/firnlake/firn/query"

// Open answers query.ErrNotBuiltIn: DuckDB needs cgo.
func Open(query.Config) (query.SQLEngine, error) { return nil, query.ErrNotBuiltIn }
