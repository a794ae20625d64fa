package app

import (
	"errors"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/config"
)

// Errors that decide the exit code.
var (
	ErrUsage   = errors.New("usage")
	ErrConfig  = errors.New("configuration cannot be used")
	ErrFailing = errors.New("health is not met") // audit found damage, status is not ok, why found a stage that stands
)

// Exit codes of the command line.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitConfig   = 3
	ExitConflict = 4
	ExitHealth   = 5
)

// ExitCode is the one place that maps an error to the process's exit code.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrUsage):
		return ExitUsage
	case errors.Is(err, ErrConfig), errors.Is(err, config.ErrInvalid):
		return ExitConfig
	case errors.Is(err, engine.ErrFenced), errors.Is(err, catalog.ErrConflict):
		return ExitConflict
	case errors.Is(err, ErrFailing):
		return ExitHealth
	}
	return ExitFailed
}
