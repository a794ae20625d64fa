package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/units"
)

// PostgresOptions tune a store on Postgres. The zero value is made usable by WithDefaults.
type PostgresOptions struct {
	// Password is that of the user in the DSN, which must not hold it itself. Without one PGPASSWORD and PGPASSFILE count.
	Password units.Secret `yaml:"password"`
	// MaxConns bounds the connections of one process; default 16.
	MaxConns int `yaml:"max_conns"`
	// LockTimeout bounds the wait for a row that another process holds; default 5s.
	LockTimeout units.Duration `yaml:"lock_timeout"`
}

// WithDefaults fills unset fields.
func (o PostgresOptions) WithDefaults() PostgresOptions {
	if o.MaxConns == 0 {
		o.MaxConns = 16
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = units.Duration(5 * time.Second)
	}
	return o
}

// Validate names the first option that cannot be used.
func (o PostgresOptions) Validate() error {
	switch {
	case o.MaxConns < 2 || o.MaxConns > 1000:
		return fmt.Errorf("max_conns: %d is not within 2 to 1000", o.MaxConns)
	case o.LockTimeout.D() < 100*time.Millisecond:
		return fmt.Errorf("lock_timeout: %s is shorter than 100ms", o.LockTimeout.D())
	}
	return nil
}

const (
	// structureLock is the advisory lock of those who look for free names and places, and of migrations.
	structureLock = 0x6669726e // "firn"
	// idleInTransaction ends a transaction whose process went away without a word.
	idleInTransaction = 30 * time.Second
	// connIdle is how long a connection waits for its next use.
	connIdle = 5 * time.Minute
	// openTimeout bounds connecting and bringing the schema up to date.
	openTimeout = 30 * time.Second
	// sizeTimeout bounds the question for the size of the database.
	sizeTimeout = 2 * time.Second
)

// postgres is a database that any number of processes share. Its transactions are READ COMMITTED: what two of them
// must not do at the same time is a compare-and-swap on one row, or happens under structureLock.
type postgres struct {
	db   *sql.DB
	sent *sentCounter
}

// sentCounter counts what goes to the server and is waited for. What prepares a statement, once for each connection, is not
// among it, nor are the pings to connections that were idle for a second, nor what is asked with uncounted.
type sentCounter struct{ n atomic.Int64 }

type uncounted struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (s *sentCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if ctx.Value(uncounted{}) == nil {
		s.n.Add(1)
	}
	return ctx
}

