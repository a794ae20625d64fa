package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/snapshot"
)

// classify adds the sentinel of this package that an error of a lower one amounts to.
func classify(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrCorrupt):
		return err
	case errors.Is(err, datafile.ErrCorrupt), errors.Is(err, snapshot.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

var errTimeout = errors.New("it ran longer than query.sql.timeout allows")

// until bounds ctx by the end of a statement's own time.
func until(ctx context.Context, end time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, end, errTimeout)
}

// outOfTime tells the end of a statement's own time from one of its caller. ctx is one of until.
func outOfTime(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), errTimeout) {
		if errors.Is(err, context.DeadlineExceeded) && errors.Unwrap(err) == nil { // it tells nothing
			return fmt.Errorf("%w: %w", ErrLimit, errTimeout)
		}
		// As text: it must not also pass for the end of the caller's own time.
		return fmt.Errorf("%w: %w: %s", ErrLimit, errTimeout, err.Error())
	}
	return err
}
