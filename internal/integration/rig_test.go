//go:build integration

package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/internal/faultproxy"
	"github.com/firnlake/firn/internal/generate"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/nettest"
)

const (
	rigPartitions = 4
	rigBroken     = 0.05 // share of events that become dead letters, so that nearly every commit is of two tables
	rigStandby    = 2 * time.Second
	// rigTimeout is the catalog client's, short so that a request that is held back is given up while the test waits.
	rigTimeout = 2 * time.Second
)

// rig is one table with servers of its own, so that they can be killed: Kafka, MinIO, firn catalog; proxies before the
// catalog and before MinIO for the ingest processes, and a producer that knows what is in the topic.
type rig struct {
	*lake
	kafka, minio *server
	catalogProxy *faultproxy.Proxy // on its way to the catalog, as Firn's own
	plainProxy   *faultproxy.Proxy // the same catalog, as one that has neither transactions nor history
	storageProxy *faultproxy.Proxy
	cat          *client.Client
	catalogRole  *process
	prod         *producer
	variants     int
	step         time.Time // when the last settled ended
}

// rigServers are started once for all rigs; each test may kill them and leaves them running.
var rigServers struct {
	once         sync.Once
	kafka, minio *server
}

// newRig starts the servers and the catalog; no firn ingest runs yet, and no snapshot will expire.
func newRig(t *testing.T, name string) *rig {
	t.Helper()
	return newRigKeeping(t, name, 30*time.Minute)
}

// newRigKeeping is newRig with a compactor that keeps snapshots for as long as window.
func newRigKeeping(t *testing.T, name string, window time.Duration) *rig {
	t.Helper()
	rigServers.once.Do(func() {
		rigServers.kafka, rigServers.minio = keptServer(t, "own kafka", "kafka"), keptServer(t, "own minio", "minio")
	})
	r := &rig{kafka: rigServers.kafka, minio: rigServers.minio}
	if r.minio == nil {
		t.Fatal("the servers did not start, as an earlier test says")
	}
	r.minio.makeBucket(t, name)
	r.lake = newLake(t, lakeOptions{warehouse: "s3://" + name + "/warehouse", kafka: r.kafka.addr(), topic: name, minio: r.minio})
	r.configure(fmt.Sprintf("compaction: {interval: 500ms, min_input_files: 4, expire_interval: 2s, snapshot_window: %s}\n", window))
	r.prod = newProducer(t, r.kafka.addr(), name)
	addr := strings.TrimPrefix(r.catalogURI(), "http://")
	r.catalogProxy, r.plainProxy, r.storageProxy = newProxy(t, addr), newProxy(t, addr, faultproxy.Rewriting(withoutExtras)), newProxy(t, r.minio.addr())
	r.startCatalog()
	r.step = time.Now()
	return r
}

