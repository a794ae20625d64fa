package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/objstore"
)

// elsewheres are locations that lead out of the warehouse WH, out of it for some reader, or into TABLE, another table's
// place.
var elsewheres = []string{
	"s3://other/warehouse/x", "s3://lake/x", "s3://lake/warehouse2/x", "s3://lake/warehous", "s3://lake", "s3://", "s3:///lake/warehouse/x",
	"WH", "WH/", "WH/..", "WH/../x", "WH/x/../../y", "WH/./x", "WH//x", "WH/x//y", "WH/x/.", "WH/x/..",
	"WH/%2e%2e/x", "WH/%2E%2E/x", "WH/.%2e/x", "WH/%252e%252e/x", "WH/%25252e%25252e/x", "WH/%2e", "WH/a%2f..%2f..%2fetc", "WH/a%252fb", "WH/a%5cb", "WH/a%00b",
	`WH/a\..\b`, "WH/a\x00b", "WH/a\nb", "WH/x?versionId=1", "WH/x#y", "WH/" + strings.Repeat("x", 2100),
	"file:///etc/passwd", "file:/etc/passwd", "file://localhost/etc/passwd", "file:etc/passwd", "/etc/passwd", "etc/passwd", "", "x",
	"s3://user@lake/warehouse/x", "s3://lake:9000/warehouse/x", "s3://lake@evil/warehouse/x", "s3://LAKE/warehouse/x",
	"s3:lake/warehouse/x", "file:RELATIVE/x", "RELATIVE/x", "s3:/lake/warehouse/x", " WH/x", "http://169.254.169.254/latest/meta-data", "http://127.0.0.1:9000/lake/warehouse/x",
	"http://[::1]/x", "https://lake/warehouse/x", "gs://lake/warehouse/x", "hdfs://lake/warehouse/x", "jar:WH/x", "mem://lake/warehouse/x",
	"TABLE", "TABLE/", "TABLE/data", "TABLE/metadata/x",
}

func sharedPlaces(t *testing.T, f *fixture) (other string) {
	t.Helper()
	other = f.makeTable(t, "other").Metadata.Location()
	f.makeTable(t, "t")
	return other
}

func quote(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\x00", `\u0000`, "\n", `\n`).Replace(s)
}

