//go:build integration

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/internal/nettest"
)

const (
	// rollingCatalogs share one Postgres.
	rollingCatalogs = 3
	// commitGapBar is the longest time between two commits of a pipeline that commits each second, whatever catalog goes away.
	commitGapBar = 3 * time.Second
	// rollingDown is how long a catalog that was ended stays away.
	rollingDown = 700 * time.Millisecond
)

// TestRollingRestart: three catalogs on one Postgres, none of which leads, are ended and killed and started again one after
// the other, while a pipeline commits each second, the compactor works, others load the table and somebody watches it.
// Every row is there once, no two commits are further apart than the bar, no answer is older than one before it, and what
// was handed out stays as it was.
func TestRollingRestart(t *testing.T) {
	kafka, pg := sharedServer(t, "kafka"), sharedServer(t, "postgres")
	dir := t.TempDir()
	r := &rig{lake: newLake(t, lakeOptions{warehouse: "file://" + dir + "/warehouse", kafka: kafka.addr(), topic: "rolling"})}
	f := newFleet(t, r, pg)
	r.prod = newProducer(t, kafka.addr(), "rolling")
	for i := range f.all {
		f.start(i)
	}
	var err error
	if r.cat, err = client.New(t.Context(), client.Config{URI: f.uris()}, nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.cat.Close() })
	ingest, compact := r.role("ingest"), r.role("compact")
	r.step = time.Now()
	r.prod.run(10, 20*time.Millisecond)
	r.commits(t, 2)
	began := time.Now()
	done := make(chan struct{})
	var beside sync.WaitGroup
	readers := newRollingReaders(t, f)
	beside.Go(func() { readers.run(done) })
	watch, enough := context.WithCancel(t.Context())
	defer enough()
	var told []int64
	beside.Go(func() { told = watched(watch, t, r.cat) })

	for _, end := range []func(*process){func(p *process) { p.terminate(t) }, (*process).kill} {
		for i := range f.all {
			end(f.all[i])
			f.all[i].quiet = true
			time.Sleep(rollingDown)
			f.start(i)
			r.commits(t, 1)
		}
	}
	r.commits(t, 2)
	ended := time.Now()
	close(done)
	r.settled(fmt.Sprintf("%d restarts and %d kills of %d catalogs", rollingCatalogs, rollingCatalogs, rollingCatalogs), &worker{process: ingest, http: r.http["ingest"]})
	enough()
	beside.Wait()
	f.gaps(began, ended, told)
	readers.check()
	failed := strings.Count(ingest.out.String(), "commit failed, trying again")
	t.Logf("%d loads beside of %d locations, %d events; the pipeline tried %d commits again", readers.loads, len(readers.handed), len(told), failed)
	if failed > 2*2*rollingCatalogs || strings.Contains(ingest.out.String(), `"level":"ERROR"`) {
		t.Errorf("the pipeline said:\n%s", tail(ingest.out.String(), 60))
	}
	ingest.stop()
	compact.stop()
}

// fleet is several catalogs on one database.
type fleet struct {
	t     *testing.T
	r     *rig
	addrs []string
	all   []*process
	http  []string
	env   []string
}

// newFleet writes the configurations: that of the rig names all catalogs, and each catalog has one of its own.
func newFleet(t *testing.T, r *rig, pg *server) *fleet {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(pg.dir, "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, r: r, all: make([]*process, rollingCatalogs), env: []string{strings.TrimSpace(string(password))}}
	raw, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "catalog:") })
	write := func(name, line string) {
		t.Helper()
		lines[at] = line
		if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range f.all {
		f.addrs = append(f.addrs, "127.0.0.1:"+strconv.Itoa(nettest.FreePorts(t, 1)))
		f.http = append(f.http, "127.0.0.1:"+strconv.Itoa(nettest.FreePorts(t, 1)))
		write(f.config(i), fmt.Sprintf("catalog: {listen: %q, store: \"postgres://firn@%s/firn?sslmode=disable\", materialize_interval: 2s}", f.addrs[i], pg.addr()))
	}
	write(r.config, fmt.Sprintf("catalog: {uri: %q, client: {timeout: %s}}", f.uris(), rigTimeout))
	return f
}

func (f *fleet) config(i int) string { return filepath.Join(f.r.dir, fmt.Sprintf("catalog%d.yaml", i)) }

func (f *fleet) uris() string {
	var out []string
	for _, a := range f.addrs {
		out = append(out, "http://"+a)
	}
	return strings.Join(out, ",")
}

// start starts one catalog and waits until it answers.
func (f *fleet) start(i int) {
	f.t.Helper()
	f.all[i] = launch(f.t, f.env, "catalog", "-c", f.config(i), "--data", filepath.Join(f.r.dir, fmt.Sprint("catalog", i)), "--for", firnLife, "--http", f.http[i])
	until(f.t, fmt.Sprint("catalog ", i), 20*time.Second, func() (bool, string) {
		body, code, err := get(f.t.Context(), "http://"+f.addrs[i]+"/v1/config")
		return code == http.StatusOK, fmt.Sprint(code, body, err)
	})
}

