package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// Secrets of the tests; none may stand in anything that is written.
const (
	canaryAdmin = "canary-admin-0123456789"
	canaryKey   = "canary-key-0123456789abcdef0123456789abcdef"
)

func canaryOf(name string) string { return "canary-token-of-" + name }

// roles of the tests: one for each level on ns.t, with the namespace as far as it goes with it.
var testRoles = []auth.Role{
	{Name: "list", Grants: []auth.Grant{{Allow: auth.List, Table: []string{"ns", "t"}}, {Allow: auth.List, Namespace: []string{"ns"}}}},
	{Name: "read", Grants: []auth.Grant{{Allow: auth.Read, Table: []string{"ns", "t"}}, {Allow: auth.Read, Namespace: []string{"ns"}}}},
	{Name: "write", Grants: []auth.Grant{{Allow: auth.Write, Table: []string{"ns", "t"}}, {Allow: auth.Write, Namespace: []string{"ns"}}}},
	{Name: "manage", Grants: []auth.Grant{{Allow: auth.Manage, Below: []string{"ns"}}}},
	{Name: "tables", Grants: []auth.Grant{{Allow: auth.Manage, Namespace: []string{"ns"}}}},
	{Name: "reader", Grants: []auth.Grant{{Allow: auth.Read, All: true}}},
	{Name: "writer", Grants: []auth.Grant{{Allow: auth.Write, All: true}}},
}

func guarded(t *testing.T, log *slog.Logger, reg prometheus.Registerer, change func(*server.Config)) *fixture {
	t.Helper()
	return guardedOn(t, objstore.NewMemory(), log, reg, change)
}

