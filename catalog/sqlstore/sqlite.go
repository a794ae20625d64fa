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
	"sync/atomic"

	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/firnlake/firn/catalog"
)

// sqliteDB is a database in one file or in memory. One connection writes, so writers are alone; some read beside it.
type sqliteDB struct {
	writer  *sql.DB
	turn    chan *sqliteConn // holds the one connection that writes while it is free
	queue   queue            // of the writes that wait for it
	reader  *sql.DB          // nil in memory: then the writer also reads
	readers chan *sqliteConn // those that are free
	closed  chan struct{}    // closed by Close
	sent    atomic.Int64
	path    string // of the database file; empty in memory
}

// sqliteConn is a connection with the statements that are prepared on it. Whoever took it from its channel has it alone.
type sqliteConn struct {
	*sql.Conn
	stmts map[string]*sql.Stmt
	sent  *atomic.Int64
}

func (s *sqliteDB) connect(ctx context.Context, db *sql.DB) (*sqliteConn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &sqliteConn{c, map[string]*sql.Stmt{}, &s.sent}, nil
}

func (c *sqliteConn) prepare(query string) (*sql.Stmt, error) {
	c.sent.Add(1)
	if st, ok := c.stmts[query]; ok {
		return st, nil
	}
	st, err := c.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = st
	return st, nil
}

// exec implements querier.
func (c *sqliteConn) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	st, err := c.prepare(query) //nolint:sqlclosecheck // the connection keeps its statements and closes them
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

// query implements querier.
func (c *sqliteConn) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	st, err := c.prepare(query) //nolint:sqlclosecheck // the connection keeps its statements and closes them
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

func (c *sqliteConn) close() error {
	var errs []error
	for _, st := range c.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, c.Close())...)
}

var sqliteDialect = dialect{
	ids: "SELECT value FROM json_each(?)", texts: "SELECT value FROM json_each(?)", unique: uniqueSQLite,
	violated: func(error) string { return "" },
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
	s := &sqliteDB{turn: make(chan *sqliteConn, 1), readers: make(chan *sqliteConn, o.Readers), closed: make(chan struct{}), path: path}
	if path != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("catalog store %s: create its directory: %w", path, err)
		}
	}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("catalog store %s: open: %w", dsn, err), s.close())
	}
	return s, nil
}

func (s *sqliteDB) open(ctx context.Context, o Options) (err error) {
	if s.writer, err = sql.Open("sqlite", dataSource(s.path, o, false)); err != nil {
		return err
	}
	s.writer.SetMaxOpenConns(1)
	c, err := s.connect(ctx, s.writer)
	if err != nil {
		return err
	}
	s.turn <- c
	if err := migrateSQLite(ctx, c.Conn); err != nil || s.path == "" {
		return err
	}
	if s.reader, err = sql.Open("sqlite", dataSource(s.path, o, true)); err != nil {
		return err
	}
	s.reader.SetMaxOpenConns(o.Readers)
	s.reader.SetMaxIdleConns(o.Readers)
	for range o.Readers {
		if c, err = s.connect(ctx, s.reader); err != nil {
			return err
		}
		s.readers <- c
	}
	return nil
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

// Close waits for what is under way and closes the database.
func (s *sqliteDB) Close() error {
	var c *sqliteConn
	select {
	case c = <-s.turn:
	case <-s.closed:
		return nil
	}
	close(s.closed)
	errs := []error{c.close()}
	if s.reader != nil {
		for range cap(s.readers) {
			c := <-s.readers
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, s.close())...)
}

// close closes what is open of a database whose connections nobody uses.
func (s *sqliteDB) close() error {
	var errs []error
	for _, free := range []chan *sqliteConn{s.turn, s.readers} {
		for len(free) > 0 {
			c := <-free
			errs = append(errs, c.close())
		}
	}
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
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

// hold runs fn with a connection that is taken from free.
func (s *sqliteDB) hold(ctx context.Context, what string, free chan *sqliteConn, fn func(*sqliteConn) error) error {
	var c *sqliteConn
	select {
	case <-s.closed:
		return fmt.Errorf("%s: %w: the catalog's database is closed", what, catalog.ErrUnavailable)
	case c = <-free:
	case <-ctx.Done():
		return fmt.Errorf("%s: waiting for the catalog's database: %w: %w", what, catalog.ErrUnavailable, ctx.Err())
	}
	defer func() { free <- c }()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w: %w", what, catalog.ErrUnavailable, err)
	}
	return fn(c)
}

func (s *sqliteDB) writeOne(ctx context.Context, what string, fn func(*tx) error) error {
	return s.write(ctx, what, fn)
}

// read runs fn on one consistent state of the database.
func (s *sqliteDB) read(ctx context.Context, what string, fn func(*tx) error) error {
	if s.reader == nil {
		return s.write(ctx, what, fn)
	}
	return s.hold(ctx, what, s.readers, func(c *sqliteConn) error {
		// Neither end waits for anything. A caller that goes away must not leave it open whether there is a transaction.
		ends := &tx{ctx: context.WithoutCancel(ctx), q: c, d: &sqliteDialect}
		if _, err := ends.exec("BEGIN"); err != nil {
			return classifySQLite(what, err)
		}
		err := fn(&tx{ctx: ctx, q: c, d: &sqliteDialect})
		if _, rerr := ends.exec("ROLLBACK"); rerr != nil { // it only read
			err = errors.Join(err, rerr)
		}
		if err != nil {
			return classifySQLite(what, err)
		}
		return nil
	})
}

func (s *sqliteDB) readOne(ctx context.Context, what string, fn func(*tx) error) error {
	free := s.readers
	if s.reader == nil {
		free = s.turn
	}
	return s.hold(ctx, what, free, func(c *sqliteConn) error {
		if err := fn(&tx{ctx: ctx, q: c, d: &sqliteDialect}); err != nil {
			return classifySQLite(what, err)
		}
		return nil
	})
}

func (*sqliteDB) speaks() *dialect { return &sqliteDialect }

// Statements implements backend.
func (s *sqliteDB) Statements() int64 { return s.sent.Load() }

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
