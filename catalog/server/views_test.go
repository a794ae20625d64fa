package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/iceberg-go/view"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
)

// viewJSON is the body that creates a view; more is put into it.
func viewJSON(name, more string) string {
	return `{"name":"` + name + `","schema":` + schemaJSON + `,"view-version":` + versionJSON(1, 0, "spark", "select 1") + `,"properties":{}` + more + `}`
}

func versionJSON(id, schema int, dialect, sql string) string {
	return fmt.Sprintf(`{"version-id":%d,"schema-id":%d,"timestamp-ms":1573518431292,"summary":{"engine-name":"x"},"default-namespace":["ns"],
		"representations":[{"type":"sql","sql":%q,"dialect":%q}]}`, id, schema, sql, dialect)
}

// newVersion is the body that makes a version the current one.
func newVersion(version string) string {
	return `{"requirements":[],"updates":[{"action":"add-view-version","view-version":` + version + `},{"action":"set-current-view-version","view-version-id":-1}]}`
}

// wantView checks that the metadata file of an answer is there, holds what the answer says, and is a view.
func (f *fixture) wantView(t *testing.T, l loaded) view.Metadata {
	t.Helper()
	m, err := view.ParseMetadataBytes(f.handedOut(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func withNamespace(t *testing.T, f *fixture) *fixture {
	t.Helper()
	want[none](t, f.ask(t, "POST", "/v1/namespaces", `{"namespace":["ns"]}`), 200)
	return f
}

func TestViews(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *fixture{"memory": memory, "disk": disk} {
		t.Run(name, func(t *testing.T) { viewLife(t, withNamespace(t, open(t))) })
	}
}

func viewLife(t *testing.T, f *fixture) {
	want[none](t, f.ask(t, "HEAD", "/v1/namespaces/ns/views/v", ""), 404)
	made := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")), 200)
	m := f.wantView(t, made)
	if m.FormatVersion() != 1 || m.CurrentVersionID() != 1 || len(m.Versions()) != 1 || len(m.VersionLog()) != 1 || m.CurrentVersion().TimestampMS != 1573518431292 {
		t.Errorf("created as %s", made.Metadata)
	}
	if strings.Contains(m.Location(), "/v") && !strings.Contains(m.Location(), m.ViewUUID().String()) {
		t.Errorf("the location %s follows the name", m.Location())
	}
	want[none](t, f.ask(t, "HEAD", "/v1/namespaces/ns/views/v", ""), 204)
	again := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/views/v", ""), 200)
	if again.Location != made.Location || !sameJSON(again.Metadata, made.Metadata) {
		t.Errorf("loaded %s %s", again.Location, again.Metadata)
	}

	next := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", `{"requirements":[{"type":"assert-view-uuid","uuid":"`+m.ViewUUID().String()+`"}],"updates":[
		{"action":"add-schema","schema":{"type":"struct","schema-id":7,"fields":[{"id":1,"name":"other","required":false,"type":"string"}]}},
		{"action":"add-view-version","view-version":`+versionJSON(1, -1, "spark", "select 2")+`},
		{"action":"set-current-view-version","view-version-id":-1},
		{"action":"set-properties","updates":{"comment":"b"}},{"action":"remove-properties","removals":["nothing"]}]}`), 200)
	m = f.wantView(t, next)
	if m.CurrentVersionID() != 2 || m.CurrentSchemaID() != 1 || len(m.VersionLog()) != 2 || m.Properties()["comment"] != "b" {
		t.Errorf("replaced by %s", next.Metadata)
	}
	f.wantView(t, made) // what was handed out before stays as it was
	if made.Location == next.Location {
		t.Errorf("two versions have the metadata file %s", made.Location)
	}
	// A version that the view has is not added again, and what changes nothing commits nothing.
	same := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(9, 1, "spark", "select 2"))), 200)
	if same.Location != next.Location {
		t.Errorf("a commit without a change wrote %s", same.Location)
	}
	back := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(9, 0, "spark", "select 1"))), 200)
	if m = f.wantView(t, back); m.CurrentVersionID() != 1 || len(m.Versions()) != 2 || len(m.VersionLog()) != 3 {
		t.Errorf("back to the first version: %s", back.Metadata)
	}

	want[failure](t, f.ask(t, "DELETE", "/v1/namespaces/ns", ""), 409)
	want[none](t, f.ask(t, "POST", "/v1/namespaces", `{"namespace":["ns","deep"]}`), 200)
	want[none](t, f.ask(t, "POST", "/v1/views/rename", `{"source":{"namespace":["ns"],"name":"v"},"destination":{"namespace":["ns","deep"],"name":"w"}}`), 204)
	want[failure](t, f.ask(t, "GET", "/v1/namespaces/ns/views/v", ""), 404)
	moved := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns%1Fdeep/views/w", ""), 200)
	if moved.Location != back.Location {
		t.Errorf("a rename moved the metadata from %s to %s", back.Location, moved.Location)
	}
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns%1Fdeep/views/w", ""), 204)
	want[failure](t, f.ask(t, "DELETE", "/v1/namespaces/ns%1Fdeep/views/w", ""), 404)
	f.wantView(t, back)
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns%1Fdeep", ""), 204)
}

func TestViewPages(t *testing.T) {
	f := withNamespace(t, memory(t))
	for i := range 5 {
		want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON(fmt.Sprintf("v%d", i), "")), 200)
	}
	f.makeTable(t, "t")
	type page struct {
		Identifiers []struct{ Name string }
		Next        *string `json:"next-page-token"`
	}
	if all := want[page](t, f.ask(t, "GET", "/v1/namespaces/ns/views", ""), 200); len(all.Identifiers) != 5 || all.Next != nil {
		t.Errorf("without a token: %v", all)
	}
	if tables := want[page](t, f.ask(t, "GET", "/v1/namespaces/ns/tables", ""), 200); len(tables.Identifiers) != 1 {
		t.Errorf("tables: %v", tables)
	}
	var names []string
	for token := ""; ; {
		p := want[page](t, f.ask(t, "GET", "/v1/namespaces/ns/views?pageSize=2&pageToken="+token, ""), 200)
		for _, id := range p.Identifiers {
			names = append(names, id.Name)
		}
		if p.Next == nil {
			break
		}
		token = *p.Next
	}
	if !slices.Equal(names, []string{"v0", "v1", "v2", "v3", "v4"}) {
		t.Errorf("pages of %v", names)
	}
	want[failure](t, f.ask(t, "GET", "/v1/namespaces/none/views", ""), 404)
}

// TestViewsRefused: what each request that cannot be is answered with, in the words of the Java reference.
func TestViewsRefused(t *testing.T) {
	f := withNamespace(t, memory(t))
	f.makeTable(t, "t")
	f.makeTable(t, "t2")
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")), 200)
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v2", "")), 200)
	rename := func(from, to string) string {
		return `{"source":{"namespace":["ns"],"name":"` + from + `"},"destination":{"namespace":["ns"],"name":"` + to + `"}}`
	}
	twice := strings.Replace(viewJSON("x", ""), `"representations":[`, `"representations":[{"type":"sql","sql":"select 0","dialect":"Spark"},`, 1)
	for _, tc := range []struct {
		path, body string
		status     int
		typ, words string
	}{
		{"/v1/namespaces/ns/views", viewJSON("v", ""), 409, "AlreadyExistsException", "View already exists: ns.v"},
		{"/v1/namespaces/ns/views", viewJSON("t", ""), 409, "AlreadyExistsException", "Table with same name already exists: ns.t"},
		{"/v1/namespaces/ns/tables", `{"name":"v","schema":` + schemaJSON + `}`, 409, "AlreadyExistsException", "View with same name already exists: ns.v"},
		{"/v1/namespaces/ns/tables", `{"name":"v","stage-create":true,"schema":` + schemaJSON + `}`, 409, "AlreadyExistsException", "View with same name already exists: ns.v"},
		{"/v1/namespaces/none/views", viewJSON("v", ""), 404, "NoSuchNamespaceException", "Namespace does not exist: none"},
		{"/v1/namespaces/ns/views/x", newVersion(versionJSON(1, 0, "spark", "select 3")), 404, "NoSuchViewException", "View does not exist: ns.x"},
		{"/v1/namespaces/ns/views/t", newVersion(versionJSON(1, 0, "spark", "select 3")), 404, "NoSuchViewException", "View does not exist: ns.t"},
		{"/v1/views/rename", rename("x", "y"), 404, "NoSuchViewException", "View does not exist: ns.x"},
		{"/v1/views/rename", rename("v", "v2"), 409, "AlreadyExistsException", "Cannot rename ns.v to ns.v2. View already exists"},
		{"/v1/views/rename", rename("v", "t"), 409, "AlreadyExistsException", "Cannot rename ns.v to ns.t. Table already exists"},
		{"/v1/tables/rename", rename("t", "v"), 409, "AlreadyExistsException", "Cannot rename ns.t to ns.v. View already exists"},
		{"/v1/tables/rename", rename("t", "t2"), 409, "AlreadyExistsException", "Cannot rename ns.t to ns.t2. Table already exists"},
		{"/v1/views/rename", `{"source":{"namespace":["ns"],"name":"v"},"destination":{"namespace":["none"],"name":"v"}}`, 404, "NoSuchNamespaceException", "Namespace does not exist: none"},
		{"/v1/namespaces/ns/views", twice, 400, "IllegalArgumentException", "Cannot add multiple queries for dialect spark"},
		{"/v1/namespaces/ns/views", `{"name":"x","schema":` + schemaJSON + `,"properties":{}}`, 400, "BadRequestException", "view-version is missing"},
		{"/v1/namespaces/ns/views", `{"name":"x","view-version":` + versionJSON(1, 0, "a", "b") + `}`, 400, "BadRequestException", "schema is missing"},
		{"/v1/namespaces/ns/views", viewJSON("", ""), 400, "BadRequestException", "name is empty"},
		{"/v1/namespaces/ns/views", `null`, 400, "BadRequestException", "name is empty"},
		{"/v1/namespaces/ns/views", viewJSON("x", `,"location":"s3://elsewhere/x"`), 400, "BadRequestException", "not inside the warehouse"},
		{"/v1/namespaces/ns/views", viewJSON("x", `,"location":"s3://lake/warehouse/../x"`), 400, "BadRequestException", "dot component"},
		{"/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "trino", "select 3")), 400, "IllegalArgumentException", "dropping dialects"},
		{"/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 5, "spark", "select 3")), 400, "IllegalArgumentException", "unknown schema"},
		{"/v1/namespaces/ns/views/v", `{"updates":[{"action":"set-current-view-version","view-version-id":9}]}`, 400, "IllegalArgumentException", "unknown version"},
		{"/v1/namespaces/ns/views/v", `{"updates":[{"action":"set-location","location":"file:///etc"}]}`, 400, "BadRequestException", "not inside the warehouse"},
		{"/v1/namespaces/ns/views/v", `{"updates":[{"action":"set-properties","updates":{"write.metadata.path":"s3://other/x"}}]}`, 400, "BadRequestException", "not inside the warehouse"},
		{"/v1/namespaces/ns/views/v", `{"updates":[{"action":"assign-uuid","uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1"}]}`, 400, "IllegalArgumentException", "reassign uuid"},
		{"/v1/namespaces/ns/views/v", `{"updates":[{"action":"add-snapshot"}]}`, 400, "BadRequestException", "unknown update action"},
		{"/v1/namespaces/ns/views/v", `{"updates":[{"action":"add-view-version"}]}`, 400, "IllegalArgumentException", ""},
		{"/v1/namespaces/ns/views/v", `{"updates":[null]}`, 400, "BadRequestException", "update action"},
		{"/v1/namespaces/ns/views/v", `{"requirements":[{"type":"assert-nothing"}],"updates":[]}`, 400, "BadRequestException", "unknown requirement"},
		{"/v1/namespaces/ns/views/v", `{"identifier":{"namespace":["ns"],"name":"w"},"updates":[]}`, 400, "BadRequestException", "the body"},
		{"/v1/namespaces/ns/views/v", `{"requirements":[{"type":"assert-view-uuid","uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1"}],"updates":[]}`, 409, "CommitFailedException", "UUID does not match"},
	} {
		w := f.ask(t, "POST", tc.path, tc.body)
		if w.Code != tc.status {
			t.Errorf("%s %s: HTTP %d, want %d: %s", tc.path, tc.body, w.Code, tc.status, w.Body)
			continue
		}
		got := want[failure](t, w, tc.status)
		if got.Error.Type != tc.typ || got.Error.Code != tc.status || !strings.Contains(got.Error.Message, tc.words) {
			t.Errorf("%s %s: %+v, want %s with %q", tc.path, tc.body, got.Error, tc.typ, tc.words)
		}
	}
	if m := f.wantView(t, want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/views/v", ""), 200)); m.CurrentVersionID() != 1 || len(m.Versions()) != 1 {
		t.Errorf("after refused requests the view has %v", m.Versions())
	}
	want[none](t, f.ask(t, "POST", "/v1/views/rename", rename("v", "v")), 204)
	want[none](t, f.ask(t, "POST", "/v1/tables/rename", rename("t", "t")), 204)
}

// TestViewLocations: a view's metadata files go where it is asked for, in the form that was asked, and never into
// the place of a table, whose purge would take them along.
func TestViewLocations(t *testing.T) {
	f := withNamespace(t, disk(t))
	short := strings.Replace(f.wh.URI, "file:///", "file:/", 1)
	got := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", `,"location":"`+short+`/views/v/"`)), 200)
	if m := f.wantView(t, got); m.Location() != short+"/views/v" || !strings.HasPrefix(got.Location, short+"/views/v/metadata/") {
		t.Errorf("location %s, metadata file %s", m.Location(), got.Location)
	}
	got = want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", `{"updates":[{"action":"set-properties","updates":{"write.metadata.path":"`+short+`/other"}}]}`), 200)
	if f.wantView(t, got); !strings.HasPrefix(got.Location, short+"/other/") {
		t.Errorf("write.metadata.path is not heeded: %s", got.Location)
	}
	made := f.makeTable(t, "t")
	for _, loc := range []string{made.Metadata.Location(), made.Metadata.Location() + "/x"} {
		want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("x", `,"location":"`+loc+`"`)), 400)
		want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", `{"updates":[{"action":"set-properties","updates":{"write.metadata.path":"`+loc+`"}}]}`), 400)
	}
	for _, loc := range []string{f.wh.URI + "/other", f.wh.URI + "/other/t", short + "/other"} {
		want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":`+schemaJSON+`,"location":"`+loc+`"}`), 400)
	}
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/views/v", ""), 204)
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":`+schemaJSON+`,"location":"`+short+`/other"}`), 200)
	// The two forms of one place are one place, and a purge finds it.
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"y","schema":`+schemaJSON+`,"location":"`+f.wh.URI+`/other"}`), 400)
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/tables/x?purgeRequested=true", ""), 204)
	if err := f.wh.List(t.Context(), "other", func(i objstore.Info) error { return fmt.Errorf("%s is left", i.Key) }); err != nil {
		t.Error(err)
	}
}

// TestViewsLeaveNoStrays: a create that loses leaves no metadata file behind.
func TestViewsLeaveNoStrays(t *testing.T) {
	f := withNamespace(t, memory(t))
	var wg sync.WaitGroup
	codes := make([]int, 8)
	for i := range codes {
		wg.Go(func() { codes[i] = f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")).Code })
	}
	wg.Wait()
	made := 0
	for _, c := range codes {
		if c == http.StatusOK {
			made++
		} else if c != http.StatusConflict {
			t.Errorf("HTTP %d", c)
		}
	}
	files := 0
	if err := f.wh.List(t.Context(), "", func(objstore.Info) error { files++; return nil }); err != nil {
		t.Fatal(err)
	}
	if made != 1 || files != 1 {
		t.Errorf("%d views were made, %d files are there", made, files)
	}
}

// TestViewCommitsAtOnce: writers that add a version each lose none of them.
func TestViewCommitsAtOnce(t *testing.T) {
	f := withNamespace(t, disk(t))
	body := strings.Replace(viewJSON("v", ""), `"properties":{}`, `"properties":{"version.history.num-entries":"100"}`, 1)
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", body), 200)
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				r := f.ask(t, "POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "spark", fmt.Sprintf("select %d, %d", w, i))))
				if r.Code != http.StatusOK {
					t.Errorf("HTTP %d: %s", r.Code, r.Body)
				}
			}
		})
	}
	wg.Wait()
	m := f.wantView(t, want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/views/v", ""), 200))
	ids, sql := map[int64]bool{}, map[string]bool{}
	for _, v := range m.Versions() {
		ids[v.VersionID] = true
		sql[v.Representations[0].Sql] = true
	}
	if n := writers*each + 1; len(ids) != n || len(sql) != n || m.CurrentVersionID() != int64(n) || len(m.VersionLog()) != n {
		t.Errorf("%d versions, %d queries, %d log entries, current %d, want %d", len(ids), len(sql), len(m.VersionLog()), m.CurrentVersionID(), n)
	}
}

// TestViewHistoryIsBounded: old versions go as version.history.num-entries says, and never the current one.
func TestViewHistoryIsBounded(t *testing.T) {
	f := withNamespace(t, memory(t))
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", strings.Replace(viewJSON("v", ""), `"properties":{}`, `"properties":{"version.history.num-entries":"3"}`, 1)), 200)
	var last loaded
	for i := range 6 {
		last = want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "spark", fmt.Sprint("select ", i+10)))), 200)
	}
	m := f.wantView(t, last)
	var ids []int64
	for _, v := range m.Versions() {
		ids = append(ids, v.VersionID)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []int64{5, 6, 7}) || m.CurrentVersionID() != 7 || len(m.VersionLog()) != 3 {
		t.Errorf("versions %v, current %d, log %v", ids, m.CurrentVersionID(), m.VersionLog())
	}
	var doc struct {
		Current int64 `json:"current-version-id"`
	}
	if err := json.Unmarshal(last.Metadata, &doc); err != nil || doc.Current != 7 {
		t.Errorf("%v: %s", err, last.Metadata)
	}
}

// TestRegisterView: a view that was dropped comes back from any metadata file that it ever had.
func TestRegisterView(t *testing.T) {
	f := withNamespace(t, memory(t))
	const register = "/v1/namespaces/ns/register-view"
	body := func(name, loc string) string { return `{"name":"` + name + `","metadata-location":"` + loc + `"}` }
	first := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")), 200)
	second := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "spark", "select 2"))), 200)
	want[failure](t, f.ask(t, "POST", register, body("v", first.Location)), 409)
	if w := f.ask(t, "POST", register, body("w", first.Location)); w.Code != 400 || !strings.Contains(w.Body.String(), "UUID") {
		t.Errorf("one view under two names: HTTP %d %s", w.Code, w.Body)
	}
	for _, l := range []loaded{second, first} {
		want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/views/v", ""), 204)
		got := want[loaded](t, f.ask(t, "POST", register, body("v", l.Location)), 200)
		if got.Location != l.Location || !sameJSON(got.Metadata, l.Metadata) {
			t.Errorf("registered %s %s, want %s", got.Location, got.Metadata, l.Metadata)
		}
	}
	if m := f.wantView(t, want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "spark", "select 3"))), 200)); m.CurrentVersionID() != 2 {
		t.Errorf("the next version is %d", m.CurrentVersionID())
	}
	tab := f.makeTable(t, "t")
	for name, doc := range map[string]string{
		"empty": ``, "none": `{}`, "no-json": `{`, "table": `{"format-version":2}`, "null": `null`,
		"no-version": strings.Replace(string(first.Metadata), `"current-version-id":1`, `"current-version-id":7`, 1),
		"elsewhere":  strings.Replace(string(first.Metadata), "s3://lake/warehouse", "s3://other", 1),
		"in-a-table": strings.Replace(string(first.Metadata), `"properties":{`, `"properties":{"write.metadata.path":"`+tab.Metadata.Location()+`/x",`, 1),
		"no-uuid":    strings.Replace(string(first.Metadata), "view-uuid", "uuid", 1),
	} {
		if name == "in-a-table" && !strings.Contains(doc, "write.metadata.path") {
			doc = strings.Replace(doc, `"location"`, `"properties":{"write.metadata.path":"`+tab.Metadata.Location()+`/x"},"location"`, 1)
		}
		if _, err := f.wh.Put(t.Context(), name+".json", strings.NewReader(doc), objstore.Overwrite); err != nil {
			t.Fatal(err)
		}
		w := f.ask(t, "POST", register, body("x", f.wh.URI+"/"+name+".json"))
		if w.Code != 400 {
			t.Errorf("%s: HTTP %d: %s", name, w.Code, w.Body)
		}
	}
	for _, loc := range []string{"", "file:///etc/passwd", f.wh.URI + "/missing.json", f.wh.URI + "/../x.json"} {
		want[failure](t, f.ask(t, "POST", register, body("x", loc)), 400)
	}
	want[failure](t, f.ask(t, "POST", register, body("t", first.Location)), 409)
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/none/register-view", body("x", first.Location)), 404)
}

// TestViewsAreNoTables: a view is not found as a table, nor a table as a view.
func TestViewsAreNoTables(t *testing.T) {
	f := withNamespace(t, memory(t))
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")), 200)
	f.makeTable(t, "t")
	for _, path := range []string{"/v1/namespaces/ns/tables/v", "/v1/namespaces/ns/views/t"} {
		want[none](t, f.ask(t, "HEAD", path, ""), 404)
		want[failure](t, f.ask(t, "GET", path, ""), 404)
		want[failure](t, f.ask(t, "DELETE", path, ""), 404)
	}
	if _, err := f.Service().LoadTable(t.Context(), catalog.Identifier{"ns", "v"}, catalog.LoadAll); err == nil {
		t.Error("a view was loaded as a table")
	}
}
