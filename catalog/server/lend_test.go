package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/logging/logtest"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// fakeS3 is a storage that lends: it remembers what for.
type fakeS3 struct {
	objstore.Store
	mu     sync.Mutex
	scopes []objstore.Scope
	fail   error
	life   time.Duration
}

func (f *fakeS3) TemporaryKeys(_ context.Context, s objstore.Scope) (objstore.Keys, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return objstore.Keys{}, f.fail
	}
	f.scopes = append(f.scopes, s)
	return objstore.Keys{AccessKey: units.NewSecret(fmt.Sprint("key", len(f.scopes))), SecretKey: units.NewSecret("lent-secret"),
		SessionToken: units.NewSecret("lent-session"), Expires: time.Now().Add(f.life)}, nil
}

func (f *fakeS3) Sign(r *http.Request, k *objstore.Keys) {
	by := "own"
	if k != nil {
		by = k.AccessKey.Reveal()
		r.Header.Set("X-Amz-Security-Token", k.SessionToken.Reveal())
	}
	r.Header.Set("X-Amz-Date", "20261125T120000Z")
	r.Header.Set("Authorization", "signed by "+by)
}

func (*fakeS3) Bucket() string { return "lake" }
func (*fakeS3) Prefix() string { return "warehouse/" }
func (*fakeS3) Region() string { return "us-east-1" }

func (f *fakeS3) asked() []objstore.Scope {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.scopes)
}

// lending is guarded with a storage that lends.
func lending(t *testing.T, log *slog.Logger, reg prometheus.Registerer, change func(*server.Config)) (*fixture, *fakeS3) {
	t.Helper()
	s3 := &fakeS3{Store: objstore.NewMemory(), life: time.Hour}
	f := guardedOn(t, s3, log, reg, func(c *server.Config) {
		c.S3 = server.S3Properties{Endpoint: "http://storage:9000", Region: "us-east-1", PathStyle: true, STS: true, RemoteSigning: true}
		if change != nil {
			change(c)
		}
	})
	return f, s3
}

type lent struct {
	Config      map[string]string `json:"config"`
	Credentials []struct {
		Prefix string            `json:"prefix"`
		Config map[string]string `json:"config"`
	} `json:"storage-credentials"`
	Metadata struct {
		Location string `json:"location"`
	} `json:"metadata"`
}

const (
	vended = "vended-credentials"
	signed = "remote-signing"
	way    = "X-Iceberg-Access-Delegation"
	tableT = "/v1/namespaces/ns/tables/t"
)

