package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/internal/logging/logtest"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

const (
	canaryPipeline = "canary-pipeline-0123456789"
	canaryReader   = "canary-reader-0123456789"
	canaryToken    = "canary-other-0123456789"
)

// TestAccess: with roles on, a catalog in one process, and ingest, compaction and queries in another that gets its tokens
// for a secret; a reader may read and not write, and nobody else gets in. No secret stands in any log, answer or metric.
func TestAccess(t *testing.T) {
	dir, out := t.TempDir(), &logtest.Buffer{}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	warehouse := "file://" + filepath.ToSlash(filepath.Join(dir, "warehouse"))
	cat := upWith(t, filepath.Join(dir, "catalog"), Demo{}, log, []Role{RoleCatalog}, func(c *Config) {
		c.Warehouse = warehouse
		c.Catalog.AuditTable, c.Catalog.AuditInterval = []string{"analytics", "audit"}, units.Duration(time.Second)
		c.Catalog.Auth = auth.Config{
			Clients: []auth.Client{{ID: "pipeline", Secret: units.NewSecret(canaryPipeline), Roles: []string{"pipeline"}},
				{ID: "reader", Secret: units.NewSecret(canaryReader), Roles: []string{"reader"}}},
			Tokens: []auth.Token{{Name: "other", Token: units.NewSecret(canaryToken), Roles: []string{"other"}}},
			Roles: []auth.Role{{Name: "pipeline", Grants: []auth.Grant{{Allow: auth.Manage, Below: []string{"analytics"}}}},
				{Name: "reader", Grants: []auth.Grant{{Allow: auth.Read, Table: []string{"analytics", "user_events"}}}},
				{Name: "other", Grants: []auth.Grant{{Allow: auth.Manage, Below: []string{"elsewhere"}}}}}}.WithDefaults()
	})
	defer down(t, cat)
	uri := "http://" + cat.Addresses().Catalog
	p := upWith(t, filepath.Join(dir, "rest"), Demo{Rate: 500, Seed: 1}, log, []Role{RoleIngest, RoleCompact, RoleQuery}, func(c *Config) {
		c.Warehouse, c.Catalog.URI = warehouse, uri
		c.Catalog.Client = CatalogClient{ClientID: "pipeline", Secret: units.NewSecret(canaryPipeline)}
	})
	defer down(t, p)
	c := clientOf(t, filepath.Join(dir, "rest"))
	eventually(t, "two commits", func() (bool, string) {
		s, err := c.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		ready, why := s.Ready()
		return ready && s.Pipelines[0].Snapshots >= 2, why
	})
	if n := scanRows(t, c, query.LevelCommitted); n == 0 {
		t.Error("a query sees no row")
	}

	connect := func(cfg client.Config) *client.Client {
		t.Helper()
		cfg.URI = uri
		cc, err := client.New(t.Context(), cfg, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cc.Close)
		return cc
	}
	events := catalog.Identifier{"analytics", "user_events"}
	reader := connect(client.Config{ClientID: "reader", ClientSecret: units.NewSecret(canaryReader)})
	loaded, err := reader.LoadTable(t.Context(), events, catalog.LoadAll)
	if err != nil || loaded.Metadata.CurrentSnapshot() == nil {
		t.Fatalf("the reader cannot read: %v", err)
	}
	if ids, err := reader.ListTables(t.Context(), events[:1]); err != nil || fmt.Sprint(ids) != "[analytics.user_events]" {
		t.Errorf("the reader sees %v, %v", ids, err)
	}
	commit := catalog.TableCommit{Identifier: events, Updates: table.Updates{table.NewSetPropertiesUpdate(map[string]string{"a": "b"})}}
	for what, err := range map[string]error{
		"commit":           func() error { _, err := reader.CommitTable(t.Context(), commit); return err }(),
		"transaction":      reader.CommitTransaction(t.Context(), []catalog.TableCommit{commit}),
		"drop":             reader.DropTable(t.Context(), events, true),
		"create namespace": reader.CreateNamespace(t.Context(), catalog.Identifier{"mine"}, nil),
		"create": func() error {
			_, err := reader.CreateTable(t.Context(), catalog.Identifier{"analytics", "mine"}, catalog.CreateTable{Schema: loaded.Metadata.CurrentSchema()})
			return err
		}(),
	} {
		if !errors.Is(err, catalog.ErrDenied) {
			t.Errorf("%s by a reader: %v", what, err)
		}
	}
	other := connect(client.Config{Token: units.NewSecret(canaryToken)})
	if _, err := other.LoadTable(t.Context(), events, catalog.LoadRefs); !errors.Is(err, catalog.ErrNoSuchTable) {
		t.Errorf("a table that one may not know of: %v", err)
	}
	for name, cfg := range map[string]client.Config{"nobody": {}, "a wrong token": {Token: units.NewSecret("canary-wrong-0123456789")},
		"a wrong secret": {ClientID: "reader", ClientSecret: units.NewSecret("canary-wrong-0123456789")}} {
		cfg.URI = uri
		if _, err := client.New(t.Context(), cfg, log, nil); !errors.Is(err, catalog.ErrDenied) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	const refused = "select * from analytics.audit where principal = 'reader' and via = 'client' and action = 'drop_table' and outcome = 'refused' and about = 'analytics.user_events'"
	eventually(t, "the audit table in SQL", func() (bool, string) {
		n, err := countSQL(t, c, refused)
		return n == 1, fmt.Sprint(n, " rows, ", err)
	})
	if st, err := os.Stat(filepath.Join(dir, "catalog", "catalog-tokens.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key of tokens: %v, %v", st, err)
	}
	for _, want := range []string{"action=drop_table outcome=refused status=403 principal=reader via=client", "action=commit_table outcome=done status=200 principal=pipeline"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log has no %q", want)
		}
	}
	for _, addr := range []string{cat.Addresses().HTTP, p.Addresses().HTTP} {
		for _, path := range []string{"/metrics", "/", StatusPath} {
			if text := fetch(t, (&url.URL{Scheme: "http", Host: addr, Path: path}).String()); strings.Contains(text, "canary") || len(text) < 100 {
				t.Errorf("a secret stands in %s, or nothing at all", path)
			}
		}
	}
	if strings.Contains(out.String(), "canary") || strings.Contains(out.String(), "eyJ") {
		t.Error("a secret or a token stands in the log")
	}
}