// terminate ends a process as a supervisor does, and waits.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		t.Fatalf("%s does not end 15 s after SIGTERM:\n%s", p.name, tail(p.out.String(), 40))
	}
	if p.err != nil {
		t.Fatalf("%s ended with %v:\n%s", p.name, p.err, tail(p.out.String(), 40))
	}
}

// gaps holds the time between commits against the bar, and what the watch told of against the history.
func (f *fleet) gaps(began, ended time.Time, told []int64) {
	f.t.Helper()
	id, err := catalog.ParseIdentifier(table)
	if err != nil {
		f.t.Fatal(err)
	}
	h, err := f.r.cat.ListHistory(f.t.Context(), id, catalog.HistoryRange{Since: began, Until: ended})
	if err != nil || len(h) < 2 {
		f.t.Fatalf("%d commits, %v", len(h), err)
	}
	var gaps []time.Duration
	for i := range h[1:] { // the newest first
		gaps = append(gaps, h[i].At.Sub(h[i+1].At))
		if v := h[i].Version; !slices.Contains(told, v) {
			f.t.Errorf("the watch did not tell of version %d", v)
		}
	}
	slices.Sort(gaps)
	f.t.Logf("%d commits in %s; between two of them %s at the median and %s at most", len(h), ended.Sub(began).Round(time.Second), gaps[len(gaps)/2], gaps[len(gaps)-1])
	if worst := gaps[len(gaps)-1]; worst > commitGapBar {
		f.t.Errorf("%s between two commits, the bar is %s", worst, commitGapBar)
	}
}

// watched returns the versions of all commits that the catalogs tell of until ctx ends; each comes once, in order.
func watched(ctx context.Context, t *testing.T, c *client.Client) (told []int64) {
	id, err := catalog.ParseIdentifier(table)
	if err != nil {
		t.Error(err)
		return nil
	}
	err = c.Watch(ctx, id, 0, func(e catalog.Event) error {
		if len(told) > 0 && e.Version <= told[len(told)-1] {
			t.Errorf("the watch tells of version %d after %d", e.Version, told[len(told)-1])
		}
		told = append(told, e.Version)
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
	return told
}

// rollingReaders load the table from one catalog after the other, as other engines do.
type rollingReaders struct {
	t      *testing.T
	f      *fleet
	loads  int
	handed map[string][sha256.Size]byte
}

func newRollingReaders(t *testing.T, f *fleet) *rollingReaders {
	return &rollingReaders{t: t, f: f, handed: map[string][sha256.Size]byte{}}
}

// run loads until done. No answer may be older than the one before it, whichever catalogs gave them: what one process has
// committed, or handed out, the others know.
func (q *rollingReaders) run(done <-chan struct{}) {
	last, etag, from := int64(0), "", ""
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		case <-time.After(30 * time.Millisecond):
		}
		addr := q.f.addrs[i%len(q.f.addrs)]
		req, err := http.NewRequestWithContext(q.t.Context(), http.MethodGet, "http://"+addr+"/v1/namespaces/analytics/tables/user_events", nil)
		if err != nil {
			q.t.Error(err)
			return
		}
		req.Header.Set("If-None-Match", etag)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // it is away
		}
		var l struct {
			Location string `json:"metadata-location"`
			Metadata struct {
				Sequence int64 `json:"last-sequence-number"`
			}
		}
		err = json.NewDecoder(res.Body).Decode(&l)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			continue // 304: nothing new; or it went away half-way, or says that it will
		}
		q.loads++
		if l.Metadata.Sequence < last {
			q.t.Errorf("%s answers with sequence number %d; %s had answered with %d before", addr, l.Metadata.Sequence, from, last)
		}
		last, etag, from = l.Metadata.Sequence, res.Header.Get("ETag"), addr
		sum, err := sumOf(l.Location)
		if err != nil {
			q.t.Errorf("a location that was handed out: %v", err)
		}
		if was, ok := q.handed[l.Location]; ok && was != sum {
			q.t.Errorf("%s has changed", l.Location)
		}
		q.handed[l.Location] = sum
	}
}

func (q *rollingReaders) check() {
	q.t.Helper()
	for loc, was := range q.handed {
		if sum, err := sumOf(loc); err != nil || sum != was {
			q.t.Errorf("%s is not what was handed out: %v", loc, err)
		}
	}
	if len(q.handed) == 0 {
		q.t.Error("nothing was loaded")
	}
}

func sumOf(location string) ([sha256.Size]byte, error) {
	raw, err := os.ReadFile(strings.TrimPrefix(location, "file://"))
	return sha256.Sum256(raw), err
}
