package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/internal/sleep"
)

// stopTimeout is how long a firn may take to stop.
const stopTimeout = 30 * time.Second

// Process is a firn that runs beside the benchmark.
type Process struct {
	what   string
	cmd    *exec.Cmd
	stderr tail
	done   chan error
	once   sync.Once
	err    error // of Stop

	// CPU and MaxRSS are known after Stop: of the process's whole life.
	CPU    time.Duration
	MaxRSS int64 // bytes
}

// Build is the program that is named, or else makes that of this tree, in dir.
func Build(ctx context.Context, dir, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	firn := filepath.Join(dir, "firn")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", firn, "github.com/firnlake/firn/cmd/firn").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build firn: %w\n%s", err, out)
	}
	return firn, nil
}

// Start runs firn with its arguments. The end of ctx interrupts it.
func Start(ctx context.Context, firn string, args ...string) (*Process, error) {
	return StartWith(ctx, nil, firn, args...)
}

// StartWith is Start with variables, NAME=value, besides those of this process.
func StartWith(ctx context.Context, env []string, firn string, args ...string) (*Process, error) {
	p := &Process{what: args[0], cmd: exec.CommandContext(ctx, firn, args...), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, &p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = stopTimeout
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

// readyPoll is the pause between two looks at a process that is starting.
const readyPoll = 50 * time.Millisecond

// Await returns when look finds the process ready. It is an error that the process ends, or is not ready in time.
func (p *Process) Await(ctx context.Context, timeout time.Duration, look func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		why := look(ctx)
		if why == nil {
			return nil
		}
		if ended := p.Ended(); ended != nil {
			return ended
		}
		if sleep.For(ctx, readyPoll) != nil {
			return fmt.Errorf("firn %s was not ready within %s: %w", p.what, timeout, why)
		}
	}
}

// Ended says why the process is gone; nil while it runs.
func (p *Process) Ended() error {
	select {
	case err := <-p.done:
		p.done <- err
		return fmt.Errorf("firn %s ended early: %w\n%s", p.what, err, p.stderr.String())
	default:
		return nil
	}
}

// Stop ends the process as Ctrl-C does, once.
func (p *Process) Stop() error {
	p.once.Do(func() {
		select {
		case err := <-p.done:
			p.err = fmt.Errorf("firn %s ended early: %w\n%s", p.what, err, p.stderr.String())
			return
		default:
		}
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			p.err = err
		}
		select {
		case err := <-p.done:
			var exit *exec.ExitError
			if err != nil && !(errors.As(err, &exit) && p.what == "generate") { // which an interrupt ends as one does
				p.err = fmt.Errorf("firn %s: %w\n%s", p.what, err, p.stderr.String())
			}
		case <-time.After(stopTimeout):
			p.err = errors.Join(fmt.Errorf("firn %s did not stop within %s", p.what, stopTimeout), p.cmd.Process.Kill(), <-p.done)
		}
		if st := p.cmd.ProcessState; st != nil {
			p.CPU, p.MaxRSS = st.UserTime()+st.SystemTime(), report.MaxRSSOf(st)
		}
	})
	return p.err
}

// tail keeps the last lines that a process wrote.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(len(t.buf)-tailBytes, 0):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
