package server_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract is the published OpenAPI document of the REST protocol: 3.1, whose schemas are JSON Schema 2020-12.
type contract struct {
	doc      map[string]any
	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by JSON pointer
	seen     map[string]bool               // "GET /v1/config 200": what the tests of this process have had answered
}

// published is the newest document, which has more operations and headers than those before.
func published() (*contract, error) {
	all, err := documents()
	if err != nil {
		return nil, err
	}
	return all[len(all)-1], nil
}

// documents loads those of Iceberg 1.10 and 1.11 once.
var documents = sync.OnceValues(func() (all []*contract, err error) {
	for _, version := range []string{"1.10", "1.11"} {
		c, err := readContract("testdata/rest-catalog-open-api-" + version + ".yaml")
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
})

func readContract(file string) (*contract, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if raw, err = yaml.YAMLToJSON(raw); err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c := &contract{doc: doc.(map[string]any), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}, seen: map[string]bool{}}
	amend(c.doc)
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	return c, c.compiler.AddResource("openapi.json", c.doc)
}

// amend reads some things of the document as they are meant. It says nullable as OpenAPI 3.0 did, which 3.1 does not
// know; its answers about views name ErrorModel, which every server and client wraps in "error" there as elsewhere; it
// wants a single value to be of exactly one primitive type, and each integer is a long and a double too; it knows no
// partition that is null; and that of 1.10 has objects where filters have values, as no client does.
func amend(doc map[string]any) {
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["nullable"] == true {
				if kind, ok := v["type"].(string); ok {
					v["type"] = []any{kind, "null"}
				}
			}
			for _, m := range v {
				walk(m)
			}
		case []any:
			for _, m := range v {
				walk(m)
			}
		}
	}
	walk(doc)
	value := dig(doc, "components", "schemas", "PrimitiveTypeValue")
	value["anyOf"] = value["oneOf"]
	delete(value, "oneOf")
	single := map[string]any{"$ref": "#/components/schemas/PrimitiveTypeValue"}
	dig(doc, "components", "schemas", "SetExpression", "properties", "values")["items"] = single
	dig(doc, "components", "schemas", "LiteralExpression", "properties")["value"] = single
	dig(doc, "components", "schemas", "ContentFile", "properties", "partition")["items"] = map[string]any{
		"anyOf": []any{map[string]any{"type": "null"}, single}}
	for path, item := range doc["paths"].(map[string]any) {
		if !strings.Contains(path, "/views") {
			continue
		}
		for _, op := range item.(map[string]any) {
			op, _ := op.(map[string]any)
			responses, _ := op["responses"].(map[string]any)
			for _, r := range responses {
				if s := dig(r, "content", "application/json", "schema"); s != nil && s["$ref"] == "#/components/schemas/ErrorModel" {
					s["$ref"] = "#/components/schemas/IcebergErrorResponse"
				}
			}
		}
	}
}

func dig(v any, keys ...string) map[string]any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	m, _ := v.(map[string]any)
	return m
}

// find returns the operation of a request and the template of its path; nil when the document has none.
func (c *contract) find(method, path string) (op map[string]any, template string) {
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for template, item := range c.doc["paths"].(map[string]any) {
		short := strings.Replace(template, "/{prefix}", "", 1) // Firn's paths have no prefix
		pattern := strings.Split(short, "/")
		if len(pattern) != len(segments) {
			continue
		}
		same := true
		for i, p := range pattern {
			same = same && (p == segments[i] || strings.HasPrefix(p, "{") && segments[i] != "")
		}
		// /tables/rename is no table, and /views/rename no view.
		if same && (short == path || !strings.Contains(path, "/rename")) {
			return dig(item, strings.ToLower(method)), short
		}
	}
	return nil, ""
}

// resolve follows a $ref to its object and pointer.
func (c *contract) resolve(v map[string]any, pointer string) (map[string]any, string) {
	for {
		ref, ok := v["$ref"].(string)
		if !ok {
			return v, pointer
		}
		pointer = strings.TrimPrefix(ref, "#")
		v = dig(c.doc, strings.Split(strings.TrimPrefix(pointer, "/"), "/")...)
	}
}

