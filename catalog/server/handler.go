package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/internal/wire"
)

// handler speaks the REST protocol over a Service.
type handler struct {
	s      *Service
	listed []string // the endpoints as /v1/config names them
	// configTag stands for what every answer with a table says besides.
	configTag string

	who       *auth.Authenticator // nil: everybody may do all
	callers   *limiter            // by principal
	strangers *limiter            // by address, of those who are not accepted
	bodies    *semaphore.Weighted // bytes of the larger bodies that are in memory
	audit     *auditTrail

	bodyShares *shares // bytes of bodies
	watches    *shares // streams of events
}

// request is one call: the names in its path, decoded.
type request struct {
	*http.Request
	ns    catalog.Identifier
	table string // or the view
	plan  string // a plan's id
	out   http.ResponseWriter
	past  *pastTable      // what the table in the path is, where a time in its name says so
	conn  context.Context // ends with the connection, not with the time for a request
	body  []byte          // once it has been read; never nil then
	holds int64           // of the handler's bodies, until the request ends
	free  func()          // gives back what of them is of the principal's share; nil: nothing

	who    *auth.Principal      // nil without authentication, and before it
	about  []catalog.Identifier // what a body names, for the audit trail
	denied bool                 // refused for want of a right, whatever the status says
}

func (r *request) id() catalog.Identifier {
	return append(append(make(catalog.Identifier, 0, len(r.ns)+1), r.ns...), r.table)
}

func (r *request) lean() bool { return r.Header.Get(wire.LeanHeader) == "1" }

// reply is a success: 204 when body is nil.
type reply struct {
	status int
	body   any
}

// endpoint is one row of the protocol. In path, "{ns}", "{t}" and "{v}" stand for a name, "{p}" for a plan.
type endpoint struct {
	name, method, path string
	listed             bool // named in the answer to /v1/config
	serve              func(*handler, *request) (reply, error)
}

// endpoints is what is served. A HEAD stands for itself: it must not run what a GET runs.
var endpoints = []endpoint{
	{"config", "GET", "/v1/config", false, (*handler).config},
	{"oauth_token", "POST", "/v1/oauth/tokens", false, (*handler).token},
	{"list_namespaces", "GET", "/v1/namespaces", true, (*handler).listNamespaces},
	{"create_namespace", "POST", "/v1/namespaces", true, (*handler).createNamespace},
	{"load_namespace", "GET", "/v1/namespaces/{ns}", true, (*handler).loadNamespace},
	{"namespace_exists", "HEAD", "/v1/namespaces/{ns}", true, (*handler).namespaceExists},
	{"drop_namespace", "DELETE", "/v1/namespaces/{ns}", true, (*handler).dropNamespace},
	{"update_namespace", "POST", "/v1/namespaces/{ns}/properties", true, (*handler).updateNamespace},
	{"list_tables", "GET", "/v1/namespaces/{ns}/tables", true, (*handler).listTables},
	{"create_table", "POST", "/v1/namespaces/{ns}/tables", true, (*handler).createTable},
	{"register_table", "POST", "/v1/namespaces/{ns}/register", true, (*handler).registerTable},
	{"load_table", "GET", "/v1/namespaces/{ns}/tables/{t}", true, (*handler).loadTable},
	{"table_exists", "HEAD", "/v1/namespaces/{ns}/tables/{t}", true, (*handler).tableExists},
	{"commit_table", "POST", "/v1/namespaces/{ns}/tables/{t}", true, (*handler).commitTable},
	{"drop_table", "DELETE", "/v1/namespaces/{ns}/tables/{t}", true, (*handler).dropTable},
	{"report_metrics", "POST", "/v1/namespaces/{ns}/tables/{t}/metrics", true, (*handler).reportMetrics},
	{"plan_scan", "POST", "/v1/namespaces/{ns}/tables/{t}/plan", true, (*handler).plan},
	{"plan_result", "GET", "/v1/namespaces/{ns}/tables/{t}/plan/{p}", true, (*handler).planResult},
	{"cancel_plan", "DELETE", "/v1/namespaces/{ns}/tables/{t}/plan/{p}", true, (*handler).cancelPlan},
	{"scan_tasks", "POST", "/v1/namespaces/{ns}/tables/{t}/tasks", true, (*handler).planTasks},
	{"rename_table", "POST", "/v1/tables/rename", true, (*handler).renameTable},
	{"list_views", "GET", "/v1/namespaces/{ns}/views", true, (*handler).listViews},
	{"create_view", "POST", "/v1/namespaces/{ns}/views", true, (*handler).createView},
	{"register_view", "POST", "/v1/namespaces/{ns}/register-view", true, (*handler).registerView},
	{"load_view", "GET", "/v1/namespaces/{ns}/views/{v}", true, (*handler).loadView},
	{"view_exists", "HEAD", "/v1/namespaces/{ns}/views/{v}", true, (*handler).viewExists},
	{"replace_view", "POST", "/v1/namespaces/{ns}/views/{v}", true, (*handler).replaceView},
	{"drop_view", "DELETE", "/v1/namespaces/{ns}/views/{v}", true, (*handler).dropView},
	{"rename_view", "POST", "/v1/views/rename", true, (*handler).renameView},
	{"commit_transaction", "POST", "/v1/transactions/commit", true, (*handler).commitTransaction},
	{"load_credentials", "GET", "/v1/namespaces/{ns}/tables/{t}/credentials", false, (*handler).loadCredentials},
	{"sign_request", "POST", "/v1/namespaces/{ns}/tables/{t}/sign", false, (*handler).sign},
	{"history", "GET", "/v1/firn/namespaces/{ns}/tables/{t}/history", true, (*handler).history},
	{"watch", "GET", "/v1/firn/namespaces/{ns}/tables/{t}/events", true, (*handler).events},
	{"prune_history", "DELETE", "/v1/firn/namespaces/{ns}/tables/{t}/history", true, (*handler).pruneHistory},
}

