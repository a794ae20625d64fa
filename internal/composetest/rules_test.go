package composetest

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

var (
	seriesName = regexp.MustCompile(`"(firn_[a-z0-9_]+)"`)
	// prefixed is a name that is put together: "firn_compaction_" + name.
	prefixed = regexp.MustCompile(`"(firn_[a-z0-9_]+_)" *\+`)
	literal  = regexp.MustCompile(`"([a-z][a-z0-9_]*)"`)
)

// series are the names of Firn's metrics, as its sources give them to client_golang.
func series(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "bench" || d.Name() == "composetest") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(raw), "client_golang/prometheus") {
			return err
		}
		for _, m := range seriesName.FindAllStringSubmatch(string(raw), -1) {
			names[m[1]] = true
		}
		for _, p := range prefixed.FindAllStringSubmatch(string(raw), -1) {
			for _, m := range literal.FindAllStringSubmatch(string(raw), -1) {
				names[p[1]+m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 20 {
		t.Fatalf("only %d series were found in the sources", len(names))
	}
	return names
}

// foreign are the series that the client library or Prometheus itself gives.
var foreign = []string{"up", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}

// checkExpr parses a PromQL expression and makes sure that each series in it exists.
func checkExpr(t *testing.T, where, expr string, names map[string]bool) {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %s: %v", where, expr, err)
		return
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		name := v.Name
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && (names[base] || slices.Contains(foreign, base)) {
				return nil
			}
		}
		t.Errorf("%s: Firn has no series %s", where, name)
		return nil
	})
}

func TestAlerts(t *testing.T) {
	names := series(t)
	groups, errs := rulefmt.ParseFile(filepath.Join(root, "deploy", "prometheus", "alerts.yml"), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.Fatal("no rules were read")
	}
	n := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			n++
			checkExpr(t, r.Alert, r.Expr, names)
			if r.Annotations["summary"] == "" || r.Annotations["action"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s: summary, action and severity are wanted", r.Alert)
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d alerts", n)
	}
}

// TestRunbook: each alert and each state has its place in the runbook, and what that names is there.
func TestRunbook(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs", "runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	sections := regexp.MustCompile(`(?m)^## (Firn\w+)$`).FindAllStringSubmatch(string(raw), -1)
	found := map[string]bool{}
	for _, s := range sections {
		found[s[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(string(alerts), -1) {
		if !found[m[1]] {
			t.Errorf("the runbook says nothing of %s", m[1])
		}
		delete(found, m[1])
	}
	for name := range found {
		t.Errorf("the runbook has %s, which is no alert", name)
	}
	for _, state := range []string{"ok", "catching-up", "waiting", "degraded", "fenced", "stopped"} {
		if !strings.Contains(string(raw), "| `"+state+"` |") {
			t.Errorf("the runbook does not say what %s means", state)
		}
	}
	names := series(t)
	for _, m := range regexp.MustCompile("`(firn_[a-z_]+)`").FindAllStringSubmatch(string(raw), -1) {
		if !names[m[1]] {
			t.Errorf("the runbook names %s, which Firn does not have", m[1])
		}
	}
}

func TestDashboards(t *testing.T) {
	names := series(t)
	files, err := filepath.Glob(filepath.Join(root, "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID    string
			Panels []struct {
				ID      int
				Title   string
				Type    string
				GridPos struct{ X, Y, W, H int }
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			if ids[p.ID] {
				t.Errorf("%s: two panels have the id %d", f, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("%s: panels %q and %q overlap", f, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: panel %q asks for nothing", f, p.Title)
			}
			for _, target := range p.Targets {
				checkExpr(t, p.Title, target.Expr, names)
			}
		}
		if d.UID == "" || len(ids) < 5 {
			t.Errorf("%s: uid %q, %d panels", f, d.UID, len(ids))
		}
	}
}
