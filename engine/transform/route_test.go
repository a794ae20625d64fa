package transform

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// routedTo gives the offsets of rows, dead letters and filtered records of one decoder, and how many it calls unrouted.
func routedTo(t *testing.T, r Route, filter string, values ...string) string {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	_, d := bound(t, mem, Config{Filter: filter, Route: r}, nil)
	o, err := d.Decode(fetchOf(values...))
	if err != nil {
		t.Fatal(err)
	}
	var rows []int64
	if o.Rows != nil {
		rows = slices.Clone(offsetsOf(o.Rows))
		o.Rows.Release()
	}
	var dead []string
	for i, l := range o.Dead {
		dead = append(dead, fmt.Sprint(l.Offset, " ", l.Reason))
		if i > 0 && l.Offset <= o.Dead[i-1].Offset {
			t.Errorf("dead letters out of order: %+v", o.Dead)
		}
	}
	return fmt.Sprint(rows, " ", dead, " ", o.Filtered, " ", o.Unrouted)
}

// TestRoutes: what each route of three makes of the same records; 100 is of the first, 101 of both, 102 of the second alone, 103 is
// null to both, 104 fails in the first, 105 cannot be decoded, 106 is of no route, 107 is kept out before routes are asked.
func TestRoutes(t *testing.T) {
	events := []string{`{"id":1,"small":5}`, `{"id":2,"small":50}`, `{"id":3,"small":200}`, `{"id":4}`, `{"id":5,"small":0}`, `{"id":"x"}`, `{"id":7,"small":-10}`, `{"id":99,"small":5}`}
	const first, second = "1000 / small > 10 and small > 0", "small >= 50"
	both := []string{first, second}
	for name, c := range map[string]struct {
		r    Route
		want string
	}{
		"first":              {Route{Where: first, Unrouted: both}, "[100 101] [104 transform_failed 105 wrong_type] [102 103 106 107] 2"},
		"first, letters":     {Route{Where: first, Unrouted: both, Letters: true}, "[100 101] [103 no_route 104 transform_failed 105 wrong_type 106 no_route] [102 107] 0"},
		"second after first": {Route{Where: second, Not: both[:1]}, "[102] [105 wrong_type] [100 101 103 104 106 107] 0"},
		"second of all":      {Route{Where: second}, "[101 102] [105 wrong_type] [100 103 104 106 107] 0"},
		"otherwise":          {Route{Not: both}, "[103 106] [104 transform_failed 105 wrong_type] [100 101 102 107] 0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := routedTo(t, c.r, "id < 99", events...); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if got, want := routedTo(t, Route{Where: first, Unrouted: both, Letters: true}, "", `{"id":"x"}`, `{"id":1}`, `{"id":2,"small":0}`),
		"[] [100 wrong_type 101 no_route 102 transform_failed] [] 0"; got != want {
		t.Errorf("without a row: %s, want %s", got, want)
	}
}

func TestRoutesAreChecked(t *testing.T) {
	con := loadContract(t)
	for src, want := range map[string]string{"smal > 1": "did you mean small", "small": "takes a boolean", "small > 1) or (id": "where"} {
		_, err := New(Config{Route: Route{Not: []string{"id > 1", src}}}, con.IcebergSchema(), Options{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", src)) {
			t.Errorf("%s: %v, want something about %q and the condition", src, err, want)
		}
	}
	if err := (Route{Where: "a = 1) or (b = 2"}).Check(); err == nil {
		t.Error("a condition may close a parenthesis that it has not opened")
	}
}

// TestRoutesTakeNothingBack: what a pipeline hides stays hidden in every table of its routes.
func TestRoutesTakeNothingBack(t *testing.T) {
	base := Config{Drop: []string{"user.ssn"}, Mask: map[string]Mask{"email": {Method: MethodRedact}}, Columns: map[string]string{"c": "id"}}
	for want, r := range map[string]Config{
		"say it in where":          {Filter: "id > 1"},
		"the pipeline's to say":    {DeadLetters: LettersKeep},
		"masked by the pipeline":   {Mask: map[string]Mask{"email": {Method: MethodTruncate, Length: 100}}},
		"computed by the pipeline": {Columns: map[string]string{"c": "small"}},
	} {
		if err := base.Adds(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want something about %q", err, want)
		}
	}
	if err := (Config{Keep: []string{"id"}}).Adds(Config{Keep: []string{"id", "email"}}); err == nil {
		t.Error("a route may keep what the pipeline drops")
	}
	if err := base.With(Config{Keep: []string{"user"}}).Validate(); err == nil {
		t.Error("keep of a route goes over drop of the pipeline")
	}
	more := base.With(Config{Drop: []string{"email"}, Columns: map[string]string{"d": "small"}, Mask: map[string]Mask{"user.name": {Method: MethodRedact}}})
	if len(more.Columns) != 2 || len(more.Mask) != 1 || len(base.Mask) != 1 || len(base.Columns) != 1 {
		t.Errorf("with the route's: %+v, the pipeline's own: %+v", more, base)
	}
	if _, err := New(more, loadContract(t).IcebergSchema(), Options{}); err != nil {
		t.Error(err)
	}
}

// A row that fails says in which expression.
func TestFaultsNameTheirExpression(t *testing.T) {
	for want, c := range map[string]Config{
		"division by zero (character 5 of the filter)":            {Filter: "100 / id > 0"},
		`division by zero (character 3 of where "1 / id > 0")`:    {Route: Route{Where: "1 / id > 0"}},
		"division by zero (character 3 of the expression) /share": {Columns: map[string]string{"share": "1 / id"}},
	} {
		_, d := bound(t, nil, c, nil)
		o, err := d.Decode(fetchOf(`{"id":0}`))
		if err != nil || len(o.Dead) != 1 {
			t.Fatalf("%s: %+v, %v", want, o, err)
		}
		if got := strings.TrimSpace(o.Dead[0].Message + " " + o.Dead[0].Place); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
