//go:build cgo

package duck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	db "github.com/duckdb/duckdb-go-bindings"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/query"
)

// errBroken: the instance is of no further use.
var errBroken = errors.New("DuckDB failed")

// readError is an error that a damaged or missing file may be behind; explain finds out.
type readError struct {
	msg   string
	input bool // or the statement itself
	io    bool // or the disk
}

func (e *readError) Error() string {
	if e.input {
		return query.ErrInvalidSQL.Error() + ": " + e.msg
	}
	return "DuckDB: " + firstLine(e.msg)
}

func (e *readError) Unwrap() error {
	if e.input {
		return query.ErrInvalidSQL
	}
	return nil
}

// classify gives an error of DuckDB its place among the query errors.
func classify(t db.ErrorType, msg string) error {
	switch t {
	case db.ErrorTypeOutOfMemory:
		return fmt.Errorf("%w: %s", query.ErrLimit, firstLine(msg))
	case db.ErrorTypeInterrupt:
		return context.Canceled
	case db.ErrorTypeFatal, db.ErrorTypeInternal:
		return fmt.Errorf("%w: %s", errBroken, firstLine(msg))
	case db.ErrorTypeErrorIO:
		return &readError{msg: msg, io: true}
	case db.ErrorTypeInvalid, db.ErrorTypeSerialization:
		return &readError{msg: msg}
	case db.ErrorTypeInvalidInput: // of a value, or of a page that cannot be decompressed
		return &readError{msg: msg, input: true}
	}
	return fmt.Errorf("%w: %s", query.ErrInvalidSQL, msg)
}

// typeOf reads the type from the beginning of a message, for the calls that give nothing else.
func typeOf(msg string) db.ErrorType {
	for prefix, t := range map[string]db.ErrorType{
		"Out of Memory Error": db.ErrorTypeOutOfMemory, "INTERRUPT Error": db.ErrorTypeInterrupt, "FATAL Error": db.ErrorTypeFatal,
		"INTERNAL Error": db.ErrorTypeInternal, "IO Error": db.ErrorTypeErrorIO, "Invalid Error": db.ErrorTypeInvalid,
		"Serialization Error": db.ErrorTypeSerialization, "Invalid Input Error": db.ErrorTypeInvalidInput,
	} {
		if strings.HasPrefix(msg, prefix) {
			return t
		}
	}
	return db.ErrorTypeBinder
}

// firstLine leaves out DuckDB's advice about settings that nobody here can change.
func firstLine(msg string) string {
	line, _, _ := strings.Cut(msg, "\n")
	return line
}

// searchTime bounds the search for the file that an error is about.
const searchTime = 2 * time.Second

// explain says which file an error is about, by its location, and never tells a path of this machine.
func (r *stream) explain(ctx context.Context, err error) error {
	var e *readError
	if !errors.As(err, &e) {
		return err
	}
	paths, msg := slices.Sorted(maps.Keys(r.files)), firstLine(e.msg)
	for _, path := range paths {
		if !strings.Contains(msg, path) {
			continue
		}
		msg = strings.ReplaceAll(msg, path, r.files[path])
		if _, serr := os.Stat(path); errors.Is(serr, os.ErrNotExist) {
			return fmt.Errorf("%s: %w: %s", r.files[path], objstore.ErrNotFound, msg)
		}
		return fmt.Errorf("%w: %s: %s", query.ErrCorrupt, r.files[path], msg)
	}
	if e.input || e.io || len(paths) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	for _, path := range paths {
		if verify(ctx, path) != nil && ctx.Err() == nil {
			return fmt.Errorf("%w: %s: %s", query.ErrCorrupt, r.files[path], msg)
		}
	}
	return fmt.Errorf("%w: one of %d files: %s", query.ErrCorrupt, len(paths), msg)
}

// verify holds a file against its checksums.
func verify(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return err
	}
	footer, err := datafile.ReadFooter(f, info.Size(), path)
	if err != nil {
		return err
	}
	_, err = footer.VerifyChecksums(ctx, f)
	return err
}
