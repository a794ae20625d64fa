//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/generate"
	"github.com/firnlake/firn/internal/logging/logtest"
	"github.com/firnlake/firn/internal/nettest"
)

// firnLife bounds a firn process that a dying test leaves behind.
const firnLife = "40m"

// firnDir is where firnBin put the program; TestMain removes it.
var firnDir string

// firnBin is the program, built once.
var firnBin = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "firn-bin-")
	if err != nil {
		return "", err
	}
	firnDir = dir
	bin := filepath.Join(dir, "firn")
	out, err := exec.Command("go", "build", "-o", bin, "../../cmd/firn").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// lake is a configuration for firn with ports of its own, and the processes that run on it.
type lake struct {
	t      *testing.T
	dir    string
	config string
	env    []string
	topic  string
	http   map[string]string // by role
}

// lakeOptions is what a test chooses.
type lakeOptions struct {
	warehouse string // URI
	kafka     string // host:port
	topic     string
	deadTopic string  // empty: none
	minio     *server // nil: a warehouse on disk
	secret    string  // instead of MinIO's own
}

const table = "analytics.user_events"

// newLake writes a configuration; nothing runs yet.
func newLake(t *testing.T, o lakeOptions) *lake {
	t.Helper()
	l := &lake{t: t, dir: t.TempDir(), topic: o.topic, http: map[string]string{}}
	l.config = filepath.Join(l.dir, "firn.yaml")
	if err := os.WriteFile(filepath.Join(l.dir, "user_event.json"), generate.Contract, 0o644); err != nil {
		t.Fatal(err)
	}
	port := func() string { return "127.0.0.1:" + strconv.Itoa(nettest.FreePorts(t, 1)) }
	for _, role := range []string{"up", "catalog", "ingest", "compact", "query"} {
		l.http[role] = port()
	}
	var y strings.Builder
	fmt.Fprintf(&y, "warehouse: %s\n", o.warehouse)
	if o.minio != nil {
		access, secret := o.minio.keys(t)
		if o.secret != "" {
			secret = o.secret
		}
		l.env = append(l.env, "S3_KEY="+access, "S3_SECRET="+secret)
		fmt.Fprintf(&y, "storage: {endpoint: \"http://%s\", region: us-east-1, access_key: env:S3_KEY, secret_key: env:S3_SECRET}\n", o.minio.addr())
	}
	fmt.Fprintf(&y, "kafka: {brokers: [%q]}\n", o.kafka)
	fmt.Fprintf(&y, "catalog: {listen: %q, store: \"sqlite://%s/catalog.db\"}\n", port(), l.dir)
	fmt.Fprintf(&y, "ingest: {listen: %q}\n", port())
	fmt.Fprintf(&y, "query: {listen: %q}\n", port())
	fmt.Fprintf(&y, "http: {listen: %q}\n", l.http["up"])
	fmt.Fprintf(&y, "pipelines:\n  - {name: user-events, topic: %s, format: json, schema: user_event.json, table: %s, commit_interval: 1s, partition_by: [\"day(metadata.event_timestamp)\"], dead_letter_topic: %q}\n", o.topic, table, o.deadTopic)
	if err := os.WriteFile(l.config, []byte(y.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return l
}

// catalogURI reads the address back from the configuration.
func (l *lake) catalogURI() string {
	l.t.Helper()
	raw, err := os.ReadFile(l.config)
	if err != nil {
		l.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "catalog: {listen: \"")
	addr, _, _ := strings.Cut(rest, "\"")
	return "http://" + addr
}

// process is one running firn.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  *logtest.Buffer
	done chan struct{} // closed when it has ended
	err  error
	// quiet: it was ended on purpose and another took over, so a failure of the test has nothing to do with it.
	quiet bool
}

// launch starts firn with arguments; it ends with the test at the latest.
func launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	bin, err := firnBin()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: "firn " + args[0], cmd: exec.Command(bin, args...), out: &logtest.Buffer{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && !p.quiet {
			t.Logf("%s said:\n%s", p.name, tail(p.out.String(), 60))
		}
		if strings.Contains(p.out.String(), "panic:") || strings.Contains(p.out.String(), "goroutine 1 [") {
			t.Errorf("%s panicked:\n%s", p.name, tail(p.out.String(), 200))
		}
	})
	return p
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// role starts one role, or up, on the lake's configuration.
func (l *lake) role(name string, args ...string) *process {
	l.t.Helper()
	all := []string{name, "-c", l.config, "--data", filepath.Join(l.dir, name), "--for", firnLife}
	if name != "up" {
		all = append(all, "--http", l.http[name])
	}
	return launch(l.t, l.env, append(all, args...)...)
}

// kill sends SIGKILL, as a crash or the kernel would, and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop interrupts the process, which must drain and end by itself, without an error.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, tail(p.out.String(), 40))
	}
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.t.Fatalf("%s does not end 15 s after an interrupt:\n%s", p.name, tail(p.out.String(), 40))
	}
	if p.err != nil {
		p.t.Fatalf("%s ended with %v:\n%s", p.name, p.err, tail(p.out.String(), 40))
	}
}

