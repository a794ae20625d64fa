package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/units"
)

func TestNumber(t *testing.T) {
	for in, want := range map[string]string{
		"SELECT 1":                             "SELECT 1",
		"SELECT a FROM t WHERE b = ? AND c=?":  "SELECT a FROM t WHERE b = $1 AND c=$2",
		"?" + strings.Repeat(", ?", 10):        "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11",
		"x IN (" + postgresDialect.texts + ")": "x IN (SELECT value FROM json_array_elements_text($1::json))",
	} {
		for range 2 { // the second time it is remembered
			if got := number(in); got != want {
				t.Errorf("%q became %q", in, got)
			}
		}
	}
}

// TestClassifyPostgres: what the database says decides whether a client may try again, and it is never taken for a
// commit that took effect.
func TestClassifyPostgres(t *testing.T) {
	code := func(c string) error { return fmt.Errorf("exec: %w", &pgconn.PgError{Code: c, Message: "m"}) }
	for _, tc := range []struct {
		err, want error
	}{
		{code("40001"), catalog.ErrUnavailable}, // serialization
		{code("40P01"), catalog.ErrUnavailable}, // deadlock
		{code("55P03"), catalog.ErrUnavailable}, // lock_timeout
		{code("53300"), catalog.ErrUnavailable}, // too many connections
		{code("53100"), catalog.ErrUnavailable}, // disk full
		{code("57P01"), catalog.ErrUnavailable}, // shut down
		{code("57014"), catalog.ErrUnavailable}, // statement_timeout
		{code("08006"), catalog.ErrUnavailable},
		{code("25006"), catalog.ErrUnavailable}, // a replica
		{code("22021"), catalog.ErrInvalid},     // a NUL in a text
		{context.DeadlineExceeded, catalog.ErrUnavailable},
		{context.Canceled, catalog.ErrUnavailable},
		{sql.ErrConnDone, catalog.ErrUnavailable},
		{driver.ErrBadConn, catalog.ErrUnavailable},
		{io.ErrUnexpectedEOF, catalog.ErrUnavailable},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, catalog.ErrUnavailable},
		{fmt.Errorf("table: %w", catalog.ErrExists), catalog.ErrExists},
		{ErrStale, ErrStale},
	} {
		got := classifyPostgres("op", tc.err)
		if !errors.Is(got, tc.want) || !errors.Is(got, tc.err) || !strings.HasPrefix(got.Error(), "op: ") {
			t.Errorf("%v became %v, want %v", tc.err, got, tc.want)
		}
		if errors.Is(got, catalog.ErrUnknownOutcome) {
			t.Errorf("%v became unknown", tc.err)
		}
	}
	if got := classifyPostgres("op", code("42601")); errors.Is(got, catalog.ErrUnavailable) || errors.Is(got, catalog.ErrInvalid) {
		t.Errorf("a fault of the program became %v", got)
	}
}

func TestCheckDSN(t *testing.T) {
	for dsn, good := range map[string]bool{
		"sqlite::memory:": true, "/var/lib/firn/catalog.db": true, "postgres://u@h:5432/d?sslmode=verify-full": true, "postgresql:///d": true,
		"postgres://u:p@h/d": false, "postgres://u:@h/d": false, "postgresql://h/d?user=u&password=p": false, "postgres://%zz": false,
		"": true, "catalog.db": true, "sqlite:///var/lib/firn/catalog.db": true, "mysql://u@h/d": false, "sqlite://relative.db": false,
	} {
		if err := CheckDSN(dsn); (err == nil) != good {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func TestPostgresOptions(t *testing.T) {
	if err := (PostgresOptions{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	for _, o := range []PostgresOptions{{MaxConns: 1}, {MaxConns: 5000}, {LockTimeout: units.Duration(1)}} {
		if err := o.WithDefaults().Validate(); err == nil {
			t.Errorf("%+v is taken", o)
		}
		if _, err := Open(t.Context(), "postgres://nobody@127.0.0.1:1/none", Options{}, o); err == nil || !strings.Contains(err.Error(), "catalog store postgres://") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestRedact: no error names the password of a database.
func TestRedact(t *testing.T) {
	const canary = "canary-7d1c"
	for _, dsn := range []string{"postgres://u:" + canary + "@h/d", "postgresql://u@h/d?x=y&password=" + canary, "mysql://u:" + canary + "@h/d", "postgres://u:" + canary + "@%zz/d"} {
		if err := CheckDSN(dsn); err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%v", err)
		}
		_, err := Open(t.Context(), dsn, Options{}, PostgresOptions{})
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%v", err)
		}
	}
}