func (c *contract) schema(pointer string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.schemas[pointer]; ok {
		return s, nil
	}
	s, err := c.compiler.Compile("openapi.json#" + pointer)
	if err == nil {
		c.schemas[pointer] = s
	}
	return s, err
}

// body checks a body against the schema of a requestBody or a response.
func (c *contract) body(holder map[string]any, pointer string, raw []byte) error {
	holder, pointer = c.resolve(holder, pointer)
	if dig(holder, "content", "application/x-www-form-urlencoded") != nil {
		return nil // the token endpoint's form, which its own test looks at
	}
	if dig(holder, "content", "application/json", "schema") == nil {
		if len(raw) > 0 {
			return fmt.Errorf("the document has no body here")
		}
		return nil
	}
	s, err := c.schema(pointer + "/content/application~1json/schema")
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// undocumented are the statuses that the protocol leaves to HTTP: a body that is too large, a client that asks too often,
// and a method or an option that is not served. Their bodies are the protocol's error.
var undocumented = []int{http.StatusNotAcceptable, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests}

// check holds one exchange against the document. What was accepted must have been a valid request.
func (c *contract) check(r *http.Request, reqBody []byte, w *httptest.ResponseRecorder) error {
	op, template := c.find(r.Method, r.URL.EscapedPath())
	if op == nil {
		return nil // Firn's own paths, and what nobody serves
	}
	at := "/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(c.full(template)) + "/" + strings.ToLower(r.Method)
	responses := dig(op, "responses")
	code := strconv.Itoa(w.Code)
	if dig(responses, code) == nil && w.Code >= 500 {
		code = "5XX"
	}
	answer := w.Body.Bytes()
	c.mu.Lock()
	c.seen[r.Method+" "+template+" "+code] = true
	c.mu.Unlock()
	switch {
	case r.Method == http.MethodHead && len(answer) > 0:
		return fmt.Errorf("a HEAD was answered with a body: %s", answer)
	case r.Method == http.MethodHead:
	// The document forgets that the table of a request to sign may not be there.
	case dig(responses, code) == nil && (slices.Contains(undocumented, w.Code) || w.Code == http.StatusNotFound && strings.HasSuffix(template, "/sign")):
		if err := c.body(map[string]any{"$ref": "#/components/responses/BadRequestErrorResponse"}, "", answer); err != nil {
			return fmt.Errorf("answer %d: %w", w.Code, err)
		}
	case dig(responses, code) == nil:
		return fmt.Errorf("the document has no answer %d for %s %s", w.Code, r.Method, template)
	default:
		if err := c.body(dig(responses, code), at+"/responses/"+code, answer); err != nil {
			return fmt.Errorf("answer %d: %w\n%s", w.Code, err, answer)
		}
	}
	if len(answer) > 0 && w.Header().Get("Content-Type") != "application/json" {
		return fmt.Errorf("content type %q", w.Header().Get("Content-Type"))
	}
	if req := dig(op, "requestBody"); req != nil && w.Code < 300 {
		if err := c.body(req, at+"/requestBody", reqBody); err != nil {
			return fmt.Errorf("the request was accepted and is not valid: %w\n%s", err, reqBody)
		}
	}
	return nil
}

// full is the inverse of what find does to a template.
func (c *contract) full(short string) string {
	for template := range c.doc["paths"].(map[string]any) {
		if strings.Replace(template, "/{prefix}", "", 1) == short {
			return template
		}
	}
	return short
}

// exchange serves one request and holds it against the published documents.
func (f *fixture) exchange(t *testing.T, r *http.Request, body string) *httptest.ResponseRecorder {
	t.Helper()
	all, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	for _, c := range all {
		if err := c.check(r, []byte(body), w); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	}
	return w
}

// notServed are the paths of the document that Firn leaves out, each with the reason.
var notServed = map[string]string{
	"POST /v1/oauth/tokens": "served where clients are set, and deprecated by the protocol itself: no client looks for it here",
	"GET /v1/namespaces/{namespace}/tables/{table}/credentials": "served and listed where s3.sts is on, which is on S3 alone; TestLending asks",
	"POST /v1/namespaces/{namespace}/tables/{table}/sign":       "served and listed where s3.remote_signing is on; TestSigning asks",
}

// TestEveryPathIsServed: /v1/config lists exactly the document's operations, less those above, and Firn's own.
func TestEveryPathIsServed(t *testing.T) {
	c, err := published()
	if err != nil {
		t.Fatal(err)
	}
	f := memory(t)
	conf := want[struct{ Endpoints []string }](t, f.ask(t, "GET", "/v1/config", ""), 200)
	listed := map[string]bool{"GET /v1/config": true}
	for _, e := range conf.Endpoints {
		listed[strings.Replace(e, "/{prefix}", "", 1)] = true
	}
	for template, item := range c.doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			op := strings.ToUpper(method) + " " + strings.Replace(template, "/{prefix}", "", 1)
			if (notServed[op] != "") == listed[op] {
				t.Errorf("%s: listed %v, left out because %q", op, listed[op], notServed[op])
			}
			delete(listed, op)
		}
	}
	for op := range listed {
		if !strings.Contains(op, "/firn/") {
			t.Errorf("%s is listed and not in the document", op)
		}
	}
}

