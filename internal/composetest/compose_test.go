package composetest

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

// secrets are the variables of .env.example, each with a canary.
func secrets(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || value != "" {
			t.Errorf(".env.example: %q: a name without a value is wanted", line)
		}
		out[name] = "canary-" + strings.ToLower(name)
	}
	return out
}

func load(env map[string]string, profiles ...string) (*types.Project, error) {
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	o, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithWorkingDirectory(root), cli.WithEnv(list),
		cli.WithProfiles(profiles), cli.WithResolvedPaths(true))
	if err != nil {
		return nil, err
	}
	return o.LoadProject(context.Background())
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := load(secrets(t), "*")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestServices(t *testing.T) {
	p := project(t)
	for _, want := range []string{"kafka", "minio", "postgres", "catalog", "ingest", "compact", "query", "prometheus", "grafana"} {
		if _, ok := p.Services[want]; !ok {
			t.Errorf("there is no service %s", want)
		}
	}
	for name, s := range p.Services {
		for dep, cond := range s.DependsOn {
			d, ok := p.Services[dep]
			switch {
			case !ok:
				t.Errorf("%s depends on %s, which is no service", name, dep)
			case cond.Condition == types.ServiceConditionHealthy && (d.HealthCheck == nil || d.HealthCheck.Disable):
				t.Errorf("%s waits until %s is healthy, which has no health check", name, dep)
			case cond.Condition == types.ServiceConditionCompletedSuccessfully && d.HealthCheck != nil:
				t.Errorf("%s waits until %s has ended, which looks like a server", name, dep)
			case cond.Condition == types.ServiceConditionStarted:
				t.Errorf("%s waits only until %s has started: say service_healthy", name, dep)
			}
		}
		once := false
		for _, other := range p.Services {
			once = once || other.DependsOn[name].Condition == types.ServiceConditionCompletedSuccessfully
		}
		if s.HealthCheck == nil && !once {
			t.Errorf("%s has no health check", name)
		}
		if h := s.HealthCheck; h != nil && !h.Disable && (h.Interval == nil || h.Timeout == nil || h.Retries == nil || len(h.Test) < 2) {
			t.Errorf("%s: its health check leaves interval, timeout or retries to chance", name)
		}
	}
	// Without the demo nothing needs a profile, and without Postgres everything starts.
	plain, err := load(secrets(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{"postgres", "generate"} {
		if _, ok := plain.Services[absent]; ok {
			t.Errorf("%s starts without its profile", absent)
		}
	}
}

func TestOnlyLoopback(t *testing.T) {
	seen := map[string]string{}
	for name, s := range project(t).Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q, not on 127.0.0.1 alone", name, port.Published, port.HostIP)
			}
			if other, ok := seen[port.Published]; ok {
				t.Errorf("%s and %s both publish port %s", name, other, port.Published)
			}
			seen[port.Published] = name
		}
		if s.NetworkMode == "host" || s.Privileged {
			t.Errorf("%s has the host's network or its privileges", name)
		}
	}
}

// pinned is a tag that says a version with at least two numbers.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$`)

func TestPinned(t *testing.T) {
	p := project(t)
	for name, s := range p.Services {
		if s.Build != nil {
			if !strings.HasSuffix(s.Image, ":local") {
				t.Errorf("%s is built here and named %s, as if a registry had it", name, s.Image)
			}
			continue
		}
		if !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %q is not pinned to a version", name, s.Image)
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "*", "Dockerfile"))
	if err != nil || len(files) < 2 {
		t.Fatalf("Dockerfiles: %v, %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		user := false
		for line := range strings.Lines(string(raw)) {
			fields := strings.Fields(line)
			if len(fields) > 1 && fields[0] == "FROM" && !pinned.MatchString(fields[1]) {
				t.Errorf("%s: base image %q is not pinned to a version", f, fields[1])
			}
			user = user || len(fields) == 2 && fields[0] == "USER" && fields[1] != "root"
		}
		if !user {
			t.Errorf("%s: the container runs as root", f)
		}
	}
}

// secretName is what a variable is called that holds a secret.
var secretName = regexp.MustCompile(`(?i)(password|passwd|secret|token|access_?key|root_user)`)

// TestNoDefaultPasswords: every secret comes from a variable that must be set, and nothing starts without one.
func TestNoDefaultPasswords(t *testing.T) {
	all := secrets(t)
	used := map[string]bool{}
	for name, s := range project(t).Services {
		for k, v := range s.Environment {
			for secret, canary := range all {
				if v != nil && strings.Contains(*v, canary) {
					used[secret] = true
				}
			}
			if secretName.MatchString(k) && (v == nil || !slices.Contains(slices.Collect(maps.Values(all)), *v)) {
				t.Errorf("%s: %s does not come from a variable of .env.example", name, k)
			}
		}
		for _, arg := range append(slices.Clone(s.Command), s.Entrypoint...) {
			if strings.Contains(arg, "canary-") {
				t.Errorf("%s has a secret on its command line", name)
			}
		}
	}
	for secret := range all {
		if !used[secret] {
			t.Errorf(".env.example names %s, which no service uses", secret)
		}
		env := maps.Clone(all)
		delete(env, secret)
		if _, err := load(env, "*"); err == nil || !strings.Contains(err.Error(), secret) {
			t.Errorf("without %s: %v", secret, err)
		}
		env[secret] = ""
		if _, err := load(env, "*"); err == nil {
			t.Errorf("an empty %s is taken", secret)
		}
	}
}

// TestFilesExist: what is mounted or built from this tree is in it.
func TestFilesExist(t *testing.T) {
	p := project(t)
	want := map[string]string{}
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				want[v.Source] = name
			} else if _, ok := p.Volumes[v.Source]; v.Type == types.VolumeTypeVolume && !ok {
				t.Errorf("%s uses the volume %s, which is not declared", name, v.Source)
			}
		}
		for _, c := range s.Configs {
			cfg, ok := p.Configs[c.Source]
			if !ok {
				t.Errorf("%s uses the config %s, which is not declared", name, c.Source)
			}
			want[cfg.File] = name
		}
		if b := s.Build; b != nil {
			file := b.Dockerfile
			if !filepath.IsAbs(file) {
				file = filepath.Join(b.Context, file)
			}
			want[file] = name
		}
	}
	for path, name := range want {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
