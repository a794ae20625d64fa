//go:build integration || interop

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	icetable "github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/internal/broker"
	"github.com/firnlake/firn/internal/generate"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/nettest"
)

const (
	table    = "analytics.user_events"
	pipeline = "user-events"
	topic    = "user_events"
)

// lake is a table that firn processes write: a catalog, an ingest, a compactor if wanted, and what they read.
type lake struct {
	t                *testing.T
	bin, dir, config string
	uri              string // of the catalog
	http             string // of ingest
	ingestRole       *process
	cat              *client.Client
	prod             *producer
	engine           *driver
	warehouse        string // its URI
	files            string // the directory where its files lie, on MinIO too
}

// bucket is a warehouse on S3.
type bucket struct{ endpoint, name, key, secret, dir string }

// newLake is newLakeOn local disk.
func newLake(t *testing.T, interval time.Duration) *lake { return newLakeOn(t, interval, nil) }

// newLakeOn starts the broker and the catalog, and writes a first stretch of events; no ingest runs yet.
func newLakeOn(t *testing.T, interval time.Duration, s3 *bucket) *lake {
	t.Helper()
	bin, err := firnBin()
	if err != nil {
		t.Fatal(err)
	}
	l := &lake{t: t, bin: bin, dir: t.TempDir()}
	port := nettest.FreePorts(t, 5)
	b, err := broker.Start(t.Context(), broker.Config{Listen: loopback(port), Dir: filepath.Join(l.dir, "broker")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.EnsureTopic(t.Context(), topic, partitions); err != nil {
		t.Fatal(err)
	}
	l.prod = newProducer(t, b.Addr())
	l.config, l.uri, l.http = filepath.Join(l.dir, "firn.yaml"), "http://"+loopback(port+1), loopback(port+2)
	l.files = filepath.Join(l.dir, "warehouse")
	l.warehouse = "file://" + l.files
	var storage, clients string
	if s3 != nil {
		l.warehouse, l.files = "s3://"+s3.name+"/warehouse", filepath.Join(s3.dir, "data", s3.name, "warehouse")
		storage = fmt.Sprintf("storage: {endpoint: %q, region: us-east-1, access_key: %q, secret_key: %q}\n", s3.endpoint, s3.key, s3.secret)
		clients = fmt.Sprintf(", s3: {endpoint: %q, region: us-east-1, path_style: true, sts: true}", s3.endpoint)
	}
	text := fmt.Sprintf(`warehouse: %[10]s
%[11]skafka: {brokers: [%[2]q]}
catalog: {listen: %[3]q, store: "sqlite://%[1]s/catalog.db"%[12]s}
ingest: {listen: %[4]q}
http: {listen: %[5]q}
compaction: {interval: 1s, min_input_files: 8}
pipelines:
  - {name: %[6]s, topic: %[7]s, format: json, schema: user_event.json, table: %[8]s, commit_interval: %[9]s, standby: 2s, partition_by: ["day(metadata.event_timestamp)"]}
`, l.dir, b.Addr(), loopback(port+1), loopback(port+3), l.http, pipeline, topic, table, interval, l.warehouse, storage, clients)
	if err := os.WriteFile(l.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "user_event.json"), generate.Contract, 0o644); err != nil {
		t.Fatal(err)
	}
	l.catalog(port + 4)
	return l
}

// catalog starts the catalog and waits for it.
func (l *lake) catalog(http int) {
	l.t.Helper()
	l.role("catalog", "--http", loopback(http))
	until(l.t, "the catalog", 20*time.Second, func() (ok bool, says string) {
		var err error
		if l.cat, err = client.New(l.t.Context(), client.Config{URI: l.uri}, nil, nil); err != nil {
			return false, err.Error()
		}
		return true, ""
	})
	l.t.Cleanup(l.cat.Close)
}

// role starts a process of firn.
func (l *lake) role(name string, args ...string) *process {
	l.t.Helper()
	return launch(l.t, "firn "+name, exec.Command(l.bin, append([]string{name, "-c", l.config, "--data", filepath.Join(l.dir, name), "--for", firnLife}, args...)...))
}

func (l *lake) ingest() { l.t.Helper(); l.ingestRole = l.role("ingest", "--http", l.http) }

// head loads the refs of a table; nil when it is not there.
func (l *lake) head(name string) (icetable.Metadata, error) {
	ident, err := catalog.ParseIdentifier(name)
	if err != nil {
		return nil, err
	}
	t, err := l.cat.LoadTable(l.t.Context(), ident, catalog.LoadRefs)
	if err != nil {
		return nil, err
	}
	return t.Metadata, nil
}

// tag is where the pipeline's tag stands, with the record there; 0 when there is no tag.
func (l *lake) tag() (int64, ledger.Record, error) {
	m, err := l.head(table)
	if err != nil {
		return 0, ledger.Record{}, err
	}
	s := m.SnapshotByName(ledger.TagName(pipeline))
	if s == nil || s.Summary == nil {
		return 0, ledger.Record{}, nil
	}
	r, err := ledger.ParseSummary(s.Summary.Properties)
	return s.SnapshotID, r, err
}

// commits waits for n commits of Firn.
func (l *lake) commits(n int) {
	l.t.Helper()
	last, _, _ := l.tag()
	for range n {
		until(l.t, "a commit of firn", 20*time.Second, func() (bool, string) {
			now, _, err := l.tag()
			moved := err == nil && now != 0 && now != last
			if moved {
				last = now
			}
			return moved, fmt.Sprint(err, " ", l.says())
		})
	}
}

// verdict is how the ingest process says that its pipeline is.
type verdict struct{ State, Cause, Next string }

func (l *lake) verdict() (verdict, error) {
	body, _, err := l.get("/api/v1/status")
	if err != nil {
		return verdict{}, err
	}
	var s struct {
		Waiting   string
		Pipelines []struct{ Verdict verdict }
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		return verdict{}, err
	}
	if len(s.Pipelines) != 1 {
		return verdict{State: "waiting", Cause: s.Waiting}, nil
	}
	return s.Pipelines[0].Verdict, nil
}

// says is verdict for a failure's text.
func (l *lake) says() string {
	v, err := l.verdict()
	if err != nil {
		return err.Error()
	}
	return v.State + ": " + v.Cause
}

// get asks the ingest process over HTTP.
func (l *lake) get(path string) (body string, code int, err error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.http+path, nil)
	if err != nil {
		return "", 0, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), res.StatusCode, err
}

