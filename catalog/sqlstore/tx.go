package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/firnlake/firn/catalog"
	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// writeTimeout bounds one write transaction once it has begun. A caller that goes away does not interrupt
// it: a commit is then either done or not, never left to the driver's timing.
const writeTimeout = 15 * time.Second

// tx is an open transaction. Reads and writes go through it alone.
type tx struct {
	ctx  context.Context
	prep func(query string) (*sql.Stmt, error)
}

func (t *tx) exec(query string, args ...any) (int64, error) {
	st, err := t.prep(query) //nolint:sqlclosecheck // the store keeps its statements and closes them
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *tx) row(query string, args []any, dest ...any) error {
	st, err := t.prep(query) //nolint:sqlclosecheck // the store keeps its statements and closes them
	if err != nil {
		return err
	}
	return st.QueryRowContext(t.ctx, args...).Scan(dest...)
}

func (t *tx) rows(query string, args []any, each func(*sql.Rows) error) error {
	st, err := t.prep(query) //nolint:sqlclosecheck // the store keeps its statements and closes them
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(t.ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// write runs fn in one write transaction. The error of COMMIT itself is ErrUnknownOutcome unless SQLite
// says that it did not happen.
func (s *Store) write(ctx context.Context, what string, fn func(*tx) error) error {
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
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if _, err := s.conn.ExecContext(wctx, "BEGIN IMMEDIATE"); err != nil {
		return classify(what, err)
	}
	if err := fn(&tx{ctx: wctx, prep: s.prepare}); err != nil {
		_, rerr := s.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return classify(what, errors.Join(err, rerr))
	}
	if _, err := s.conn.ExecContext(wctx, "COMMIT"); err != nil {
		// After a failed COMMIT the transaction may still be open; a ROLLBACK that works proves that nothing was kept.
		if _, rerr := s.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); rerr == nil {
			return classify(what, err)
		}
		return fmt.Errorf("%s: commit: %w: %w", what, catalog.ErrUnknownOutcome, err)
	}
	return nil
}

// prepare is called with the turn held.
func (s *Store) prepare(query string) (*sql.Stmt, error) {
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

// read runs fn on one consistent state of the database.
func (s *Store) read(ctx context.Context, what string, fn func(*tx) error) error {
	if s.reader == nil {
		return s.write(ctx, what, fn)
	}
	rtx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return classify(what, err)
	}
	defer func() { _ = rtx.Rollback() }() // it only read
	t := &tx{ctx: ctx, prep: func(q string) (*sql.Stmt, error) { return rtx.PrepareContext(ctx, q) }}
	if err := fn(t); err != nil {
		return classify(what, err)
	}
	return nil
}

// classify turns what the database reports into the catalog's sentinels. It is only used where nothing was committed.
func classify(what string, err error) error {
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() & 0xff {
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_INTERRUPT,
			lib.SQLITE_CANTOPEN, lib.SQLITE_READONLY, lib.SQLITE_NOMEM:
			return fmt.Errorf("%s: %w: database: %w", what, catalog.ErrUnavailable, err)
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrConnDone) {
		return fmt.Errorf("%s: %w: %w", what, catalog.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isUnique reports a violated UNIQUE or PRIMARY KEY constraint.
func isUnique(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se) &&
		(se.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || se.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY || se.Code() == lib.SQLITE_CONSTRAINT_ROWID)
}