func guardedOn(t *testing.T, store objstore.Store, log *slog.Logger, reg prometheus.Registerer, change func(*server.Config)) *fixture {
	t.Helper()
	cfg := server.Config{Store: "sqlite::memory:", Token: units.NewSecret(canaryAdmin), Auth: auth.Config{Roles: testRoles, SigningKey: units.NewSecret(canaryKey),
		Clients: []auth.Client{{ID: "spark", Secret: units.NewSecret(canaryOf("client")), Roles: []string{"read"}}}}}
	cfg.ManifestCheck.Mode = "off" // most tests commit snapshots whose files are not there
	cfg.Auth.Tokens = append(cfg.Auth.Tokens, auth.Token{Name: "nobody", Token: units.NewSecret(canaryOf("nobody"))})
	for _, r := range testRoles {
		cfg.Auth.Tokens = append(cfg.Auth.Tokens, auth.Token{Name: r.Name, Token: units.NewSecret(canaryOf(r.Name)), Roles: []string{r.Name}})
	}
	if change != nil {
		change(&cfg)
	}
	if elsewhere != nil {
		cfg = elsewhere(t, cfg)
	}
	s, err := server.New(t.Context(), cfg, &objstore.Warehouse{Store: store, URI: "s3://lake/warehouse"}, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &fixture{s, nil, cfg}
}

// as sends a request with the token of a principal.
func (f *fixture) as(t *testing.T, who, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	token := canaryOf(who)
	if who == "admin" {
		token = canaryAdmin
	}
	return f.ask(t, method, path, body, append(header, "Authorization", "Bearer "+token)...)
}

func (f *fixture) makeView(t *testing.T, name string) {
	t.Helper()
	want[none](t, f.as(t, "admin", "POST", "/v1/namespaces/ns/views", viewBody(name)), 200)
}

func viewBody(name string) string {
	return `{"name":"` + name + `","schema":` + schemaJSON + `,"view-version":{"version-id":1,"timestamp-ms":1,"schema-id":0,"summary":{},
		"default-namespace":["ns"],"representations":[{"type":"sql","sql":"select 1","dialect":"spark"}]},"properties":{}}`
}

// TestPermissions: who gets which answer of which route. A level below the one that is needed is answered with 403, and
// one who may not even list it gets 404.
func TestPermissions(t *testing.T) {
	const commit = `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`
	who := []string{"nobody", "list", "read", "write", "tables", "manage"}
	for _, tc := range []struct {
		method, path, body string
		want               [6]int
	}{
		{"GET", "/v1/config", "", [6]int{200, 200, 200, 200, 200, 200}},
		{"GET", "/v1/namespaces", "", [6]int{200, 200, 200, 200, 200, 200}},
		{"GET", "/v1/namespaces?parent=ns", "", [6]int{404, 200, 200, 200, 200, 200}},
		{"POST", "/v1/namespaces", `{"namespace":["ns","new"]}`, [6]int{403, 403, 403, 403, 200, 200}},
		{"POST", "/v1/namespaces", `{"namespace":["top"]}`, [6]int{403, 403, 403, 403, 403, 403}},
		{"GET", "/v1/namespaces/ns", "", [6]int{404, 403, 200, 200, 200, 200}},
		{"HEAD", "/v1/namespaces/ns", "", [6]int{404, 204, 204, 204, 204, 204}},
		{"DELETE", "/v1/namespaces/ns", "", [6]int{404, 403, 403, 403, 409, 409}},
		{"POST", "/v1/namespaces/ns/properties", `{"updates":{"a":"b"}}`, [6]int{404, 403, 403, 403, 200, 200}},
		{"GET", "/v1/namespaces/ns/tables", "", [6]int{404, 200, 200, 200, 200, 200}},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"u","schema":` + schemaJSON + `}`, [6]int{404, 403, 403, 403, 200, 200}},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"u","stage-create":true,"schema":` + schemaJSON + `}`, [6]int{404, 403, 403, 403, 200, 200}},
		{"POST", "/v1/namespaces/ns/register", `{"name":"u","metadata-location":"s3://lake/warehouse/none"}`, [6]int{404, 403, 403, 403, 400, 400}},
		{"POST", "/v1/namespaces/ns/register", `{"name":"t","metadata-location":"s3://lake/warehouse/none","overwrite":true}`, [6]int{404, 403, 403, 403, 403, 400}},
		{"GET", "/v1/namespaces/ns/tables/t", "", [6]int{404, 403, 200, 200, 404, 200}},
		{"HEAD", "/v1/namespaces/ns/tables/t", "", [6]int{404, 204, 204, 204, 404, 204}},
		{"POST", "/v1/namespaces/ns/tables/t", commit, [6]int{404, 403, 403, 200, 404, 200}},
		{"POST", "/v1/namespaces/ns/tables/u", `{"requirements":[{"type":"assert-create"}],"updates":[]}`, [6]int{404, 403, 403, 403, 400, 400}},
		{"DELETE", "/v1/namespaces/ns/tables/t", "", [6]int{404, 403, 403, 403, 404, 204}},
		{"POST", "/v1/namespaces/ns/tables/t/metrics", scanReport, [6]int{404, 403, 204, 204, 404, 204}},
		{"GET", "/v1/firn/namespaces/ns/tables/t/history?at=99999999999999", "", [6]int{404, 403, 404, 404, 404, 404}}, // no commits yet
		{"DELETE", "/v1/firn/namespaces/ns/tables/t/history?before=0", "", [6]int{404, 403, 403, 403, 404, 200}},
		{"GET", "/v1/firn/namespaces/ns/tables/t/events?after=999", "", [6]int{404, 403, 410, 410, 404, 410}}, // of no version there is
		{"POST", "/v1/tables/rename", `{"source":{"namespace":["ns"],"name":"t"},"destination":{"namespace":["ns"],"name":"u"}}`, [6]int{404, 403, 403, 403, 404, 204}},
		{"POST", "/v1/tables/rename", `{"source":{"namespace":["ns"],"name":"t"},"destination":{"namespace":["hidden"],"name":"u"}}`, [6]int{404, 403, 403, 403, 404, 404}},
		{"GET", "/v1/namespaces/ns/views", "", [6]int{404, 200, 200, 200, 200, 200}},
		{"POST", "/v1/namespaces/ns/views", viewBody("w"), [6]int{404, 403, 403, 403, 200, 200}},
		{"POST", "/v1/namespaces/ns/register-view", `{"name":"w","metadata-location":"s3://lake/warehouse/none"}`, [6]int{404, 403, 403, 403, 400, 400}},
		{"GET", "/v1/namespaces/ns/views/v", "", [6]int{404, 404, 404, 404, 404, 200}},
		{"HEAD", "/v1/namespaces/ns/views/v", "", [6]int{404, 404, 404, 404, 404, 204}},
		{"POST", "/v1/namespaces/ns/views/v", commit, [6]int{404, 404, 404, 404, 404, 200}},
		{"DELETE", "/v1/namespaces/ns/views/v", "", [6]int{404, 404, 404, 404, 404, 204}},
		{"POST", "/v1/views/rename", `{"source":{"namespace":["ns"],"name":"v"},"destination":{"namespace":["ns"],"name":"w"}}`, [6]int{404, 404, 404, 404, 404, 204}},
		{"POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"t"},"requirements":[],"updates":[]}]}`, [6]int{404, 403, 403, 204, 404, 204}},
		{"POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"t"},"requirements":[],"updates":[]},
			{"identifier":{"namespace":["hidden"],"name":"t"},"requirements":[],"updates":[]}]}`, [6]int{404, 403, 403, 404, 404, 404}},
	} {
		f := guarded(t, nil, nil, nil)
		f.makeTable(t, "t")
		f.makeView(t, "v")
		for i, w := range who[:5] { // the last one changes what the others are asked about
			if got := f.as(t, w, tc.method, tc.path, tc.body); got.Code != tc.want[i] {
				t.Errorf("%s: %s %s %.80s: HTTP %d, want %d: %s", w, tc.method, tc.path, tc.body, got.Code, tc.want[i], got.Body)
			}
		}
		fresh := guarded(t, nil, nil, nil)
		fresh.makeTable(t, "t")
		fresh.makeView(t, "v")
		if got := fresh.as(t, "manage", tc.method, tc.path, tc.body); got.Code != tc.want[5] {
			t.Errorf("manage: %s %s %.80s: HTTP %d, want %d: %s", tc.method, tc.path, tc.body, got.Code, tc.want[5], got.Body)
		}
	}
}

// TestHiddenIsAsAbsent: what one may not know of is answered as what is not there, byte for byte but for the name.
func TestHiddenIsAsAbsent(t *testing.T) {
	f := guarded(t, nil, nil, nil)
	f.makeTable(t, "zztable") // names of one length
	f.makeView(t, "zzviews")
	if err := f.Service().CreateNamespace(t.Context(), catalog.Identifier{"zzspace"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ method, path, body string }{
		{"GET", "/v1/namespaces/ns/tables/NAME", ""}, {"HEAD", "/v1/namespaces/ns/tables/NAME", ""}, {"DELETE", "/v1/namespaces/ns/tables/NAME", ""},
		{"POST", "/v1/namespaces/ns/tables/NAME", `{"requirements":[],"updates":[]}`}, {"POST", "/v1/namespaces/ns/tables/NAME/metrics", scanReport},
		{"GET", "/v1/firn/namespaces/ns/tables/NAME/history?at=1", ""},
		{"POST", "/v1/tables/rename", `{"source":{"namespace":["ns"],"name":"NAME"},"destination":{"namespace":["ns"],"name":"u"}}`},
		{"POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"NAME"},"requirements":[],"updates":[]}]}`},
		{"GET", "/v1/namespaces/ns/views/NAME", ""}, {"HEAD", "/v1/namespaces/ns/views/NAME", ""}, {"DELETE", "/v1/namespaces/ns/views/NAME", ""},
		{"POST", "/v1/namespaces/ns/views/NAME", `{"requirements":[],"updates":[]}`},
		{"POST", "/v1/views/rename", `{"source":{"namespace":["ns"],"name":"NAME"},"destination":{"namespace":["ns"],"name":"u"}}`},
		{"GET", "/v1/namespaces/NAME", ""}, {"HEAD", "/v1/namespaces/NAME", ""}, {"DELETE", "/v1/namespaces/NAME", ""},
		{"POST", "/v1/namespaces/NAME/properties", `{"updates":{}}`}, {"GET", "/v1/namespaces/NAME/tables", ""}, {"GET", "/v1/namespaces/NAME/views", ""},
		{"GET", "/v1/namespaces?parent=NAME", ""}, {"POST", "/v1/namespaces/NAME/tables", `{"name":"x","schema":` + schemaJSON + `}`},
		{"POST", "/v1/namespaces/NAME/views", viewBody("x")}, {"POST", "/v1/namespaces", `{"namespace":["NAME"]}`},
	} {
		// "tables" manages the namespace ns and nothing in it: tables and views in there are hidden from it.
		name := "zztable"
		if strings.Contains(tc.path, "views") && !strings.Contains(tc.path, "NAME/views") {
			name = "zzviews"
		}
		if !strings.Contains(tc.path+tc.body, `ns/`) && !strings.Contains(tc.body, `["ns"]`) || strings.Contains(tc.path, "/namespaces/NAME") {
			name = "zzspace"
		}
		at := func(who, name string) string {
			w := f.as(t, who, tc.method, strings.ReplaceAll(tc.path, "NAME", name), strings.ReplaceAll(tc.body, "NAME", name))
			return fmt.Sprint(w.Code, strings.ReplaceAll(w.Body.String(), name, "NAME"), w.Header())
		}
		hidden, absent := at("tables", name), at("tables", "zzgonez")
		if hidden != absent {
			t.Errorf("%s %s: hidden is told from absent:\n%s\n%s", tc.method, tc.path, hidden, absent)
		}
		if real := at("admin", "zzgonez"); !strings.HasPrefix(hidden, "403") && hidden != real {
			t.Errorf("%s %s: hidden is told from what is not there:\n%s\n%s", tc.method, tc.path, hidden, real)
		}
	}
}