// TraceBatchStart implements pgx.BatchTracer: a pipeline is waited for once.
func (s *sentCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.n.Add(1)
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (*sentCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (*sentCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// TraceQueryEnd implements pgx.QueryTracer.
func (*sentCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

var postgresDialect = dialect{
	ids:       "SELECT value::bigint FROM json_array_elements_text(?::json)",
	texts:     "SELECT value FROM json_array_elements_text(?::json)",
	forUpdate: " FOR UPDATE",
	structure: fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", structureLock),
	swap:      postgresSwap,
	name:      postgresName,
	unique: func(err error) bool {
		var pe *pgconn.PgError
		return errors.As(err, &pe) && pe.Code == "23505"
	},
	violated: func(err error) string {
		var pe *pgconn.PgError
		if !errors.As(err, &pe) {
			return ""
		}
		return pe.TableName
	},
}

// CheckDSN refuses what Open knows no database for, and a Postgres URL that holds a password: a DSN is shown with the
// configuration and in errors. An empty one is not said yet.
func CheckDSN(dsn string) error {
	if dsn == "" {
		return nil
	}
	if !isPostgres(dsn) {
		_, err := parseDSN(dsn)
		return err
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return errors.New("it is no URL, as in postgres://user@host:5432/database")
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return errors.New("the URL holds a password: set catalog.postgres.password, as env:NAME or file:PATH, or PGPASSFILE")
	}
	return nil
}

func isPostgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres:") || strings.HasPrefix(dsn, "postgresql:")
}

func openPostgres(ctx context.Context, dsn string, o PostgresOptions) (*postgres, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := CheckDSN(dsn); err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if pw := o.Password.Reveal(); pw != "" {
		cfg.Password = pw
	}
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	for k, v := range map[string]string{"application_name": "firn catalog", "lock_timeout": ms(o.LockTimeout.D()),
		"statement_timeout": ms(writeTimeout), "idle_in_transaction_session_timeout": ms(idleInTransaction)} {
		if _, set := cfg.RuntimeParams[k]; !set {
			cfg.RuntimeParams[k] = v
		}
	}
	p := &postgres{sent: &sentCounter{}}
	cfg.Tracer = p.sent
	p.db = stdlib.OpenDB(*cfg)
	p.db.SetMaxOpenConns(o.MaxConns)
	p.db.SetMaxIdleConns(o.MaxConns)
	p.db.SetConnMaxIdleTime(connIdle)
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := p.migrate(ctx); err != nil {
		return nil, errors.Join(err, p.db.Close())
	}
	return p, nil
}

func (p *postgres) migrate(ctx context.Context) error {
	t, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = t.Rollback() }() // after a commit it does nothing
	if _, err := t.ExecContext(ctx, postgresDialect.structure); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := migrate(ctx, t, "postgres", "INSERT INTO schema_version (version) VALUES ($1)"); err != nil {
		return err
	}
	return t.Commit()
}

func (p *postgres) write(ctx context.Context, what string, fn func(*tx) error) error {
	return p.hold(ctx, what, func(ctx context.Context, c *sql.Conn) error {
		t, err := c.BeginTx(ctx, nil)
		if err != nil {
			return classifyPostgres(what, err)
		}
		if err := fn(&tx{ctx: ctx, q: numbered{t}, d: &postgresDialect}); err != nil {
			_ = t.Rollback() // the server does as much when the connection is gone
			return classifyPostgres(what, err)
		}
		if err := t.Commit(); err != nil {
			return classifyPostgresCommit(what, err)
		}
		return nil
	})
}

// hold runs fn on a connection, and with the time of a write.
func (p *postgres) hold(ctx context.Context, what string, fn func(context.Context, *sql.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return classifyPostgres(what, err)
	}
	c, err := p.db.Conn(ctx) // the wait for a free one is the caller's time, not that of the transaction
	if err != nil {
		return classifyPostgres(what, err)
	}
	defer func() { _ = c.Close() }() // it goes back to the pool
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	return fn(wctx, c)
}

func (p *postgres) writeOne(ctx context.Context, what string, fn func(*tx) error) error {
	return p.hold(ctx, what, func(ctx context.Context, c *sql.Conn) error {
		err := fn(&tx{ctx: ctx, q: numbered{c}, d: &postgresDialect})
		if err == nil || errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return classifyPostgresCommit(what, err)
	})
}

// writeMany runs a statement with each of args, in one transaction and one round trip: without a BEGIN all that is sent before
// the end of a pipeline is one transaction, which ends there. each gets the rows, with the place in args; they count
// only when writeMany gives no error.
func (p *postgres) writeMany(ctx context.Context, what, query string, args [][]any, each func(i int, r pgx.Rows) error) error {
	return p.hold(ctx, what, func(ctx context.Context, c *sql.Conn) error {
		err := c.Raw(func(on any) error {
			b := &pgx.Batch{}
			for i, a := range args {
				b.Queue(number(query), a...).Query(func(rows pgx.Rows) error {
					for rows.Next() {
						if err := each(i, rows); err != nil {
							return err
						}
					}
					return rows.Err()
				})
			}
			return on.(*stdlib.Conn).Conn().SendBatch(ctx, b).Close()
		})
		if err != nil {
			return classifyPostgresCommit(what, err)
		}
		return nil
	})
}

func (p *postgres) readOne(ctx context.Context, what string, fn func(*tx) error) error {
	if err := fn(&tx{ctx: ctx, q: numbered{p.db}, d: &postgresDialect}); err != nil {
		return classifyPostgres(what, err)
	}
	return nil
}

func (p *postgres) read(ctx context.Context, what string, fn func(*tx) error) error {
	t, err := p.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return classifyPostgres(what, err)
	}
	defer func() { _ = t.Rollback() }() // it only read
	if err := fn(&tx{ctx: ctx, q: numbered{t}, d: &postgresDialect}); err != nil {
		return classifyPostgres(what, err)
	}
	return nil
}

func (*postgres) speaks() *dialect { return &postgresDialect }

// Statements implements backend.
func (p *postgres) Statements() int64 { return p.sent.n.Load() }

// Bytes implements backend; 0 when the database does not answer at once.
func (p *postgres) Bytes() (n int64) {
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), uncounted{}, true), sizeTimeout)
	defer cancel()
	if err := p.db.QueryRowContext(ctx, "SELECT pg_database_size(current_database())").Scan(&n); err != nil {
		return 0
	}
	return n
}

// Close implements backend.
func (p *postgres) Close() error { return p.db.Close() }

// numbered writes parameters as Postgres has them: $1, $2.
type numbered struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

func (n numbered) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	return n.on.ExecContext(ctx, number(query), args...)
}

func (n numbered) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	return n.on.QueryContext(ctx, number(query), args...)
}

// numbers remembers what number made of the store's own statements, of which there are some dozens.
var numbers sync.Map

func number(query string) string {
	if q, ok := numbers.Load(query); ok {
		return q.(string)
	}
	var b strings.Builder
	n := 0
	for i, part := range strings.Split(query, "?") {
		if i > 0 {
			n++
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
	}
	numbers.Store(query, b.String())
	return b.String()
}

// classifyPostgresCommit is classifyPostgres for what has effect when it succeeds: the outcome is unknown unless the server
// refused it, or nothing was sent.
func classifyPostgresCommit(what string, err error) error {
	var pe *pgconn.PgError
	refused := errors.As(err, &pe) && pe.Code != "57P01" && pe.Code != "57P02" // by a server that does not go down
	if refused || errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err) {
		return classifyPostgres(what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, catalog.ErrUnknownOutcome, err)
}

// classifyPostgres turns what the database reports into the catalog's sentinels. It is only used where nothing was
// committed.
func classifyPostgres(what string, err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch {
		case pe.Code == "22021", pe.Code == "22P05": // text that Postgres cannot keep, such as a NUL
			return fmt.Errorf("%s: %w: %w", what, catalog.ErrInvalid, err)
		case strings.HasPrefix(pe.Code, "08"), strings.HasPrefix(pe.Code, "53"), strings.HasPrefix(pe.Code, "57"),
			strings.HasPrefix(pe.Code, "40"), pe.Code == "55P03", pe.Code == "25006", pe.Code == "25P03", pe.Code == "58030":
			// connection lost, out of a resource, shut down, a deadlock, a lock not had in time, a replica, a lost disk
			return unavailable(what, err)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	var ne net.Error
	var ce *pgconn.ConnectError
	if gone(err) || errors.As(err, &ne) || errors.As(err, &ce) || errors.Is(err, net.ErrClosed) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err) {
		return unavailable(what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
