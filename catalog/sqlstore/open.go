package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is the catalog's database. All methods are safe for concurrent use.
type Store struct {
	writer *sql.DB
	conn   *sql.Conn            // the one connection that writes
	turn   chan struct{}        // holds a token while conn is free
	closed chan struct{}        // closed by Close
	stmts  map[string]*sql.Stmt // prepared on conn; guarded by turn
	reader *sql.DB              // nil in memory: then conn also reads
	path   string               // of the database file; empty in memory
	now    func() time.Time
}

// Open opens, and when it is new creates, the database that dsn names: sqlite:///abs/path, a plain path, or
// sqlite::memory: for one that ends with the store. The schema is brought up to date.
func Open(ctx context.Context, dsn string, o Options) (*Store, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("catalog store: %w", err)
	}
	path, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	s := &Store{turn: make(chan struct{}, 1), closed: make(chan struct{}), stmts: map[string]*sql.Stmt{}, path: path, now: time.Now}
	if path != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("catalog store %s: create its directory: %w", path, err)
		}
	}
	if s.writer, err = sql.Open("sqlite", dataSource(path, o, false)); err != nil {
		return nil, fmt.Errorf("catalog store %s: %w", dsn, err)
	}
	s.writer.SetMaxOpenConns(1)
	if s.conn, err = s.writer.Conn(ctx); err == nil {
		err = migrate(ctx, s.conn)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("catalog store %s: open: %w", dsn, err)
	}
	if path != "" {
		if s.reader, err = sql.Open("sqlite", dataSource(path, o, true)); err != nil {
			s.close()
			return nil, fmt.Errorf("catalog store %s: %w", dsn, err)
		}
		s.reader.SetMaxOpenConns(o.Readers)
		s.reader.SetMaxIdleConns(o.Readers)
	}
	s.turn <- struct{}{}
	return s, nil
}

func parseDSN(dsn string) (string, error) {
	rest, ok := strings.CutPrefix(dsn, "sqlite:")
	if !ok && dsn != "" && !strings.Contains(dsn, "://") {
		path, err := filepath.Abs(dsn)
		if err != nil {
			return "", fmt.Errorf("catalog store %q: %w", dsn, err)
		}
		return path, nil
	}
	if !ok {
		return "", fmt.Errorf("catalog store %q: only sqlite:///abs/path, a path and sqlite::memory: are known", redact(dsn))
	}
	if rest == ":memory:" {
		return "", nil
	}
	path, ok := strings.CutPrefix(rest, "//")
	if !ok || !filepath.IsAbs(path) {
		return "", fmt.Errorf("catalog store %q: the path must be absolute, as in sqlite:///var/lib/firn/catalog.db", dsn)
	}
	return filepath.Clean(path), nil
}

// redact hides a password that a DSN of another kind may carry.
func redact(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return "(unreadable)"
	}
	return u.Redacted()
}

func dataSource(path string, o Options, readOnly bool) string {
	q := url.Values{}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", o.BusyTimeout.D().Milliseconds()))
	q.Add("_pragma", "foreign_keys(1)")
	if path == "" {
		return ":memory:?" + q.Encode()
	}
	if readOnly {
		q.Add("_pragma", "query_only(1)")
	} else {
		q.Add("_pragma", "journal_mode(wal)")
		q.Add("_pragma", "synchronous("+string(o.Synchronous)+")")
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// migrate brings the schema up to date, in one transaction that also takes the database's write lock, so
// that two processes that start together do it once.
func migrate(ctx context.Context, conn *sql.Conn) (err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer func() {
		if err != nil {
			_, rerr := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, rerr)
		}
	}()
	if _, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var have int
	if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&have); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
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
		if _, err := conn.ExecContext(ctx, string(body)); err != nil {
			return fmt.Errorf("migrate: %s: %w", f, err)
		}
		if _, err := conn.ExecContext(ctx, "INSERT INTO schema_version (version) VALUES (?)", have+i+1); err != nil {
			return fmt.Errorf("migrate: %s: %w", f, err)
		}
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// Close waits for a write that is under way and closes the database.
func (s *Store) Close() error {
	select {
	case <-s.turn:
	case <-s.closed:
		return nil
	}
	close(s.closed)
	return s.close()
}

func (s *Store) close() error {
	var errs []error
	for _, st := range s.stmts {
		errs = append(errs, st.Close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	errs = append(errs, s.writer.Close())
	return errors.Join(errs...)
}

// Bytes returns the size of the database file and its log; 0 in memory.
func (s *Store) Bytes() int64 {
	var n int64
	if s.path == "" {
		return 0
	}
	for _, suffix := range []string{"", "-wal"} {
		if fi, err := os.Stat(s.path + suffix); err == nil {
			n += fi.Size()
		}
	}
	return n
}
