package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/objstore"
)

// leftOver makes a table or a view, drops it, and returns its metadata and a function that registers a document in its place.
func leftOver(t *testing.T, f *fixture, kind, register, made string) (doc string, again func(doc string) (code int, message string)) {
	t.Helper()
	first := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/"+kind, made), 200)
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/"+kind+"/gone", ""), 204)
	n := 0
	return string(first.Metadata), func(doc string) (int, string) {
		n++
		loc := fmt.Sprintf("%s/%d.metadata.json", first.Location[:strings.LastIndexByte(first.Location, '/')], n)
		key, err := f.wh.Key(loc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.wh.Put(t.Context(), key, bytes.NewReader([]byte(doc)), objstore.IfAbsent); err != nil {
			t.Fatal(err)
		}
		w := f.ask(t, "POST", "/v1/namespaces/ns/"+register, `{"name":"x","metadata-location":"`+loc+`"}`)
		var got failure
		_ = json.Unmarshal(w.Body.Bytes(), &got) // a success has no message
		return w.Code, got.Error.Message
	}
}

// TestRegisteredIsReadByAllAlike: a document that is handed out as it is says the same to readers that hold keys to be equal
// in other letters, or take the first or the last of two, as it says to the catalog that has checked it.
func TestRegisteredIsReadByAllAlike(t *testing.T) {
	f := memory(t)
	f.makeTable(t, "t")
	for _, what := range []struct{ kind, register, body string }{
		{"tables", "register", `{"name":"gone","schema":` + schemaJSON + `,"properties":{"Mixed":"1","mixed":"2","é":"3"}}`},
		{"views", "register-view", strings.Replace(viewJSON("gone", ""), `"properties":{}`, `"properties":{"Mixed":"1","mixed":"2","é":"3"}`, 1)},
	} {
		doc, register := leftOver(t, f, what.kind, what.register, what.body)
		for _, bad := range []string{`"location":"s3://other/x","Location":`, `"location":"s3://other/x","location":`, `"ſchemas":[],"location":`} {
			text := strings.Replace(doc, `"location":`, bad, 1)
			if code, message := register(text); code != 400 || !strings.Contains(message, "the key") {
				t.Errorf("%s with %s: HTTP %d %s", what.kind, bad, code, message)
			}
		}
		if code, message := register(doc); code != 200 {
			t.Errorf("%s as they were: HTTP %d %s", what.kind, code, message)
		}
		want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/"+what.kind+"/x", ""), 204)
	}
}

// TestManifestsWithoutAList: a snapshot of format version 1 can name its manifests itself, past every check of a manifest list.
func TestManifestsWithoutAList(t *testing.T) {
	f := memory(t)
	root := f.makeTable(t, "t").Metadata.Location()
	snapshot := func(seq int, list string) string {
		return fmt.Sprintf(`{"snapshot-id":1,"sequence-number":%d,"timestamp-ms":%d,%s,"summary":{"operation":"append"},"schema-id":0}`, seq, time.Now().UnixMilli(), list)
	}
	for _, place := range []string{"s3://other/m.avro", "file:///etc/passwd", root + "/metadata/m.avro"} {
		embedded := snapshot(1, `"manifests":["`+place+`"]`)
		commit := `{"requirements":[],"updates":[{"action":"add-snapshot","snapshot":` + embedded + `},{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":1}]}`
		got := want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t", commit), 400)
		if !strings.Contains(got.Error.Message, "without a manifest list") {
			t.Errorf("commit with %s: %s", place, got.Error.Message)
		}
	}
	doc, register := leftOver(t, f, "tables", "register", `{"name":"gone","schema":`+schemaJSON+`}`)
	text := strings.Replace(doc, `"snapshots":[]`, `"snapshots":[`+snapshot(0, `"manifests":["s3://other/m.avro"]`)+`]`, 1)
	if code, message := register(text); code != 400 || !strings.Contains(message, "without a manifest list") {
		t.Errorf("register: HTTP %d %s", code, message)
	}
}