// NewHandler serves s. Requests that a browser sends from another origin are refused.
func NewHandler(s *Service) http.Handler {
	h := &handler{s: s, configTag: fmt.Sprint(s.cfg.S3.clientProperties()), who: s.who, audit: s.audit,
		callers: newLimiter(s.cfg.RequestsPerSecond, s.cfg.RequestBurst), strangers: newLimiter(strangerRate, strangerBurst),
		bodies:     semaphore.NewWeighted(bodiesAtOnce * int64(s.cfg.MaxBody)),
		bodyShares: newShares(shareOf(bodiesAtOnce * int64(s.cfg.MaxBody))), watches: newShares(int64(shareOf(s.cfg.MaxWatchers)))}
	path := strings.NewReplacer("/v1/", "/v1/{prefix}/", "{ns}", "{namespace}", "{t}", "{table}", "{v}", "{view}", "{p}", "{plan-id}")
	for _, e := range endpoints {
		if e.listed || e.name == "load_credentials" && s.cfg.S3.STS || e.name == "sign_request" && s.cfg.S3.RemoteSigning {
			h.listed = append(h.listed, e.method+" "+path.Replace(e.path))
		}
	}
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.fail(&request{Request: r, out: w}, fmt.Errorf("%w: the request comes from a page of another origin", catalog.ErrDenied))
	}))
	return guard.Handler(h)
}

// ServeHTTP matches the escaped path, so that a name may hold a slash, and answers.
func (h *handler) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(hr.Context(), h.s.cfg.RequestTimeout.D())
	defer cancel()
	r := &request{Request: hr.WithContext(ctx), out: w, conn: hr.Context()}
	h.slow(w)
	var e endpoint
	route, code := "none", 0
	defer func() {
		h.bodies.Release(r.holds)
		if r.free != nil {
			r.free()
		}
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http panics with the value itself
				panic(p)
			}
			h.s.log.Error("a catalog request failed by a fault of the program", "route", route, "panic", p)
			code = h.fail(r, fmt.Errorf("internal fault: %v", p))
		}
		h.s.m.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
		h.s.m.requestSeconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
		h.audited(e, r, code)
	}()
	var err error
	e, err = match(r)
	if err == nil {
		route = e.name
		err = h.admit(e, r)
	}
	if err != nil {
		code = h.fail(r, err)
		return
	}
	var rep reply
	if key := r.Header.Get(idempotencyHeader); key != "" && e.changesState() {
		rep, err = h.once(e, r, key)
	} else {
		rep, err = e.serve(h, r)
	}
	if err != nil {
		code = h.fail(r, err)
		return
	}
	code = h.answer(r, rep)
}

// match finds the endpoint of a request and decodes the names in its path.
func match(r *request) (endpoint, error) {
	path := strings.TrimSuffix(r.URL.EscapedPath(), "/")
	segments := strings.Split(path, "/")
	known := false
	for _, e := range endpoints {
		pattern := strings.Split(e.path, "/")
		if len(pattern) != len(segments) {
			continue
		}
		ns, table, plan, ok := "", "", "", true
		for i, p := range pattern {
			switch p {
			case "{ns}":
				ns = segments[i]
			case "{t}", "{v}":
				table = segments[i]
			case "{p}":
				plan = segments[i]
			default:
				ok = ok && p == segments[i]
			}
		}
		if !ok {
			continue
		}
		known = true
		if e.method != r.Method {
			continue
		}
		return e, r.names(ns, table, plan)
	}
	if known {
		return endpoint{}, fmt.Errorf("%w: %s is not served under %s", catalog.ErrUnsupported, r.Method, path)
	}
	return endpoint{}, fmt.Errorf("%w: %s %s", errNoEndpoint, r.Method, path)
}

