package plan

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/units"
)

var rewrite = flag.Bool("rewrite", false, "write what the planner says into testdata")

// TestPlans runs testdata/*.txt: cases of commands, ----, and what comes out. Commands are described in testdata/README.md.
func TestPlans(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			out := runCases(t, in)
			if *rewrite {
				if err := os.WriteFile(path, out, 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(in, out) {
				t.Errorf("%s: the plan is another; see it with -rewrite and git diff:\n%s", path, firstDiff(in, out))
			}
		})
	}
}

func firstDiff(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d\n- %s\n+ %s", i+1, x[i], y[i])
		}
	}
	return "one has more lines"
}

// runCases gives the file back with the outputs as they are now.
func runCases(t *testing.T, in []byte) []byte {
	var out bytes.Buffer
	sc := bufio.NewScanner(bytes.NewReader(in))
	w := newWorld(t)
	for skip := false; sc.Scan(); {
		line := sc.Text()
		switch {
		case line == "----":
			out.WriteString("----\n")
			out.WriteString(w.out.String())
			w.out.Reset()
			skip = true
		case line == "":
			skip = false
			out.WriteByte('\n')
		case skip:
		default:
			out.WriteString(line + "\n")
			if !strings.HasPrefix(line, "#") {
				w.run(line)
			}
		}
	}
	return out.Bytes()
}

// world is the state that the commands of one file build up.
type world struct {
	t         *testing.T
	out       strings.Builder
	files     []File
	manifests []Manifest
	fp        Files
	mp        Manifests
	snaps     []Snapshot
	refs      []Ref
	log       []LogEntry
}

func newWorld(t *testing.T) *world {
	return &world{t: t, fp: Files{TargetBytes: 128 << 20, SmallBytes: 64 << 20, Fanout: 8, MaxFiles: 500},
		mp: Manifests{TargetBytes: 8 << 20, TargetEntries: 4096, Fanout: 8, Max: 100}}
}

type args map[string]string

func (w *world) run(line string) {
	cmd, rest, _ := strings.Cut(line, " ")
	a := args{}
	for _, f := range strings.Fields(rest) {
		k, v, _ := strings.Cut(f, "=")
		a[k] = v
	}
	switch cmd {
	case "new":
		*w = world{t: w.t, fp: w.fp, mp: w.mp}
	case "policy":
		w.fp.TargetBytes = w.bytes(a, "target", w.fp.TargetBytes)
		w.fp.SmallBytes = w.bytes(a, "small", w.fp.SmallBytes)
		w.fp.Fanout = int(w.num(a, "fanout", int64(w.fp.Fanout)))
		w.fp.MaxFiles = int(w.num(a, "maxfiles", int64(w.fp.MaxFiles)))
		w.fp.ColdSequence = w.num(a, "cold", w.fp.ColdSequence)
		w.mp.Max = int(w.num(a, "maxmanifests", int64(w.mp.Max)))
	case "files":
		for i := range w.num(a, "n", 1) {
			seq := w.num(a, "seq", 1) + i
			w.files = append(w.files, File{Path: fmt.Sprintf("%s%03d", a["p"], len(w.files)), Spec: int(w.num(a, "spec", 0)), Partition: a["p"],
				Rows: w.num(a, "rows", 1000), Bytes: w.bytes(a, "bytes", 100<<10), Sequence: seq, Order: w.num(a, "order", seq)})
		}
	case "plan":
		w.plan()
	case "steps":
		w.steps(int(w.num(a, "n", 100)))
	case "manifests":
		for i := range w.num(a, "n", 1) {
			w.manifests = append(w.manifests, Manifest{Path: fmt.Sprintf("m%03d", len(w.manifests)), Spec: int(w.num(a, "spec", 0)),
				Files: int(w.num(a, "files", 1)), Bytes: w.bytes(a, "bytes", 6<<10), Sequence: w.num(a, "seq", 1) + i})
		}
	case "merge":
		w.merge()
	case "snapshot":
		w.snaps = append(w.snaps, Snapshot{ID: w.num(a, "id", 0), Parent: w.num(a, "parent", 0), At: at(w.num(a, "at", 0)), Sequence: int64(len(w.snaps) + 1)})
		if a["log"] != "no" {
			w.log = append(w.log, LogEntry{w.num(a, "id", 0), at(w.num(a, "at", 0))})
		}
	case "rollback":
		w.log = append(w.log, LogEntry{w.num(a, "id", 0), at(w.num(a, "at", 0))})
	case "ref":
		w.refs = append(w.refs, Ref{Name: a["name"], Branch: a["branch"] != "", Snapshot: w.num(a, "id", 0), Min: int(w.num(a, "min", 0)),
			Window: time.Duration(w.num(a, "window", 0)) * time.Second, MaxAge: time.Duration(w.num(a, "maxage", 0)) * time.Second})
	case "expire":
		r := Retention{time.Duration(w.num(a, "window", 900)) * time.Second, int(w.num(a, "min", 1)), int(w.num(a, "max", 1000))}
		fmt.Fprintln(&w.out, Expire(r, at(w.num(a, "now", 0)), w.snaps, w.refs, w.log))
	case "calendar":
		c, err := ParseCalendar(a["rules"])
		if err != nil {
			fmt.Fprintln(&w.out, err)
			break
		}
		for _, d := range c.Due(at(w.num(a, "now", 0)), w.snaps, w.refs, w.log) {
			fmt.Fprintf(&w.out, "%s: snapshot %d, until %s\n", d.Name, d.Snapshot, w.taken(d.Snapshot).Add(d.MaxAge).Format(time.DateTime))
		}
	default:
		w.t.Fatalf("unknown command %q", line)
	}
}

