package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/scan/scantest"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/objstore"
)

var bySize = iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{6}, FieldID: 1000, Name: "size", Transform: iceberg.IdentityTransform{}})

// lake is a table of the fixture whose snapshots the test makes.
func (f *fixture) lake(t *testing.T, name string) *scantest.Lake {
	t.Helper()
	_ = f.Service().CreateNamespace(t.Context(), catalog.Identifier{"ns"}, nil) // it may be there
	id := catalog.Identifier{"ns", name}
	made, err := f.Service().CreateTable(t.Context(), id, catalog.CreateTable{Schema: scantest.Schema(), Partition: &bySize})
	if err != nil {
		t.Fatal(err)
	}
	l := scantest.Over(t, f.wh, made.Metadata)
	l.Commit = func(ctx context.Context, reqs table.Requirements, updates table.Updates) table.Metadata {
		t.Helper()
		got, err := f.Service().CommitTable(ctx, catalog.TableCommit{Identifier: id, Requirements: reqs, Updates: updates})
		if err != nil {
			t.Fatal(err)
		}
		return got.Metadata
	}
	return l
}

// numbered are files of one row each: id is from up to below to, size its half.
func numbered(l *scantest.Lake, from, to int64) (files []iceberg.DataFile) {
	for i := from; i < to; i++ {
		files = append(files, l.DataFile(bySize, []scantest.Row{{i, i * 1e6, fmt.Sprintf("n%02d", i), 0.5, i, i / 2, i, i % 2, "x"}}))
	}
	return files
}