// TestContractBites: the checks of every other test would see a wrong answer.
func TestContractBites(t *testing.T) {
	c, err := published()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		answer             string
		good               bool
	}{
		{"GET", "/v1/config", "", 200, `{"defaults":{},"overrides":{}}`, true},
		{"GET", "/v1/config", "", 200, `{"defaults":{}}`, false},
		{"GET", "/v1/config", "", 200, `{"defaults":{"a":1},"overrides":{}}`, false},
		{"GET", "/v1/namespaces", "", 200, `{"namespaces":[["a"]],"next-page-token":null}`, true},
		{"GET", "/v1/namespaces", "", 200, `{"namespaces":["a"]}`, false},
		{"GET", "/v1/namespaces", "", 404, `{"error":{"message":"m","type":"t","code":404}}`, true},
		{"GET", "/v1/namespaces", "", 404, `{"message":"m","type":"t","code":404}`, false},
		{"GET", "/v1/namespaces", "", 402, `{"error":{"message":"m","type":"t","code":402}}`, false},
		{"POST", "/v1/namespaces", `{"namespace":["a"]}`, 200, `{"namespace":["a"]}`, true},
		{"POST", "/v1/namespaces", `{"namespace":"a"}`, 200, `{"namespace":["a"]}`, false},
		{"DELETE", "/v1/namespaces/a", "", 204, ``, true},
		{"DELETE", "/v1/namespaces/a", "", 204, `{}`, false},
		{"DELETE", "/v1/namespaces/a", "", 200, ``, false},
		{"POST", "/v1/views/rename", `{"source":{"namespace":["a"],"name":"b"},"destination":{"namespace":["a"],"name":"c"}}`, 204, ``, true},
		{"POST", "/v1/views/rename", `{"source":{"namespace":["a"],"name":"b"}}`, 204, ``, false},
		{"GET", "/v1/namespaces/a/tables/t", "", 200, `{"metadata":{"format-version":2,"table-uuid":"u"}}`, true},
		{"GET", "/v1/namespaces/a/tables/t", "", 200, `{"metadata":{"format-version":9,"table-uuid":"u"}}`, false},
		{"HEAD", "/v1/namespaces/a/tables/t", "", 204, ``, true},
		{"HEAD", "/v1/namespaces/a/tables/t", "", 204, `{}`, false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, nil)
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(tc.status)
		_, _ = w.WriteString(tc.answer)
		if err := c.check(r, []byte(tc.body), w); (err == nil) != tc.good {
			t.Errorf("%s %s %d %s: %v", tc.method, tc.path, tc.status, tc.answer, err)
		}
	}
}
