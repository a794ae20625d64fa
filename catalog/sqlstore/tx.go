package sqlstore

import (
	"context"
	"database/sql"
	"time"
)

// writeTimeout bounds one write transaction once it has begun. A caller that goes away does not interrupt
// it: a commit is then either done or not, never left to the driver's timing.
const writeTimeout = 15 * time.Second

// querier runs statements, with parameters written as '?'.
type querier interface {
	exec(ctx context.Context, query string, args []any) (sql.Result, error)
	query(ctx context.Context, query string, args []any) (*sql.Rows, error)
}

// dialect is where the databases differ in what they are asked. The rest is SQL that all of them understand.
type dialect struct {
	ids, texts string // a parameter that is a JSON array, as a subquery of numbers or strings
	forUpdate  string // behind a SELECT: nobody else changes the rows until the transaction ends
	structure  string // a statement that lets one transaction at a time go on; empty where writers are alone anyway
	swap       string // a whole plain commit in one statement, see swap.go; empty where the database has no such statements
	name       string // the record of a metadata file in one statement, see materialized.go; empty likewise
	unique     func(error) bool
	violated   func(error) string // the table whose uniqueness is violated; empty where the database does not say
}

// tx is an open transaction. Reads and writes go through it alone.
type tx struct {
	ctx context.Context
	q   querier
	d   *dialect
}

func (t *tx) exec(query string, args ...any) (int64, error) {
	r, err := t.q.exec(t.ctx, query, args)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// row reads the first row; sql.ErrNoRows when there is none.
func (t *tx) row(query string, args []any, dest ...any) error {
	found := false
	err := t.rows(query, args, func(r *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return r.Scan(dest...)
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

func (t *tx) rows(query string, args []any, each func(*sql.Rows) error) error {
	rows, err := t.q.query(t.ctx, query, args)
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

// alone is called first by a transaction that looks for a free name or place, or for emptiness, and then relies on
// it: until it ends no other such transaction runs. Commits to tables that exist do not wait for it.
func (t *tx) alone() error {
	if t.d.structure == "" {
		return nil
	}
	_, err := t.exec(t.d.structure)
	return err
}

// isUnique reports a violated UNIQUE or PRIMARY KEY constraint.
func (t *tx) isUnique(err error) bool { return err != nil && t.d.unique(err) }
