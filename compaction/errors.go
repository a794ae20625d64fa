package compaction

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// ErrRowsDiffer reports a rewrite whose output does not hold exactly the rows of its inputs. Nothing was committed.
var ErrRowsDiffer = errors.New("the rewritten file does not hold the rows of its inputs")

// ErrContended reports a rewrite that lost against other commits maxAttempts times. It is tried again in the next round.
var ErrContended = errors.New("the table's head kept moving")

// errGone reports a table that is not the one that the rewrite was made for.
var errGone = errors.New("the table was dropped or replaced")

// class names an error for metrics: one of a few words.
func class(err error) string {
	for _, c := range []struct {
		word string
		is   []error
	}{
		{"canceled", []error{context.Canceled, context.DeadlineExceeded}},
		{"rows_differ", []error{ErrRowsDiffer}},
		{"corrupt", []error{datafile.ErrCorrupt, snapshot.ErrCorrupt}},
		{"record", []error{ledger.ErrBadRecord}},
		{"contended", []error{ErrContended, catalog.ErrConflict}},
		{"moved", []error{snapshot.ErrMoved, errGone, catalog.ErrNoSuchTable}},
		{"unknown_outcome", []error{catalog.ErrUnknownOutcome, objstore.ErrUnknownResult}},
		{"unavailable", []error{catalog.ErrUnavailable, objstore.ErrUnavailable}},
		{"denied", []error{catalog.ErrDenied, objstore.ErrAccessDenied}},
		{"storage_full", []error{objstore.ErrFull, syscall.ENOSPC}},
		{"missing", []error{objstore.ErrNotFound}},
	} {
		for _, is := range c.is {
			if errors.Is(err, is) {
				return c.word
			}
		}
	}
	return "other"
}

// fileError is a failure of one input.
type fileError struct {
	location string
	err      error
}

func (e *fileError) Error() string { return fmt.Sprintf("data file %s: %v", e.location, e.err) }
func (e *fileError) Unwrap() error { return e.err }

// quarantines tells whether the input itself is at fault, so that trying it again soon is of no use.
func quarantines(err error) bool {
	switch class(err) {
	case "canceled", "unavailable", "denied", "unknown_outcome", "storage_full":
		return false
	}
	return true
}
