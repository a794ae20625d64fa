//go:build cgo

package query_test

import (
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/duck"
)

const withSQL = true

func openSQL(l *lake, cfg query.Config) query.SQLEngine {
	l.Helper()
	e, err := duck.Open(cfg)
	l.must(err)
	return e
}
