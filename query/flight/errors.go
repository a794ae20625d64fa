package flight

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight/ipccheck"
)

// Errors of the service and its client, besides those of query, catalog and hot.
var (
	ErrUnauthenticated = errors.New("the server wants a token: set it, or check that it is the right one")
	ErrUnavailable     = errors.New("the Flight server cannot be reached")
	ErrBadRequest      = errors.New("the request cannot be understood")
	ErrBadTicket       = errors.New("the ticket is not one of this server or has expired: ask for the flight again")
	ErrNoHandle        = errors.New("no such prepared statement: it was closed or has expired, prepare it again")
	ErrNotServed       = errors.New("not served by this process")
	ErrSlowReader      = errors.New("the reader of the watch took nothing")
)

// errorDomain marks the details that reasons travel in (google.rpc.ErrorInfo).
const errorDomain = "firn"

// maxErrorText bounds the message of an error on the wire: it travels in an HTTP/2 header.
const maxErrorText = 2 << 10 // bytes

// wireErrors is the table of both directions. The reason is stable; the first entry that matches is taken, so
// wrapped pairs go from the narrow to the wide.
var wireErrors = []struct {
	err    error
	code   codes.Code
	reason string
}{
	{query.ErrInvalidSQL, codes.InvalidArgument, "INVALID_SQL"},
	{query.ErrNotSelect, codes.InvalidArgument, "NOT_SELECT"},
	{query.ErrNotBuiltIn, codes.Unimplemented, "SQL_NOT_BUILT_IN"},
	{query.ErrLimit, codes.ResourceExhausted, "LIMIT"},
	{query.ErrCorrupt, codes.DataLoss, "CORRUPT"},
	{hot.ErrExpired, codes.OutOfRange, "CUT_EXPIRED"},
	{hot.ErrNoTail, codes.NotFound, "NO_TAIL"},
	{hot.ErrFenced, codes.FailedPrecondition, "FENCED"},
	{catalog.ErrNoSuchTable, codes.NotFound, "NO_SUCH_TABLE"},
	{catalog.ErrNoSuchNamespace, codes.NotFound, "NO_SUCH_NAMESPACE"},
	{catalog.ErrNoHistory, codes.NotFound, "NO_HISTORY"},
	{catalog.ErrWatchEnded, codes.OutOfRange, "WATCH_ENDED"},
	{catalog.ErrUnsupported, codes.Unimplemented, "CATALOG_CANNOT"},
	{ErrSlowReader, codes.Aborted, "SLOW_READER"},
	{catalog.ErrUnavailable, codes.Unavailable, "CATALOG_UNAVAILABLE"},
	{catalog.ErrDenied, codes.PermissionDenied, "CATALOG_DENIED"},
	{ErrUnauthenticated, codes.Unauthenticated, "UNAUTHENTICATED"},
	{ErrBadTicket, codes.InvalidArgument, "BAD_TICKET"},
	{ErrNoHandle, codes.NotFound, "NO_HANDLE"},
	{ErrNotServed, codes.Unimplemented, "NOT_SERVED"},
	{ErrBadRequest, codes.InvalidArgument, "BAD_REQUEST"},
	{ipccheck.ErrDamaged, codes.InvalidArgument, "BAD_MESSAGE"},
	{ipccheck.ErrUnsupported, codes.InvalidArgument, "UNSUPPORTED_MESSAGE"},
	{ipccheck.ErrTooLarge, codes.InvalidArgument, "MESSAGE_TOO_LARGE"},
	{ErrUnavailable, codes.Unavailable, "UNAVAILABLE"},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE"},
	{context.Canceled, codes.Canceled, "CANCELED"},
}

// toStatus is the error of a call as it leaves the server. A status that somebody made already stays as it is.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code, reason := codes.Internal, "INTERNAL"
	for _, w := range wireErrors {
		if errors.Is(err, w.err) {
			code, reason = w.code, w.reason
			break
		}
	}
	st := status.New(code, clip(err.Error(), maxErrorText))
	if with, derr := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain}); derr == nil {
		st = with
	}
	return st.Err()
}

// RemoteError is an error of the other side. errors.Is finds the sentinel that the other side had.
type RemoteError struct {
	Code    codes.Code
	Reason  string // "" when the other side is not Firn
	Message string
	is      error
}

func (e *RemoteError) Error() string {
	if e.is != nil && !strings.Contains(e.Message, e.is.Error()) {
		return e.is.Error() + ": " + e.Message
	}
	return e.Message
}

func (e *RemoteError) Unwrap() error { return e.is }

// fromStatus is the inverse of toStatus at the client.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &RemoteError{Code: st.Code(), Message: st.Message()}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			e.Reason = info.GetReason()
		}
	}
	for _, w := range wireErrors {
		if w.reason == e.Reason {
			e.is = w.err
			return e
		}
	}
	switch st.Code() { // made by gRPC itself, or by a server that is not Firn
	case codes.Unavailable:
		e.is = ErrUnavailable
	case codes.Unauthenticated:
		e.is = ErrUnauthenticated
	case codes.Canceled:
		e.is = context.Canceled
	case codes.DeadlineExceeded:
		e.is = context.DeadlineExceeded
	case codes.ResourceExhausted:
		e.is = query.ErrLimit
	}
	return e
}

// clip cuts s to at most n bytes at the boundary of a character, and makes it UTF-8.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	const mark = "…"
	n -= len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}
