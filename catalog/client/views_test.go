package client

import (
	"net/http"
	"testing"

	"github.com/firnlake/firn/catalog"
)

// TestServersWithoutViews: what a server does not say that it keeps is not asked for.
func TestServersWithoutViews(t *testing.T) {
	for config, want := range map[string]bool{
		`{}`: false,
		`{"endpoints":["GET /v1/{prefix}/namespaces/{namespace}/views"]}`:                                   false, // it lists them and loads none
		`{"endpoints":["` + endpointViews + `"]}`:                                                           true,
		`{"defaults":{"view-endpoints-supported":"true"}}`:                                                  true,
		`{"defaults":{"view-endpoints-supported":"true"},"overrides":{"view-endpoints-supported":"false"}}`: false,
	} {
		asked := 0
		srv := foreign(t, config, func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.WriteHeader(http.StatusNotFound)
		})
		c, err := New(t.Context(), Config{URI: srv.URL}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, errList := c.ListViews(t.Context(), users[:1])
		_, errCreate := c.CreateView(t.Context(), users, catalog.CreateView{})
		_, errLoad := c.LoadView(t.Context(), users)
		_, errCommit := c.CommitView(t.Context(), catalog.ViewCommit{Identifier: users})
		for what, err := range map[string]error{"list": errList, "create": errCreate, "load": errLoad, "commit": errCommit,
			"rename": c.RenameView(t.Context(), users, users), "drop": c.DropView(t.Context(), users)} {
			if want {
				wantOnly(t, config+": "+what, err, catalog.ErrInvalid) // the answer is no catalog's, or there is no SQL
			} else {
				wantOnly(t, config+": "+what, err, catalog.ErrUnsupported)
			}
		}
		if (asked > 0) != want {
			t.Errorf("%s: %d requests", config, asked)
		}
	}
}

// viewMetadata is a view of one version, 1, and one schema, 0, with what it says of them.
func viewMetadata(current, schema string) string {
	return `{"view-uuid":"9c12d441-03fe-4693-9a96-a0705ddf69c1","format-version":1,"location":"s3://b/v","current-version-id":` + current + `,
		"versions":[{"version-id":1,"schema-id":0,"timestamp-ms":1,"summary":{},"default-namespace":[],"representations":[{"type":"sql","sql":"s","dialect":"d"}]}],
		"version-log":[{"version-id":1,"timestamp-ms":1}],"properties":{},"schemas":[{"type":"struct","schema-id":` + schema + `,"fields":[]}]}`
}

// TestViewsThatCannotBeRead: metadata of which the decoder makes nothing, or on which it panics.
func TestViewsThatCannotBeRead(t *testing.T) {
	var body string
	srv := foreign(t, `{}`, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
	c := connect(t, Config{URI: srv.URL}, nil)
	body = `{"metadata":` + viewMetadata("1", "0") + `}`
	if v, err := c.LoadView(t.Context(), users); err != nil || v.Metadata.CurrentVersion().Representations[0].Sql != "s" {
		t.Fatal(v, err)
	}
	for _, doc := range []string{``, `null`, `[]`, `{"format-version":1}`, `{"format-version":9}`, metadata, viewMetadata("2", "0"), viewMetadata("1", "7")} {
		if body = `{"metadata":` + doc + `}`; doc == "" {
			body = `{}`
		}
		_, err := c.LoadView(t.Context(), users)
		wantOnly(t, "load "+body, err, catalog.ErrInvalid)
		_, err = c.CommitView(t.Context(), catalog.ViewCommit{Identifier: users})
		wantOnly(t, "commit "+body, err, catalog.ErrUnknownOutcome)
	}
}
