package crash

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestMain runs this binary as the process that is to end, when the variable is set.
func TestMain(m *testing.M) {
	if os.Getenv(Env) != "" {
		if err := ArmFromEnv(); err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(3)
		}
		for _, p := range slices.Concat(Points(), CatalogPoints(), CatalogOtherPoints(), CompactionPoints()) {
			for range 3 {
				os.Stdout.WriteString(string(p) + "\n")
				At(context.Background(), p)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestProcessEnds(t *testing.T) {
	all := 3 * len(slices.Concat(Points(), CatalogPoints(), CatalogOtherPoints(), CompactionPoints())) // lines
	for _, c := range []struct {
		env  string
		last string
		n    int // lines
		code int
	}{
		{"batch-cut", "batch-cut", 1, -1},
		{"committed:2", "committed", 3*(len(Points())-1) + 2, -1},
		{"catalog-before-commit", "catalog-before-commit", 3*len(Points()) + 1, -1},
		{"compact-expired:3", "compact-expired", all, -1},
		{"compact-expired:4", "compact-expired", all, 0},
		{"nowhere", "there are", 1, 3},
		{"batch-cut:0", "from 1 on", 1, 3},
		{"batch-cut:x", "from 1 on", 1, 3},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), Env+"="+c.env)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if code := cmd.ProcessState.ExitCode(); code != c.code || len(lines) != c.n || !strings.Contains(lines[len(lines)-1], c.last) {
			t.Errorf("%s: exit %d after %d lines, the last %q; want %d, %d, %q", c.env, code, len(lines), lines[len(lines)-1], c.code, c.n, c.last)
		}
	}
}

func TestHook(t *testing.T) {
	var seen []Point
	ctx := With(t.Context(), func(p Point) { seen = append(seen, p) })
	for _, p := range Points() {
		At(ctx, p)
		At(t.Context(), p)
	}
	if !slices.Equal(seen, Points()) {
		t.Errorf("hooked %v", seen)
	}
}