// result is how a client verb ended.
type result struct {
	code        int
	stdout, err string
}

// run runs a verb to its end.
func run(t *testing.T, env []string, args ...string) result {
	t.Helper()
	bin, err := firnBin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("firn %v: %v", args, err)
	}
	if strings.Contains(errs.String(), "goroutine 1 [") {
		t.Errorf("firn %v panicked:\n%s", args, errs.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// client runs a client verb on the lake's configuration.
func (l *lake) client(args ...string) result {
	l.t.Helper()
	return run(l.t, l.env, append(args, "-c", l.config)...)
}

// must is client for what has to succeed; it returns what was printed.
func (l *lake) must(args ...string) string {
	l.t.Helper()
	r := l.client(args...)
	if r.code != 0 {
		l.t.Fatalf("firn %v: exit code %d\n%s%s", args, r.code, r.stdout, r.err)
	}
	return r.stdout
}

// until asks again and again, for as long as limit, until ok; what it says last goes into the failure.
func until(t *testing.T, what string, limit time.Duration, ask func() (ok bool, says string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, says := ask()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s; last: %s", what, limit, says)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// status is what the tests look at in firn status.
type status struct {
	Waiting   string
	Pipelines []struct {
		Verdict struct {
			State string
			Cause string
			Next  string
		}
		Rows        int64
		DeadLetters int64 `json:"dead_letters"`
		Snapshots   int64
		LagRecords  int64 `json:"lag_records"`
		PendingRows int64 `json:"pending_rows"`
	}
}

// status asks the process of a role.
func (l *lake) status(role string) (status, error) {
	r := l.client("status", "-o", "json", "--http", l.http[role])
	var s status
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		return s, fmt.Errorf("exit code %d: %s%s", r.code, r.stdout, r.err)
	}
	return s, nil
}

// untilState waits until the one pipeline of a process is in a state whose cause contains text.
func (l *lake) untilState(role, state, text string) {
	l.t.Helper()
	until(l.t, fmt.Sprintf("state %s with %q", state, text), time.Minute, func() (bool, string) {
		s, err := l.status(role)
		if err != nil {
			return false, err.Error()
		}
		if len(s.Pipelines) != 1 {
			return false, fmt.Sprintf("%+v", s)
		}
		v := s.Pipelines[0].Verdict
		return v.State == state && strings.Contains(v.Cause, text), fmt.Sprintf("%+v", v)
	})
}

// count runs a statement that gives one number.
func (l *lake) count(sql string, args ...string) (int64, error) {
	r := l.client(append([]string{"sql", sql, "-o", "csv"}, args...)...)
	if r.code != 0 {
		return 0, fmt.Errorf("firn sql: exit code %d: %s", r.code, r.err)
	}
	lines := strings.Fields(strings.TrimSpace(r.stdout))
	if len(lines) == 0 {
		return 0, fmt.Errorf("firn sql printed nothing")
	}
	return strconv.ParseInt(lines[len(lines)-1], 10, 64)
}

// committed is how many rows the newest snapshot of a table has, by the catalog.
func (l *lake) committed(name string) (int64, error) {
	return committed(l.client("tables", "-o", "json"), name)
}

func committed(r result, name string) (int64, error) {
	var tables []struct {
		Table string
		Rows  int64
	}
	if err := json.Unmarshal([]byte(r.stdout), &tables); err != nil {
		return -1, fmt.Errorf("firn tables: exit code %d: %s%s", r.code, r.stdout, r.err)
	}
	for _, t := range tables {
		if t.Table == name {
			return t.Rows, nil
		}
	}
	return -1, fmt.Errorf("there is no table %s", name)
}

// untilCommitted waits until the table has n rows in its newest snapshot.
func (l *lake) untilCommitted(n int64, limit time.Duration) {
	l.t.Helper()
	until(l.t, fmt.Sprintf("%d committed rows", n), limit, func() (bool, string) {
		got, err := l.committed(table)
		if err != nil {
			return false, err.Error()
		}
		if got > n {
			l.t.Fatalf("%d rows are committed, only %d were written", got, n)
		}
		return got == n, fmt.Sprint(got, " rows")
	})
}

// generate writes n events and waits until they are in the topic.
func (l *lake) generate(n int, args ...string) {
	l.t.Helper()
	l.must(append([]string{"generate", "--topic", l.topic, "--count", strconv.Itoa(n), "--rate", "0", "--broken", "0", "--partitions", "8"}, args...)...)
}

// audit must prove the table clean, against the log too.
func (l *lake) audit() {
	l.t.Helper()
	r := l.client("audit", table, "--kafka")
	if r.code != 0 {
		l.t.Errorf("firn audit: exit code %d\n%s%s", r.code, r.stdout, r.err)
	}
}
