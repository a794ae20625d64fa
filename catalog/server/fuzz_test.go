package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

// FuzzREST: no request, however malformed, is a 500 or a panic, and a table stays loadable whatever was asked of it.
func FuzzREST(f *testing.F) {
	add := func(method byte, path, body string) { f.Add(method, path, []byte(body), false) }
	add(0, "/v1/namespaces?parent=ns", "")
	add(0, "/v1/namespaces/ns/tables?pageToken=&pageSize=1", "")
	add(0, "/v1/firn/namespaces/ns/tables/t/history?at=1", "")
	add(1, "/v1/namespaces", `{"namespace":["a","b"],"properties":{"x":"y"}}`)
	add(1, "/v1/namespaces/ns/properties", `{"removals":["a"],"updates":{"b":"c"}}`)
	add(1, "/v1/namespaces/ns/tables", `{"name":"x","schema":`+schemaJSON+`,"partition-spec":{"fields":[{"source-id":1,"transform":"bucket[4]","name":"b"}]},"write-order":{"order-id":1,"fields":[{"source-id":1,"transform":"identity","direction":"asc","null-order":"nulls-first"}]}}`)
	add(1, "/v1/namespaces/ns/register", `{"name":"x","metadata-location":"s3://lake/warehouse/bad.metadata.json"}`)
	add(1, "/v1/tables/rename", `{"source":{"namespace":["ns"],"name":"t"},"destination":{"namespace":["ns"],"name":"u"}}`)
	for _, u := range []string{
		`{"action":"assign-uuid","uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1"}`, `{"action":"upgrade-format-version","format-version":3}`,
		`{"action":"add-schema","schema":` + schemaJSON + `}`, `{"action":"set-current-schema","schema-id":-1}`,
		`{"action":"add-spec","spec":{"spec-id":1,"fields":[{"source-id":2,"field-id":1000,"transform":"day","name":"d"}]}}`, `{"action":"set-default-spec","spec-id":-1}`,
		`{"action":"add-sort-order","sort-order":{"order-id":1,"fields":[{"source-id":1,"transform":"identity","direction":"asc","null-order":"nulls-first"}]}}`,
		`{"action":"set-default-sort-order","sort-order-id":-1}`, `{"action":"remove-snapshots","snapshot-ids":[1]}`,
		`{"action":"add-snapshot","snapshot":{"snapshot-id":5,"sequence-number":9,"timestamp-ms":99999999999999,"manifest-list":"s3://lake/warehouse/m.avro","summary":{"operation":"append"},"schema-id":0}}`,
		`{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":1}`, `{"action":"remove-snapshot-ref","ref-name":"main"}`,
		`{"action":"set-location","location":"s3://lake/warehouse/x"}`, `{"action":"set-properties","updates":{"a":"b"}}`, `{"action":"remove-properties","removals":["a"]}`,
		`{"action":"set-statistics","snapshot-id":1,"statistics":{"snapshot-id":1,"statistics-path":"s3://lake/warehouse/s.puffin","file-size-in-bytes":1,"file-footer-size-in-bytes":1,"blob-metadata":[]}}`,
		`{"action":"remove-statistics","snapshot-id":1}`, `{"action":"remove-partition-specs","spec-ids":[0]}`, `{"action":"remove-schemas","schema-ids":[0]}`,
	} {
		add(1, "/v1/namespaces/ns/tables/t", `{"requirements":[{"type":"assert-ref-snapshot-id","ref":"main","snapshot-id":1}],"updates":[`+u+`]}`)
	}
	add(1, "/v1/namespaces/ns/views", viewJSON("w", `,"location":"s3://lake/warehouse/x"`))
	add(1, "/v1/namespaces/ns/register-view", `{"name":"w","metadata-location":"s3://lake/warehouse/bad.metadata.json"}`)
	add(1, "/v1/views/rename", `{"source":{"namespace":["ns"],"name":"v"},"destination":{"namespace":["ns"],"name":"u"}}`)
	add(2, "/v1/namespaces/ns/views/v", "")
	for _, u := range []string{`{"action":"add-view-version","view-version":` + versionJSON(1, -1, "spark", "select 2") + `},{"action":"set-current-view-version","view-version-id":-1}`,
		`{"action":"add-schema","schema":` + schemaJSON + `}`, `{"action":"set-location","location":"s3://lake/warehouse/y"}`,
		`{"action":"set-properties","updates":{"version.history.num-entries":"1"}},{"action":"remove-properties","removals":["a"]}`} {
		add(1, "/v1/namespaces/ns/views/v", `{"requirements":[],"updates":[`+u+`]}`)
	}
	add(1, "/v1/transactions/commit", `{"table-changes":[{"identifier":{"namespace":["ns"],"name":"t"},"requirements":[{"type":"assert-create"}],"updates":[]}]}`)
	add(2, "/v1/namespaces/ns/tables/t", "")
	add(3, "/v1/namespaces/ns/tables/t?purgeRequested=true", "")

	f.Fuzz(func(t *testing.T, method byte, path string, body []byte, lean bool) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		wh := objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
		if _, err := wh.Put(t.Context(), "bad.metadata.json", bytes.NewReader(body), objstore.Overwrite); err != nil {
			t.Fatal(err)
		}
		s, err := server.New(t.Context(), server.Config{Store: "sqlite::memory:", MaterializeInterval: hours}, &wh, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(t.Context())
		id := catalog.Identifier{"ns", "t"}
		if err := s.Service().CreateNamespace(t.Context(), id[:1], nil); err != nil {
			t.Fatal(err)
		}
		tab, err := s.Service().CreateTable(t.Context(), id, catalog.CreateTable{Schema: catalogtest.Schema()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Service().CommitTable(t.Context(), catalogtest.Append(tab, 1, nil)); err != nil {
			t.Fatal(err)
		}
		v := httptest.NewRecorder()
		s.Handler().ServeHTTP(v, httptest.NewRequestWithContext(t.Context(), "POST", "/v1/namespaces/ns/views", strings.NewReader(viewJSON("v", ""))))
		if v.Code != 200 {
			t.Fatalf("HTTP %d: %s", v.Code, v.Body)
		}
		r := httptest.NewRequestWithContext(t.Context(), []string{"GET", "POST", "HEAD", "DELETE"}[method%4], "http://catalog/", bytes.NewReader(body))
		r.URL = u
		if lean {
			r.Header.Set("X-Firn-Lean", "1")
			r.Header.Set("Idempotency-Key", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %s: HTTP %d: %s", r.Method, path, w.Code, w.Body)
		}
		if r.Method != http.MethodHead && w.Code != 204 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: HTTP %d, not JSON: %q", r.Method, path, w.Code, w.Body)
		}
		if w := httptest.NewRecorder(); r.Method == http.MethodPost && strings.Contains(path, "/views/") {
			s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
			if w.Code >= 500 {
				t.Errorf("after %s %s %s: HTTP %d: %s", r.Method, path, body, w.Code, w.Body)
			}
		}
		tables, err := s.Service().ListTables(t.Context(), id[:1])
		if err != nil {
			return // the namespace may be dropped
		}
		for _, id := range tables {
			if _, err := s.Service().LoadTable(t.Context(), id, catalog.LoadAll); err != nil {
				t.Errorf("after %s %s %s: %v", r.Method, path, body, err)
			}
		}
	})
}
