package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// TestStatuses has the answers of the published document that the other tests have no occasion for.
func TestStatuses(t *testing.T) {
	f := withNamespace(t, memory(t))
	l := f.makeTable(t, "t")
	const rename = `{"source":{"namespace":["ns"],"name":"none"},"destination":{"namespace":["ns"],"name":"x"}}`
	change := func(name, requirement string) string {
		return `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"` + name + `"},"requirements":[` + requirement + `],
			"updates":[{"action":"set-properties","updates":{"a":"b"}}]}]}`
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"DELETE", "/v1/namespaces/%00", "", 400},
		{"DELETE", "/v1/namespaces/none", "", 404},
		{"GET", "/v1/namespaces?parent=%00", "", 400},
		{"GET", "/v1/namespaces/%00", "", 400},
		{"HEAD", "/v1/namespaces/%00", "", 400},
		{"POST", "/v1/namespaces/%00/properties", `{"updates":{"a":"b"}}`, 400},
		{"POST", "/v1/namespaces/none/properties", `{"updates":{"a":"b"}}`, 404},
		{"GET", "/v1/namespaces/none/tables", "", 404},
		{"POST", "/v1/namespaces/none/register", `{"name":"x","metadata-location":"s3://lake/warehouse/none.json"}`, 404},
		{"HEAD", "/v1/namespaces/%00/tables/t", "", 400},
		{"POST", "/v1/namespaces/ns/tables/none", `{"requirements":[],"updates":[]}`, 404},
		{"POST", "/v1/namespaces/ns/tables/none/metrics", scanReport, 404},
		{"POST", "/v1/tables/rename", rename, 404},
		{"GET", "/v1/namespaces/ns/views?pageToken=&pageSize=x", "", 400},
		{"GET", "/v1/namespaces/%00/views/v", "", 400},
		{"HEAD", "/v1/namespaces/%00/views/v", "", 400},
		{"DELETE", "/v1/namespaces/%00/views/v", "", 400},
		{"POST", "/v1/views/rename", `{}`, 400},
		{"POST", "/v1/transactions/commit", change("t", `{"type":"assert-table-uuid","uuid":"`+l.Metadata.TableUUID().String()+`"}`), 204},
		{"POST", "/v1/transactions/commit", change("none", ""), 404},
		{"POST", "/v1/transactions/commit", change("t", `{"type":"assert-create"}`), 409},
	} {
		w := f.ask(t, tc.method, tc.path, tc.body)
		if w.Code != tc.status {
			t.Errorf("%s %s %s: HTTP %d, want %d: %s", tc.method, tc.path, tc.body, w.Code, tc.status, w.Body)
		}
	}
}

func TestETag(t *testing.T) {
	f := memory(t)
	tab := f.makeTable(t, "t")
	f.append(t, f.append(t, tab, 1), 2)
	const path = "/v1/namespaces/ns/tables/t"
	tags := map[string]string{}
	for _, q := range []string{"", "?snapshots=refs"} {
		w := f.ask(t, "GET", path+q, "")
		tag := w.Header().Get("ETag")
		if want[loaded](t, w, 200); tag == "" {
			t.Fatalf("%q: no ETag", q)
		}
		tags[q] = tag
		for _, header := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			w := f.ask(t, "GET", path+q, "", "If-None-Match", header)
			if w.Code != http.StatusNotModified || w.Body.Len() > 0 || w.Header().Get("ETag") != tag {
				t.Errorf("%q If-None-Match %s: HTTP %d, %q, ETag %s", q, header, w.Code, w.Body, w.Header().Get("ETag"))
			}
		}
	}
	if tags[""] == tags["?snapshots=refs"] {
		t.Error("all snapshots and those of the refs have one ETag")
	}
	w := f.ask(t, "GET", path, "", "If-None-Match", tags["?snapshots=refs"])
	want[loaded](t, w, 200)
	want[none](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/none", "", "If-None-Match", "*"), 404)

	w = f.ask(t, "POST", path, `{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`, "If-None-Match", "*")
	if committed := w.Header().Get("ETag"); want[loaded](t, w, 200).Location == "" || committed == tags[""] {
		t.Errorf("a commit left the ETag at %s", committed)
	} else if w := f.ask(t, "GET", path, "", "If-None-Match", tags[""]); w.Code != 200 || w.Header().Get("ETag") != committed {
		t.Errorf("after a commit: HTTP %d, ETag %s, the commit said %s", w.Code, w.Header().Get("ETag"), committed)
	}
	// A table made again under the name is another one, though its versions count from 1 as well.
	made := f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"u","schema":`+schemaJSON+`}`)
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/tables/u", ""), 204)
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"u","schema":`+schemaJSON+`}`), 200)
	want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/u", "", "If-None-Match", made.Header().Get("ETag")), 200)
}

