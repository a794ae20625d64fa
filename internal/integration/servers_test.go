//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/nettest"
)

// scriptTimeout bounds one script: on a fresh machine it fetches jars or builds MinIO.
const scriptTimeout = 15 * time.Minute

// script runs one of scripts/services. What it starts ends with this process.
func script(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", append([]string{filepath.Join("..", "..", "scripts", "services", name)}, args...)...)
	cmd.Env = append(os.Environ(), "FIRN_OWNER="+strconv.Itoa(os.Getpid()))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// server is a real one, started by a script.
type server struct {
	kind, dir string // kind.sh in scripts/services
	port      int
	extra     []string
}

func (s *server) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

func (s *server) start(t *testing.T) {
	t.Helper()
	if _, err := script(s.kind+".sh", append([]string{"start", s.dir, strconv.Itoa(s.port)}, s.extra...)...); err != nil {
		t.Fatal(err)
	}
}

func (s *server) stop(t *testing.T) {
	t.Helper()
	if _, err := script(s.kind+".sh", "stop", s.dir); err != nil {
		t.Error(err)
	}
}

// shared are the servers that tests which break nothing use together.
var shared struct {
	sync.Mutex
	servers map[string]*server
}

func sharedServer(t *testing.T, kind string) *server {
	t.Helper()
	return keptServer(t, kind, kind)
}

// keptServer starts a server when nobody asked for that name before; it ends with the tests of this package.
func keptServer(t *testing.T, name, kind string) *server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s, ok := shared.servers[name]; ok {
		return s
	}
	dir, err := os.MkdirTemp("", "firn-"+kind+"-")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{kind: kind, dir: dir, port: nettest.FreePorts(t, 2)}
	s.start(t)
	if shared.servers == nil {
		shared.servers = map[string]*server{}
	}
	shared.servers[name] = s
	return s
}

// python is the interpreter with PyIceberg and DuckDB.
var python = sync.OnceValues(func() (string, error) { return script("venv.sh") })

// pythonRun runs a program of testdata with arguments and returns what it printed.
func pythonRun(t *testing.T, program string, args ...string) string {
	t.Helper()
	bin, err := python()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append([]string{filepath.Join("testdata", program)}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "HOME="+t.TempDir())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s\n%s", program, args, err, out.String(), errs.String())
	}
	return out.String()
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range shared.servers {
		if _, err := script(s.kind+".sh", "stop", s.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.RemoveAll(s.dir)
	}
	if firnDir != "" {
		os.RemoveAll(firnDir)
	}
	os.Exit(code)
}
