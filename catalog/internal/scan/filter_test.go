package scan

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/scan/scantest"
)

// TestFilterForms: every spelling that clients use gives one filter, and it survives the way through a task.
func TestFilterForms(t *testing.T) {
	sc := scantest.Schema()
	for in, want := range map[string]string{
		``: ``, `null`: ``, `true`: ``, `{"type":"true"}`: ``, `{"type":"literal","value":true}`: ``, `false`: `false`, `{"type":"false"}`: `false`,
		`{"type":"eq","term":"id","value":9007199254740993}`:                                           `{"type":"eq","term":"id","value":9007199254740993}`,
		`{"type":"eq","term":{"type":"reference","term":"id"},"value":1}`:                              `{"type":"eq","term":"id","value":1}`,
		`{"type":"not","child":{"type":"lt","term":"id","value":1}}`:                                   `{"type":"gt-eq","term":"id","value":1}`,
		`{"type":"lt","term":"size","value":99999999999}`:                                              ``,
		`{"type":"gt","term":"size","value":99999999999}`:                                              `false`,
		`{"type":"in","term":"size","values":[3,99999999999]}`:                                         `{"type":"eq","term":"size","value":3}`,
		`{"type":"in","term":"id","values":[3]}`:                                                       `{"type":"eq","term":"id","value":3}`,
		`{"type":"in","term":"id","values":[]}`:                                                        `false`,
		`{"type":"eq","term":"day","value":3}`:                                                         `{"type":"eq","term":"day","value":"1970-01-04"}`,
		`{"type":"eq","term":"raw","value":"4a"}`:                                                      `{"type":"eq","term":"raw","value":"4A"}`,
		`{"type":"eq","term":"amount","value":"1.5"}`:                                                  `{"type":"eq","term":"amount","value":"1.50"}`,
		`{"type":"eq","term":"at","value":"2024-02-29T12:00:00.25+02:00"}`:                             `{"type":"eq","term":"at","value":"2024-02-29T10:00:00.25+00:00"}`,
		`{"type":"eq","term":{"type":"transform","transform":"day","term":"at"},"value":"2024-02-29"}`: `{"type":"eq","term":{"type":"transform","transform":"day","term":"at"},"value":"2024-02-29"}`,
	} {
		f, err := ParseFilter([]byte(in), sc, true, 1<<20)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if string(f.JSON) != want {
			t.Errorf("%s is %s, want %s", in, f.JSON, want)
		}
		again, err := ParseFilter(f.JSON, sc, true, 1<<20)
		if err != nil || string(again.JSON) != string(f.JSON) || !again.Expr.Equals(f.Expr) {
			t.Errorf("%s, read again: %s, %v", f.JSON, again.JSON, err)
		}
	}
}

// FuzzFilter: no filter makes the planner panic or run on; what is accepted is the same when it is read again, and can
// be evaluated on what is known of a file and on nothing.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{`true`, `{"type":"and","left":{"type":"in","term":"id","values":[1,2]},"right":{"type":"not","child":{"type":"is-nan","term":"price"}}}`,
		`{"type":"starts-with","term":"name","value":"a"}`, `{"type":"eq","term":{"type":"transform","transform":"bucket[16]","term":"id"},"value":3}`,
		`{"type":"not-in","term":"at","values":["2024-02-29T12:00:00+00:00",7]}`, `{"type":"lt","term":"amount","value":"1.23"}`, `{"type":"eq","term":"flag","value":true}`,
		`{"type":"eq","term":"raw","value":"00FF"}`, `{"type":"gt","term":"size","value":1e300}`, `{"type":"in","term":"size","values":[99999999999,-99999999999]}`} {
		f.Add([]byte(seed), true)
	}
	sc := scantest.Schema()
	all := specsOf(evolved(f, "2").Meta)
	row := scantest.Row{int64(1), int64(2), "a", 0.5, int64(3), int64(4), int64(5), int64(1), "x"}
	f.Fuzz(func(t *testing.T, raw []byte, sensitive bool) {
		filter, err := ParseFilter(raw, sc, sensitive, 64<<10)
		if err != nil {
			if !errors.Is(err, catalog.ErrInvalid) {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		if filter.JSON != nil && !json.Valid(filter.JSON) {
			t.Fatalf("%q gives %s", raw, filter.JSON)
		}
		if again, err := ParseFilter(filter.JSON, sc, true, 1<<20); err != nil || string(again.JSON) != string(filter.JSON) {
			t.Errorf("%q gives %s, and that %s, %v", raw, filter.JSON, again.JSON, err)
		}
		metrics, err := compile(filter.Expr, onColumn)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		metrics(func(int, iceberg.Type) known { return known{} })
		metrics(func(id int, typ iceberg.Type) known {
			l := scantest.Columns[id-1].Literal(row[id-1])
			return known{lower: l, upper: l, exact: true, noNulls: true, noNaNs: true}
		})
		for _, s := range all {
			p, err := newPartitionFilter(filter, s)
			if err != nil {
				t.Fatalf("%q: %v", raw, err)
			}
			p.passes(func(int, iceberg.Type) known { return known{} })
		}
	})
}

// TestTasks: what is no task is told apart, and never taken for one.
func TestTasks(t *testing.T) {
	task := Task{Table: "u", Snapshot: 1 << 62, Schema: 3, Filter: []byte(`{"type":"is-null","term":"id"}`), Stats: []int{1}, MinRows: 4, Range: Range{1, 2, 3}}
	sealed, err := task.Seal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(sealed, "u")
	if want := task; err != nil || got.Snapshot != want.Snapshot || string(got.Filter) != string(want.Filter) || got.Range != want.Range {
		t.Errorf("%+v, %v", got, err)
	}
	backwards := task
	backwards.Range.End = 0
	bad, _ := backwards.Seal()
	for _, s := range []string{"", "=", "AAAA", sealed[1:], sealed + "AAAA", strings.ToLower(sealed), bad, strings.Repeat("A", maxTaskBytes+1)} {
		if _, err := Open(s, "u"); !errors.Is(err, ErrTask) {
			t.Errorf("%.20s…: %v", s, err)
		}
	}
	if _, err := Open(sealed, "v"); !errors.Is(err, ErrTask) {
		t.Error(err)
	}
}
