//go:build integration || interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firnlake/firn/internal/logging/logtest"
)

const (
	// firnLife bounds a firn process that a dying test leaves behind.
	firnLife = "30m"
	// scriptTimeout bounds one script: on a fresh machine it fetches Spark.
	scriptTimeout = 15 * time.Minute
	// actTimeout bounds one act of another engine, its tries and the start of its process included.
	actTimeout = 5 * time.Minute
)

func TestMain(m *testing.M) {
	code := m.Run()
	if firnDir != "" {
		os.RemoveAll(firnDir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// script runs one of scripts/services.
func script(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{filepath.Join("..", "..", "scripts", "services", name)}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

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
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/firn").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// process is one that runs beside the test.
type process struct {
	cmd  *exec.Cmd
	out  *logtest.Buffer
	done chan struct{} // closed when it has ended
}

// launch starts cmd, which ends with the test at the latest; what it said last is shown when the test failed.
func launch(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: &logtest.Buffer{}, done: make(chan struct{})}
	cmd.Stderr = p.out
	if cmd.Stdout == nil {
		cmd.Stdout = p.out
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // it is killed
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tail(p.out.String(), 40))
		}
		if strings.Contains(p.out.String(), "goroutine 1 [") {
			t.Errorf("%s panicked:\n%s", name, tail(p.out.String(), 200))
		}
	})
	return p
}

// kill sends SIGKILL, as a crash would, and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
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
		time.Sleep(50 * time.Millisecond)
	}
}

// driver is another engine: a Python process that does one act for each line. It belongs to one goroutine.
type driver struct {
	*process
	name    string
	in      io.WriteCloser
	answers chan string
	always  map[string]any // goes with the arguments of each act
}

// startDriver runs a program of testdata; it is ready when its session is.
func startDriver(t *testing.T, name, python, program string, args ...string) *driver {
	t.Helper()
	cmd := exec.Command(python, append([]string{filepath.Join("testdata", program)}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "HOME="+t.TempDir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	d := &driver{name: name, in: in, answers: make(chan string, 1)}
	d.process = launch(t, name, cmd)
	w.Close()
	go func() {
		defer r.Close()
		defer close(d.answers)
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			d.answers <- line
		}
	}()
	t.Cleanup(func() { // before launch's: the reader must see the end
		in.Close()
		d.kill()
		for range d.answers {
		}
	})
	if err := d.answer(nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// errLost reports an act that lost against a commit of Firn as often as it was tried. Nothing of it took effect.
var errLost = errors.New("firn committed first")

// ask has the engine do an act, and reads what it answers into answer, which may be nil.
func (d *driver) ask(act string, args map[string]any, answer any) error {
	all := map[string]any{}
	maps.Copy(all, d.always)
	maps.Copy(all, args)
	line, err := json.Marshal(map[string]any{"act": act, "args": all})
	if err != nil {
		return err
	}
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %s: %w", d.name, act, err)
	}
	if err := d.answer(answer); err != nil {
		return fmt.Errorf("%s: %s: %w", d.name, act, err)
	}
	return nil
}

func (d *driver) answer(into any) error {
	limit := time.NewTimer(actTimeout)
	defer limit.Stop()
	select {
	case line, ok := <-d.answers:
		if !ok {
			return fmt.Errorf("the process ended:\n%s", tail(d.out.String(), 40))
		}
		var a struct {
			Answer      json.RawMessage
			Lost, Error string
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		switch {
		case a.Lost != "":
			return fmt.Errorf("%w: %s", errLost, a.Lost)
		case a.Error != "":
			return errors.New(a.Error)
		}
		if into == nil {
			return nil
		}
		return json.Unmarshal(a.Answer, into)
	case <-limit.C:
		return fmt.Errorf("no answer within %s", actTimeout)
	}
}

// firn runs a client verb to its end.
func (l *lake) firn(args ...string) (code int, stdout, stderr string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.bin, append(args, "-c", l.config)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		l.t.Fatalf("firn %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
