package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/scan"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/objstore"
)

// errUnprocessable: the request contradicts itself (422).
var errUnprocessable = errors.New("request contradicts itself")

// errArgument: what a view is made of contradicts the view spec (400, with the name that the reference gives it).
var errArgument = fmt.Errorf("%w: view", catalog.ErrInvalid)

// errNoEndpoint: nothing is served under this method and path (404).
var errNoEndpoint = errors.New("no such endpoint")

// errTooLarge: the body is over its limit (413).
var errTooLarge = errors.New("request body is too large")

// errSlow: the body did not come within the time of a request (408).
var errSlow = errors.New("request body is too slow")

// errToken: nobody whom the catalog knows sends the request (401).
var errToken = errors.New("not authenticated")

// status gives the HTTP status and Iceberg's exception name of an error. What is not known is a 500.
func status(err error) (int, string) {
	switch {
	case errors.As(err, new(*tooManyError)):
		return http.StatusTooManyRequests, wire.TypeTooMany
	case errors.Is(err, catalog.ErrUnknownOutcome): // not objstore.ErrUnknownResult: a metadata file that may be there is named by nobody
		return http.StatusInternalServerError, wire.TypeCommitUnknown
	case errors.Is(err, catalog.ErrConflict):
		return http.StatusConflict, wire.TypeCommitFailed
	case errors.Is(err, catalog.ErrNoSuchTable):
		return http.StatusNotFound, wire.TypeNoSuchTable
	case errors.Is(err, catalog.ErrNoSuchView):
		return http.StatusNotFound, wire.TypeNoSuchView
	case errors.Is(err, catalog.ErrNoSuchNamespace):
		return http.StatusNotFound, wire.TypeNoSuchNamespace
	case errors.Is(err, catalog.ErrNoHistory):
		return http.StatusNotFound, wire.TypeNoHistory
	case errors.Is(err, catalog.ErrWatchEnded):
		return http.StatusGone, wire.TypeWatchEnded
	case errors.Is(err, errPlan):
		return http.StatusNotFound, wire.TypeNoSuchPlan
	case errors.Is(err, scan.ErrTask):
		return http.StatusNotFound, wire.TypeNoSuchTask
	case errors.Is(err, catalog.ErrExists):
		return http.StatusConflict, wire.TypeAlreadyExists
	case errors.Is(err, catalog.ErrNotEmpty):
		return http.StatusConflict, wire.TypeNotEmpty
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge, wire.TypeBadRequest
	case errors.Is(err, errSlow):
		return http.StatusRequestTimeout, wire.TypeBadRequest
	case errors.Is(err, errUnprocessable):
		return http.StatusUnprocessableEntity, wire.TypeUnprocessable
	case errors.Is(err, errArgument):
		return http.StatusBadRequest, wire.TypeIllegalArgument
	case errors.Is(err, catalog.ErrInvalid):
		return http.StatusBadRequest, wire.TypeBadRequest
	case errors.Is(err, errToken):
		return http.StatusUnauthorized, wire.TypeNotAuthorized
	case errors.Is(err, catalog.ErrDenied):
		return http.StatusForbidden, wire.TypeForbidden
	case errors.Is(err, catalog.ErrUnsupported):
		return http.StatusNotAcceptable, wire.TypeUnsupported
	case errors.Is(err, errNoEndpoint):
		return http.StatusNotFound, wire.TypeNoSuchEndpoint
	case errors.Is(err, catalog.ErrUnavailable), errors.Is(err, objstore.ErrUnavailable), errors.Is(err, objstore.ErrFull):
		return http.StatusServiceUnavailable, wire.TypeUnavailable
	}
	return http.StatusInternalServerError, wire.TypeInternal
}

// inIceberg gives the requirement errors of iceberg-go the words of the Java reference, which other catalogs took over.
var inIceberg = strings.NewReplacer("requirement failed: ", "Requirement failed: ", "UUID mismatch", "UUID does not match",
	"field id has changed", "field id changed", "partition id has changed", "partition id changed",
	"default spec id has changed", "default partition spec changed", "current schema id has changed", "current schema changed")

// message is an error as others read it: the commonest begin as those of the Java reference do, on whose words
// clients and Iceberg's compatibility kit rely.
func message(err error) string {
	s := err.Error()
	from := func(text, instead string) string {
		if _, rest, ok := strings.Cut(s, text); ok {
			return instead + rest
		}
		return s
	}
	switch _, typ := status(err); typ {
	case wire.TypeNoSuchTable:
		return from(catalog.ErrNoSuchTable.Error()+": ", "Table does not exist: ")
	case wire.TypeNoSuchNamespace:
		return from(catalog.ErrNoSuchNamespace.Error()+": ", "Namespace does not exist: ")
	case wire.TypeNoSuchView:
		return from(catalog.ErrNoSuchView.Error()+": ", "View does not exist: ")
	case wire.TypeAlreadyExists:
		return existsMessage(s)
	case wire.TypeCommitFailed:
		return inIceberg.Replace(from(catalog.ErrConflict.Error()+": ", ""))
	}
	return s
}

// maxMessage bounds an error's text, in bytes: it names what was asked for, which may be a path of a megabyte.
const maxMessage = 4 << 10

// cut takes out the middle of a text that is too long: at its beginning stands what is wrong, at its end what to do.
func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	const half = maxMessage/2 - 16
	return strings.ToValidUTF8(s[:half], "") + " […] " + strings.ToValidUTF8(s[len(s)-half:], "")
}

// existsMessage gives what is in the way the reference's words: tables, views and namespaces, and a rename onto them.
func existsMessage(s string) string {
	_, what, ok := strings.Cut(s, catalog.ErrExists.Error()+": ")
	if !ok {
		return s
	}
	for _, kind := range []string{"table", "view", "namespace"} {
		title := strings.ToUpper(kind[:1]) + kind[1:]
		if name, ok := strings.CutPrefix(what, kind+" "); ok {
			return title + " already exists: " + name
		}
		if name, ok := strings.CutPrefix(what, "a "+kind+" of the name "); ok {
			return title + " with same name already exists: " + name
		}
		rename, isRename := strings.CutPrefix(what, "cannot rename ")
		if names, ok := strings.CutSuffix(rename, ", which is a "+kind); isRename && ok {
			return "Cannot rename " + names + ". " + title + " already exists"
		}
	}
	return s
}