func (r *request) names(ns, table, plan string) error {
	if ns != "" {
		d, err := wire.DecodeSegment(ns)
		if err != nil {
			return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
		}
		r.ns = wire.DecodeNamespace(d)
	}
	if table != "" {
		d, err := wire.DecodeSegment(table)
		if err != nil {
			return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
		}
		r.table = d
	}
	if plan != "" {
		d, err := wire.DecodeSegment(plan)
		if err != nil {
			return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
		}
		r.plan = d
	}
	return nil
}

// decode reads a JSON body. The decoders of Iceberg's types are not trusted with foreign bytes: a panic is a bad request.
func (h *handler) decode(r *request, into any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the body cannot be decoded: %v", catalog.ErrInvalid, p)
		}
	}()
	body, err := h.read(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: body: %w", catalog.ErrInvalid, err)
	}
	return nil
}

// read gives the body, which it reads once.
func (h *handler) read(r *request) ([]byte, error) {
	if r.body != nil {
		return r.body, nil
	}
	if err := h.hold(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(r.out, r.Body, int64(h.s.cfg.MaxBody)))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, fmt.Errorf("%w: more than %d bytes; raise max_body or commit less at once", errTooLarge, large.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("%w: not all of it came within %s", errSlow, h.s.cfg.RequestTimeout.D())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", catalog.ErrInvalid, err)
	}
	if len(body) > smallBody && countValues(body) > maxBodyValues {
		return nil, fmt.Errorf("%w: more than %d JSON values; commit less at once", errTooLarge, maxBodyValues)
	}
	r.body = body
	return body, nil
}

// fail answers with the protocol's error model and returns the status.
func (h *handler) fail(r *request, err error) int {
	code, _ := status(err)
	if code >= 500 {
		h.s.log.Warn("catalog request failed", "method", r.Method, "path", r.URL.EscapedPath(), "status", code, "error", err)
	}
	if code == http.StatusServiceUnavailable {
		r.out.Header().Set("Retry-After", "1")
	}
	var many *tooManyError
	if errors.As(err, &many) {
		r.out.Header().Set("Retry-After", strconv.Itoa(int(many.wait/time.Second)+1))
	}
	if code == http.StatusUnauthorized {
		r.out.Header().Set("WWW-Authenticate", `Bearer realm="firn catalog"`)
	}
	return h.answer(r, reply{code, errorModel(err)})
}

func errorModel(err error) (m wire.ErrorModel) {
	code, typ := status(err)
	m.Error.Message, m.Error.Type, m.Error.Code = cut(message(err)), typ, code
	return m
}

// answer writes a reply; a HEAD has no body.
func (h *handler) answer(r *request, rep reply) int {
	if rep.body == (streamed{}) {
		return rep.status
	}
	if rep.body == nil || r.Method == http.MethodHead {
		if rep.status == http.StatusOK {
			rep.status = http.StatusNoContent
		}
		r.out.WriteHeader(rep.status)
		return rep.status
	}
	body, err := encodeBody(rep.body)
	if err != nil {
		h.s.log.Error("an answer cannot be encoded", "error", err)
		http.Error(r.out, `{"error":{"message":"the answer cannot be encoded","type":"InternalServerError","code":500}}`, http.StatusInternalServerError)
		return http.StatusInternalServerError
	}
	r.out.Header().Set("Content-Type", "application/json")
	r.out.Header().Set("Content-Length", strconv.Itoa(len(body)))
	r.out.WriteHeader(rep.status)
	_, _ = r.out.Write(body) // a client that has gone learns nothing more
	return rep.status
}

func ok(body any) reply { return reply{http.StatusOK, body} }

// encodeBody is json.Marshal, which reads a RawMessage through and copies it once more: with hundreds of marks most of what
// a load takes. Table metadata was composed here, or found valid when it was read, so it is put in as it is.
func encodeBody(body any) ([]byte, error) {
	t, table := body.(wire.LoadTable)
	if !table || len(t.Metadata) == 0 {
		return json.Marshal(body)
	}
	doc := t.Metadata
	t.Metadata = json.RawMessage("0")
	frame, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	const place = `"metadata":0` // in no string of JSON, where quotes are escaped
	before, after, there := bytes.Cut(frame, []byte(place))
	if !there {
		return nil, fmt.Errorf("encode a table: no place for its metadata in %d bytes", len(frame))
	}
	out := make([]byte, 0, len(frame)+len(doc))
	out = append(append(out, before...), place[:len(place)-1]...)
	return append(append(out, doc...), after...), nil
}
