package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

const schemaJSON = `{"type":"struct","schema-id":0,"fields":[{"id":1,"name":"id","required":false,"type":"long"}]}`

const scanReport = `{"report-type":"scan-report","table-name":"ns.t","snapshot-id":1,"schema-id":0,"projected-field-ids":[1],
	"projected-field-names":["id"],"filter":{"type":"true"},"metrics":{"total-planning-duration":{"count":1,"time-unit":"nanoseconds","total-duration":9}}}`

// ask sends one request to the handler, as a client that is not Firn would. The published document of the protocol is
// held against what was asked and answered.
func (f *fixture) ask(t *testing.T, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return f.exchange(t, r, body)
}

// want checks the status and decodes the answer.
func want[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (out T) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("HTTP %d, want %d: %s", w.Code, status, w.Body)
	}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatalf("%v in %s", err, w.Body)
		}
	}
	return out
}

type none struct{}

type loaded struct {
	Location string            `json:"metadata-location"`
	Metadata json.RawMessage   `json:"metadata"`
	Config   map[string]string `json:"config"`
}

type failure struct {
	Error struct {
		Message, Type string
		Code          int
	}
}

func (f *fixture) makeTable(t *testing.T, name string) *catalog.Table {
	t.Helper()
	_ = f.Service().CreateNamespace(t.Context(), catalog.Identifier{"ns"}, nil) // it may be there
	made, err := f.Service().CreateTable(t.Context(), catalog.Identifier{"ns", name}, catalog.CreateTable{Schema: catalogtest.Schema()})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (f *fixture) append(t *testing.T, to *catalog.Table, id int64) *catalog.Table {
	t.Helper()
	got, err := f.Service().CommitTable(t.Context(), catalogtest.Append(to, id, nil))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestWalkThrough(t *testing.T) {
	f := memory(t)
	conf := want[struct{ Endpoints []string }](t, f.ask(t, "GET", "/v1/config?warehouse=x", ""), 200)
	if !slices.Contains(conf.Endpoints, "POST /v1/{prefix}/transactions/commit") {
		t.Errorf("endpoints %q", conf.Endpoints)
	}
	want[none](t, f.ask(t, "POST", "/v1/namespaces", `{"namespace":["a"],"properties":{"x":"1","y":"2"}}`), 200)
	want[failure](t, f.ask(t, "POST", "/v1/namespaces", `{"namespace":["a"]}`), 409)
	want[none](t, f.ask(t, "HEAD", "/v1/namespaces/a", ""), 204)
	want[none](t, f.ask(t, "HEAD", "/v1/namespaces/b", ""), 404)
	changed := want[struct{ Updated, Removed, Missing []string }](t,
		f.ask(t, "POST", "/v1/namespaces/a/properties", `{"removals":["x","z"],"updates":{"y":"3"}}`), 200)
	if fmt.Sprint(changed) != "{[y] [x] [z]}" {
		t.Errorf("properties changed: %v", changed)
	}
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/a/properties", `{"removals":["y"],"updates":{"y":"3"}}`), 422)
	ns := want[struct{ Properties map[string]string }](t, f.ask(t, "GET", "/v1/namespaces/a", ""), 200)
	place := ns.Properties["location"]
	if delete(ns.Properties, "location"); fmt.Sprint(ns.Properties) != "map[y:3]" {
		t.Errorf("properties %v", ns.Properties)
	}
	if !strings.HasPrefix(place, f.wh.URI+"/") {
		t.Errorf("the namespace places its tables in %q", place)
	}

	staged := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/a/tables", `{"name":"t","stage-create":true,"schema":`+schemaJSON+`}`), 200)
	if staged.Location != "" {
		t.Errorf("a staged table has the metadata file %s", staged.Location)
	}
	want[none](t, f.ask(t, "HEAD", "/v1/namespaces/a/tables/t", ""), 404)
	made := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/a/tables", `{"name":"t","schema":`+schemaJSON+`}`), 200)
	want[none](t, f.ask(t, "HEAD", "/v1/namespaces/a/tables/t", ""), 204)
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/a/tables", `{"name":"t","schema":`+schemaJSON+`}`), 409)
	f.wantFile(t, made)

	want[none](t, f.ask(t, "POST", "/v1/tables/rename", `{"source":{"namespace":["a"],"name":"t"},"destination":{"namespace":["a"],"name":"u"}}`), 204)
	want[none](t, f.ask(t, "GET", "/v1/namespaces/a/tables/t", ""), 404)
	moved := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/a/tables/u", ""), 200)
	if moved.Location != made.Location {
		t.Errorf("a rename moved the metadata from %s to %s", made.Location, moved.Location)
	}
	want[failure](t, f.ask(t, "DELETE", "/v1/namespaces/a", ""), 409)
	want[none](t, f.ask(t, "POST", "/v1/namespaces/a/tables/u/metrics", scanReport), 204)
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/a/tables/u", ""), 204)
	f.wantFile(t, made) // dropped without purge: its files stay, and it can be registered
	back := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/a/register", `{"name":"v","metadata-location":"`+made.Location+`"}`), 200)
	if back.Location != made.Location || !sameJSON(back.Metadata, made.Metadata) {
		t.Errorf("registered %s: %s", back.Location, back.Metadata)
	}
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/a/tables/v?purgeRequested=true", ""), 204)
	key, _ := f.wh.Key(made.Location)
	if _, err := f.wh.Stat(t.Context(), key); err == nil {
		t.Error("a purge left the metadata file")
	}
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/a", ""), 204)
}

// wantFile checks that the metadata file of an answer is there, holds what the answer says, and is a table.
func (f *fixture) wantFile(t *testing.T, l loaded) table.Metadata {
	t.Helper()
	m, err := table.ParseMetadataBytes(f.handedOut(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// handedOut reads the metadata file of an answer, which must hold what the answer says.
func (f *fixture) handedOut(t *testing.T, l loaded) []byte {
	t.Helper()
	key, err := f.wh.Key(l.Location)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := f.wh.Get(t.Context(), key, 1<<30)
	if err != nil {
		t.Fatalf("the metadata file that was handed out: %v", err)
	}
	if !sameJSON(doc, l.Metadata) {
		t.Fatalf("%s holds\n%s\nthe answer says\n%s", l.Location, doc, l.Metadata)
	}
	return doc
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func TestPages(t *testing.T) {
	f := memory(t)
	const n = 7
	for i := range n {
		f.makeTable(t, fmt.Sprintf("t%d", i))
	}
	type page struct {
		Identifiers []struct{ Name string }
		Next        *string `json:"next-page-token"`
	}
	if all := want[page](t, f.ask(t, "GET", "/v1/namespaces/ns/tables", ""), 200); len(all.Identifiers) != n || all.Next != nil {
		t.Errorf("without a token: %v", all)
	}
	var names []string
	token, pages := "", 0
	for {
		p := want[page](t, f.ask(t, "GET", "/v1/namespaces/ns/tables?pageSize=3&pageToken="+token, ""), 200)
		for _, id := range p.Identifiers {
			names = append(names, id.Name)
		}
		if pages++; p.Next == nil {
			break
		}
		token = *p.Next
	}
	if pages != 3 || len(names) != n || !slices.IsSorted(names) {
		t.Errorf("%d pages: %v", pages, names)
	}
	for _, q := range []string{"pageToken=%21", "pageToken=&pageSize=0", "pageToken=&pageSize=x"} {
		want[failure](t, f.ask(t, "GET", "/v1/namespaces/ns/tables?"+q, ""), 400)
	}
	for _, after := range []string{"a\x00b", "\xff", strings.Repeat("x", 1025)} { // no name, whatever the database makes of it
		got := want[failure](t, f.ask(t, "GET", "/v1/namespaces/ns/tables?pageToken="+base64.RawURLEncoding.EncodeToString([]byte(after)), ""), 400)
		if !strings.Contains(got.Error.Message, "begin again") {
			t.Errorf("%.10q: %s", after, got.Error.Message)
		}
	}
}

// TestRefused: what each bad request is answered with. Nothing malformed is a 500.
func TestRefused(t *testing.T) {
	f := memory(t)
	f.makeTable(t, "t")
	commit := func(updates string) string { return `{"requirements":[],"updates":[` + updates + `]}` }
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v1/nothing", "", 404},
		{"GET", "/", "", 404},
		{"PUT", "/v1/namespaces", "", 406},
		{"POST", "/v1/namespaces", "", 400},
		{"POST", "/v1/namespaces", "{", 400},
		{"POST", "/v1/namespaces", "null", 400},
		{"POST", "/v1/namespaces", `{"namespace":"a"}`, 400},
		{"POST", "/v1/namespaces", `{"namespace":[""]}`, 400},
		{"POST", "/v1/namespaces", `{"namespace":["a\u0000b"]}`, 400},
		{"POST", "/v1/namespaces", `{"namespace":["a\u001fb"]}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"x"}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"","schema":` + schemaJSON + `}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":{"type":"struct","fields":[null]}}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":{"type":"struct","fields":[{"id":1,"name":"a","type":"nonsense","required":true}]}}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":` + schemaJSON + `,"partition-spec":{"fields":[{"source-id":99,"transform":"day","name":"d"}]}}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":` + schemaJSON + `,"properties":{"format-version":"99"}}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":` + schemaJSON + `,"location":"file:///etc"}`, 400},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":` + schemaJSON + `,"properties":{"write.data.path":"s3://lake/elsewhere"}}`, 400},
		{"POST", "/v1/namespaces/nowhere/tables", `{"name":"x","schema":` + schemaJSON + `}`, 404},
		{"POST", "/v1/namespaces/ns/register", `{"name":"x","metadata-location":"s3://lake/warehouse/none.json"}`, 400},
		{"POST", "/v1/namespaces/ns/register", `{"name":"x","metadata-location":"file:///etc/passwd"}`, 400},
		{"POST", "/v1/namespaces/ns/register", `{"name":"x","metadata-location":"s3://lake/warehouse/../x"}`, 400},
		{"GET", "/v1/namespaces/ns/tables/t?snapshots=some", "", 400},
		{"GET", "/v1/namespaces/%1F/tables/t", "", 400},
		{"GET", "/v1/firn/namespaces/ns/tables/t/history?limit=0", "", 400},
		{"GET", "/v1/firn/namespaces/ns/tables/t/history?since=x", "", 400},
		{"GET", "/v1/firn/namespaces/ns/tables/t/history?before=x", "", 400},
		{"DELETE", "/v1/firn/namespaces/ns/tables/t/history", "", 400},
		{"DELETE", "/v1/firn/namespaces/ns/tables/t/history?before=0&dry-run=x", "", 400},
		{"GET", "/v1/firn/namespaces/ns/tables/t/history?at=5", "", 404},
		{"DELETE", "/v1/namespaces/ns/tables/t?purgeRequested=maybe", "", 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`null`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`{}`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`{"action":"nonsense"}`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`{"action":"add-snapshot"}`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`{"action":"add-snapshot","snapshot":null}`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`{"action":"add-snapshot","snapshot":{"snapshot-id":1,"timestamp-ms":1,"sequence-number":1,"manifest-list":"file:///etc/passwd","summary":{"operation":"append"}}}`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`{"action":"set-location","location":"s3://other/x"}`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", commit(`{"action":"set-properties","updates":{"write.metadata.path":"/etc"}}`), 400},
		{"POST", "/v1/namespaces/ns/tables/t", `{"requirements":[null],"updates":[]}`, 400},
		{"POST", "/v1/namespaces/ns/tables/t", `{"requirements":[{"type":"nonsense"}],"updates":[]}`, 400},
		{"POST", "/v1/namespaces/ns/tables/t", `{"identifier":{"namespace":["ns"],"name":"u"},"requirements":[],"updates":[]}`, 400},
		{"POST", "/v1/transactions/commit", `{"table-changes":[]}`, 400},
		{"POST", "/v1/transactions/commit", `{"table-changes":[null]}`, 400},
		{"POST", "/v1/tables/rename", `{}`, 400},
		{"POST", "/v1/namespaces/ns/tables/t/metrics", `no json`, 400},
		{"POST", "/v1/namespaces/ns/tables/t/metrics", `{}`, 400},
		{"POST", "/v1/namespaces/ns/tables/t/metrics", `{"report-type":"a","report-type":2}`, 400},
	} {
		w := f.ask(t, tc.method, tc.path, tc.body)
		if w.Code != tc.status {
			t.Errorf("%s %s %s: HTTP %d, want %d: %s", tc.method, tc.path, tc.body, w.Code, tc.status, w.Body)
			continue
		}
		if got := want[failure](t, w, tc.status); got.Error.Code != tc.status || got.Error.Type == "" || got.Error.Message == "" {
			t.Errorf("%s %s: not the protocol's error: %s", tc.method, tc.path, w.Body)
		}
	}
	got, err := f.Service().LoadTable(t.Context(), catalog.Identifier{"ns", "t"}, catalog.LoadAll)
	if err != nil || got.Version != 1 {
		t.Errorf("after refused requests the table is at %+v, %v", got, err)
	}
}

// TestWords: the commonest errors begin as the Java reference's do; its compatibility kit compares them.
func TestWords(t *testing.T) {
	f := memory(t)
	f.makeTable(t, "t")
	l := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	requires := func(r string) string { return `{"requirements":[` + r + `],"updates":[]}` }
	for _, tc := range []struct {
		method, path, body string
		status             int
		begins             string
	}{
		{"GET", "/v1/namespaces/ns/tables/x", "", 404, "Table does not exist: ns.x"},
		{"GET", "/v1/namespaces/none", "", 404, "Namespace does not exist: none"},
		{"POST", "/v1/namespaces/none/tables", `{"name":"x","schema":` + schemaJSON + `}`, 404, "Namespace does not exist: none"},
		{"POST", "/v1/namespaces", `{"namespace":["ns"]}`, 409, "Namespace already exists: ns"},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"t","schema":` + schemaJSON + `}`, 409, "Table already exists: ns.t"},
		{"POST", "/v1/namespaces/ns/register", `{"name":"t","metadata-location":"` + l.Location + `"}`, 409, "Table already exists: ns.t"},
		{"POST", "/v1/namespaces/ns/tables/t", requires(`{"type":"assert-create"}`), 409, "Requirement failed: table already exists"},
		{"POST", "/v1/namespaces/ns/tables/t", requires(`{"type":"assert-table-uuid","uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1"}`), 409, "Requirement failed: UUID does not match"},
		{"POST", "/v1/namespaces/ns/tables/t", requires(`{"type":"assert-current-schema-id","current-schema-id":7}`), 409, "Requirement failed: current schema changed"},
		{"POST", "/v1/namespaces/ns/tables/t", requires(`{"type":"assert-last-assigned-field-id","last-assigned-field-id":70}`), 409, "Requirement failed: last assigned field id changed"},
		{"POST", "/v1/namespaces/ns/tables/t", requires(`{"type":"assert-last-assigned-partition-id","last-assigned-partition-id":7}`), 409, "Requirement failed: last assigned partition id changed"},
		{"POST", "/v1/namespaces/ns/tables/t", requires(`{"type":"assert-default-spec-id","default-spec-id":7}`), 409, "Requirement failed: default partition spec changed"},
	} {
		got := want[failure](t, f.ask(t, tc.method, tc.path, tc.body), tc.status)
		if !strings.HasPrefix(got.Error.Message, tc.begins) {
			t.Errorf("%s %s %s: %q does not begin with %q", tc.method, tc.path, tc.body, got.Error.Message, tc.begins)
		}
	}
}

// TestCurrentSchemaLast: the second half of a staged creation as DuckDB sends it, with the current schema named last.
func TestCurrentSchemaLast(t *testing.T) {
	f := memory(t)
	want[none](t, f.ask(t, "POST", "/v1/namespaces", `{"namespace":["ns"]}`), 200)
	staged := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"n","stage-create":true,"schema":`+schemaJSON+`}`), 200)
	m, err := table.ParseMetadataBytes(staged.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	got := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/n", `{"requirements":[{"type":"assert-create"}],"updates":[
		{"action":"assign-uuid","uuid":"`+m.TableUUID().String()+`"},{"action":"upgrade-format-version","format-version":2},
		{"action":"add-schema","last-column-id":1,"schema":`+schemaJSON+`},
		{"action":"add-spec","spec":{"spec-id":0,"fields":[{"source-id":1,"field-id":1000,"transform":"identity","name":"id"}]}},{"action":"set-default-spec","spec-id":0},
		{"action":"add-sort-order","sort-order":{"order-id":0,"fields":[]}},{"action":"set-default-sort-order","sort-order-id":0},
		{"action":"set-location","location":"`+m.Location()+`"},{"action":"set-properties","updates":{}},{"action":"set-current-schema","schema-id":0}]}`), 200)
	made := f.wantFile(t, got)
	spec := made.PartitionSpec()
	if made.TableUUID() != m.TableUUID() || made.CurrentSchema().NumFields() != 1 || spec.NumFields() != 1 {
		t.Errorf("created as %s", got.Metadata)
	}
}

func TestBodyLimit(t *testing.T) {
	f := start(t, server.Config{Store: "sqlite::memory:", MaxBody: 2 << 10}, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	body := func(n int) string { return `{"namespace":["a"],"properties":{"p":"` + strings.Repeat("x", n) + `"}}` }
	want[failure](t, f.ask(t, "POST", "/v1/namespaces", body(3<<10)), 413)
	want[none](t, f.ask(t, "POST", "/v1/namespaces", body(1<<10)), 200)
	// One without a length is bounded as well, and not read to its end.
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/namespaces", io.LimitReader(endless{}, 1<<30))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	want[failure](t, w, 413)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestToken(t *testing.T) {
	const canary = "canary-6f0e"
	f := start(t, server.Config{Store: "sqlite::memory:", Listen: "0.0.0.0:1", Token: units.NewSecret(canary)},
		&objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	for _, header := range []string{"", "Bearer", "Bearer wrong", "Basic " + canary, canary, "Bearer " + canary + "x"} {
		for _, path := range []string{"/v1/config", "/v1/namespaces", "/v1/namespaces/ns/tables/t", "/v1/firn/namespaces/ns/tables/t/history?at=1"} {
			w := f.ask(t, "GET", path, "", "Authorization", header)
			want[failure](t, w, 401)
			if strings.Contains(w.Body.String(), canary) || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%q: %s %v", header, w.Body, w.Header())
			}
		}
		want[failure](t, f.ask(t, "POST", "/v1/namespaces", "not even JSON", "Authorization", header), 401)
	}
	want[none](t, f.ask(t, "GET", "/v1/namespaces", "", "Authorization", "bearer "+canary), 200)
	if _, err := f.dial(t).ListNamespaces(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for _, cfg := range []server.Config{{Listen: "0.0.0.0:8181"}, {Listen: ":8181"}, {Listen: "192.168.0.1:8181"}, {Listen: "host:8181"}} {
		err := cfg.WithDefaults().Validate()
		if err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("listening on %s without a token: %v", cfg.Listen, err)
		}
	}
}

// TestOtherOrigins: a page in a browser cannot change tables of a catalog on the same machine.
func TestOtherOrigins(t *testing.T) {
	f := memory(t)
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if w := f.ask(t, "POST", "/v1/namespaces", `{"namespace":["a"]}`, h...); w.Code != http.StatusForbidden {
			t.Errorf("%v: HTTP %d", h, w.Code)
		}
	}
}

// TestVendedKeys: the storage's keys go out only when the operator says so.
func TestVendedKeys(t *testing.T) {
	for _, vend := range []bool{false, true} {
		f := start(t, server.Config{Store: "sqlite::memory:", S3: server.S3Properties{Endpoint: "http://127.0.0.1:9000", Region: "us-east-1", PathStyle: true,
			AccessKey: units.NewSecret("canary-access"), SecretKey: units.NewSecret("canary-secret"), VendStaticCredentials: vend}},
			&objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
		f.makeTable(t, "t")
		for _, path := range []string{"/v1/config", "/v1/namespaces/ns/tables/t"} {
			body := f.ask(t, "GET", path, "").Body.String()
			if strings.Contains(body, "canary") != vend || !strings.Contains(body, "s3.endpoint") {
				t.Errorf("vend %v: %s: %s", vend, path, body)
			}
		}
	}
}
