package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
)

// maxMessage bounds what an error quotes of an answer, in bytes.
const maxMessage = 1 << 10

// transportError classifies a request that got no answer, or half of one.
func transportError(o op, sent bool, err error) error {
	if o.kind == reads || !sent {
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", catalog.ErrUnknownOutcome, err)
}

// badAnswer classifies a success that cannot be read. A change was most likely made, and nobody can say how.
func badAnswer(o op, err error) error {
	if o.kind == reads {
		return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	return fmt.Errorf("%w: %w", catalog.ErrUnknownOutcome, err)
}

// answerError classifies an answer that is not a success: by the exception that the catalog names, and where
// it names none that is known, by the status.
func answerError(o op, res *http.Response, raw []byte) error {
	var m wire.ErrorModel
	modelled := json.Unmarshal(raw, &m) == nil && m.Error.Type != ""
	sentinel := sentinelOf(o, res.StatusCode, m.Error.Type, modelled)
	text := strings.ToValidUTF8(m.Error.Message, "?")
	switch {
	case text == "" && res.StatusCode/100 == 3:
		text = fmt.Sprintf("the server redirects to %q: set uri to where the catalog is", res.Header.Get("Location"))
	case text == "" && errors.Is(sentinel, catalog.ErrDenied):
		text = "set the catalog's token"
	case text == "" && !modelled:
		text = "the answer is not the catalog's own; a proxy, or uri does not lead to an Iceberg REST catalog"
	}
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return fmt.Errorf("%w: HTTP %d %s: %s", sentinel, res.StatusCode, m.Error.Type, text)
}

// byType are the exceptions that mean the same whatever the request was.
var byType = map[string]error{
	wire.TypeNoSuchTable:     catalog.ErrNoSuchTable,
	wire.TypeNoSuchView:      catalog.ErrNoSuchView,
	wire.TypeNoSuchNamespace: catalog.ErrNoSuchNamespace,
	wire.TypeNoHistory:       catalog.ErrNoHistory,
	wire.TypeWatchEnded:      catalog.ErrWatchEnded,
	wire.TypeAlreadyExists:   catalog.ErrExists,
	wire.TypeNotEmpty:        catalog.ErrNotEmpty,
	wire.TypeCommitFailed:    catalog.ErrConflict,
	wire.TypeNoSuchEndpoint:  catalog.ErrUnsupported,
	wire.TypeUnsupported:     catalog.ErrUnsupported,
}

func sentinelOf(o op, status int, typ string, modelled bool) error {
	if typ == wire.TypeCommitUnknown {
		return unknown(o)
	}
	// A 5xx proves nothing by its exception's name: only what the server refused before it began is sure.
	if status >= 400 && status < 500 {
		if err, ok := byType[typ]; ok {
			return err
		}
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, 419: // 419: Iceberg's "authentication timed out"
		return catalog.ErrDenied
	case http.StatusNotFound:
		return notFound(o, modelled)
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return catalog.ErrUnsupported
	case http.StatusConflict:
		if o.kind == changes {
			return catalog.ErrExists
		}
		return catalog.ErrConflict
	case http.StatusTooEarly, http.StatusTooManyRequests:
		return catalog.ErrUnavailable
	case http.StatusServiceUnavailable:
		// The catalog's own 503 says that it did not begin. A proxy writes one as well when the connection
		// behind it broke, perhaps after the request went through.
		if modelled {
			return catalog.ErrUnavailable
		}
		return unknown(o)
	case http.StatusRequestTimeout, http.StatusSeeOther:
		return unknown(o)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return catalog.ErrInvalid
	}
	if status >= 400 && status < 500 {
		return catalog.ErrInvalid
	}
	return unknown(o)
}

// notFound is a 404 whose exception is not known: foreign catalogs have names of their own for these.
func notFound(o op, modelled bool) error {
	switch {
	case o.kind == transacts:
		return catalog.ErrUnsupported
	case !modelled:
		return catalog.ErrInvalid // no catalog at this address
	case strings.Contains(o.path, "/tables/"):
		return catalog.ErrNoSuchTable
	case strings.Contains(o.path, "/views/"):
		return catalog.ErrNoSuchView
	case strings.Contains(o.path, "/namespaces"):
		return catalog.ErrNoSuchNamespace
	}
	return catalog.ErrInvalid
}

func unknown(o op) error {
	if o.kind == reads {
		return catalog.ErrUnavailable
	}
	return catalog.ErrUnknownOutcome
}

// outcome names an error for a metric's label.
func outcome(err error) string {
	for _, o := range []struct {
		is   error
		name string
	}{
		{catalog.ErrUnknownOutcome, "unknown"}, {catalog.ErrUnavailable, "unavailable"}, {catalog.ErrConflict, "conflict"},
		{catalog.ErrDenied, "denied"}, {catalog.ErrUnsupported, "unsupported"}, {catalog.ErrExists, "exists"},
		{catalog.ErrNoSuchTable, "not_found"}, {catalog.ErrNoSuchNamespace, "not_found"}, {catalog.ErrNoSuchView, "not_found"}, {catalog.ErrNoHistory, "not_found"},
	} {
		if errors.Is(err, o.is) {
			return o.name
		}
	}
	if err == nil {
		return "ok"
	}
	return "invalid"
}