// TestListingsAreFiltered, page by page: neither names nor how many are hidden come through, nor does a page token.
func TestListingsAreFiltered(t *testing.T) {
	f := guarded(t, nil, nil, func(c *server.Config) {
		c.Auth.Roles = append(slices.Clone(testRoles), auth.Role{Name: "some", Grants: []auth.Grant{
			{Allow: auth.List, Table: []string{"ns", "t03"}}, {Allow: auth.Read, Table: []string{"ns", "t11"}}, {Allow: auth.List, Table: []string{"ns", "t19"}},
			{Allow: auth.List, Table: []string{"deep", "in", "x"}}}})
		c.Auth.Tokens = append(c.Auth.Tokens, auth.Token{Name: "some", Token: units.NewSecret(canaryOf("some")), Roles: []string{"some"}})
	})
	for i := range 25 {
		f.makeTable(t, fmt.Sprintf("t%02d", i))
	}
	for _, ns := range []catalog.Identifier{{"deep"}, {"deep", "in"}, {"deep", "out"}, {"other"}} {
		if err := f.Service().CreateNamespace(t.Context(), ns, nil); err != nil {
			t.Fatal(err)
		}
	}
	type page struct {
		Identifiers []struct{ Name string }
		Namespaces  [][]string
		Next        *string `json:"next-page-token"`
	}
	walk := func(who, path, size string) (names []string, pages int) {
		for token := ""; ; {
			p := want[page](t, f.as(t, who, "GET", path+"?pageSize="+size+"&pageToken="+token, ""), 200)
			pages++
			for _, id := range p.Identifiers {
				names = append(names, id.Name)
			}
			for _, ns := range p.Namespaces {
				names = append(names, strings.Join(ns, "."))
			}
			if p.Next == nil {
				return names, pages
			}
			token = url.QueryEscape(*p.Next)
		}
	}
	for size, pages := range map[string]int{"1": 3, "2": 2, "3": 1, "100": 1} {
		names, n := walk("some", "/v1/namespaces/ns/tables", size)
		if fmt.Sprint(names) != "[t03 t11 t19]" || n != pages {
			t.Errorf("pages of %s: %v in %d, want %d", size, names, n, pages)
		}
	}
	if names, _ := walk("some", "/v1/namespaces", "1"); fmt.Sprint(names) != "[deep ns]" {
		t.Errorf("namespaces %v", names)
	}
	for who, wantNames := range map[string]int{"nobody": 0, "manage": 1, "reader": 3, "admin": 3} {
		if p := want[page](t, f.as(t, who, "GET", "/v1/namespaces", ""), 200); len(p.Namespaces) != wantNames {
			t.Errorf("%s sees the namespaces %v", who, p.Namespaces)
		}
	}
	if p := want[page](t, f.as(t, "some", "GET", "/v1/namespaces?parent=deep", ""), 200); fmt.Sprint(p.Namespaces) != "[[deep in]]" {
		t.Errorf("below deep: %v", p.Namespaces)
	}
	if p := want[page](t, f.as(t, "reader", "GET", "/v1/namespaces/ns/tables", ""), 200); len(p.Identifiers) != 25 {
		t.Errorf("a reader of all sees %d tables", len(p.Identifiers))
	}
}

