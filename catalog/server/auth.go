package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/units"
)

// TLS is the server's own certificate.
type TLS struct {
	Cert string `yaml:"cert" jsonschema_description:"PEM file of the server's certificate with those of its issuers; serves https."`
	Key  string `yaml:"key" jsonschema_description:"PEM file of its private key."`
}

// validateAuth checks what the blocks about access say together.
func (c Config) validateAuth() error {
	if err := c.Auth.WithDefaults().Validate(); err != nil {
		return fmt.Errorf("auth.%w", err)
	}
	local, err := units.CheckListen(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	switch {
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return errors.New("tls.cert: it needs tls.key, and that needs it")
	case c.Auth.MTLS.ClientCA != "" && c.TLS.Cert == "":
		return errors.New("auth.mtls.client_ca: client certificates need tls.cert and tls.key")
	case c.AllowAnonymous && c.Auth.Enabled():
		return errors.New("allow_anonymous: it lets everybody in, and auth says who may come in: leave out one of them")
	case !local && !c.AllowAnonymous && c.Token.Reveal() == "" && !c.Auth.Enabled():
		return fmt.Errorf("listen: %s can be reached from outside and no token is set: set token or auth, listen on 127.0.0.1, or say allow_anonymous: true", c.Listen)
	case len(c.AuditTable) > 0 && c.Token.Reveal() == "" && !c.Auth.Enabled():
		return errors.New("audit_table: the trail says who did what, and without token or auth nobody is known")
	case len(c.AuditTable) > 0 && checkTableName(c.AuditTable) != nil:
		return fmt.Errorf("audit_table: %w", checkTableName(c.AuditTable))
	case c.AuditInterval.D() != 0 && (c.AuditInterval.D() < time.Second || c.AuditInterval.D() > time.Hour):
		return fmt.Errorf("audit_interval: %s is not within 1s to 1h", c.AuditInterval.D())
	case len(c.Auth.Clients) > 0 && c.Auth.SigningKey.IsZero() && isPostgres(c.Store):
		return errors.New("auth.signing_key: several catalogs may share this database, and each would refuse the tokens of the others: set one key for all")
	}
	return nil
}

func isPostgres(dsn string) bool {
	u, err := url.Parse(dsn)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
}

// admit says whether a request may run: it names the principal, and holds its rate and its rights. A request of a
// catalog without authentication has no principal and may do all.
func (h *handler) admit(e endpoint, r *request) error {
	if e.name == "oauth_token" {
		return nil
	}
	if h.who == nil {
		return h.resolvePast(e, r)
	}
	who, err := h.who.Authenticate(r.Context(), r.Header.Values("Authorization"), r.TLS)
	if err != nil {
		if wait, ok := h.strangers.take(remoteHost(r.Request)); !ok {
			return &tooManyError{wait: wait}
		}
		if errors.Is(err, auth.ErrKeysUnavailable) {
			return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
		}
		return fmt.Errorf("%w: %w", errToken, err)
	}
	r.who = who
	if wait, ok := h.callers.take(who.Key()); !ok {
		return &tooManyError{wait: wait}
	}
	if err := h.resolvePast(e, r); err != nil {
		return err
	}
	need, ok := permissions[e.name]
	if !ok { // a test holds this off
		return fmt.Errorf("%w: nothing says who may %s", catalog.ErrDenied, e.name)
	}
	return need(h, r)
}

// remoteHost is the address at the other end of the connection; what a proxy says of others is not believed.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// permissions says for each endpoint what it takes. Names in a body are decoded from the same bytes into the same type as the
// endpoint decodes them, so what is checked here is what it uses.
//
// What a principal may not know of is answered as if it were not there, with the words of that; what it may see and not
// do is answered with 403, whether it is there or not.
var permissions = map[string]func(*handler, *request) error{
	"config":           func(*handler, *request) error { return nil },
	"list_namespaces":  listsNamespaces,
	"create_namespace": createsNamespace,
	"load_namespace":   onNamespace(auth.Read),
	"namespace_exists": onNamespace(auth.None),
	"drop_namespace":   onNamespace(auth.Manage),
	"update_namespace": onNamespace(auth.Manage),

	"list_tables":    onNamespace(auth.None),
	"create_table":   createsNamed("table", func(b wire.CreateTable) string { return b.Name }),
	"register_table": registers,
	"load_table":     onTable(auth.Read),
	"table_exists":   onTable(auth.List),
	"commit_table":   commitsTable,
	"drop_table":     onTable(auth.Manage),
	"report_metrics": onTable(auth.Read),
	"plan_scan":      onTable(auth.Read),
	"plan_result":    onTable(auth.Read),
	"cancel_plan":    onTable(auth.Read),
	"scan_tasks":     onTable(auth.Read),
	"rename_table":   renames("table"),
	"history":        onTable(auth.Read),
	"watch":          onTable(auth.Read),
	"prune_history":  onTable(auth.Manage),

	"load_credentials": onTable(auth.Read),
	"sign_request":     onTable(auth.Read), // and write for what writes, which the request says

	"list_views":    onNamespace(auth.None),
	"create_view":   createsNamed("view", func(b wire.CreateView) string { return b.Name }),
	"register_view": createsNamed("view", func(b wire.RegisterTable) string { return b.Name }),
	"load_view":     onView(auth.Read),
	"view_exists":   onView(auth.List),
	"replace_view":  onView(auth.Write),
	"drop_view":     onView(auth.Manage),
	"rename_view":   renames("view"),

	"commit_transaction": commitsTables,
	"oauth_token":        func(*handler, *request) error { return nil }, // it asks for a secret itself
}

// missing is the answer about a thing that the principal may not know of.
func (r *request) missing(sentinel error, id catalog.Identifier) error {
	r.denied = true
	return fmt.Errorf("%w: %s", sentinel, id)
}

// forbidden is the answer about a thing that it may see.
func (r *request) forbidden(need, id string) error {
	r.denied = true
	if r.who == nil { // everybody may do all, but change a table of a past time
		return fmt.Errorf("%w: nobody may %s %s", catalog.ErrDenied, need, id)
	}
	return fmt.Errorf("%w: %s may not %s %s", catalog.ErrDenied, r.who.Name, need, id)
}

// seesNamespace gives ErrNoSuchNamespace for one that the principal may not know of.
func (r *request) seesNamespace(ns catalog.Identifier) error {
	if err := checkNamespace(ns); err != nil {
		return err
	}
	if !r.who.Rights.Sees(ns) {
		return r.missing(catalog.ErrNoSuchNamespace, ns)
	}
	return nil
}

func listsNamespaces(_ *handler, r *request) error {
	if p := r.URL.Query().Get("parent"); p != "" {
		return r.seesNamespace(wire.DecodeNamespace(p))
	}
	return nil
}

func createsNamespace(h *handler, r *request) error {
	var body wire.Namespace
	if err := h.decode(r, &body); err != nil {
		return err
	}
	if err := checkNamespace(body.Namespace); err != nil {
		return err
	}
	r.about = append(r.about, body.Namespace)
	if !r.who.Rights.CreatesNamespace(body.Namespace) {
		return r.forbidden("create namespace", catalog.Identifier(body.Namespace).String())
	}
	return nil
}

// onNamespace wants a level on the namespace in the path. None is: to see it.
func onNamespace(least auth.Level) func(*handler, *request) error {
	return func(_ *handler, r *request) error {
		if err := r.seesNamespace(r.ns); err != nil {
			return err
		}
		if r.who.Rights.Namespace(r.ns) < least {
			return r.forbidden(least.String()+" namespace", r.ns.String())
		}
		return nil
	}
}

// has wants a level on a table or a view.
func (r *request) has(least auth.Level, kind string, absent error, id catalog.Identifier) error {
	if err := checkTableName(id); err != nil {
		return err
	}
	switch have := r.who.Rights.Table(id); {
	case have < auth.List:
		return r.missing(absent, id)
	case have < least:
		return r.forbidden(least.String()+" "+kind, id.String())
	}
	return nil
}

// creates wants the right to make a table or a view of that name.
func (r *request) creates(kind string, id catalog.Identifier) error {
	if err := checkTableName(id); err != nil {
		return err
	}
	if r.who.Rights.Creates(id) {
		return nil
	}
	if err := r.seesNamespace(id.Namespace()); err != nil {
		return err
	}
	return r.forbidden("create "+kind, id.String())
}

func onTable(least auth.Level) func(*handler, *request) error {
	return func(_ *handler, r *request) error { return r.has(least, "table", catalog.ErrNoSuchTable, r.subject()) }
}

func onView(least auth.Level) func(*handler, *request) error {
	return func(_ *handler, r *request) error { return r.has(least, "view", catalog.ErrNoSuchView, r.id()) }
}

// createsNamed is for what a path's namespace and a body's name make together.
func createsNamed[T any](kind string, name func(T) string) func(*handler, *request) error {
	return func(h *handler, r *request) error {
		var body T
		if err := h.decode(r, &body); err != nil {
			return err
		}
		id := append(append(make(catalog.Identifier, 0, len(r.ns)+1), r.ns...), name(body))
		r.about = append(r.about, id)
		return r.creates(kind, id)
	}
}

// registers wants more than the right to create where the table that has the name would go.
func registers(h *handler, r *request) error {
	var overwrite bool
	err := createsNamed("table", func(b wire.RegisterTable) string { overwrite = b.Overwrite; return b.Name })(h, r)
	if err != nil || !overwrite {
		return err
	}
	if id := r.about[0]; r.who.Rights.Table(id) < auth.Manage {
		return r.forbidden("register over table", id.String())
	}
	return nil
}

func renames(kind string) func(*handler, *request) error {
	absent := catalog.ErrNoSuchTable
	if kind == "view" {
		absent = catalog.ErrNoSuchView
	}
	return func(h *handler, r *request) error {
		var body wire.Rename
		if err := h.decode(r, &body); err != nil {
			return err
		}
		from, to := body.Source.ID(), body.Destination.ID()
		r.about = append(r.about, from, to)
		subject, err := from, error(nil)
		if kind == "table" {
			subject, err = h.s.subjectOf(r.Context(), from)
		}
		if err == nil {
			err = r.has(auth.Manage, kind, absent, subject)
		}
		if err != nil {
			return err
		}
		return r.creates(kind, to)
	}
}

// commits wants write, or the right to create where the commit makes its table.
func (r *request) commits(id catalog.Identifier, c wire.CommitTable) error {
	if creates(c.Requirements) {
		return r.creates("table", id)
	}
	return r.has(auth.Write, "table", catalog.ErrNoSuchTable, id)
}

func commitsTable(h *handler, r *request) error {
	var body wire.CommitTable
	if err := h.decode(r, &body); err != nil {
		return err
	}
	return r.commits(r.subject(), body)
}

func commitsTables(h *handler, r *request) error {
	var body wire.CommitTransaction
	if err := h.decode(r, &body); err != nil {
		return err
	}
	for i, c := range body.Changes {
		if c.Identifier == nil {
			return fmt.Errorf("%w: table-changes[%d] has no identifier", catalog.ErrInvalid, i)
		}
		r.about = append(r.about, c.Identifier.ID())
	}
	for i, c := range body.Changes {
		id, err := h.s.subjectOf(r.Context(), r.about[i])
		if err == nil {
			err = r.commits(id, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keeps tells which names of a listing the principal may see; nil is all.
func (r *request) keeps(see func(auth.Rights, catalog.Identifier) bool) func(catalog.Identifier) bool {
	if r.who == nil || r.who.Rights.Overall() >= auth.List {
		return nil
	}
	return func(id catalog.Identifier) bool { return see(r.who.Rights, id) }
}

func seesTable(a auth.Rights, id catalog.Identifier) bool { return a.Table(id) >= auth.List }

func seesNamespace(a auth.Rights, id catalog.Identifier) bool { return a.Sees(id) }

// properties are what clients are told about the storage. Keys to all of it are only for those who may write all of it.
func (h *handler) properties(r *request) map[string]string {
	p := h.s.cfg.S3
	p.VendStaticCredentials = p.VendStaticCredentials && !h.withholds(r)
	return p.clientProperties()
}

func (h *handler) withholds(r *request) bool {
	return h.s.cfg.S3.VendStaticCredentials && !r.writesAll()
}

// writesAll tells whether the caller may write everything there is and will be.
func (r *request) writesAll() bool { return r.who == nil || r.who.Rights.Overall() >= auth.Write }

// maxForm bounds the body of a token request, in bytes.
const maxForm = 16 << 10

// token gives a client a token, as RFC 6749 (4.4) and the Iceberg protocol have it.
func (h *handler) token(r *request) (reply, error) {
	r.out.Header().Set("Cache-Control", "no-store")
	if h.who == nil || !h.who.Issues() {
		return reply{}, fmt.Errorf("%w: this catalog issues no tokens: set catalog.auth.clients", errNoEndpoint)
	}
	q, err := tokenRequest(r)
	if err != nil {
		return oauthFailure(r, err)
	}
	from := remoteHost(r.Request) + " " + q.ClientID
	if wait, ok := h.strangers.peek(from); !ok {
		return reply{}, &tooManyError{wait: wait}
	}
	answer, who, err := h.who.Issue(q)
	if err != nil {
		h.strangers.take(from)
		return oauthFailure(r, err)
	}
	r.who = who
	return ok(answer), nil
}

func tokenRequest(r *request) (q auth.TokenRequest, err error) {
	bad := func(why string) error {
		return &auth.OAuthError{Status: http.StatusBadRequest, Code: "invalid_request", Description: why}
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return q, bad("the body must be application/x-www-form-urlencoded")
	}
	raw, err := io.ReadAll(http.MaxBytesReader(r.out, r.Body, maxForm))
	if err != nil {
		return q, bad(fmt.Sprintf("the body has more than %d bytes or is cut short", maxForm))
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return q, bad("the body is no form")
	}
	for _, k := range []string{"grant_type", "client_id", "client_secret"} {
		if len(form[k]) > 1 {
			return q, bad(k + " stands there twice")
		}
	}
	q = auth.TokenRequest{GrantType: form.Get("grant_type"), ClientID: form.Get("client_id"), ClientSecret: form.Get("client_secret")}
	id, secret, basic := r.BasicAuth()
	if !basic {
		return q, nil
	}
	if q.ClientSecret != "" {
		return q, bad("the client is named by a header and in the body: use one of them")
	}
	// RFC 6749, 2.3.1: both are form-encoded before they are put together. Many clients leave that out.
	if d, err := url.QueryUnescape(id); err == nil {
		id = d
	}
	if d, err := url.QueryUnescape(secret); err == nil {
		secret = d
	}
	q.ClientID, q.ClientSecret = id, secret
	return q, nil
}

func oauthFailure(r *request, err error) (reply, error) {
	var o *auth.OAuthError
	if !errors.As(err, &o) {
		return reply{}, err
	}
	if o.Status == http.StatusUnauthorized {
		r.denied = true
		r.out.Header().Set("WWW-Authenticate", `Basic realm="firn catalog"`)
	}
	return reply{o.Status, o}, nil
}

// slow bounds the time that a client may take to send its body: reading it does not heed the request's context.
func (h *handler) slow(w http.ResponseWriter) {
	// A writer that cannot is one of a test or of a proxy in front, which has bounds of its own.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.s.cfg.RequestTimeout.D()))
}