func (f *fixture) plan(t *testing.T, body string, header ...string) wire.Plan {
	t.Helper()
	return want[wire.Plan](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t/plan", body, header...), 200)
}

// ids names the files of tasks by the ids of their rows.
func ids(l *scantest.Lake, files []wire.FileScanTask) (out []int64) {
	for _, f := range files {
		out = append(out, l.Files[f.File.Path].Rows[0][0].(int64))
	}
	slices.Sort(out)
	return out
}

func TestPlanScan(t *testing.T) {
	f := memory(t)
	l := f.lake(t, "t")
	if p := f.plan(t, `{}`); p.Status != "completed" || p.ID == "" || p.Files != nil || p.Tasks != nil {
		t.Errorf("an empty table: %+v", p)
	}
	first := l.Append(bySize, numbered(l, 0, 4))
	second := l.Append(bySize, numbered(l, 4, 6), numbered(l, 6, 8))
	del := l.Deletes(bySize, scantest.Delete{Content: iceberg.EntryContentPosDeletes, Partition: map[int]any{1000: int32(1)}},
		scantest.Delete{Content: iceberg.EntryContentEqDeletes, Partition: map[int]any{1000: int32(3)}, Equality: []int{1}})
	third := l.Append(bySize, numbered(l, 8, 9))

	for body, want := range map[string]string{
		`{}`: "[0 1 2 3 4 5 6 7 8]",
		`{"filter":{"type":"lt","term":"id","value":3},"select":["id","name","_pos"]}`:                                        "[0 1 2]",
		`{"filter":{"type":"and","left":{"type":"eq","term":"size","value":3},"right":{"type":"true"}}}`:                      "[6 7]",
		`{"filter":{"type":"in","term":"NAME","values":["n05","n01"]},"case-sensitive":false}`:                                "[1 5]",
		`{"filter":{"type":"gt-eq","term":{"type":"transform","transform":"bucket[4]","term":"id"},"value":0}}`:               "[0 1 2 3 4 5 6 7 8]",
		`{"filter":{"type":"not","child":{"type":"or","left":{"type":"lt","term":"id","value":7},"right":{"type":"false"}}}}`: "[7 8]",
		`{"filter":{"type":"gt","term":"at","value":"1970-01-01T00:00:06.5+00:00"}}`:                                          "[7 8]",
		`{"filter":{"type":"gt","term":"at","value":6500000}}`:                                                                "[7 8]",
		`{"filter":{"type":"eq","term":"day","value":"1970-01-03"}}`:                                                          "[2]",
		`{"filter":{"type":"false"}}`:                                                                                            "[]",
		fmt.Sprintf(`{"snapshot-id":%d}`, first):                                                                                 "[0 1 2 3]",
		fmt.Sprintf(`{"snapshot-id":%d,"use-snapshot-schema":true}`, second):                                                     "[0 1 2 3 4 5 6 7]",
		fmt.Sprintf(`{"start-snapshot-id":%d,"end-snapshot-id":%d}`, first, third):                                               "[4 5 6 7 8]",
		fmt.Sprintf(`{"start-snapshot-id":%d,"end-snapshot-id":%d,"filter":{"type":"gt","term":"id","value":5}}`, first, second): "[6 7]",
		fmt.Sprintf(`{"start-snapshot-id":%d,"end-snapshot-id":%d}`, second, second):                                             "[]",
		`{"min-rows-requested":1,"filter":{"type":"gt-eq","term":"size","value":4}}`:                                             "[8]",
	} {
		p := f.plan(t, body)
		if got := fmt.Sprint(ids(l, p.Files)); got != want {
			t.Errorf("%s: files %s, want %s", body, got, want)
		}
		again := want200[wire.Plan](t, f.ask(t, "GET", "/v1/namespaces/ns/tables/t/plan/"+p.ID, ""))
		if got := fmt.Sprint(ids(l, again.Files)); got != want {
			t.Errorf("%s: made again: files %s, want %s", body, got, want)
		}
		want200[none](t, f.ask(t, "DELETE", "/v1/namespaces/ns/tables/t/plan/"+p.ID, ""))
	}

	p := f.plan(t, `{"stats-fields":["id","id"]}`)
	deletes := map[int64][]string{}
	for _, task := range p.Files {
		id := l.Files[task.File.Path].Rows[0][0].(int64)
		for _, d := range task.Deletes {
			deletes[id] = append(deletes[id], p.Deletes[d].Path)
		}
		if s := task.File.Lower; s == nil || len(s.Keys) != 1 || s.Values[0] != fmt.Sprintf("%02X00000000000000", id) || task.File.Values.Values[0] != 1 {
			t.Errorf("file of %d: metrics %+v", id, task.File)
		}
		if got := string(task.File.Partition); got != fmt.Sprintf("[%d]", id/2) {
			t.Errorf("file of %d: partition %s", id, got)
		}
	}
	if got, want := fmt.Sprint(deletes), fmt.Sprint(map[int64][]string{2: del[:1], 3: del[:1], 6: del[1:], 7: del[1:]}); got != want {
		t.Errorf("deletes %s, want %s", got, want)
	}
	p = f.plan(t, `{"filter":{"type":"and","left":{"type":"eq","term":"size","value":3},"right":{"type":"lt","term":"id","value":7}}}`)
	if len(p.Files) != 1 || string(p.Files[0].Residual) != `{"type":"lt","term":"id","value":7}` {
		t.Errorf("what is left of a filter: %s", p.Files[0].Residual)
	}
}

func want200[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	code := 200
	if w.Body.Len() == 0 {
		code = 204
	}
	return want[T](t, w, code)
}

// TestPlanRefuses: what cannot be planned is refused by a message that names what is wrong, whatever it is.
func TestPlanRefuses(t *testing.T) {
	f := memory(t)
	l := f.lake(t, "t")
	at := l.Append(bySize, numbered(l, 0, 2))
	deep := strings.Repeat(`{"type":"not","child":`, 5000) + `true` + strings.Repeat(`}`, 5000)
	wide := `{"type":"in","term":"id","values":[1` + strings.Repeat(",1", 25_000) + `]}`
	for body, says := range map[string]string{
		`{"filter":{"type":"eq","term":"nosuch","value":1}}`:                                          `no column "nosuch"`,
		`{"filter":{"type":"eq","term":"ID","value":1}}`:                                              `no column "ID"`,
		`{"select":["id","gone"]}`:                                                                    `no column "gone"`,
		`{"stats-fields":["gone"]}`:                                                                   `no column "gone"`,
		`{"filter":{"type":"eq","term":"id","value":"x"}}`:                                            `column id, eq`,
		`{"filter":{"type":"eq","term":"id"}}`:                                                        `column id, eq`,
		`{"filter":{"type":"like","term":"id","value":1}}`:                                            `column id, like`,
		`{"filter":{"type":"in","term":"id","values":7}}`:                                             `column id, in`,
		`{"filter":{"type":"starts-with","term":"id","value":1}}`:                                     `filter`,
		`{"filter":{"type":"is-null"}}`:                                                               `term`,
		`{"filter":{"type":"and","left":true}}`:                                                       `an expression is`,
		`{"filter":[1]}`:                                                                              `an expression is`,
		`{"filter":{"type":"eq","term":{"type":"transform","transform":"x[","term":"id"},"value":1}}`: `column id, eq`,
		`{"filter":` + deep + `}`:                                                                     `deeper than 100`,
		`{"filter":` + wide + `}`:                                                                     `more than 20000 values`,
		`{"filter":{"type":"eq","term":"name","value":"` + strings.Repeat("x", 300<<10) + `"}}`:       `plan.max_filter allows 262144`,
		`{"snapshot-id":7}`:                                                                           `no snapshot 7`,
		fmt.Sprintf(`{"snapshot-id":%d,"start-snapshot-id":1,"end-snapshot-id":2}`, at):               `scan of one moment`,
		`{"start-snapshot-id":1}`:                                                                     `come together`,
		fmt.Sprintf(`{"start-snapshot-id":1,"end-snapshot-id":%d}`, at):                               `no ancestor`,
		`{"min-rows-requested":-1}`:                                                                   `negative`,
		`{"filter":`:                                                                                  `body`,
	} {
		fail := want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t/plan", body), 400)
		if !strings.Contains(fail.Error.Message, says) || len(fail.Error.Message) > 1000 {
			t.Errorf("%.100s: %.1000s, want %q", body, fail.Error.Message, says)
		}
	}
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/gone/plan", `{}`), 404)
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/gone/tasks", `{"plan-task":"x"}`), 404)

	for _, m := range []string{"GET", "DELETE"} {
		want[failure](t, f.ask(t, m, "/v1/namespaces/ns/tables/t/plan/a%00b", ""), 404)
		want[failure](t, f.ask(t, m, "/v1/namespaces/ns/tables/"+strings.Repeat("x", 2000)+"/plan/a", ""), 400)
		if got := want[failure](t, f.ask(t, m, "/v1/namespaces/ns/tables/t/plan/abc", ""), 404).Error.Type; got != wire.TypeNoSuchPlan {
			t.Error(got)
		}
	}
	want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t/tasks", `{}`), 400)

	broken := f.append(t, f.makeTable(t, "broken"), 1)
	if broken.Metadata.CurrentSnapshot() == nil {
		t.Fatal("no snapshot")
	}
	fail := want[failure](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/broken/plan", `{}`), 400)
	if !strings.Contains(fail.Error.Message, "manifest") {
		t.Errorf("a snapshot without its files: %s", fail.Error.Message)
	}
}

// TestPlanTasks: a plan of many answers holds together over any of several catalogs, and a task that is not of this
// table, or was changed, or whose snapshot has gone, is refused.
func TestPlanTasks(t *testing.T) {
	dir := t.TempDir()
	wh, err := objstore.Open(t.Context(), "file://"+dir+"/warehouse", objstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wh.Close() })
	cfg := server.Config{Store: "sqlite://" + dir + "/catalog.db", Plan: server.PlanConfig{PageFiles: 3, MaxTasks: 4}}
	a, b := startTwo(t, cfg, wh)
	l := a.lake(t, "t")
	other := a.lake(t, "u")
	other.Append(bySize, numbered(other, 0, 1))
	for i := int64(0); i < 40; i += 5 {
		l.Append(bySize, numbered(l, i, i+5))
	}
	filter := `{"filter":{"type":"gt-eq","term":"id","value":2}}`
	p := a.plan(t, filter)
	if len(p.Files) != 3 || len(p.Tasks) != 4 {
		t.Fatalf("%d files, %d tasks", len(p.Files), len(p.Tasks))
	}
	got, queue, answers := ids(l, p.Files), slices.Clone(p.Tasks), 0
	slices.Reverse(queue) // in any order
	for len(queue) > 0 {
		f := []*fixture{a, b}[answers%2]
		answers++
		body, _ := json.Marshal(wire.TasksRequest{Task: queue[0]})
		tasks := want[wire.ScanTasks](t, f.ask(t, "POST", "/v1/namespaces/ns/tables/t/tasks", string(body), "Idempotency-Key", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), 200)
		got = append(got, ids(l, tasks.Files)...)
		queue = append(queue[1:], tasks.Tasks...)
	}
	slices.Sort(got)
	var all []int64
	for i := int64(2); i < 40; i++ {
		all = append(all, i)
	}
	if !slices.Equal(got, all) || answers > 20 {
		t.Errorf("%d answers: files %v", answers, got)
	}

	refused := func(table, task, says string) {
		t.Helper()
		body, _ := json.Marshal(wire.TasksRequest{Task: task})
		fail := want[failure](t, b.ask(t, "POST", "/v1/namespaces/ns/tables/"+table+"/tasks", string(body)), 404)
		if fail.Error.Type != wire.TypeNoSuchTask || !strings.Contains(fail.Error.Message, says) {
			t.Errorf("%.40s: %v, want %q", task, fail, says)
		}
	}
	task := p.Tasks[0]
	refused("u", task, "another table")
	refused("t", p.ID, "id of a plan")
	for i := 0; i < len(task); i += 1 + len(task)/40 {
		c := byte('A')
		if task[i] == c {
			c = 'B'
		}
		refused("t", task[:i]+string(c)+task[i+1:], "none that this catalog gave")
	}
	fail := want[failure](t, b.ask(t, "GET", "/v1/namespaces/ns/tables/t/plan/"+task, ""), 404)
	if !strings.Contains(fail.Error.Message, "task of a plan") {
		t.Error(fail)
	}
	long := a.plan(t, `{"filter":{"type":"in","term":"name","values":["n01","`+longWords()+`"]}}`)
	fail = want[failure](t, b.ask(t, "GET", "/v1/namespaces/ns/tables/t/plan/"+long.ID, ""), 404)
	if len(long.ID) > 4096 || len(long.Files) != 1 || !strings.Contains(fail.Error.Message, "too long to be kept") {
		t.Errorf("id of %d bytes, %d files: %v", len(long.ID), len(long.Files), fail)
	}
	want[none](t, b.ask(t, "DELETE", "/v1/namespaces/ns/tables/t/plan/"+long.ID, ""), 204)

	old := l.Meta.CurrentSnapshot().SnapshotID
	l.Append(bySize, numbered(l, 40, 41))
	l.Apply(table.Updates{table.NewRemoveSnapshotsUpdate([]int64{old}, false)})
	refused("t", task, "plan again")
}

// longWords does not pack well.
func longWords() string {
	var words []string
	for i := range uint64(1500) {
		words = append(words, fmt.Sprintf("%x", (i+1)*0x9E3779B97F4A7C15))
	}
	return strings.Join(words, `","`)
}

// TestPlanRights: planning needs the right to read.
func TestPlanRights(t *testing.T) {
	f := guarded(t, nil, nil, nil)
	f.makeTable(t, "t")
	p := want[wire.Plan](t, f.as(t, "read", "POST", "/v1/namespaces/ns/tables/t/plan", `{}`), 200)
	for who, code := range map[string]int{"nobody": 404, "list": 403} {
		want[failure](t, f.as(t, who, "POST", "/v1/namespaces/ns/tables/t/plan", `{}`), code)
		want[failure](t, f.as(t, who, "POST", "/v1/namespaces/ns/tables/t/tasks", `{"plan-task":"x"}`), code)
		want[failure](t, f.as(t, who, "GET", "/v1/namespaces/ns/tables/t/plan/"+p.ID, ""), code)
		want[failure](t, f.as(t, who, "DELETE", "/v1/namespaces/ns/tables/t/plan/"+p.ID, ""), code)
	}
}

// TestPlanOfThePast: a table of a past time is planned like any other.
func TestPlanOfThePast(t *testing.T) {
	f := memory(t)
	l := f.ledgerTable(t, "2")
	at := l.stamp(l.add(0, 2, "a"))
	l.add(0, 3, "a")
	now := "/v1/namespaces/ns/tables/" + l.id.Name()
	then := want[wire.Plan](t, f.ask(t, "POST", l.path(at)+"/plan", `{}`), 200)
	again := want[wire.Plan](t, f.ask(t, "GET", l.path(at)+"/plan/"+then.ID, ""), 200)
	all := want[wire.Plan](t, f.ask(t, "POST", now+"/plan", `{}`), 200)
	rows := func(p wire.Plan) (n int64) {
		for _, task := range p.Files {
			n += task.File.Rows
		}
		return n
	}
	if rows(then) != 2 || rows(again) != 2 || rows(all) != 5 {
		t.Errorf("%d and %d rows then, %d now", rows(then), rows(again), rows(all))
	}
	want[failure](t, f.ask(t, "GET", now+"/plan/"+then.ID, ""), 404)
}