// TestNamesAreNoPatterns over the wire: a grant on an odd name gives that table and no other.
func TestNamesAreNoPatterns(t *testing.T) {
	names := []string{"a%", "a_", "a.b", `a"b`, "a'b", `a\b`, "a/b", "[a]", "a%2Fb", "%61", "..", "a ", "A", strings.Repeat("n", 300)}
	f := guarded(t, nil, nil, func(c *server.Config) {
		for i, n := range names {
			role := fmt.Sprint("odd", i)
			c.Auth.Roles = append(slices.Clone(c.Auth.Roles), auth.Role{Name: role, Grants: []auth.Grant{{Allow: auth.Read, Table: []string{"ns", n}}}})
			c.Auth.Tokens = append(c.Auth.Tokens, auth.Token{Name: role, Token: units.NewSecret(canaryOf(role)), Roles: []string{role}})
		}
	})
	for _, n := range append([]string{"ab", "a", "aa", "xx"}, names...) {
		f.makeTable(t, n)
	}
	for i, granted := range names {
		for _, n := range append([]string{"ab", "a", "aa", "xx"}, names...) {
			status := 404
			if n == granted {
				status = 204
			}
			path := "/v1/namespaces/ns/tables/" + strings.NewReplacer(".", "%2E", "+", "%20").Replace(url.QueryEscape(n))
			if w := f.as(t, fmt.Sprint("odd", i), "HEAD", path, ""); w.Code != status {
				t.Errorf("granted %q, asked %q: HTTP %d", granted, n, w.Code)
			}
		}
	}
}