// TestLending: keys are for the table's location and for what their holder may do with it; who may not load a table gets none,
// and who does not ask neither.
func TestLending(t *testing.T) {
	f, s3 := lending(t, nil, nil, nil)
	m := f.makeTable(t, "t")
	key := strings.TrimPrefix(m.Metadata.Location(), "s3://lake/warehouse/")
	for _, tc := range []struct {
		who          string
		status       int
		keys, writes bool
	}{{"nobody", 404, false, false}, {"list", 403, false, false}, {"read", 200, true, false}, {"write", 200, true, true}, {"manage", 200, true, true}, {"admin", 200, true, true}} {
		for _, path := range []string{tableT, tableT + "/credentials"} {
			w := f.as(t, tc.who, "GET", path, "", way, vended)
			var got lent
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != tc.status || (len(got.Credentials) == 1) != tc.keys {
				t.Errorf("%s %s: %d %s", tc.who, path, w.Code, w.Body)
				continue
			}
			if !tc.keys {
				continue
			}
			c, want := got.Credentials[0], map[bool]string{false: "key1", true: "key2"}[tc.writes]
			if c.Prefix != m.Metadata.Location()+"/" || c.Config["s3.access-key-id"] != want || c.Config["s3.session-token"] != "lent-session" ||
				c.Config["client.refresh-credentials-endpoint"] != "v1/namespaces/ns/tables/t/credentials" || c.Config["s3.endpoint"] != "http://storage:9000" {
				t.Errorf("%s %s: %+v", tc.who, path, got)
			}
			if w.Header().Get("ETag") != "" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: an answer with keys may be kept: %v", tc.who, path, w.Header())
			}
		}
	}
	if got := fmt.Sprint(s3.asked()); got != fmt.Sprint([]objstore.Scope{{Prefix: key, Lifetime: time.Hour}, {Prefix: key, Write: true, Lifetime: time.Hour}}) {
		t.Errorf("STS was asked for %s", got)
	}
	for _, header := range [][]string{nil, {way, ""}, {way, "something"}, {way, "vended-credentialss"}} {
		if w := f.as(t, "write", "GET", tableT, "", header...); strings.Contains(w.Body.String(), "lent-") || w.Header().Get("ETag") == "" {
			t.Errorf("%v: %s", header, w.Body)
		}
	}
	for _, header := range []string{"remote-signing,vended-credentials", " Vended-Credentials "} {
		if w := f.as(t, "write", "GET", tableT, "", way, header); !strings.Contains(w.Body.String(), "lent-session") {
			t.Errorf("%s: %s", header, w.Body)
		}
	}
	want[failure](t, f.as(t, "read", "GET", "/v1/namespaces/ns/tables/none/credentials", ""), 404)
	want[failure](t, f.as(t, "admin", "GET", "/v1/namespaces/ns/tables/none/credentials", ""), 404)
	want[failure](t, f.as(t, "admin", "GET", "/v1/namespaces//tables/t/credentials", ""), 400)
}

// TestLentKeysAreRenewed: keys are given again while more than half of their time is left.
func TestLentKeysAreRenewed(t *testing.T) {
	f, s3 := lending(t, nil, nil, nil)
	s3.life = 0 // half of it has passed at once
	f.makeTable(t, "t")
	for i := range 3 {
		got := want[lent](t, f.as(t, "read", "GET", tableT, "", way, vended), 200)
		if id := got.Credentials[0].Config["s3.access-key-id"]; id != fmt.Sprint("key", i+1) {
			t.Errorf("load %d has %s", i, id)
		}
	}
}

// TestStagedTablesAreLentTheirOwnPlace: where the catalog chose it. A place that a client names may be the next table's: keys to
// it are for those alone who may write all tables.
func TestStagedTablesAreLentTheirOwnPlace(t *testing.T) {
	f, s3 := lending(t, nil, nil, nil)
	f.makeTable(t, "t")
	body := `{"name":"staged","stage-create":true,"schema":` + schemaJSON + `%s}`
	got := want[lent](t, f.as(t, "manage", "POST", "/v1/namespaces/ns/tables", fmt.Sprintf(body, ""), way, vended), 200)
	if len(got.Credentials) != 1 || got.Credentials[0].Prefix != got.Metadata.Location+"/" || !s3.asked()[0].Write || got.Credentials[0].Config["client.refresh-credentials-endpoint"] != "" {
		t.Errorf("staged: %+v", got)
	}
	named := want[lent](t, f.as(t, "manage", "POST", "/v1/namespaces/ns/tables", fmt.Sprintf(body, `,"location":"s3://lake/warehouse/named"`), way, vended), 200)
	if len(named.Credentials) != 0 || named.Config["s3.access-key-id"] != "" {
		t.Errorf("a place that nobody has: %+v", named)
	}
	asked := len(s3.asked())
	all := want[lent](t, f.as(t, "admin", "POST", "/v1/namespaces/ns/tables", fmt.Sprintf(body, `,"location":"s3://lake/warehouse/named"`), way, vended), 200)
	if len(all.Credentials) != 1 || all.Credentials[0].Prefix != "s3://lake/warehouse/named/" || len(s3.asked()) != asked+1 || !s3.asked()[asked].Write {
		t.Errorf("a place that nobody has, for one who may write everything: %+v, keys to %+v", all, s3.asked())
	}
	taken := want[loaded](t, f.as(t, "admin", "GET", tableT, ""), 200).Metadata
	var is struct{ Location string }
	if err := json.Unmarshal(taken, &is); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{is.Location, is.Location + "/below", "s3://lake/warehouse", "s3://other/x", "s3://lake/warehouse/../x"} {
		want[failure](t, f.as(t, "admin", "POST", "/v1/namespaces/ns/tables", fmt.Sprintf(body, `,"location":"`+at+`"`), way, vended), 400)
	}
	if len(s3.asked()) != asked+1 {
		t.Errorf("keys to a place of another: %+v", s3.asked()[asked:])
	}
	// One who may create in the namespace and not write what another made there gets nothing for it.
	made := want[lent](t, f.as(t, "tables", "POST", "/v1/namespaces/ns/tables", `{"name":"x","schema":`+schemaJSON+`}`, way, vended), 200)
	if len(made.Credentials) != 0 {
		t.Errorf("keys without a right to the table: %+v", made)
	}
}

