package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/firnlake/firn/catalog"
)

// maxGroup bounds the writes that share one transaction, so that none waits for an unbounded number of others.
const maxGroup = 64

// queue is the writes that wait for their turn. What a transaction costs is mostly that its end is forced to disk, so
// those that have gathered meanwhile go into the next one together: on SQLite, which has one writer, each in a savepoint of its own,
// on Postgres in one statement (swaps.go). With one at a time tables would wait for as many disk flushes as there are tables.
type queue struct {
	mu      sync.Mutex
	waiting []*job
}

// job is one write: what fn does, or, on Postgres, a plain commit.
type job struct {
	ctx    context.Context
	what   string
	fn     func(*tx) error
	change *Change
	head   Head          // after the change; set before done
	err    error         // set before done
	done   chan struct{} // closed when err is known
}

func (q *queue) add(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, j)
}

// take gives the oldest writes. Those whose caller has gone end here, and are not run.
func (q *queue) take() (jobs []*job) {
	q.mu.Lock()
	n := min(len(q.waiting), maxGroup)
	taken := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	q.mu.Unlock()
	for _, j := range taken {
		if err := j.ctx.Err(); err != nil {
			j.end(fmt.Errorf("%s: %w: %w", j.what, catalog.ErrUnavailable, err))
			continue
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// has tells whether a write waits yet.
func (q *queue) has(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Contains(q.waiting, j)
}

// leave takes a write out, if nobody has taken it yet.
func (q *queue) leave(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, j)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

func (j *job) end(err error) {
	j.err = err
	close(j.done)
}

// write runs fn in a write transaction, alone or with others' in savepoints; its effect is kept only with it, and fn is
// run once. The error of COMMIT itself is ErrUnknownOutcome unless SQLite says that it did not happen.
func (s *sqliteDB) write(ctx context.Context, what string, fn func(*tx) error) error {
	return await(&s.queue, &job{ctx: ctx, what: what, fn: fn, done: make(chan struct{})}, s.turn, s.closed, s.lead)
}

// await has a write done. Whoever of those that wait gets the turn leads: it does what has gathered, and passes the turn on.
func await[T any](q *queue, j *job, turn chan T, closed <-chan struct{}, lead func(T)) error {
	q.add(j)
	for {
		select {
		case <-j.done: // before another turn
			return j.err
		default:
		}
		var why error
		select {
		case <-j.done:
			return j.err
		case t := <-turn:
			if q.has(j) {
				lead(t)
				continue
			}
			turn <- t // for one that waits: this write is under way
			<-j.done
			return j.err
		case <-closed:
			why = fmt.Errorf("%s: %w: the catalog's database is closed", j.what, catalog.ErrUnavailable)
		case <-j.ctx.Done():
			why = fmt.Errorf("%s: waiting for the catalog's database: %w: %w", j.what, catalog.ErrUnavailable, j.ctx.Err())
		}
		if q.leave(j) {
			return why
		}
		<-j.done // it is under way: done or not, never left to who waits for it
		return j.err
	}
}

// lead runs the writes that wait, in one transaction, and passes the turn on.
func (s *sqliteDB) lead(c *sqliteConn) {
	defer func() { s.turn <- c }()
	jobs := s.queue.take()
	if len(jobs) == 0 {
		return
	}
	g := &group{c: c, jobs: jobs, errs: make([]error, len(jobs))}
	defer g.abandoned()
	g.run()
	for i, j := range jobs {
		j.end(g.errs[i])
	}
	g.jobs = nil
}

// group is writes in one transaction.
type group struct {
	c    *sqliteConn
	jobs []*job
	errs []error // by job
}

// begun is a transaction of its own time: a caller that goes away does not interrupt it.
func (g *group) begun(j *job) (*tx, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.ctx), writeTimeout)
	return &tx{ctx: ctx, q: g.c, d: &sqliteDialect}, cancel
}

func (g *group) rollback() error {
	_, err := g.c.ExecContext(context.Background(), "ROLLBACK")
	return err
}

// abandoned ends the group whose run did not: a write panicked. Nothing of it is kept.
func (g *group) abandoned() {
	if g.jobs == nil {
		return
	}
	_ = g.rollback()
	for _, j := range g.jobs {
		j.end(fmt.Errorf("%s: %w: another write failed beside it", j.what, catalog.ErrUnavailable))
	}
}

func (g *group) run() {
	t, cancel := g.begun(g.jobs[0])
	defer cancel()
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		_ = g.rollback() // it may have begun when its time ended
		g.all(err)
		return
	}
	if len(g.jobs) == 1 {
		if err := g.jobs[0].fn(t); err != nil {
			g.errs[0] = classifySQLite(g.jobs[0].what, errors.Join(err, g.rollback()))
			return
		}
	} else if !g.each() {
		return
	}
	end, cancelEnd := g.begun(g.jobs[0])
	defer cancelEnd()
	_, err := end.exec("COMMIT")
	if err == nil {
		return
	}
	// After a failed COMMIT the transaction may still be open; a ROLLBACK that works proves that nothing was kept.
	kept := g.rollback() != nil
	for i, j := range g.jobs {
		switch {
		case g.errs[i] != nil: // what it was refused for may have been the work of one before it
			g.errs[i] = unavailable(j.what, err)
		case kept:
			g.errs[i] = fmt.Errorf("%s: commit: %w: %w", j.what, catalog.ErrUnknownOutcome, err)
		default:
			g.errs[i] = classifySQLite(j.what, err)
		}
	}
}

// each runs the writes in savepoints. It tells whether there is something to commit; if not, it has rolled back.
func (g *group) each() bool {
	kept := false
	for i, j := range g.jobs {
		refused, err := g.one(j)
		if err != nil {
			// SQLite ends a transaction by itself when the disk is full, or fails: nothing of any of them is there.
			_ = g.rollback()
			g.all(fmt.Errorf("%w: %w", catalog.ErrUnavailable, err))
			if refused != nil {
				g.errs[i] = classifySQLite(j.what, refused)
			}
			return false
		}
		if refused != nil {
			g.errs[i] = classifySQLite(j.what, refused)
		}
		kept = kept || refused == nil
	}
	if !kept {
		_ = g.rollback() // there is nothing in it
	}
	return kept
}

// one runs a write in a savepoint. refused is its own error; err says that the transaction cannot go on.
func (g *group) one(j *job) (refused, err error) {
	t, cancel := g.begun(j)
	defer cancel()
	if _, err := t.exec("SAVEPOINT one"); err != nil {
		return nil, err
	}
	if refused = j.fn(t); refused != nil {
		back, cancelBack := g.begun(j) // the write's own time may be over
		defer cancelBack()
		t = back
		if _, err := t.exec("ROLLBACK TO one"); err != nil {
			return refused, err
		}
	}
	_, err = t.exec("RELEASE one")
	return refused, err
}

// all gives every write of the group the error.
func (g *group) all(err error) {
	for i, j := range g.jobs {
		g.errs[i] = classifySQLite(j.what, err)
	}
}