func (w *world) taken(id int64) time.Time {
	for _, s := range w.snaps {
		if s.ID == id {
			return s.At
		}
	}
	return time.Time{}
}

func at(seconds int64) time.Time { return time.Unix(1_700_000_000+seconds, 0).UTC() }

func (w *world) num(a args, key string, def int64) int64 {
	s, ok := a[key]
	if !ok {
		return def
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		w.t.Fatalf("%s: %v", key, err)
	}
	return n
}

func (w *world) bytes(a args, key string, def int64) int64 {
	s, ok := a[key]
	if !ok {
		return def
	}
	n, err := units.ParseBytes(s)
	if err != nil {
		w.t.Fatalf("%s: %v", key, err)
	}
	return int64(n)
}

func (w *world) plan() {
	jobs := Rewrites(w.fp, w.files)
	for _, j := range jobs {
		cold := ""
		if j.Cold {
			cold = " cold"
		}
		fmt.Fprintf(&w.out, "spec %d partition %s: %d files of tier <= %d, %d rows, %d KiB%s: %s\n", j.Spec, j.Partition, len(j.Files), j.Tier, j.Rows, j.Bytes>>10, cold, names(j.Files))
	}
	if len(jobs) == 0 {
		fmt.Fprintln(&w.out, "nothing")
	}
}

func names(fs []File) string {
	first, last := fs[0].Path, fs[len(fs)-1].Path
	if len(fs) <= 4 {
		var s []string
		for _, f := range fs {
			s = append(s, f.Path)
		}
		return strings.Join(s, " ")
	}
	return first + " .. " + last
}

// steps plans and applies until nothing is left to do.
func (w *world) steps(limit int) {
	rounds, jobs, bytes, files := 0, 0, int64(0), len(w.files)
	for ; rounds < limit; rounds++ {
		plan := Rewrites(w.fp, w.files)
		if len(plan) == 0 {
			break
		}
		for _, j := range plan {
			jobs++
			bytes += j.Bytes
			w.files = apply(w.files, j, fmt.Sprintf("r%d-%d", rounds, jobs), 0)
		}
	}
	fmt.Fprintf(&w.out, "%d rounds, %d jobs, %d KiB rewritten, %d files became %d\n", rounds, jobs, bytes>>10, files, len(w.files))
}

// apply replaces a job's files by one.
func apply(files []File, j Rewrite, path string, seq int64) []File {
	gone := map[string]bool{}
	one := File{Path: path, Spec: j.Spec, Partition: j.Partition, Rows: j.Rows, Bytes: j.Bytes, Sequence: seq, Order: j.Files[0].Order}
	for _, f := range j.Files {
		gone[f.Path] = true
	}
	var out []File
	for _, f := range files {
		if !gone[f.Path] {
			out = append(out, f)
		}
	}
	return append(out, one)
}

func (w *world) merge() {
	ms := Merges(w.mp, w.manifests)
	for _, m := range ms {
		files := 0
		for _, x := range m {
			files += x.Files
		}
		fmt.Fprintf(&w.out, "spec %d: %d manifests of %d files: %s .. %s\n", m[0].Spec, len(m), files, m[0].Path, m[len(m)-1].Path)
	}
	if len(ms) == 0 {
		fmt.Fprintln(&w.out, "nothing")
	}
}