// configure adds lines to the configuration of all roles that start from now on.
func (r *rig) configure(lines string) {
	r.t.Helper()
	raw, err := os.ReadFile(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.config, append(raw, lines...), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func newProxy(t *testing.T, target string, opts ...faultproxy.Option) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.New(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// withoutExtras makes Firn's catalog one that offers only what every Iceberg REST catalog has.
func withoutExtras(req *http.Request, body []byte) []byte {
	if !strings.HasSuffix(req.URL.Path, "/v1/config") {
		return body
	}
	var conf map[string]any
	if err := json.Unmarshal(body, &conf); err != nil {
		return body
	}
	endpoints, _ := conf["endpoints"].([]any)
	conf["endpoints"] = slices.DeleteFunc(endpoints, func(e any) bool {
		s, _ := e.(string)
		return strings.Contains(s, "/firn/") || strings.Contains(s, "transactions")
	})
	out, err := json.Marshal(conf)
	if err != nil {
		return body
	}
	return out
}

// startCatalog starts firn catalog and waits until it answers.
func (r *rig) startCatalog() {
	r.t.Helper()
	if r.catalogRole != nil {
		r.catalogRole.quiet = true
	}
	r.catalogRole = r.role("catalog")
	until(r.t, "the catalog", 20*time.Second, func() (bool, string) {
		c, err := client.New(r.t.Context(), client.Config{URI: r.catalogURI()}, nil, nil)
		if err != nil {
			return false, err.Error()
		}
		if r.cat != nil {
			r.cat.Close()
		}
		r.cat = c
		return true, ""
	})
}

// way is how an ingest process reaches the catalog and the storage, and its pace.
type way struct {
	proxy    *faultproxy.Proxy // nil: firn's catalog directly
	storage  *faultproxy.Proxy // nil: MinIO directly
	interval time.Duration
	onGap    string // empty: stop
}

// worker is a firn ingest, or compact, with its addresses.
type worker struct {
	*process
	http string
	args []string
	env  []string
}

// ingest prepares a firn ingest on ports of its own; start runs it, as often as it was killed.
func (r *rig) ingest(w way) *worker {
	r.t.Helper()
	return r.worker("ingest", w)
}

// compact starts a firn compact that has something to do each second.
func (r *rig) compact(w way) *worker {
	r.t.Helper()
	c := r.worker("compact", w)
	c.start(r.t)
	return c
}

func (r *rig) worker(role string, w way) *worker {
	r.t.Helper()
	raw, err := os.ReadFile(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	port := func() string { return "127.0.0.1:" + strconv.Itoa(nettest.FreePorts(r.t, 1)) }
	http := port()
	uri := r.catalogURI()
	if w.proxy != nil {
		uri = "http://" + w.proxy.Addr()
	}
	lines := strings.Split(string(raw), "\n")
	for i, l := range lines {
		switch {
		case strings.HasPrefix(l, "catalog:"):
			lines[i] = fmt.Sprintf("catalog: {uri: %q, client: {timeout: %s}}", uri, rigTimeout)
		case strings.HasPrefix(l, "ingest:"):
			lines[i] = fmt.Sprintf("ingest: {listen: %q}", port())
		case w.storage != nil:
			lines[i] = strings.ReplaceAll(l, "http://"+r.minio.addr(), "http://"+w.storage.Addr())
		}
		lines[i] = strings.ReplaceAll(lines[i], "commit_interval: 1s", fmt.Sprintf("commit_interval: %s, standby: %s, on_gap: %s", w.interval, rigStandby, cmp.Or(w.onGap, "stop")))
	}
	r.variants++
	name := fmt.Sprint(role, r.variants)
	config := filepath.Join(r.dir, name+".yaml")
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return &worker{http: http, env: r.env,
		args: []string{role, "-c", config, "--data", filepath.Join(r.dir, name), "--for", firnLife, "--http", http}}
}

// start runs the process; env is added to its environment. What an earlier run said is not shown any more.
func (w *worker) start(t *testing.T, env ...string) {
	t.Helper()
	if w.process != nil {
		w.process.quiet = true
	}
	w.process = launch(t, append(slices.Clone(w.env), env...), w.args...)
}

// verdict asks the process how its pipeline is.
func (w *worker) verdict(ctx context.Context) (state, cause string, err error) {
	body, _, err := get(ctx, "http://"+w.http+"/api/v1/status")
	if err != nil {
		return "", "", err
	}
	var s status
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		return "", "", err
	}
	if len(s.Pipelines) != 1 {
		return "waiting", s.Waiting, nil
	}
	return s.Pipelines[0].Verdict.State, s.Pipelines[0].Verdict.Cause, nil
}

// untilState waits for a state of the worker's pipeline.
func (w *worker) untilState(t *testing.T, limit time.Duration, states ...string) {
	t.Helper()
	until(t, "state "+strings.Join(states, " or "), limit, func() (bool, string) {
		state, cause, err := w.verdict(t.Context())
		return err == nil && slices.Contains(states, state), fmt.Sprint(state, ": ", cause, " ", err)
	})
}

func get(ctx context.Context, url string) (body string, code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), res.StatusCode, err
}

// head is the pipeline's newest snapshot of a table of the rig, where its tag stands, and the number of rows in the
// table; 0 and 0 where there is none. What the compactor commits does not change the former.
func (r *rig) head(ctx context.Context, name string) (id, rows int64, err error) {
	ident, err := catalog.ParseIdentifier(name)
	if err != nil {
		return 0, 0, err
	}
	t, err := r.cat.LoadTable(ctx, ident, catalog.LoadRefs)
	if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	main, tag := t.Metadata.CurrentSnapshot(), t.Metadata.SnapshotByName(ledger.TagName("user-events"))
	if main == nil || main.Summary == nil || tag == nil {
		return 0, 0, nil
	}
	rows, err = strconv.ParseInt(main.Summary.Properties["total-records"], 10, 64)
	return tag.SnapshotID, rows, err
}

// untilCommit waits until the pipeline has committed after snapshot id, and returns its newest.
func (r *rig) untilCommit(id int64, limit time.Duration) int64 {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		now, _, err := r.head(r.t.Context(), table)
		if err == nil && now != id {
			return now
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no commit within %s after snapshot %d: %v", limit, id, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// settled pauses the producer, waits until the tables hold what it wrote, and has firn audit prove it against the log.
// The producer goes on afterwards.
func (r *rig) settled(what string, workers ...*worker) {
	r.t.Helper()
	began := time.Now()
	resume := r.prod.pause()
	defer resume()
	rows, dead := r.prod.visible()
	until(r.t, fmt.Sprintf("%s: %d rows and %d dead letters", what, rows, dead), 90*time.Second, func() (bool, string) {
		_, gotRows, err := r.head(r.t.Context(), table)
		_, gotDead, derr := r.head(r.t.Context(), table+"_dead")
		if gotRows > rows || gotDead > dead {
			r.t.Fatalf("%s: %d rows and %d dead letters are committed, %d and %d were written", what, gotRows, gotDead, rows, dead)
		}
		return gotRows == rows && gotDead == dead, fmt.Sprint(gotRows, " rows, ", gotDead, " dead letters ", errors.Join(err, derr))
	})
	for _, w := range workers {
		w.untilState(r.t, 30*time.Second, "ok", "catching-up")
	}
	took := time.Since(began)
	r.proved(what, rows, dead)
	r.t.Logf("%s: %s; then %d rows and %d dead letters, each once; settled in %s, audited in %s", what, began.Sub(r.step).Round(time.Millisecond),
		rows, dead, took.Round(time.Millisecond), (time.Since(began) - took).Round(time.Millisecond))
	r.step = time.Now()
}

// proved holds the audit of the table against what was written.
func (r *rig) proved(what string, rows, dead int64) {
	r.t.Helper()
	res := r.client("audit", table, "--kafka", "-o", "json")
	var a struct {
		Verdict        string
		Rows, Distinct int64
		Partitions     []struct {
			DeadLetters int64 `json:"dead_letters"`
		}
	}
	if err := json.Unmarshal([]byte(res.stdout), &a); err != nil || res.code != 0 {
		r.t.Fatalf("%s: firn audit: exit code %d, %v\n%s%s", what, res.code, err, res.stdout, res.err)
	}
	var letters int64
	for _, p := range a.Partitions {
		letters += p.DeadLetters
	}
	if a.Rows != rows || a.Distinct != rows || letters != dead {
		r.t.Fatalf("%s: %d rows, %d distinct, %d dead letters; %d and %d were written", what, a.Rows, a.Distinct, letters, rows, dead)
	}
}

// producer writes events and knows how many of them a reader of committed records can see.
type producer struct {
	t     *testing.T
	topic string
	cl    *kgo.Client
	gen   *generate.Generator

	mu         sync.Mutex // held while a batch is on its way, and while paused
	rows, dead int64      // acknowledged
	end        chan struct{}
	ended      sync.WaitGroup
}

func newProducer(t *testing.T, addr, topic string, opts ...kgo.Opt) *producer {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	cfg := generate.Config{Seed: 1, Partitions: rigPartitions, BrokenShare: rigBroken}.WithDefaults()
	p := &producer{t: t, topic: topic, cl: cl, gen: generate.NewGenerator(cfg)}
	p.makeTopic(rigPartitions)
	t.Cleanup(func() {
		p.stop()
		cl.Close()
	})
	return p
}

// records makes n events and says how many of them are rows.
func (p *producer) records(n int) (recs []*kgo.Record, rows int64) {
	p.gen.Reset()
	for range n {
		if _, broken := p.gen.Next(time.Now()); broken == 0 {
			rows++
		}
	}
	for _, r := range p.gen.Batch() {
		recs = append(recs, &kgo.Record{Topic: p.topic, Partition: r.Partition, Key: r.Key, Value: r.Value})
	}
	return recs, rows
}

// write writes n events and counts them when they are acknowledged. The client tries for as long as the test lasts, and
// each record ends up in the log once.
func (p *producer) write(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	recs, rows := p.records(n)
	if err := p.cl.ProduceSync(p.t.Context(), recs...).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	p.rows += rows
	p.dead += int64(n) - rows
	return nil
}

// run writes n events each pace until stop.
func (p *producer) run(n int, pace time.Duration) {
	p.end = make(chan struct{})
	p.ended.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-p.end:
				return
			case <-tick.C:
				if err := p.write(n); err != nil && p.t.Context().Err() == nil {
					p.t.Error(err)
					return
				}
			}
		}
	})
}

func (p *producer) stop() {
	if p.end != nil {
		close(p.end)
		p.ended.Wait()
		p.end = nil
	}
}

// pause waits for the batch on its way and holds the next one back.
func (p *producer) pause() (resume func()) {
	p.mu.Lock()
	return p.mu.Unlock
}

// visible is what was written, with the producer paused.
func (p *producer) visible() (rows, dead int64) { return p.rows, p.dead }