// TestStagedTablesWithoutAccessControl: where everybody may write everything, a place that a client names is lent as any other.
func TestStagedTablesWithoutAccessControl(t *testing.T) {
	f, s3 := lending(t, nil, nil, func(c *server.Config) { c.Token, c.Auth = units.Secret{}, auth.Config{} })
	withNamespace(t, f)
	got := want[lent](t, f.ask(t, "POST", "/v1/namespaces/ns/tables", `{"name":"x","stage-create":true,"schema":`+schemaJSON+`,"location":"s3://lake/warehouse/named"}`, way, vended), 200)
	if len(got.Credentials) != 1 || got.Credentials[0].Prefix != "s3://lake/warehouse/named/" || !s3.asked()[0].Write {
		t.Errorf("%+v, keys to %+v", got, s3.asked())
	}
}

// TestStorageThatLendsNothing: a load goes without keys, and is offered signatures; a request for keys alone says why.
func TestStorageThatLendsNothing(t *testing.T) {
	out := &logtest.Buffer{}
	reg := prometheus.NewRegistry()
	f, s3 := lending(t, slog.New(slog.NewTextHandler(out, nil)), reg, nil)
	f.makeTable(t, "t")
	for _, tc := range []struct {
		err    error
		status int
	}{{objstore.ErrUnavailable, 503}, {objstore.ErrAccessDenied, 503}, {objstore.ErrNoScope, 400}} {
		s3.fail = fmt.Errorf("sts: %w", tc.err)
		want[failure](t, f.as(t, "read", "GET", tableT+"/credentials", ""), tc.status)
		plain := want[lent](t, f.as(t, "read", "GET", tableT, "", way, vended), 200)
		if len(plain.Credentials) != 0 || plain.Config["s3.signer.endpoint"] != "" {
			t.Errorf("%v: %+v", tc.err, plain)
		}
		instead := want[lent](t, f.as(t, "read", "GET", tableT, "", way, vended+","+signed), 200)
		if instead.Config["s3.signer.endpoint"] != "v1/namespaces/ns/tables/t/sign" || instead.Config["s3.remote-signing-enabled"] != "true" {
			t.Errorf("%v: %+v", tc.err, instead)
		}
		want[failure](t, f.as(t, "read", "POST", tableT+"/sign", `{"region":"us-east-1","method":"GET","uri":"http://storage:9000/lake/`+s3Key(t, f)+`/a","headers":{}}`), tc.status)
	}
	if !strings.Contains(out.String(), "loaded without the storage keys") {
		t.Error("nobody is told")
	}
}

// s3Key is the key of table ns.t in the bucket.
func s3Key(t *testing.T, f *fixture) string {
	t.Helper()
	got := want[lent](t, f.as(t, "admin", "GET", tableT, ""), 200)
	return strings.TrimPrefix(got.Metadata.Location, "s3://lake/")
}

