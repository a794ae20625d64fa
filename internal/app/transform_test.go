package app

import (
	"bytes"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

const peopleContract = `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"kind":{"type":"string"},
	"user":{"type":"object","properties":{"email":{"type":"string"},"city":{"type":"string"}}},"n":{"type":"integer"}}}`

// locked is a log that may be written by many and read at the end.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// TestTransformedPipeline: a filter, a mask and a computed column from end to end. The canary of the masked column is found
// nowhere: not in files of any kind, hot rows, log, metrics or status. The audit accounts for filtered offsets, and what was
// encrypted is redriven once the contract is mended.
func TestTransformedPipeline(t *testing.T) {
	dir, logs := t.TempDir(), &locked{}
	pl := Pipeline{Name: "people", Topic: "people", Table: "crm.people", DeadTopic: "people.dead", contract: []byte(peopleContract), CommitInterval: units.Duration(200 * time.Millisecond),
		Transform: transform.Config{Filter: "kind <> 'bot'", Columns: map[string]string{"city": "upper(user.city)", "share": "100 / n"},
			Mask:          map[string]transform.Mask{"user.email": {Method: transform.MethodTokenise, Key: secretOf(t, "0123456789abcdef"), Length: 16}},
			DeadLetterKey: secretOf(t, "fedcba9876543210")}}.WithDefaults()
	if err := pl.Validate(); err != nil {
		t.Fatal(err)
	}
	p := upWith(t, dir, Demo{}, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})), []Role{RoleCatalog, RoleIngest, RoleCompact, RoleQuery},
		func(c *Config) { c.Pipelines = []Pipeline{pl} })
	defer down(t, p)
	c := clientOf(t, dir)
	c.cfg.Pipelines, c.cfg.Kafka = []Pipeline{pl}, p.cfg.Kafka
	const canary = "canary-4711"
	produce(t, p, "people", `{"id":1,"kind":"human","n":4,"user":{"email":"`+canary+`","city":"Oslo"}}`, `{"id":2,"kind":"bot","user":{"email":"`+canary+`"}}`,
		`{"id":"x","kind":"human","user":{"email":"`+canary+`"}}`, `{"id":4,"kind":"human","n":0,"user":{"email":"`+canary+`"}}`, `{"id":5,"kind":"bot"}`, `{"`+canary+`":`)
	table := catalog.Identifier{"crm", "people"}
	eventually(t, "row and letters", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.Rows == 1 && s.DeadLetters == 3 && s.Filtered == 2 && s.Snapshots > 0, why
	})
	row := rowsOf(t, c, table, "id", "city", "share", "user")
	if len(row) != 1 || !strings.HasPrefix(row[0], `1 OSLO 25 {`) || strings.Contains(row[0], canary) {
		t.Errorf("rows %q", row)
	}
	r, err := c.Audit(t.Context(), table.String(), AuditOptions{Kafka: true})
	if err != nil || r.Verdict != audit.Clean || r.Partitions[0].Filtered != 2 {
		t.Errorf("%v, %v", r, err)
	}
	findNowhere(t, p, c, dir, canary, logs)
	for _, r := range letterTopicOf(t, p, "people.dead", 3) {
		if !bytes.HasPrefix(r.Value, []byte("firn:aes256gcm:")) || bytes.Contains(slices.Concat(r.Key, r.Value, r.HeaderBytes), []byte(canary)) {
			t.Errorf("the topic of dead letters has %q, %q", r.Value, r.HeaderBytes)
		}
	}

	mended := pl
	mended.contract = bytes.Replace([]byte(peopleContract), []byte(`"required":["id"],"properties":{"id":{"type":"integer"}`), []byte(`"properties":{"id":{"type":"integer"}`), 1)
	mended.Transform.Columns = map[string]string{"city": "upper(user.city)", "share": "100 / nullif(n, 0)"}
	c.cfg.Pipelines = []Pipeline{mended}
	done, err := c.Redrive(t.Context(), table.String(), RedriveOptions{})
	if err != nil || done.Rows != 1 || done.Sealed != "" {
		t.Errorf("redrive %+v, %v", done, err)
	}
	mended.Transform.DeadLetterKey = secretOf(t, "another key of 16 bytes")
	c.cfg.Pipelines = []Pipeline{mended}
	if done, err = c.Redrive(t.Context(), table.String(), RedriveOptions{}); err != nil || done.Still[transform.ReasonSealed] != 2 || !strings.Contains(done.Sealed, "dead_letter_key") {
		t.Errorf("with another key: %+v, %v", done, err)
	}
	findNowhere(t, p, c, dir, canary, logs)
}

func secretOf(t *testing.T, s string) units.Secret {
	t.Helper()
	var k units.Secret
	if err := k.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return k
}

// holdsNowhere looks for a text in the log and in every file but the broker's own.
func holdsNowhere(t *testing.T, dir, text string, logs *locked) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if err == nil && e.Name() == "broker" {
				return filepath.SkipDir
			}
			return nil // files come and go
		}
		raw, err := os.ReadFile(path)
		if err == nil && bytes.Contains(raw, []byte(text)) {
			t.Errorf("%s holds it", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	logs.mu.Lock()
	defer logs.mu.Unlock()
	if bytes.Contains(logs.b.Bytes(), []byte(text)) {
		t.Error("the log holds it")
	}
}

// findNowhere looks for a text in everything that the process has written, the broker's own log left out, and serves.
func findNowhere(t *testing.T, p *Process, c *Client, dir, text string, logs *locked) {
	t.Helper()
	holdsNowhere(t, dir, text, logs)
	for _, path := range []string{"/metrics", "/api/v1/status", "/"} {
		res, err := http.Get("http://" + p.Addresses().HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if bytes.Contains(body, []byte(text)) {
			t.Errorf("%s shows it", path)
		}
	}
	fc, err := c.Flight(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer fc.Close()
	for _, name := range []string{"people", "people_dead"} { // Parquet compresses what it holds
		level := query.LevelHot
		if name == "people_dead" {
			level = query.LevelCommitted
		}
		res, err := fc.Scan(t.Context(), query.ScanRequest{Table: catalog.Identifier{"crm", name}}, query.Options{Level: level})
		if err != nil {
			t.Fatal(err)
		}
		for res.Next(t.Context()) {
			raw, err := res.RecordBatch().MarshalJSON()
			if err != nil || bytes.Contains(raw, []byte(text)) {
				t.Errorf("%s shows it, %v", name, err)
			}
			for _, col := range res.RecordBatch().Columns() {
				for i := range col.Len() {
					if strings.Contains(col.ValueStr(i), text) {
						t.Errorf("%s shows it", name)
					}
				}
			}
		}
		res.Release()
	}
}
