//go:build !cgo

package query_test

import (
	"testing"

	"github.com/firnlake/firn/query"
)

const withSQL = false

func openSQL(*lake, query.Config) query.SQLEngine { return nil }

func TestNotBuiltIn(t *testing.T) {
	_, err := newLake(t).service().Query(t.Context(), "SELECT 1", nil, query.Options{})
	fails(t, err, query.ErrNotBuiltIn)
}
