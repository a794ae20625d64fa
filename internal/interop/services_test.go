//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firnlake/firn/internal/nettest"
)

// service is a real server, started by a script of that name.
type service struct {
	t         *testing.T
	name, dir string
	port      int
	args      []string
}

// serve starts one; it ends with the test. Beside port the server may use the next one.
func serve(t *testing.T, name string, args ...string) *service {
	t.Helper()
	t.Setenv("FIRN_OWNER", strconv.Itoa(os.Getpid()))
	dir, err := os.MkdirTemp("", "firn-"+name+"-") // not TempDir: another user has to get into it
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, name: name, dir: dir, port: nettest.FreePorts(t, 2), args: args}
	t.Cleanup(func() {
		s.stop()
		if said, err := os.ReadFile(filepath.Join(dir, "log")); t.Failed() {
			t.Logf("the log of %s: %s %v", name, tail(string(said), 40), err)
		}
		os.RemoveAll(dir)
	})
	s.start()
	return s
}

func (s *service) start() {
	s.t.Helper()
	if _, err := script(s.name+".sh", append([]string{"start", s.dir, strconv.Itoa(s.port)}, s.args...)...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) stop() {
	s.t.Helper()
	if _, err := script(s.name+".sh", "stop", s.dir); err != nil {
		s.t.Error(err)
	}
}

func (s *service) addr() string { return loopback(s.port) }

// topics makes topics of one partition each.
func (s *service) topics(names ...string) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.addr()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopics(s.t.Context(), 1, 1, nil, names...); err != nil {
		s.t.Fatal(err)
	}
}

// newSite is a lake whose pipelines are given, and read a Kafka of its own; schemas are the files that they name. Its engine is
// PyIceberg, which reads whole tables.
func newSite(t *testing.T, kafka *service, pipelines string, schemas map[string]string) *lake {
	t.Helper()
	bin, err := firnBin()
	if err != nil {
		t.Fatal(err)
	}
	l := &lake{t: t, bin: bin, dir: t.TempDir()}
	port := nettest.FreePorts(t, 4)
	l.config, l.uri, l.http = filepath.Join(l.dir, "firn.yaml"), "http://"+loopback(port), loopback(port+1)
	files := map[string]string{"firn.yaml": fmt.Sprintf(`warehouse: file://%[1]s/warehouse
kafka: {brokers: [%[2]q]}
catalog: {listen: %[3]q, store: "sqlite://%[1]s/catalog.db"}
ingest: {listen: %[4]q}
http: {listen: %[5]q}
pipelines:
%[6]s`, l.dir, kafka.addr(), loopback(port), loopback(port+2), l.http, pipelines)}
	for name, text := range schemas {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l.catalog(port + 3)
	python, err := script("venv.sh")
	if err != nil {
		t.Fatal(err)
	}
	l.engine = startDriver(t, "PyIceberg", python, "rows.py", l.uri)
	return l
}

// columns are the values of a row by the names of columns, or of one of its structs, as testdata/plain.py writes them.
type columns = map[string]any

// content is a whole table.
type content struct {
	Rows  []columns
	Types map[string]string
}

// content reads a table with the other engine; nothing where there is no such table.
func (l *lake) content(table string) content {
	l.t.Helper()
	var c content
	if err := l.engine.ask("rows", args("table", table), &c); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// pipelineSays is the verdict of one pipeline of several.
func (l *lake) pipelineSays(name string) verdict {
	body, _, err := l.get("/api/v1/status")
	if err != nil {
		return verdict{Cause: err.Error()}
	}
	var s struct {
		Pipelines []struct {
			Name    string
			Verdict verdict
		}
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		return verdict{Cause: err.Error()}
	}
	for _, p := range s.Pipelines {
		if p.Name == name {
			return p.Verdict
		}
	}
	return verdict{}
}

// holds waits until a table has so many rows.
func (l *lake) holds(pipeline, table string, n int) content {
	l.t.Helper()
	var c content
	until(l.t, fmt.Sprintf("%d rows of %s", n, table), 60*time.Second, func() (bool, string) {
		c = l.content(table)
		return len(c.Rows) >= n, fmt.Sprintf("%d rows; %+v", len(c.Rows), l.pipelineSays(pipeline))
	})
	if len(c.Rows) != n {
		l.t.Fatalf("%s has %d rows, not %d", table, len(c.Rows), n)
	}
	return c
}

// same holds the rows of a table against what was produced: a value that is not told is null.
func same(t *testing.T, table string, got, want []columns) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s has %d rows, not %d", table, len(got), len(want))
		return
	}
	for i, w := range want {
		for column, v := range got[i] {
			if _, told := w[column]; column[0] != '_' && !reflect.DeepEqual(v, w[column]) {
				t.Errorf("%s, row %d: %s is %v, not %v (told: %t)", table, i, column, v, w[column], told)
			}
		}
		for column := range w {
			if _, there := got[i][column]; !there {
				t.Errorf("%s, row %d: there is no column %s", table, i, column)
			}
		}
		if t.Failed() {
			return
		}
	}
}