// TestLendingIsOffAndRefused: where nothing is configured nothing is served or listed, and what contradicts itself does not start.
func TestLendingIsOffAndRefused(t *testing.T) {
	f := guarded(t, nil, nil, nil)
	f.makeTable(t, "t")
	want[failure](t, f.as(t, "admin", "GET", tableT+"/credentials", ""), 404)
	want[failure](t, f.as(t, "admin", "POST", tableT+"/sign", `{"region":"us-east-1","method":"GET","uri":"http://s/","headers":{}}`), 404)
	on, _ := lending(t, nil, nil, nil)
	for g, listed := range map[*fixture]bool{f: false, on: true} {
		conf := want[struct{ Endpoints []string }](t, g.as(t, "read", "GET", "/v1/config", ""), 200)
		for _, e := range []string{"GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/sign"} {
			if slices.Contains(conf.Endpoints, e) != listed {
				t.Errorf("%s listed: %v", e, !listed)
			}
		}
	}
	for what, s3 := range map[string]server.S3Properties{
		"vend_static":  {VendStaticCredentials: true, STS: true, AccessKey: units.NewSecret("a"), SecretKey: units.NewSecret("b")},
		"key_lifetime": {STS: true, KeyLifetime: units.Duration(time.Minute)},
		"s3.sts:":      {STSRoleARN: "arn"},
		"on S3":        {STS: true},
	} {
		_, err := server.New(t.Context(), server.Config{Store: "sqlite::memory:", S3: s3}, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://x/y"}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestSigning: what a reader and a writer of a table may have signed, and every way to something else.
func TestSigning(t *testing.T) {
	f, _ := lending(t, nil, nil, nil)
	f.makeTable(t, "t")
	f.makeTable(t, "other")
	root := s3Key(t, f)
	const host = "http://storage:9000/lake/"
	at := host + root
	prefix := strings.ReplaceAll(root, "/", "%2F")
	for _, tc := range []struct {
		who, method, uri string
		headers          map[string][]string
		body             string
		status           int
	}{
		{"read", "GET", at + "/metadata/a.json?x-id=GetObject", nil, "", 200},
		{"read", "HEAD", at + "/data/d=2026%252F01/a%20b.parquet", nil, "", 200},
		{"read", "GET", "http://lake.storage:9000/" + root + "/a", nil, "", 200},
		{"read", "GET", host + "?list-type=2&delimiter=%2F&prefix=" + prefix + "%2F", nil, "", 200},
		{"write", "PUT", at + "/data/a", map[string][]string{"x-amz-content-sha256": {strings.Repeat("ab", 32)}, "Content-MD5": {"x"}}, "", 200},
		{"write", "POST", at + "/data/a?uploads", nil, "", 200},
		{"write", "PUT", at + "/data/a?partNumber=1&uploadId=u", nil, "", 200},
		{"write", "DELETE", at + "/data/a", nil, "", 200},
		{"write", "POST", host + "?delete", nil, "<Delete><Object><Key>" + root + "/a</Key></Object></Delete>", 200},
		// Not by this principal.
		{"nobody", "GET", at + "/a", nil, "", 404},
		{"list", "GET", at + "/a", nil, "", 403},
		{"read", "PUT", at + "/a", nil, "", 403},
		{"read", "DELETE", at + "/a", nil, "", 403},
		{"read", "POST", host + "?delete", nil, "<Delete><Object><Key>" + root + "/a</Key></Object></Delete>", 403},
		// Another place.
		{"write", "GET", host + "warehouse/other/a", nil, "", 403},
		{"write", "GET", at + "2/a", nil, "", 403},
		{"write", "GET", at, nil, "", 403},
		{"write", "PUT", host + "warehouse/_firn/inventory/1.json", nil, "", 403},
		{"write", "GET", at + "/../other/a", nil, "", 403},
		{"write", "GET", at + "/%2e%2e/other/a", nil, "", 403},
		{"write", "GET", at + "/..%2Fother/a", nil, "", 403},
		{"write", "GET", at + "//a", nil, "", 403},
		{"write", "GET", at + "/.", nil, "", 403},
		{"write", "GET", at + "/a%00", nil, "", 403},
		{"write", "GET", at + `/a%5c..%5cb`, nil, "", 403},
		{"write", "GET", strings.Replace(at, "/lake/", "/pond/", 1) + "/a", nil, "", 403},
		{"write", "GET", "http://pond.storage:9000/" + root + "/a", nil, "", 403},
		{"write", "GET", strings.Replace(at, "storage:9000", "storage:9001", 1) + "/a", nil, "", 403},
		{"write", "GET", strings.Replace(at, "storage", "evil.example", 1) + "/a", nil, "", 403},
		{"write", "GET", strings.Replace(at, "http:", "https:", 1) + "/a", nil, "", 403},
		{"write", "GET", strings.Replace(at, "//storage", "//storage:9000@evil", 1) + "/a", nil, "", 400},
		{"write", "GET", at + "/a#b", nil, "", 400},
		{"write", "GET", "http:storage", nil, "", 400},
		{"write", "GET", at + "/a%", nil, "", 400},
		{"write", "GET", at + "/" + strings.Repeat("a", 9000), nil, "", 400},
		{"write", "GET", host, nil, "", 403},
		{"write", "GET", host + "?list-type=2", nil, "", 403},
		{"write", "GET", host + "?list-type=2&prefix=" + prefix, nil, "", 403},
		{"write", "GET", host + "?list-type=2&prefix=warehouse%2F", nil, "", 403},
		{"write", "GET", host + "?prefix=" + prefix + "%2F&prefix=", nil, "", 400},
		// Something else than the bytes.
		{"write", "GET", at + "/a?acl", nil, "", 403},
		{"write", "PUT", at + "/a?tagging", nil, "", 403},
		{"write", "GET", host + "?policy", nil, "", 403},
		{"write", "GET", host + "?versions&prefix=" + prefix + "%2F", nil, "", 403},
		{"write", "PUT", host, nil, "", 403},
		{"write", "DELETE", host, nil, "", 403},
		{"write", "POST", at + "/a", nil, "", 403},
		{"write", "POST", at + "/a?select&select-type=2", nil, "", 403},
		{"write", "PATCH", at + "/a", nil, "", 403},
		{"write", "OPTIONS", at + "/a", nil, "", 403},
		{"write", "GET", at + "/a?uploadId=a;acl", nil, "", 400},
		{"write", "PUT", at + "/a", map[string][]string{"X-Amz-Copy-Source": {"/lake/warehouse/other/a"}}, "", 403},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-acl": {"public-read"}}, "", 403},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-grant-read": {"everybody"}}, "", 403},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-security-token": {"t"}}, "", 403},
		{"write", "PUT", at + "/a", map[string][]string{"x-minio-source-etag": {"t"}}, "", 403},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-meta-a": {"1", "2"}}, "", 403},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-meta-a": {"1\r\nx-amz-acl: public-read"}}, "", 403},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-content-sha256": {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}}, "", 400},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-content-sha256": {"UNSIGNED-PAYLOAD"}, "X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}, "", 200},
		{"write", "PUT", at + "/a", map[string][]string{"x-amz-content-sha256": {"UNSIGNED-PAYLOAD"}, "X-Amz-Content-Sha256": {strings.Repeat("ab", 32)}}, "", 400},
		{"write", "POST", host + "?delete", nil, "", 400},
		{"write", "POST", host + "?delete", nil, "<Delete></Delete>", 400},
		{"write", "POST", host + "?delete", nil, "rubbish", 400},
		{"write", "POST", host + "?delete", nil, "<Delete><Object><Key>" + root + "/a</Key></Object><Object><Key>warehouse/other/a</Key></Object></Delete>", 403},
		{"write", "POST", host + "?delete", nil, "<Delete><Object><Key>" + root + "/a</Key><Key>warehouse/other/a</Key></Object></Delete>", 403},
		{"write", "POST", host + "?delete", map[string][]string{"x-amz-content-sha256": {"UNSIGNED-PAYLOAD"}}, "<Delete><Object><Key>" + root + "/a</Key></Object></Delete>", 400},
		{"write", "POST", host + "?delete&acl", nil, "<Delete><Object><Key>" + root + "/a</Key></Object></Delete>", 403},
	} {
		if tc.headers == nil {
			tc.headers = map[string][]string{}
		}
		raw, err := json.Marshal(map[string]any{"region": "us-east-1", "method": tc.method, "uri": tc.uri, "headers": tc.headers, "body": tc.body})
		if err != nil {
			t.Fatal(err)
		}
		w := f.as(t, tc.who, "POST", tableT+"/sign", string(raw))
		if w.Code != tc.status {
			t.Errorf("%s: %s %s %v: %d, want %d: %s", tc.who, tc.method, tc.uri, tc.headers, w.Code, tc.status, w.Body)
		}
		if tc.status != 200 {
			continue
		}
		var out struct {
			URI     string
			Headers map[string][]string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.URI != tc.uri || !strings.HasPrefix(out.Headers["Authorization"][0], "signed by key") {
			t.Errorf("%s %s: %s", tc.method, tc.uri, w.Body)
		}
	}
	for what, body := range map[string]string{"provider": `"provider":"gcs"`, "region": `"region":"eu-west-9"`} {
		w := f.as(t, "write", "POST", tableT+"/sign", `{"method":"GET","uri":"`+at+`/a","headers":{},"region":"us-east-1",`+body+`}`)
		if got := want[failure](t, w, 400); !strings.Contains(got.Error.Message, what) {
			t.Errorf("%s: %s", what, w.Body)
		}
	}
	want[failure](t, f.as(t, "admin", "POST", "/v1/namespaces/ns/tables/none/sign", `{"region":"us-east-1","method":"GET","uri":"`+at+`/a","headers":{}}`), 404)
}

