package report

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Settings stand beside every figure: a figure without its machine and commit cannot be compared.
type Settings struct {
	CPU        string
	GOMAXPROCS int
	Go         string
	Commit     string
	// Extra are the benchmark's own: sizes, seed, addresses.
	Extra map[string]any
}

// MarshalJSON puts the benchmark's own settings beside the common ones.
func (s *Settings) MarshalJSON() ([]byte, error) {
	m := map[string]any{}
	maps.Copy(m, s.Extra)
	m["cpu"], m["gomaxprocs"], m["go"], m["commit"] = s.CPU, s.GOMAXPROCS, s.Go, s.Commit
	return json.Marshal(m)
}

// String is the line under the table.
func (s *Settings) String() string {
	line := fmt.Sprintf("cpu=%q gomaxprocs=%d go=%s commit=%s", s.CPU, s.GOMAXPROCS, s.Go, s.Commit)
	if extra := labels(s.Extra); extra != "" {
		line += " " + extra
	}
	return line
}

// CurrentSettings reads the machine and the commit that is running.
func CurrentSettings() *Settings {
	return &Settings{
		CPU:        cpuName(),
		GOMAXPROCS: runtime.GOMAXPROCS(0),
		Go:         strings.TrimPrefix(runtime.Version(), "go"),
		Commit:     commit(),
	}
}

// commit comes from the build's own stamp; `go run` leaves it out, so the checkout is asked then.
func commit() string {
	revision, dirty := "", false
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.modified":
				dirty = s.Value == "true"
			}
		}
	}
	if revision == "" {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
		if err != nil {
			return "unknown"
		}
		revision = strings.TrimSpace(string(out))
		changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
		dirty = err == nil && len(changed) > 0
	}
	revision = revision[:min(len(revision), 12)]
	if dirty {
		revision += "+changes"
	}
	return revision
}

// cpuName is the model of the first processor; its architecture where the system does not say.
func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if name, value, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
