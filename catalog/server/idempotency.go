package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
)

// idempotencyHeader carries a UUID that a client gives to one change and to every repetition of it.
const idempotencyHeader = "Idempotency-Key"

const (
	// maxReceiptBody bounds the answer that a receipt keeps, in bytes. A longer one is made again.
	maxReceiptBody = 16 << 10
	// maxPruned bounds how many old receipts go in one pass.
	maxPruned = 10_000
)

// changesState tells whether an endpoint heeds an idempotency key.
func (e endpoint) changesState() bool {
	switch e.name {
	case "report_metrics", "oauth_token", "sign_request", "plan_scan", "scan_tasks", "cancel_plan":
		return false
	}
	return e.method != http.MethodGet && e.method != http.MethodHead
}

// once serves a request that carries an idempotency key: the first time it runs, and leaves a receipt in the
// transaction that takes effect; after that the receipt answers. 5xx leave none, so that a retry runs again.
func (h *handler) once(e endpoint, r *request, key string) (reply, error) {
	if _, err := uuid.Parse(key); err != nil || len(key) != 36 {
		return reply{}, fmt.Errorf("%w: the Idempotency-Key is no UUID of 36 characters", catalog.ErrInvalid)
	}
	body, err := h.read(r)
	if err != nil {
		return reply{}, err
	}
	mine := sqlstore.Receipt{Key: key, Request: digest(r, body), Status: http.StatusNoContent}
	if _, with := remade[e.name]; with {
		mine.Status = http.StatusOK
	}
	if have, ok, err := h.s.store.Receipt(r.Context(), key); err != nil || ok {
		return h.again(e, r, mine, have, err)
	}
	plain := r.Request
	r.Request = plain.WithContext(sqlstore.WithReceipt(plain.Context(), mine))
	rep, err := e.serve(h, r)
	r.Request = plain
	switch {
	case errors.Is(err, sqlstore.ErrRepeated):
		have, _, err := h.s.store.Receipt(r.Context(), key)
		return h.again(e, r, mine, have, err)
	case err != nil:
		return h.refusal(e, r, mine, err)
	case e.name == "update_namespace": // what it removed is not to be seen in the state after it
		if mine.Body, err = json.Marshal(rep.body); err == nil && len(mine.Body) <= maxReceiptBody {
			_, err = h.s.store.Settle(r.Context(), mine)
		}
		if err != nil {
			h.s.log.Warn("the answer to a request with an idempotency key is not kept; a repetition gets a plainer one", "error", err)
		}
	}
	return rep, nil
}

// digest names what was asked, so that a key that is used for something else is noticed.
func digest(r *request, body []byte) string {
	d := sha256.New()
	if r.who != nil && r.who.Via != auth.ViaAdmin { // a key of one principal answers no other
		fmt.Fprintf(d, "%s\n", r.who.Key())
	}
	fmt.Fprintf(d, "%s %s?%s\n", r.Method, r.URL.EscapedPath(), r.URL.RawQuery)
	d.Write(body)
	return hex.EncodeToString(d.Sum(nil))
}

// refusal keeps what a refused request was answered, when it would be refused again. A rival with the same key that
// took effect meanwhile counts instead: this one was most likely refused because of it.
func (h *handler) refusal(e endpoint, r *request, mine sqlstore.Receipt, err error) (reply, error) {
	code, _ := status(err)
	switch code {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusNotAcceptable, http.StatusConflict, http.StatusUnprocessableEntity:
	default:
		return reply{}, err
	}
	mine.Status = code
	body, jerr := json.Marshal(errorModel(err))
	if jerr != nil || len(body) > maxReceiptBody {
		return reply{}, err
	}
	mine.Body = body
	have, serr := h.s.store.Settle(r.Context(), mine)
	if serr != nil || have.Status == code {
		return reply{}, err
	}
	mine.Status = have.Status
	return h.again(e, r, mine, have, nil)
}

// again answers from a receipt.
func (h *handler) again(e endpoint, r *request, mine, have sqlstore.Receipt, err error) (reply, error) {
	switch {
	case err != nil:
		return reply{}, unsure(err)
	case have.Request != mine.Request:
		return reply{}, fmt.Errorf("%w: the Idempotency-Key was used for another request: take a new one", catalog.ErrInvalid)
	case have.Body != nil:
		return reply{have.Status, json.RawMessage(have.Body)}, nil
	}
	if remake := remade[e.name]; remake != nil {
		rep, err := remake(h, r)
		return rep, unsure(err)
	}
	return reply{have.Status, nil}, nil
}

// unsure makes of an answer that cannot be given now one that does not say that nothing was changed: a client may
// delete what it wrote for a commit that it takes for refused.
func unsure(err error) error {
	if code, _ := status(err); err != nil && code >= 500 {
		return fmt.Errorf("%w: a request with this idempotency key may have taken effect: %w", catalog.ErrUnknownOutcome, err)
	}
	return err
}

// remade are the endpoints whose answer is made again from the newest state, as the protocol allows: a table's
// metadata may be large, and it is kept already.
var remade = map[string]func(*handler, *request) (reply, error){
	"create_table":     func(h *handler, r *request) (reply, error) { return h.tableAgain(r, true) },
	"register_table":   func(h *handler, r *request) (reply, error) { return h.tableAgain(r, true) },
	"commit_table":     func(h *handler, r *request) (reply, error) { return h.tableAgain(r, false) },
	"create_view":      (*handler).viewAgain,
	"register_view":    (*handler).viewAgain,
	"replace_view":     (*handler).viewAgain,
	"create_namespace": (*handler).namespaceAgain,
	"update_namespace": (*handler).propertiesAgain,
}

// named sets the name that a creating request has in its body.
func (h *handler) named(r *request) error {
	var body struct {
		Name string `json:"name"`
	}
	if r.table != "" {
		return nil
	}
	err := h.decode(r, &body)
	r.table = body.Name
	return err
}

func (h *handler) tableAgain(r *request, config bool) (reply, error) {
	if err := h.named(r); err != nil {
		return reply{}, err
	}
	l, err := h.s.current(r.Context(), r.id())
	if err != nil {
		return reply{}, fmt.Errorf("the request took effect before, load table: %w", err)
	}
	return h.table(r, l, config)
}

func (h *handler) viewAgain(r *request) (reply, error) {
	if err := h.named(r); err != nil {
		return reply{}, err
	}
	return h.loadView(r)
}

func (h *handler) namespaceAgain(r *request) (reply, error) {
	var body wire.Namespace
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	r.ns = body.Namespace
	return h.loadNamespace(r)
}

// propertiesAgain is for a process that ended between the effect and keeping its answer.
func (h *handler) propertiesAgain(r *request) (reply, error) {
	var body wire.UpdateProperties
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	out := wire.UpdatedProperties{Updated: []string{}, Removed: append([]string{}, body.Removals...), Missing: []string{}}
	for k := range body.Updates {
		out.Updated = append(out.Updated, k)
	}
	return ok(out), nil
}

// pruneReceipts forgets keys that are older than their lifetime.
func (s *Service) pruneReceipts(ctx context.Context) error {
	_, err := s.store.PruneReceipts(ctx, time.Now().Add(-s.cfg.IdempotencyLifetime.D()), maxPruned)
	return err
}

// isoDuration writes a duration as ISO 8601 has it, in whole seconds.
func isoDuration(d time.Duration) string { return fmt.Sprintf("PT%dS", int64(d/time.Second)) }