// TestRegisterOverwrite: a table goes back to an older metadata file of its own, or becomes another's.
func TestRegisterOverwrite(t *testing.T) {
	f := memory(t)
	tab := f.append(t, f.makeTable(t, "t"), 1)
	first := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	f.append(t, tab, 2)
	newest := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t", ""), 200)
	body := func(name, loc, more string) string {
		return `{"name":"` + name + `","metadata-location":"` + loc + `"` + more + `}`
	}
	const register = "/v1/namespaces/ns/register"
	want[failure](t, f.ask(t, "POST", register, body("t", first.Location, `,"overwrite":false`)), 409)
	got := want[loaded](t, f.ask(t, "POST", register, body("t", first.Location, `,"overwrite":true`)), 200)
	if got.Location != first.Location || !sameJSON(got.Metadata, first.Metadata) {
		t.Errorf("registered over itself: %s %s", got.Location, got.Metadata)
	}
	f.wantFile(t, newest)
	again, err := f.Service().LoadTable(t.Context(), catalog.Identifier{"ns", "t"}, catalog.LoadAll)
	if err != nil {
		t.Fatal(err)
	}
	if f.append(t, again, 3); len(f.full(t, again).Metadata.Snapshots()) != 2 {
		t.Errorf("after it, snapshots %v", f.full(t, again).Metadata.Snapshots())
	}
	// Its own place is no other table's: the rest of the warehouse still is.
	other := f.makeTable(t, "other")
	want[failure](t, f.ask(t, "POST", register, body("other", first.Location, `,"overwrite":true`)), 400)
	if got, err := f.Service().LoadTable(t.Context(), other.Identifier, catalog.LoadAll); err != nil || got.Metadata.TableUUID() != other.Metadata.TableUUID() {
		t.Errorf("a refused overwrite left %v, %v", got, err)
	}
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/views", viewJSON("v", "")), 200)
	want[failure](t, f.ask(t, "POST", register, body("v", first.Location, `,"overwrite":true`)), 409)
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/tables/t", ""), 204)
	want[loaded](t, f.ask(t, "POST", register, body("t", newest.Location, `,"overwrite":true`)), 200)
}

// keyed asks with an idempotency key.
func (f *fixture) keyed(t *testing.T, key, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	return f.ask(t, method, path, body, "Idempotency-Key", key)
}