func TestTokenEndpoint(t *testing.T) {
	f := guarded(t, nil, nil, nil)
	f.makeTable(t, "t")
	form := func(kv ...string) string {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Add(kv[i], kv[i+1])
		}
		return v.Encode()
	}
	good := form("grant_type", "client_credentials", "client_id", "spark", "client_secret", canaryOf("client"), "scope", "catalog")
	const kind = "application/x-www-form-urlencoded"
	type answer struct {
		Token   string `json:"access_token"`
		Type    string `json:"token_type"`
		Expires int    `json:"expires_in"`
	}
	w := f.ask(t, "POST", "/v1/oauth/tokens", good, "Content-Type", kind)
	got := want[answer](t, w, 200)
	if got.Type != "bearer" || got.Expires != 900 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%+v %v", got, w.Header())
	}
	want[none](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", "", "Authorization", "Bearer "+got.Token), 200)
	want[failure](t, f.ask(t, "DELETE", "/v1/namespaces/ns/tables/t", "", "Authorization", "Bearer "+got.Token), 403)
	if conf := want[struct{ Defaults map[string]string }](t, f.ask(t, "GET", "/v1/config", "", "Authorization", "Bearer "+got.Token), 200); conf.Defaults["token-exchange-enabled"] != "false" {
		t.Errorf("config %v", conf.Defaults)
	}

	basic := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/oauth/tokens", strings.NewReader("grant_type=client_credentials"))
	basic.SetBasicAuth("spark", canaryOf("client"))
	basic.Header.Set("Content-Type", kind)
	want[answer](t, f.exchange(t, basic, "grant_type=client_credentials"), 200)

	for _, tc := range []struct {
		body, kind string
		status     int
		code       string
	}{
		{strings.Replace(good, "client&", "clientx&", 1), kind, 401, "invalid_client"},
		{form("grant_type", "client_credentials"), kind, 401, "invalid_client"},
		{form("grant_type", "client_credentials", "client_id", "admin", "client_secret", canaryAdmin), kind, 401, "invalid_client"},
		{form("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token", got.Token), kind, 400, "unsupported_grant_type"},
		{form("grant_type", "refresh_token"), kind, 400, "unsupported_grant_type"},
		{"", kind, 400, "invalid_request"},
		{good + "&client_id=other", kind, 400, "invalid_request"},
		{"%zz", kind, 400, "invalid_request"},
		{good, "application/json", 400, "invalid_request"},
		{good, "", 400, "invalid_request"},
		{good + strings.Repeat("&x=y", 10_000), kind, 400, "invalid_request"},
	} {
		w := f.ask(t, "POST", "/v1/oauth/tokens", tc.body, "Content-Type", tc.kind)
		got := want[struct {
			Error       string
			Description string `json:"error_description"`
		}](t, w, tc.status)
		if got.Error != tc.code || got.Description == "" || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%.60s: %s", tc.body, w.Body)
		}
	}
	off := memory(t)
	r := httptest.NewRecorder()
	off.Handler().ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), "POST", "/v1/oauth/tokens", strings.NewReader(good)))
	if r.Code != 404 || !strings.Contains(r.Body.String(), "catalog.auth.clients") {
		t.Errorf("a catalog without clients: %d %s", r.Code, r.Body)
	}
}