// TestLentSecretsGoToTheirHolderOnly: in no log, no metric, no audit line and no answer but his.
func TestLentSecretsGoToTheirHolderOnly(t *testing.T) {
	out := &logtest.Buffer{}
	reg := prometheus.NewRegistry()
	f, s3 := lending(t, slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})), reg, nil)
	s3.life = 0 // so that none are kept
	f.makeTable(t, "t")
	var others strings.Builder
	keep := func(w *httptest.ResponseRecorder) { fmt.Fprintln(&others, w.Code, w.Header(), w.Body) }
	want[lent](t, f.as(t, "read", "GET", tableT, "", way, vended), 200)
	want[lent](t, f.as(t, "write", "GET", tableT+"/credentials", ""), 200)
	for _, who := range []string{"nobody", "list", "tables"} {
		keep(f.as(t, who, "GET", tableT, "", way, vended))
		keep(f.as(t, who, "GET", tableT+"/credentials", ""))
	}
	keep(f.as(t, "write", "GET", tableT, ""))
	keep(f.as(t, "write", "GET", "/v1/config", "", way, vended))
	s3.fail = errors.New("sts answers no")
	keep(f.as(t, "admin", "GET", "/v1/namespaces/ns/tables/t/credentials", "", "X-Nothing", "x"))
	metrics, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"the log": out.String(), "other answers": others.String(), "the metrics": fmt.Sprint(metrics)} {
		if strings.Contains(text, "lent-se") || strings.Contains(text, "canary") || len(text) < 100 {
			t.Errorf("a secret stands in %s, or nothing does: %s", what, text)
		}
	}
	for _, action := range []string{"action=load_credentials outcome=refused status=404 principal=nobody", "action=load_table outcome=refused status=403 principal=list"} {
		if !strings.Contains(out.String(), action) {
			t.Errorf("no %q in the audit trail", action)
		}
	}
}
