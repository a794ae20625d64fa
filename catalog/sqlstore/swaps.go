package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/firnlake/firn/catalog"
)

const (
	// swapLanes is at most how many transactions that plain commits share run at the same time: while the end of one is forced to
	// disk others are evaluated, and what comes meanwhile gathers for the next.
	swapLanes = 4
	// maxSharedBytes bounds what a commit that shares a transaction writes, in bytes: a large one goes alone.
	maxSharedBytes = 64 << 10
)

// errAlone: a commit took no effect in a shared transaction and is to be made alone, which tells why: another process holds
// or has moved the table, or one of the commits was refused, which ends the transaction of all.
var errAlone = errors.New("to be committed alone")

// shareable reports a commit that shares its transaction with others.
func (c *Change) shareable() bool {
	size := 0
	for _, s := range c.AddSnapshots {
		size += len(s.Body)
	}
	for _, r := range c.SetRefs {
		size += len(r.Name) + len(r.Body)
	}
	return size <= maxSharedBytes
}

// swaps is the plain commits of a process to Postgres. Those that wait for a lane go together into the next transaction: one
// round trip and one flush to disk for all of them. Such a transaction waits for no row: a table that another transaction holds
// is passed over, so that no commit waits for another table, and two processes never for each other.
type swaps struct {
	db    *postgres
	now   func() time.Time
	lanes chan struct{} // holds one for each transaction that may begin
	queue queue         // of those that wait for a lane
}

func newSwaps(db *postgres, now func() time.Time) *swaps {
	lanes := min(swapLanes, db.db.Stats().MaxOpenConnections/2) // the other connections are for what reads
	s := &swaps{db: db, now: now, lanes: make(chan struct{}, lanes)}
	for range lanes {
		s.lanes <- struct{}{}
	}
	return s
}

// commit makes a plain commit of one table; errAlone when it is to be made alone.
func (s *swaps) commit(ctx context.Context, c *Change) (Head, error) {
	j := &job{ctx: ctx, what: "commit", change: c, done: make(chan struct{})}
	err := await(&s.queue, j, s.lanes, nil, s.lead)
	return j.head, err
}

// lead makes the commits that wait, and gives the lane back.
func (s *swaps) lead(lane struct{}) {
	defer func() { s.lanes <- lane }()
	jobs := s.queue.take()
	if len(jobs) == 0 {
		return
	}
	outcome := fmt.Errorf("commit: %w: it was not run to its end", catalog.ErrUnknownOutcome) // of a panic
	swapped, done := make([]bool, len(jobs)), false
	defer func() {
		for i, j := range jobs {
			if done && swapped[i] { // the rows come before the end of the transaction does
				j.end(nil)
			} else {
				j.end(outcome)
			}
		}
	}()
	now, args := s.now().UnixMilli(), make([][]any, len(jobs))
	for i, j := range jobs {
		j.head = j.change.Head
		j.head.Version = j.change.From + 1
		args[i] = j.change.postgresSwapArgs(&j.head, nil, now)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(jobs[0].ctx), writeTimeout) // until there is a connection
	defer cancel()
	err := s.db.writeMany(ctx, "commit", postgresSwapFree, args, func(i int, r pgx.Rows) error {
		swapped[i] = true
		return r.Scan(&jobs[i].head.MaterializedVersion, &jobs[i].head.MaterializedLocation)
	})
	done = err == nil
	if outcome = err; done || ofOneCommit(err) {
		outcome = errAlone
	}
}

// ofOneCommit reports a refusal for what is in one of the commits: data that cannot be kept, or is there already.
func ofOneCommit(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (strings.HasPrefix(pe.Code, "22") || strings.HasPrefix(pe.Code, "23"))
}