// TestIdempotencyKeysAreOnesOwn: what one principal was answered is told to no other.
func TestIdempotencyKeysAreOnesOwn(t *testing.T) {
	f := guarded(t, nil, nil, nil)
	f.makeTable(t, "t")
	const key, body = "018f4b2e-2d6b-7c3a-9a60-3f1e5d2c4b6a", `{"removals":["secret"],"updates":{"a":"b"}}`
	want[none](t, f.as(t, "manage", "POST", "/v1/namespaces/ns/properties", body, "Idempotency-Key", key), 200)
	want[none](t, f.as(t, "manage", "POST", "/v1/namespaces/ns/properties", body, "Idempotency-Key", key), 200)
	want[failure](t, f.as(t, "tables", "POST", "/v1/namespaces/ns/properties", body, "Idempotency-Key", key), 400)
	want[failure](t, f.as(t, "read", "POST", "/v1/namespaces/ns/properties", body, "Idempotency-Key", key), 403)
}

// TestVendedKeysNeedRightsToEverything: keys to the whole warehouse would go round every role.
func TestVendedKeysNeedRightsToEverything(t *testing.T) {
	f := guarded(t, nil, nil, func(c *server.Config) {
		c.S3 = server.S3Properties{Region: "r", VendStaticCredentials: true, AccessKey: units.NewSecret("canary-access"), SecretKey: units.NewSecret("canary-secret")}
	})
	f.makeTable(t, "t")
	f.makeView(t, "v")
	for who, keys := range map[string]bool{"read": false, "manage": false, "reader": false, "writer": true, "admin": true} {
		tags := map[string]bool{}
		for _, path := range []string{"/v1/config", "/v1/namespaces/ns/tables/t", "/v1/namespaces/ns/tables/t?snapshots=refs"} {
			w := f.as(t, who, "GET", path, "")
			if w.Code != 200 || strings.Contains(w.Body.String(), "canary-secret") != keys || !strings.Contains(w.Body.String(), "client.region") {
				t.Errorf("%s %s: %d, keys %v expected: %s", who, path, w.Code, keys, w.Body)
			}
			if tag := w.Header().Get("ETag"); tag != "" {
				tags[tag] = true
			}
		}
		for tag := range tags { // an answer without keys is not the one with them
			for other, otherKeys := range map[string]bool{"reader": false, "writer": true} {
				w := f.as(t, other, "GET", "/v1/namespaces/ns/tables/t", "", "If-None-Match", tag)
				if keys != otherKeys && w.Code == 304 {
					t.Errorf("the tag of %s is good for %s", who, other)
				}
			}
		}
	}
}

