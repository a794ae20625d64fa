package commit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

const (
	// warmSeconds is how long each table commits at most before it counts: connections are made, statements prepared.
	warmSeconds = 3
	// makers is how many tables are made at the same time.
	makers = 8
	// refsLoads is how often a table is loaded with snapshots=refs.
	refsLoads = 200
	// commitTimeout bounds one commit of an overloaded catalog.
	commitTimeout = time.Minute
)

// measureTables has each of n tables commit once a second, spread over the second, to one catalog in a process of its own.
func measureTables(ctx context.Context, rep *report.Report, n int, o options) (err error) {
	dir, err := os.MkdirTemp("", "firn-bench-tables-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store, kind := o.store, "postgres"
	if store == "" {
		store, kind = "sqlite://"+filepath.ToSlash(dir)+"/catalog.db", "sqlite file"
	}
	p, err := startCatalog(ctx, dir, store, o.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	f := &fleet{p: p, http: newHTTP(n)}
	defer f.http.CloseIdleConnections()
	if err := f.make(ctx, n, o.Seed); err != nil {
		return err
	}
	warm := min(warmSeconds, o.seconds)
	if _, err := f.run(ctx, warm); err != nil {
		return err
	}
	var s report.Samples
	for range o.Runs {
		before, err := p.usage(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		times, err := f.run(ctx, o.seconds)
		if err != nil {
			return err
		}
		took := time.Since(began).Seconds()
		after, err := p.usage(ctx)
		if err != nil {
			return err
		}
		s.Add("median_ms", report.Of(times...).Median)
		s.Add("p99_ms", report.Percentile(times, 99))
		s.Add("commits_per_second", float64(len(times))/took)
		s.Add("catalog_cpu_ms", (after.CPUSeconds-before.CPUSeconds)*1e3/float64(len(times)))
		s.Add("max_rss_mb", float64(after.MaxRSS)/1e6)
	}
	if err := f.check(ctx, warm+o.Runs*o.seconds); err != nil {
		return err
	}
	refs, err := f.refs(ctx)
	if err != nil {
		return err
	}
	labels := map[string]any{"tables": n, "store": kind}
	for _, m := range []struct{ name, unit string }{{"median_ms", "ms"}, {"p99_ms", "ms"}, {"commits_per_second", "1/s"}, {"catalog_cpu_ms", "ms"}, {"max_rss_mb", "MB"}} {
		err = errors.Join(err, rep.AddFigure(m.name, m.unit, labels, s.Figure(m.name), nil))
	}
	return errors.Join(err, rep.AddFigure("refs_load_ms", "ms", labels, report.Of(refs...), nil))
}

// newHTTP is a client with a connection for each of n tables.
func newHTTP(n int) *http.Client {
	return &http.Client{Timeout: commitTimeout, Transport: &http.Transport{MaxIdleConns: 2 * n, MaxIdleConnsPerHost: 2 * n}}
}

// fleet is many tables, each with a committer that knows where its table stands.
type fleet struct {
	p      *process
	http   *http.Client
	tables []*member
}

// member is one table.
type member struct {
	name   string
	uuid   string
	at     string // its location
	id     int64  // of main's head; 0: none
	seq    int64
	record ledger.Record
}

// make creates the tables.
func (f *fleet) make(ctx context.Context, n int, seed int64) error {
	c, err := client.New(ctx, client.Config{URI: f.p.uri, Timeout: units.Duration(commitTimeout)}, nil, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	ns := catalog.Identifier{fmt.Sprintf("bench_%d_%d", seed, time.Now().UnixNano())}
	if err := c.CreateNamespace(ctx, ns, nil); err != nil {
		return err
	}
	p := iceberg.PrimitiveTypes
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: ledger.ColPartition, Type: p.Int32}, iceberg.NestedField{ID: 2, Name: ledger.ColOffset, Type: p.Int64})
	f.tables = make([]*member, n)
	f.p.namespace = ns[0]
	errs := make([]error, makers)
	var wg sync.WaitGroup
	for w := range makers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += makers {
				name := fmt.Sprintf("t%04d", i)
				t, err := c.CreateTable(ctx, append(ns[:1:1], name), catalog.CreateTable{Schema: sc})
				if err != nil {
					errs[w] = err
					return
				}
				f.tables[i] = &member{name: name, uuid: t.Metadata.TableUUID().String(), at: t.Metadata.Location(),
					record: ledger.Record{Kind: ledger.KindIngest, Pipeline: name, BatchID: "0197a0f0-0000-7000-8000-000000000000", TopicID: "n/a", Offsets: offset.Vector{}, LastRow: offset.Vector{}}}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// run has every table commit once a second for so many seconds, and returns how long after its time each commit was
// answered, in ms: a commit that waits for the one before it is late.
func (f *fleet) run(ctx context.Context, seconds int) ([]float64, error) {
	times := make([]float64, seconds*len(f.tables))
	errs := make([]error, len(f.tables))
	begin := time.Now().Add(100 * time.Millisecond)
	var wg sync.WaitGroup
	for i, m := range f.tables {
		wg.Go(func() {
			due := begin.Add(time.Second * time.Duration(i) / time.Duration(len(f.tables)))
			for k := range seconds {
				time.Sleep(time.Until(due))
				if errs[i] = f.commit(ctx, m); errs[i] != nil {
					return
				}
				times[i*seconds+k] = float64(time.Since(due).Microseconds()) / 1e3
				due = due.Add(time.Second)
			}
		})
	}
	wg.Wait()
	return times, errors.Join(errs...)
}

// commit sends what engine/commit sends for a batch: one snapshot, to which main and the pipeline's tag move.
func (f *fleet) commit(ctx context.Context, m *member) error {
	v := m.record.Offsets[0]
	m.record.Offsets[0], m.record.LastRow[0] = v+rowsOfFile, v+rowsOfFile-1
	m.record.Ranges = []offset.Range{{Partition: 0, Start: v, End: v + rowsOfFile, LeaderEpoch: 1}}
	props, err := m.record.Summary()
	if err != nil {
		return err
	}
	props["added-records"], props["total-records"] = fmt.Sprint(rowsOfFile), fmt.Sprint(v+rowsOfFile)
	props["added-data-files"], props["total-data-files"] = "1", fmt.Sprint(m.seq+1)
	s := &table.Snapshot{SnapshotID: snapshot.NewID(), SequenceNumber: m.seq + 1, TimestampMs: time.Now().UnixMilli(),
		Summary: &table.Summary{Operation: table.OpAppend, Properties: props}}
	s.ManifestList = fmt.Sprintf("%s/metadata/snap-%d.avro", m.at, s.SnapshotID)
	var head *int64
	if m.id != 0 {
		head, s.ParentSnapshotID = &m.id, &m.id
	}
	tag := ledger.TagName(m.name)
	body, err := json.Marshal(map[string]any{
		"requirements": []any{map[string]any{"type": "assert-table-uuid", "uuid": m.uuid}, refIs(table.MainBranch, head), refIs(tag, head)},
		"updates":      append(snapshot.Updates(*s, table.MainBranch), snapshot.SetTag(tag, s.SnapshotID, 0)),
	})
	if err != nil {
		return err
	}
	if err := f.ask(ctx, http.MethodPost, f.p.tablePath(m.name), body, true); err != nil {
		return fmt.Errorf("commit %d of table %s: %w", m.seq+1, m.name, err)
	}
	m.id, m.seq = s.SnapshotID, s.SequenceNumber
	return nil
}

func refIs(name string, id *int64) map[string]any {
	return map[string]any{"type": "assert-ref-snapshot-id", "ref": name, "snapshot-id": id}
}

// ask sends a request as Firn's client does, lean or as others', and leaves the answer unread but for its end.
func (f *fleet) ask(ctx context.Context, method, path string, body []byte, lean bool) error {
	req, err := http.NewRequestWithContext(ctx, method, f.p.uri+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if lean {
		req.Header.Set("X-Firn-Lean", "1")
	}
	res, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // what there is of it: the status alone says enough
		return fmt.Errorf("HTTP %d: %s", res.StatusCode, raw)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// check holds every table against what was committed to it.
func (f *fleet) check(ctx context.Context, commits int) error {
	c, err := client.New(ctx, client.Config{URI: f.p.uri, Timeout: units.Duration(commitTimeout)}, nil, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, m := range f.tables {
		t, err := c.LoadTable(ctx, catalog.Identifier{f.p.namespace, m.name}, catalog.LoadRefs)
		if err != nil {
			return err
		}
		if s := t.Metadata.CurrentSnapshot(); t.Version != int64(commits)+1 || s == nil || s.SnapshotID != m.id {
			return fmt.Errorf("table %s stands at version %d, %d commits were made", m.name, t.Version, commits)
		}
	}
	return nil
}

// refs loads one table with snapshots=refs as other engines do, warm, and returns how long each took, in ms.
func (f *fleet) refs(ctx context.Context) ([]float64, error) {
	path := f.p.tablePath(f.tables[0].name) + "?snapshots=refs"
	times := make([]float64, 0, refsLoads)
	for i := range refsLoads + 10 {
		began := time.Now()
		if err := f.ask(ctx, http.MethodGet, path, nil, false); err != nil {
			return nil, err
		}
		if i >= 10 {
			times = append(times, float64(time.Since(began).Microseconds())/1e3)
		}
	}
	return times, nil
}

// process is a catalog in a process of its own: this program, started with -serve.
type process struct {
	cmd       *exec.Cmd
	stdin     io.Closer
	uri       string
	namespace string
	client    *client.Client // closed with it; may be nil
}

func startCatalog(ctx context.Context, dir, store, profile string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "commit", "-serve", filepath.Join(dir, "warehouse"), "-store", store, "-cpuprofile", profile)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the catalog does not start: %w", err), p.stop())
	}
	p.uri = "http://" + strings.TrimSpace(line)
	return p, nil
}

// stop ends the catalog by ending its input.
func (p *process) stop() error {
	if p.client != nil {
		p.client.Close()
	}
	return errors.Join(p.stdin.Close(), p.cmd.Wait())
}

func (p *process) tablePath(name string) string {
	return "/v1/namespaces/" + p.namespace + "/tables/" + name
}

func (p *process) usage(ctx context.Context) (u usage, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.uri+usagePath, nil)
	if err != nil {
		return u, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return u, err
	}
	defer res.Body.Close()
	return u, json.NewDecoder(res.Body).Decode(&u)
}