// countSQL counts the rows of a query.
func countSQL(t *testing.T, c *Client, sql string) (n int64, err error) {
	t.Helper()
	fc, err := c.Flight(t.Context())
	if err != nil {
		return 0, err
	}
	defer fc.Close()
	res, err := fc.Query(t.Context(), sql, query.Options{Level: query.LevelCommitted})
	if err != nil {
		return 0, err
	}
	defer res.Release()
	for res.Next(t.Context()) {
		n += res.RecordBatch().NumRows()
	}
	return n, res.Err()
}

func fetch(t *testing.T, uri string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestAccessInTheFile: the block is read, and what is wrong in it is said with line, column and remedy.
func TestAccessInTheFile(t *testing.T) {
	setKeys(t)
	t.Setenv("TOKEN_A", "canary-a-0123456789abcdef")
	t.Setenv("TOKEN_B", "canary-b-0123456789abcdef")
	const block = `catalog:
  listen: "127.0.0.1:8181"
  requests_per_second: 50
  auth:
    tokens:
      - {name: ingest, token: env:TOKEN_A, roles: [pipeline]}
    clients:
      - {id: spark, secret: env:TOKEN_B, roles: [analyst]}
    oidc:
      - issuer: https://login.example.org
        audience: firn
        algorithms: [RS256]
        roles_claim: groups
        role_of: {data-eng: analyst}
    roles:
      - name: pipeline
        grants:
          - {below: [analytics], allow: manage}
      - name: analyst
        grants:
          - {table: [analytics, "user events"], allow: read}
          - {namespace: [analytics], allow: list}
`
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Replace(string(raw), "catalog:\n  listen: \"127.0.0.1:8181\"\n", block, 1)
	load := func(t *testing.T, text string) (*Config, error) {
		path := filepath.Join(t.TempDir(), "firn.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, _, err := LoadConfig(path)
		return cfg, err
	}
	cfg, err := load(t, good)
	if err != nil {
		t.Fatal(err)
	}
	a := cfg.Catalog.Auth
	if len(a.Tokens) != 1 || a.Tokens[0].Token.Reveal() != "canary-a-0123456789abcdef" || a.Roles[1].Grants[0].Table[1] != "user events" ||
		a.Roles[0].Grants[0].Allow != auth.Manage || a.OIDC[0].PrincipalClaim != "sub" || a.OIDC[0].RoleOf["data-eng"] != "analyst" || cfg.Catalog.RequestBurst != 100 {
		t.Errorf("read as %+v", a)
	}
	for old, c := range map[string][2]string{
		"token: env:TOKEN_A": {"tokne: env:TOKEN_A", `firn.yaml:16:24: catalog.auth.tokens[0]: unknown key "tokne"; did you mean token?`},
		"env:TOKEN_B":        {"env:TOKEN_C", "TOKEN_C is not set"},
		"roles: [pipeline]":  {"roles: [pipline]", `there is no role "pipline"`},
		"allow: manage":      {"allow: admin", `"admin" is no`},
		"below: [analytics]": {`below: ["*"]`, "all: true"},
		"[RS256]":            {"[none]", "none"},
		"https://login":      {"http://login", "without TLS"},
		"audience: firn":     {"", "audience"},
		"data-eng: analyst":  {"data-eng: admin", `"data-eng" gives the role "admin"`},
	} {
		if strings.Count(good, old) != 1 {
			t.Fatalf("%q is not once in the block", old)
		}
		_, err := load(t, strings.Replace(good, old, c[0], 1))
		if err == nil || !strings.Contains(err.Error(), c[1]) || !strings.Contains(err.Error(), "firn.yaml:") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %s", c[0], err, c[1])
		}
	}
	schema, err := ConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"role_of"`, `"signing_key"`, `"client_ca"`, `"manage"`, `"requests_per_second"`, `"client_secret"`} {
		if !bytes.Contains(schema, []byte(want)) {
			t.Errorf("the schema has no %s", want)
		}
	}
}