// TestIdempotencyKeys: a change that is repeated with its key is answered again and not made again.
func TestIdempotencyKeys(t *testing.T) {
	f := memory(t)
	if conf := want[struct {
		Lifetime string `json:"idempotency-key-lifetime"`
	}](t, f.ask(t, "GET", "/v1/config", ""), 200); conf.Lifetime != "PT1800S" {
		t.Errorf("lifetime %q", conf.Lifetime)
	}
	rename := func(kind, from, to string) (string, string) {
		return "/v1/" + kind + "s/rename", `{"source":{"namespace":["ns"],"name":"` + from + `"},"destination":{"namespace":["ns"],"name":"` + to + `"}}`
	}
	renameTable, tableNames := rename("table", "t", "u")
	renameView, viewNames := rename("view", "v", "w")
	set := func(v string) string {
		return `{"requirements":[{"type":"assert-current-schema-id","current-schema-id":0}],"updates":[{"action":"set-properties","updates":{"a":"` + v + `"}},
			{"action":"add-schema","schema":{"type":"struct","schema-id":1,"fields":[{"id":1,"name":"id` + v + `","required":false,"type":"long"}]}},{"action":"set-current-schema","schema-id":-1}]}`
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/namespaces", `{"namespace":["ns"],"properties":{"a":"b"}}`, 200},
		{"POST", "/v1/namespaces", `{"namespace":["gone"]}`, 200},
		{"POST", "/v1/namespaces/ns/properties", `{"removals":["a","none"],"updates":{"c":"d"}}`, 200},
		{"POST", "/v1/namespaces/ns/properties", `{"removals":["a"],"updates":{"a":"d"}}`, 422},
		{"POST", "/v1/namespaces/ns/tables", `{"name":"t","schema":` + schemaJSON + `}`, 200},
		{"POST", "/v1/namespaces/ns/tables/t", set("x"), 200}, // a second time the requirement would not hold
		{"POST", "/v1/namespaces/ns/tables/t", `{"requirements":[{"type":"assert-create"}],"updates":[]}`, 409},
		{"POST", renameTable, tableNames, 204},
		{"POST", "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"u"},"requirements":[{"type":"assert-current-schema-id","current-schema-id":1}],
			"updates":[{"action":"set-current-schema","schema-id":0}]}]}`, 204},
		{"POST", "/v1/namespaces/ns/views", viewJSON("v", ""), 200},
		{"POST", "/v1/namespaces/ns/views/v", newVersion(versionJSON(1, 0, "spark", "select 2")), 200},
		{"POST", renameView, viewNames, 204},
		{"DELETE", "/v1/namespaces/ns/views/w", "", 204},
		{"DELETE", "/v1/namespaces/gone", "", 204},
		{"DELETE", "/v1/namespaces/gone/tables/none", "", 404},
		{"DELETE", "/v1/namespaces/ns", "", 409},
	} {
		key := uuid.Must(uuid.NewV7()).String()
		first := f.keyed(t, key, tc.method, tc.path, tc.body)
		if first.Code != tc.status {
			t.Fatalf("%s %s: HTTP %d, want %d: %s", tc.method, tc.path, first.Code, tc.status, first.Body)
		}
		for range 2 {
			again := f.keyed(t, key, tc.method, tc.path, tc.body)
			if again.Code != tc.status || again.Body.String() != first.Body.String() {
				t.Errorf("%s %s again: HTTP %d %s\nthe first time: %d %s", tc.method, tc.path, again.Code, again.Body, first.Code, first.Body)
			}
		}
		if w := f.keyed(t, key, tc.method, tc.path+"?x=y", tc.body); w.Code != 400 || !strings.Contains(w.Body.String(), "another request") {
			t.Errorf("%s %s: the key for another request: HTTP %d %s", tc.method, tc.path, w.Code, w.Body)
		}
	}
	for _, key := range []string{"x", "{017F22E2-79B0-7CC3-98C4-DC0C0C07398}", "urn:uuid:017F22E2-79B0-7CC3-98C4-DC0C0C07398F"} {
		want[failure](t, f.keyed(t, key, "POST", "/v1/namespaces", `{"namespace":["x"]}`), 400)
	}
	want[none](t, f.ask(t, "HEAD", "/v1/namespaces/x", ""), 404)
	// The newest state answers, as it may: the table has moved on.
	key := uuid.NewString()
	made := want[loaded](t, f.keyed(t, key, "POST", "/v1/namespaces/ns/tables", `{"name":"n","schema":`+schemaJSON+`}`), 200)
	want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/n", set("y")), 200)
	if again := want[loaded](t, f.keyed(t, key, "POST", "/v1/namespaces/ns/tables", `{"name":"n","schema":`+schemaJSON+`}`), 200); again.Location == made.Location {
		t.Errorf("answered again with %s", again.Location)
	} else {
		f.wantFile(t, again)
	}
	// A staged table is not there yet, so there is nothing to remember.
	key = uuid.NewString()
	for range 2 {
		want[loaded](t, f.keyed(t, key, "POST", "/v1/namespaces/ns/tables", `{"name":"s","stage-create":true,"schema":`+schemaJSON+`}`), 200)
	}
}

// TestIdempotencyAtOnce: of any number of requests with one key, one takes effect, and all hear of it.
func TestIdempotencyAtOnce(t *testing.T) {
	f := disk(t)
	tab := f.makeTable(t, "t")
	body := fmt.Sprintf(`{"requirements":[{"type":"assert-ref-snapshot-id","ref":"main","snapshot-id":null}],"updates":[
		{"action":"add-snapshot","snapshot":{"snapshot-id":1,"sequence-number":1,"timestamp-ms":%d,"manifest-list":"%s/m.avro","summary":{"operation":"append"},"schema-id":0}},
		{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":1}]}`, catalogtest.Snapshot(tab.Metadata, 1, nil).TimestampMs, tab.Metadata.Location())
	key := uuid.NewString()
	var ok atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if w := f.keyed(t, key, "POST", "/v1/namespaces/ns/tables/t", body); w.Code == 200 {
				ok.Add(1)
			} else {
				t.Errorf("HTTP %d: %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	if got := f.full(t, tab); got.Version != 2 || ok.Load() != 12 {
		t.Errorf("%d of 12 were told so, the table is at version %d", ok.Load(), got.Version)
	}
}

// TestIdempotencyAfterUnknown: a commit that took effect and whose answer was an error is answered well when it is repeated.
func TestIdempotencyAfterUnknown(t *testing.T) {
	store := &flaky{Store: objstore.NewMemory()}
	f := start(t, server.Config{Store: "sqlite::memory:", MaterializeInterval: hours}, &objstore.Warehouse{Store: store, URI: "s3://lake/warehouse"})
	tab := f.makeTable(t, "t")
	const body = `{"requirements":[{"type":"assert-current-schema-id","current-schema-id":0}],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}`
	key := uuid.NewString()
	store.before.Store(true)
	for range 2 {
		if got := want[failure](t, f.keyed(t, key, "POST", "/v1/namespaces/ns/tables/t", body), 500); got.Error.Type != "CommitStateUnknownException" {
			t.Errorf("%+v", got)
		}
	}
	store.before.Store(false)
	w := f.keyed(t, key, "POST", "/v1/namespaces/ns/tables/t", body)
	f.wantFile(t, want[loaded](t, w, 200))
	if got := f.full(t, tab); got.Version != 2 {
		t.Errorf("version %d after one commit", got.Version)
	}
	var m struct{ Properties map[string]string }
	if err := json.Unmarshal(want[loaded](t, w, 200).Metadata, &m); err != nil || m.Properties["a"] != "b" {
		t.Errorf("%v, %v", m, err)
	}
}