// TestAuditTrail: who, what, from where and how it ended, for what changes something and for what is refused; nothing for
// reads that are allowed; and no secret, in any form of output.
func TestAuditTrail(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg := prometheus.NewRegistry()
	f := guarded(t, log, reg, func(c *server.Config) {
		c.S3 = server.S3Properties{VendStaticCredentials: true, AccessKey: units.NewSecret("canary-access"), SecretKey: units.NewSecret("canary-secret")}
	})
	f.makeTable(t, "t")
	var answers strings.Builder
	keep := func(w *httptest.ResponseRecorder) {
		fmt.Fprintln(&answers, w.Body, w.Header())
	}
	keep(f.as(t, "read", "GET", "/v1/namespaces/ns/tables/t", ""))
	keep(f.as(t, "manage", "POST", "/v1/namespaces/ns/tables", `{"name":"a.b\"c","schema":`+schemaJSON+`}`))
	keep(f.as(t, "read", "DELETE", "/v1/namespaces/ns/tables/t", ""))
	keep(f.as(t, "nobody", "GET", "/v1/namespaces/ns/tables/t", ""))
	keep(f.as(t, "write", "POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"t"},"requirements":[{"type":"assert-table-uuid","uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1"}],"updates":[]}]}`))
	keep(f.as(t, "unknown", "GET", "/v1/namespaces", ""))
	keep(f.ask(t, "GET", "/v1/namespaces", ""))
	keep(f.ask(t, "POST", "/v1/oauth/tokens", "grant_type=client_credentials&client_id=spark&client_secret=canary-wrong", "Content-Type", "application/x-www-form-urlencoded"))
	token := f.ask(t, "POST", "/v1/oauth/tokens", "grant_type=client_credentials&client_id=spark&client_secret="+canaryOf("client"), "Content-Type", "application/x-www-form-urlencoded")
	var issued struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(token.Body.Bytes(), &issued); err != nil || issued.Token == "" {
		t.Fatalf("%v %s", err, token.Body)
	}
	keep(f.ask(t, "DELETE", "/v1/namespaces/ns/tables/t", "", "Authorization", "Bearer "+issued.Token))
	keep(f.ask(t, "DELETE", "/v1/namespaces/ns/tables/t", "", "Authorization", "Bearer "+issued.Token+"x"))

	var got []string
	for line := range strings.Lines(out.String()) {
		var e struct {
			Msg, Action, Outcome, Principal, Via, From string
			Status                                     int
			About                                      []string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Msg == "audit" {
			if e.From == "" {
				t.Errorf("from where: %s", line)
			}
			got = append(got, fmt.Sprintf("%s %s %s %s %d %q", e.Principal, e.Via, e.Action, e.Outcome, e.Status, e.About))
		}
	}
	wanted := []string{
		`manage token create_table done 200 ["ns.\"a.b\"\"c\""]`,
		`read token drop_table refused 403 ["ns.t"]`,
		`nobody token load_table refused 404 ["ns.t"]`,
		`write token commit_transaction failed 409 ["ns.t"]`,
		`  list_namespaces refused 401 []`,
		`  list_namespaces refused 401 []`,
		`  oauth_token refused 401 []`,
		`spark client drop_table refused 403 ["ns.t"]`,
		`  drop_table refused 401 ["ns.t"]`,
	}
	if !slices.Equal(got, wanted) {
		t.Errorf("the trail is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(wanted, "\n  "))
	}

	metrics, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"log": out.String(), "answers": answers.String(), "metrics": fmt.Sprint(metrics),
		"configuration": fmt.Sprintf("%v %+v %#v", f.cfg, f.cfg, f.cfg)} {
		for _, secret := range []string{"canary", issued.Token, strings.Split(issued.Token, ".")[2]} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret stands in the %s", name)
			}
		}
	}
	if !strings.Contains(fmt.Sprint(metrics), "firn_catalog_audit_entries_total") {
		t.Error("entries are not counted")
	}
}

// TestRates: a principal that asks too often waits, others do not, and one who guesses is not even looked at.
func TestRates(t *testing.T) {
	f := guarded(t, nil, nil, func(c *server.Config) { c.RequestsPerSecond, c.RequestBurst = 0.01, 3 })
	for range 3 {
		want[none](t, f.as(t, "reader", "GET", "/v1/config", ""), 200)
	}
	w := f.as(t, "reader", "GET", "/v1/config", "")
	if got := want[failure](t, w, 429); got.Error.Type != "TooManyRequestsException" || !strings.Contains(got.Error.Message, "requests_per_second") || w.Header().Get("Retry-After") == "" {
		t.Errorf("%s %v", w.Body, w.Header())
	}
	want[none](t, f.as(t, "writer", "GET", "/v1/config", ""), 200)

	g := guarded(t, nil, nil, nil)
	last := 0
	for range 60 {
		last = g.as(t, "wrong", "GET", "/v1/config", "").Code
	}
	if last != 429 {
		t.Errorf("the sixtieth guess gets %d", last)
	}
	want[none](t, g.as(t, "reader", "GET", "/v1/config", ""), 200) // from the same address
	guess := func(id, secret string) int {
		return g.ask(t, "POST", "/v1/oauth/tokens", "grant_type=client_credentials&client_id="+id+"&client_secret="+secret, "Content-Type", "application/x-www-form-urlencoded").Code
	}
	for range 60 {
		last = guess("other", "x")
	}
	if last != 429 || guess("spark", canaryOf("client")) != 200 {
		t.Errorf("the sixtieth guess at one client gets %d, or keeps another out", last)
	}
}

// TestClientThroughRoles: Firn's own client sees the contract's errors, and the whole suite runs with a token of a role.
func TestClientThroughRoles(t *testing.T) {
	catalogtest.Run(t, func(t *testing.T) catalog.Catalog {
		f := guarded(t, nil, nil, func(c *server.Config) {
			c.Token = units.Secret{}
			c.Auth.Roles = append(slices.Clone(c.Auth.Roles), auth.Role{Name: "owner", Grants: []auth.Grant{{Allow: auth.Manage, All: true}}})
			c.Auth.Tokens = append(c.Auth.Tokens, auth.Token{Name: "owner", Token: units.NewSecret(canaryOf("owner")), Roles: []string{"owner"}})
		})
		f.cfg.Token = units.NewSecret(canaryOf("owner"))
		return f.dial(t)
	}, overHTTP)
}

func TestWrongAccessConfigurations(t *testing.T) {
	ok := server.Config{Store: "sqlite::memory:", Auth: auth.Config{Roles: testRoles, Tokens: []auth.Token{{Name: "a", Token: units.NewSecret(canaryAdmin)}}}}
	if err := ok.WithDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	wide := ok
	wide.Listen = "0.0.0.0:8181"
	if err := wide.WithDefaults().Validate(); err != nil {
		t.Errorf("with tokens it may be reached from outside: %v", err)
	}
	for want, wreck := range map[string]func(*server.Config){
		"auth.tokens[0].roles[0]":  func(c *server.Config) { c.Auth.Tokens[0].Roles = []string{"x"} },
		"allow_anonymous: it lets": func(c *server.Config) { c.AllowAnonymous = true },
		"tls.cert: it needs":       func(c *server.Config) { c.TLS.Cert = "c.pem" },
		"auth.mtls.client_ca: client": func(c *server.Config) {
			c.Auth.MTLS = auth.MTLS{ClientCA: "ca", Principals: []auth.CertifiedClient{{Name: "a", DNS: "d"}}}
		},
		"auth.signing_key: several": func(c *server.Config) {
			c.Store = "postgres://firn@h/d"
			c.Auth.Clients = []auth.Client{{ID: "a", Secret: units.NewSecret(canaryAdmin)}}
		},
		"requests_per_second": func(c *server.Config) { c.RequestsPerSecond = -1 },
		"request_burst":       func(c *server.Config) { c.RequestBurst = -1 },
	} {
		c := ok
		c.Auth.Tokens = slices.Clone(ok.Auth.Tokens)
		wreck(&c)
		if err := c.WithDefaults().Validate(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
