package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/firnlake/firn/catalog"
)

// sqliteDB is a database in one file or in memory. One connection writes, so writers are alone.
type sqliteDB struct {
	writer *sql.DB
	conn   *sql.Conn            // the one connection that writes
	turn   chan struct{}        // holds a token while conn is free
	closed chan struct{}        // closed by Close
	stmts  map[string]*sql.Stmt // prepared on conn; guarded by turn
	reader *sql.DB              // nil in memory: then conn also reads
	asked  sync.Map             // string → *sql.Stmt of reader
	sent   atomic.Int64
	path   string // of the database file; empty in memory
}

var sqliteDialect = dialect{
	ids: "SELECT value FROM json_each(?)", texts: "SELECT value FROM json_each(?)", unique: uniqueSQLite,
	violated: func(error) string { return "" },
}

// prepared runs statements that are prepared by it.
type prepared func(query string) (*sql.Stmt, error)

func (p prepared) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	st, err := p(query) //nolint:sqlclosecheck // the store keeps its statements and closes them
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (p prepared) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	st, err := p(query) //nolint:sqlclosecheck // the store keeps its statements and closes them
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// openSQLite opens, and when it is new creates, a database: sqlite:///abs/path, a plain path, or sqlite::memory:.
func openSQLite(ctx context.Context, dsn string, o Options) (*sqliteDB, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("catalog store: %w", err)
	}
	path, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	s := &sqliteDB{turn: make(chan struct{}, 1), closed: make(chan struct{}), stmts: map[string]*sql.Stmt{}, path: path}
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
		err = migrateSQLite(ctx, s.conn)
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
		return "", fmt.Errorf("catalog store %q: only sqlite:///abs/path, a path, sqlite::memory: and postgres://host/database are known", redact(dsn))
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

// migrateSQLite brings the schema up to date, in one transaction that also takes the database's write lock, so
// that two processes that start together do it once.
func migrateSQLite(ctx context.Context, conn *sql.Conn) (err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer func() {
		if err != nil {
			_, rerr := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, rerr)
		}
	}()
	if err := migrate(ctx, conn, "sqlite", "INSERT INTO schema_version (version) VALUES (?)"); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// Close waits for a write that is under way and closes the database.
func (s *sqliteDB) Close() error {
	select {
	case <-s.turn:
	case <-s.closed:
		return nil
	}
	close(s.closed)
	return s.close()
}

func (s *sqliteDB) close() error {
	var errs []error
	for _, st := range s.stmts {
		errs = append(errs, st.Close())
	}
	s.asked.Range(func(_, st any) bool {
		errs = append(errs, st.(*sql.Stmt).Close())
		return true
	})
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
func (s *sqliteDB) Bytes() int64 {
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

// hold runs fn with the one connection that writes.
func (s *sqliteDB) hold(ctx context.Context, what string, fn func() error) error {
	select {
	case <-s.turn:
	case <-s.closed:
		return fmt.Errorf("%s: %w: the catalog's database is closed", what, catalog.ErrUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("%s: waiting for the catalog's database: %w: %w", what, catalog.ErrUnavailable, ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", what, catalog.ErrUnavailable, err)
	}
	return fn()
}

// write runs fn in one write transaction. The error of COMMIT itself is ErrUnknownOutcome unless SQLite
// says that it did not happen.
func (s *sqliteDB) write(ctx context.Context, what string, fn func(*tx) error) error {
	return s.hold(ctx, what, func() error {
		wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
		defer cancel()
		t := &tx{ctx: wctx, q: prepared(s.prepare), d: &sqliteDialect}
		if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
			return classifySQLite(what, err)
		}
		if err := fn(t); err != nil {
			_, rerr := s.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			return classifySQLite(what, errors.Join(err, rerr))
		}
		if _, err := t.exec("COMMIT"); err != nil {
			// After a failed COMMIT the transaction may still be open; a ROLLBACK that works proves that nothing was kept.
			if _, rerr := s.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); rerr == nil {
				return classifySQLite(what, err)
			}
			return fmt.Errorf("%s: commit: %w: %w", what, catalog.ErrUnknownOutcome, err)
		}
		return nil
	})
}

func (s *sqliteDB) writeOne(ctx context.Context, what, query string, args []any, dest ...any) error {
	return s.write(ctx, what, func(t *tx) error { return t.row(query, args, dest...) })
}

func (*sqliteDB) speaks() *dialect { return &sqliteDialect }

// Statements implements backend.
func (s *sqliteDB) Statements() int64 { return s.sent.Load() }

// prepare is called with the turn held.
func (s *sqliteDB) prepare(query string) (*sql.Stmt, error) {
	s.sent.Add(1)
	if st, ok := s.stmts[query]; ok {
		return st, nil
	}
	st, err := s.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	s.stmts[query] = st
	return st, nil
}

// question is a statement that is prepared on whichever connections of the readers come to run it.
func (s *sqliteDB) question(query string) (*sql.Stmt, error) {
	s.sent.Add(1)
	if st, ok := s.asked.Load(query); ok {
		return st.(*sql.Stmt), nil
	}
	st, err := s.reader.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	if have, ok := s.asked.LoadOrStore(query, st); ok { // another reader was first
		defer st.Close()
		return have.(*sql.Stmt), nil
	}
	return st, nil
}

// read runs fn on one consistent state of the database.
func (s *sqliteDB) read(ctx context.Context, what string, fn func(*tx) error) error {
	if s.reader == nil {
		return s.write(ctx, what, fn)
	}
	s.sent.Add(2) // its begin and its end
	rtx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return classifySQLite(what, err)
	}
	defer func() { _ = rtx.Rollback() }() // it only read
	ask := func(query string) (*sql.Stmt, error) {
		st, err := s.question(query)
		if err != nil {
			return nil, err
		}
		return rtx.StmtContext(ctx, st), nil
	}
	if err := fn(&tx{ctx: ctx, q: prepared(ask), d: &sqliteDialect}); err != nil {
		return classifySQLite(what, err)
	}
	return nil
}

func (s *sqliteDB) readOne(ctx context.Context, what string, fn func(*tx) error) error {
	run := func(q prepared) error {
		if err := fn(&tx{ctx: ctx, q: q, d: &sqliteDialect}); err != nil {
			return classifySQLite(what, err)
		}
		return nil
	}
	if s.reader == nil {
		return s.hold(ctx, what, func() error { return run(s.prepare) })
	}
	return run(s.question)
}

// classifySQLite turns what the database reports into the catalog's sentinels. It is only used where nothing was committed.
func classifySQLite(what string, err error) error {
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() & 0xff {
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_INTERRUPT,
			lib.SQLITE_CANTOPEN, lib.SQLITE_READONLY, lib.SQLITE_NOMEM:
			return unavailable(what, err)
		}
	}
	if gone(err) {
		return fmt.Errorf("%s: %w: %w", what, catalog.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func uniqueSQLite(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se) &&
		(se.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || se.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY || se.Code() == lib.SQLITE_CONSTRAINT_ROWID)
}
