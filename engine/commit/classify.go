package commit

import (
	"context"
	"errors"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/objstore"
)

// outcome is what an error of a request to commit says of its effect.
type outcome int

const (
	committed   outcome = iota // it took effect
	conflict                   // this request had none: a requirement did not hold. An earlier copy of it may have had
	unknown                    // it may have taken effect, or may yet
	unavailable                // it had none; the same request may succeed later
	fenced                     // it had none and never will: another writer, a rewind, or a person must decide
	gone                       // it had none: the table is not there
	fatal                      // it had none, and trying it again as it is gives the same
)

func (o outcome) String() string {
	return [...]string{"committed", "conflict", "unknown", "unavailable", "fenced", "gone", "fatal"}[o]
}

// classify is the one place where an error becomes an outcome. Whatever it does not know is unknown: the only safe
// guess is the one that looks.
func classify(err error) outcome {
	switch {
	case err == nil:
		return committed
	case engine.EndsGeneration(err):
		return fenced
	case errors.Is(err, catalog.ErrUnknownOutcome):
		return unknown
	case errors.Is(err, catalog.ErrConflict):
		return conflict
	case errors.Is(err, catalog.ErrUnavailable):
		return unavailable
	case errors.Is(err, catalog.ErrNoSuchTable), errors.Is(err, catalog.ErrNoSuchNamespace):
		return gone
	case errors.Is(err, catalog.ErrInvalid), errors.Is(err, catalog.ErrDenied), errors.Is(err, catalog.ErrUnsupported),
		errors.Is(err, catalog.ErrExists), errors.Is(err, catalog.ErrNotEmpty), errors.Is(err, catalog.ErrNoHistory):
		return fatal
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unknown
	}
	return unknown
}

// transient tells that an error of a read, or of a write to storage, may pass by itself.
func transient(err error) bool {
	return errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, catalog.ErrUnknownOutcome) ||
		errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, objstore.ErrUnknownResult) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
