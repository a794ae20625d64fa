package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/firnlake/firn/catalog"
)

//go:embed migrations
var migrations embed.FS

// Store is the catalog's database. All methods are safe for concurrent use.
type Store struct {
	backend
	now   func() time.Time
	swaps *swaps // nil on SQLite, where every write shares a transaction with those that wait
}

// backend is one kind of database.
type backend interface {
	// write runs fn in one transaction. The error of the commit itself is ErrUnknownOutcome unless the database
	// says that it did not happen.
	write(ctx context.Context, what string, fn func(*tx) error) error
	// read runs fn on one consistent state of the database.
	read(ctx context.Context, what string, fn func(*tx) error) error
	// readOne is read for an fn that runs one statement, which is consistent without a transaction around it.
	readOne(ctx context.Context, what string, fn func(*tx) error) error
	// writeOne is write for an fn that runs one statement, which is a transaction by itself. ErrUnknownOutcome as write has
	// it, of the statement.
	writeOne(ctx context.Context, what string, fn func(*tx) error) error
	speaks() *dialect
	// Statements returns how many statements were sent to the database, those that begin and end transactions among them.
	Statements() int64
	// Bytes returns the size of the database, with its log where that is a file beside it; 0 in memory.
	Bytes() int64
	// Close waits for writes that are under way and closes the database.
	Close() error
}

// Open opens, and brings the schema up to date of, the database that dsn names: sqlite:///abs/path or a plain path,
// which is made when it is missing, sqlite::memory: for one that ends with the store, or postgres://host/database.
func Open(ctx context.Context, dsn string, o Options, p PostgresOptions) (*Store, error) {
	if isPostgres(dsn) {
		b, err := openPostgres(ctx, dsn, p)
		if err != nil {
			return nil, fmt.Errorf("catalog store %s: %w", redact(dsn), err)
		}
		s := &Store{backend: b, now: time.Now}
		s.swaps = newSwaps(b, func() time.Time { return s.now() })
		return s, nil
	}
	b, err := openSQLite(ctx, dsn, o)
	if err != nil {
		return nil, err
	}
	return &Store{backend: b, now: time.Now}, nil
}

// redact hides a password that a DSN may carry.
func redact(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return "(unreadable)"
	}
	if q := u.Query(); q.Has("password") {
		q.Set("password", "xxxxx")
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}

// execer is what a migration runs on.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// migrate brings the schema up to date inside a transaction that no other process can be in at the same time. insert
// adds a row to schema_version.
func migrate(ctx context.Context, q execer, dir, insert string) error {
	if _, err := q.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var have int
	if err := q.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&have); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	files, err := fs.Glob(migrations, "migrations/"+dir+"/*.sql")
	if err != nil {
		return err
	}
	if have > len(files) {
		return fmt.Errorf("migrate: the database has schema version %d, this program knows %d: use a newer one", have, len(files))
	}
	for i, f := range files[have:] {
		body, err := migrations.ReadFile(f)
		if err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, string(body)); err != nil {
			return fmt.Errorf("migrate: %s: %w", f, err)
		}
		if _, err := q.ExecContext(ctx, insert, have+i+1); err != nil {
			return fmt.Errorf("migrate: %s: %w", f, err)
		}
	}
	return nil
}

// unavailable is an error after which nothing was changed and a later try may succeed.
func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w: database: %w", what, catalog.ErrUnavailable, err)
}

// gone reports what database/sql and contexts say of a connection or a caller that is no more.
func gone(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrConnDone)
}