// untilRead waits until Firn's last snapshot stands at the log's end. Main and tag move together, so once there was a commit
// after an act, rows up to there are in main.
func (l *lake) untilRead(what string) {
	l.t.Helper()
	ends := l.prod.ends()
	until(l.t, fmt.Sprintf("%s: firn's snapshot at the log's end %s", what, ends), 60*time.Second, func() (bool, string) {
		_, r, err := l.tag()
		return err == nil && r.Offsets.Equal(ends), fmt.Sprint(r.Offsets, " ", err, " ", l.says())
	})
}

// settled pauses the producer and waits until everything is read; then the other engine's reading of the ledger must be
// exactly what is expected, and firn audit must say the same.
func (l *lake) settled(what string) {
	l.t.Helper()
	l.prod.mu.Lock()
	defer l.prod.mu.Unlock()
	l.untilRead(what)
	want := l.prod.expected()
	var got runs
	if err := l.engine.ask("ledger", nil, &got); err != nil {
		l.t.Fatal(err)
	}
	if d := want.diff(got); d != "" {
		l.t.Fatalf("%s: %s reads other rows than were produced: %s", what, l.engine.name, d)
	}
	l.audited(what)
}

// audited has firn audit compare the table with the log: clean, but for what another engine did on purpose.
func (l *lake) audited(what string) {
	l.t.Helper()
	code, out, errs := l.firn("audit", table, "--kafka", "-o", "json")
	var a struct {
		Verdict        string
		Rows, Distinct int64
		Partitions     []struct{ Missing, Deleted, Phantom int64 }
		Problems       []struct{ Kind, Message string }
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		l.t.Fatalf("%s: firn audit: exit code %d, %v\n%s%s", what, code, err, out, errs)
	}
	var missing int64
	for _, p := range a.Partitions {
		missing += p.Missing + p.Deleted // a rewrite of the files makes the one of the other
	}
	deleted, own := l.prod.deleted(), l.prod.own
	for _, p := range a.Problems {
		if !(p.Kind == "missing_records" && deleted > 0) && !(p.Kind == "rows_without_ledger" && own > 0) {
			l.t.Errorf("%s: firn audit: %s: %s", what, p.Kind, p.Message)
		}
	}
	want := l.prod.expected()
	if missing != deleted || a.Rows != want.Rows-own || a.Distinct != a.Rows || (deleted == 0 && own == 0 && a.Verdict != "clean") {
		l.t.Fatalf("%s: firn audit: %s, %d rows, %d distinct, %d missing; %d rows were expected and %d deleted\n%s", what, a.Verdict, a.Rows, a.Distinct, missing, want.Rows-own, deleted, out)
	}
}

// stopsLoudly waits until the pipeline has stopped with a message that contains text, and holds every place against it
// where a person or a machine would look.
func (l *lake) stopsLoudly(text string) {
	l.t.Helper()
	until(l.t, "a stop: "+text, 30*time.Second, func() (bool, string) {
		v, err := l.verdict()
		return err == nil && v.State == "stopped" && strings.Contains(v.Cause, text), fmt.Sprintf("%+v, %v", v, err)
	})
	v, _ := l.verdict()
	if !strings.Contains(v.Cause, "docs/exactly-once.md") && !strings.Contains(v.Next, "docs/exactly-once.md") {
		l.t.Errorf("no remedy in %+v", v)
	}
	if body, code, err := l.get("/readyz"); err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, text) {
		l.t.Errorf("/readyz says %d %q, %v", code, body, err)
	}
	if body, _, err := l.get("/metrics"); err != nil || !strings.Contains(body, fmt.Sprintf("firn_pipeline_state{pipeline=%q,state=\"stopped\"} 1", pipeline)) {
		l.t.Errorf("no metric tells the stop, %v", err)
	}
	if code, out, _ := l.firn("status", "--http", l.http); code == 0 || !strings.Contains(out, "stopped") || !strings.Contains(out, text) {
		l.t.Errorf("firn status: exit code %d, %s", code, out)
	}
	if !strings.Contains(l.ingestRole.out.String(), text) {
		l.t.Error("the log does not tell the stop")
	}
}