// TestPlaces: no request of any kind makes a table read or write outside the warehouse or in another table's place.
func TestPlaces(t *testing.T) {
	for wh, f := range map[string]*fixture{"s3": memory(t), "disk": disk(t)} {
		t.Run(wh, func(t *testing.T) {
			other := sharedPlaces(t, f)
			uri := other[:strings.LastIndexByte(other, '/')]
			commit := func(update string) string { return `{"requirements":[],"updates":[` + update + `]}` }
			requests := []struct{ what, path, body string }{
				{"create", "/v1/namespaces/ns/tables", `{"name":"x","schema":` + schemaJSON + `,"location":"LOC"}`},
				{"staged create", "/v1/namespaces/ns/tables", `{"name":"x","stage-create":true,"schema":` + schemaJSON + `,"location":"LOC"}`},
				{"second half of a staged create", "/v1/namespaces/ns/tables/x", `{"requirements":[{"type":"assert-create"}],"updates":[
					{"action":"assign-uuid","uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1"},{"action":"upgrade-format-version","format-version":2},
					{"action":"add-schema","last-column-id":1,"schema":` + schemaJSON + `},{"action":"set-current-schema","schema-id":-1},
					{"action":"add-spec","spec":{"spec-id":0,"fields":[]}},{"action":"set-default-spec","spec-id":-1},
					{"action":"add-sort-order","sort-order":{"order-id":0,"fields":[]}},{"action":"set-default-sort-order","sort-order-id":-1},
					{"action":"set-location","location":"LOC"}]}`},
				{"set-location", "/v1/namespaces/ns/tables/t", commit(`{"action":"set-location","location":"LOC"}`)},
				{"register", "/v1/namespaces/ns/register", `{"name":"x","metadata-location":"LOC"}`},
				{"manifest list", "/v1/namespaces/ns/tables/t", commit(`{"action":"add-snapshot","snapshot":{"snapshot-id":1,"timestamp-ms":NOW,"sequence-number":1,"manifest-list":"LOC","summary":{"operation":"append"},"schema-id":0}}`)},
				{"statistics", "/v1/namespaces/ns/tables/t", commit(`{"action":"set-statistics","snapshot-id":1,"statistics":{"snapshot-id":1,"statistics-path":"LOC","file-size-in-bytes":1,"file-footer-size-in-bytes":1,"blob-metadata":[]}}`)},
				{"partition statistics", "/v1/namespaces/ns/tables/t", commit(`{"action":"set-partition-statistics","partition-statistics":{"snapshot-id":1,"statistics-path":"LOC","file-size-in-bytes":1}}`)},
			}
			for _, key := range []string{"write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path"} {
				requests = append(requests, struct{ what, path, body string }{"create with " + key, "/v1/namespaces/ns/tables", `{"name":"x","schema":` + schemaJSON + `,"properties":{"` + key + `":"LOC"}}`},
					struct{ what, path, body string }{key, "/v1/namespaces/ns/tables/t", commit(`{"action":"set-properties","updates":{"` + key + `":"LOC"}}`)})
			}
			now := strconv.FormatInt(time.Now().UnixMilli(), 10)
			before := f.ask(t, "GET", "/v1/namespaces/ns/tables/t", "").Body.String()
			for _, loc := range elsewheres {
				_, path, _ := strings.Cut(uri, "://")
				loc = strings.NewReplacer("TABLE", other, "WH", uri, "RELATIVE", strings.TrimPrefix(path, "/")).Replace(loc)
				for _, q := range requests {
					if loc == "" && q.what != "register" && q.what != "set-location" {
						continue // means that nothing is asked for
					}
					w := f.ask(t, "POST", q.path, strings.NewReplacer("LOC", quote(loc), "NOW", now).Replace(q.body))
					if w.Code != 400 || q.what != "register" && !strings.Contains(w.Body.String(), "location ") && !strings.Contains(w.Body.String(), "place of") {
						t.Errorf("%s at %q: HTTP %d %.300s", q.what, loc, w.Code, w.Body)
					}
				}
			}
			if after := f.ask(t, "GET", "/v1/namespaces/ns/tables/t", "").Body.String(); after != before {
				t.Errorf("refused requests changed the table:\n%s\n%s", before, after)
			}
			// What is right is still right.
			for _, loc := range []string{uri + "/free/place", uri + "/free2/", uri + "/na me/...", uri + "/%41%20b", uri + "/free3/..x"} {
				name := url.QueryEscape(loc[len(uri)+1:])
				want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"`+name+`","schema":`+schemaJSON+`,"location":"`+loc+`"}`), 200)
			}
		})
	}
}

// TestRegisteredMetadataIsChecked: a metadata file in the right place that names others.
func TestRegisteredMetadataIsChecked(t *testing.T) {
	f := memory(t)
	other := sharedPlaces(t, f)
	first := want[loaded](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"gone","schema":`+schemaJSON+`}`), 200)
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/tables/gone", ""), 204)
	doc := string(first.Metadata)
	own := first.Location[:strings.Index(first.Location, "/metadata/")]
	snapshot := func(list string) string {
		return strings.Replace(doc, `"snapshots":[]`, `"snapshots":[{"snapshot-id":1,"sequence-number":0,"timestamp-ms":1,"manifest-list":"`+list+`","summary":{"operation":"append"},"schema-id":0}]`, 1)
	}
	n := 0
	register := func(doc string) *httptest.ResponseRecorder {
		n++
		loc := fmt.Sprintf("%s/metadata/%d.metadata.json", own, n)
		key, err := f.wh.Key(loc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.wh.Put(t.Context(), key, bytes.NewReader([]byte(doc)), objstore.IfAbsent); err != nil {
			t.Fatal(err)
		}
		return f.ask(t, "POST", "/v1/namespaces/ns/register", `{"name":"x","metadata-location":"`+loc+`"}`)
	}
	for _, bad := range []string{"s3://other/m.avro", "file:///etc/passwd", other + "/metadata/m.avro", own + "/../m.avro", own + "/%2e%2e/m.avro", "http://169.254.169.254/m.avro"} {
		for what, text := range map[string]string{
			"manifest list":        snapshot(bad),
			"metadata log":         strings.Replace(doc, `"metadata-log":[]`, `"metadata-log":[{"metadata-file":"`+bad+`","timestamp-ms":1}]`, 1),
			"statistics":           strings.Replace(doc, `"snapshots":[]`, `"snapshots":[],"statistics":[{"snapshot-id":1,"statistics-path":"`+bad+`","file-size-in-bytes":1,"file-footer-size-in-bytes":1,"blob-metadata":[]}]`, 1),
			"partition statistics": strings.Replace(doc, `"snapshots":[]`, `"snapshots":[],"partition-statistics":[{"snapshot-id":1,"statistics-path":"`+bad+`","file-size-in-bytes":1}]`, 1),
			"location":             strings.Replace(doc, `"location":"`+own, `"location":"`+bad, 1),
			"data path":            strings.Replace(doc, `"properties":{`, `"properties":{"write.data.path":"`+bad+`"`, 1),
		} {
			if text == doc {
				t.Fatalf("%s: the metadata has no such place: %s", what, doc)
			}
			got := want[failure](t, register(text), 400)
			if m := got.Error.Message; !strings.Contains(m, "location") && !strings.Contains(m, "place of") {
				t.Errorf("%s %s: refused for another reason: %s", what, bad, m)
			}
		}
	}
	// Another table's metadata file, with and without a table of that name.
	theirs := want[loaded](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/other", ""), 200)
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/register", `{"name":"x","metadata-location":"`+theirs.Location+`"}`), 400)
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/register", `{"name":"t","overwrite":true,"metadata-location":"`+theirs.Location+`"}`), 400)
	want[loaded](t, register(snapshot(own+"/metadata/m.avro")), 200)
}

// TestPropertiesDoNotSteerReaders: PyIceberg takes these from a table's properties, in the place of its own configuration.
func TestPropertiesDoNotSteerReaders(t *testing.T) {
	f := memory(t)
	f.makeTable(t, "t")
	for _, key := range []string{"s3.endpoint", "S3.Endpoint", "s3.access-key-id", "s3.proxy-uri", "s3.signer.uri", "client.role-arn", "py-io-impl", "io-impl", "gcs.service.host",
		"adls.connection-string", "hdfs.host", "write.location-provider.impl", "write.py-location-provider.impl", "token", "uri", "rest.signing-name", "header.x"} {
		props := `{"` + key + `":"http://169.254.169.254/"}`
		for path, body := range map[string]string{
			"/v1/namespaces/ns/tables":   `{"name":"x","schema":` + schemaJSON + `,"properties":` + props + `}`,
			"/v1/namespaces/ns/tables/t": `{"requirements":[],"updates":[{"action":"set-properties","updates":` + props + `}]}`,
		} {
			got := want[failure](t, f.ask(t, "POST", path, body), 400)
			if !strings.Contains(got.Error.Message, key) {
				t.Errorf("%s: %s", key, got.Error.Message)
			}
		}
	}
	want[none](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t", `{"requirements":[],"updates":[{"action":"set-properties","updates":{"comment":"s3.endpoint","s3x":"1","owner":"uri"}}]}`), 200)
}

// TestPurgeStaysInItsPlace: a purge takes the table's own directory, not one whose name begins alike.
func TestPurgeStaysInItsPlace(t *testing.T) {
	f := disk(t)
	want[none](t, f.ask(t, "POST", "/v1/namespaces", `{"namespace":["ns"]}`), 200)
	for _, n := range []string{"t1", "t10", "t1x"} {
		want[none](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"`+n+`","schema":`+schemaJSON+`,"location":"`+f.wh.URI+`/`+n+`"}`), 200)
	}
	want[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/tables/t1?purgeRequested=true", ""), 204)
	dir := strings.TrimPrefix(f.wh.URI, "file://")
	for n, stays := range map[string]bool{"t1": false, "t10": true, "t1x": true} {
		files, _ := os.ReadDir(dir + "/" + n + "/metadata")
		if (len(files) > 0) != stays {
			t.Errorf("%s has %d metadata files", n, len(files))
		}
	}
}

// A namespace says where its tables may be placed: what somebody set, else a directory of its own, inside the warehouse
// whatever is in the name; a table that is staged under it can be made.
func TestNamespacesSayWhereTheirTablesGo(t *testing.T) {
	f := memory(t)
	seen := map[string]string{}
	for _, names := range [][]string{{"ns"}, {"a"}, {"a", "b"}, {"a.b"}, {".."}, {"../../etc"}, {"%2e%2e", "*"}, {`q"'$?\`}} {
		for i := range names {
			f.ask(t, "POST", "/v1/namespaces", `{"namespace":`+quoted(t, names[:i+1])+`}`)
		}
		path := "/v1/namespaces/" + strings.ReplaceAll(url.PathEscape(strings.Join(names, "\x1f")), ".", "%2E")
		ns := want[struct{ Properties map[string]string }](t, f.ask(t, "GET", path, ""), 200)
		place := ns.Properties["location"]
		if id, ok := strings.CutPrefix(place, f.wh.URI+"/"); !ok || uuid.Validate(id) != nil || seen[place] != "" {
			t.Errorf("%q: tables go to %q, as those of %q", names, place, seen[place])
		}
		seen[place] = strings.Join(names, " ")
		if again := want[struct{ Properties map[string]string }](t, f.ask(t, "GET", path, ""), 200); again.Properties["location"] != place {
			t.Errorf("%q: another place the second time, %q", names, again.Properties["location"])
		}
		at := `"location":"` + place + `/t-0b6f"`
		want[loaded](t, f.ask(t, "POST", path+"/tables", `{"name":"t","stage-create":true,"schema":`+schemaJSON+`,`+at+`}`), 200)
		want[loaded](t, f.ask(t, "POST", path+"/tables", `{"name":"t","schema":`+schemaJSON+`,`+at+`}`), 200)
	}
	made := want[struct{ Properties map[string]string }](t, f.ask(t, "POST", "/v1/namespaces", `{"namespace":["set"],"properties":{"location":"s3://lake/warehouse/set"}}`), 200)
	got := want[struct{ Properties map[string]string }](t, f.ask(t, "GET", "/v1/namespaces/set", ""), 200)
	if made.Properties["location"] != "s3://lake/warehouse/set" || got.Properties["location"] != made.Properties["location"] {
		t.Errorf("a location that was set is %v and then %v", made.Properties, got.Properties)
	}
	gone := want[struct{ Missing []string }](t, f.ask(t, "POST", "/v1/namespaces/ns/properties", `{"removals":["location"]}`), 200)
	if len(gone.Missing) != 1 {
		t.Errorf("a location that nobody set is kept: %+v", gone)
	}
}

func quoted(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
