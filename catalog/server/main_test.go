package server_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(covering{m}) }

// atEnd is run when all tests have ended: servers that they shared are stopped.
var atEnd []func() error

// covering runs the tests and then asks whether they had every answer of the published document that Firn gives:
// each operation that is served with each of its statuses. A run of only some tests is not asked.
type covering struct{ *testing.M }

func (c covering) Run() int {
	code := c.M.Run()
	for _, end := range atEnd {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	for _, f := range []string{"test.run", "test.skip", "test.fuzz", "test.list"} {
		if flag.Lookup(f).Value.String() != "" {
			return code
		}
	}
	if code != 0 {
		return code
	}
	missing, err := unanswered()
	if err != nil {
		missing = []string{err.Error()}
	}
	if len(missing) > 0 {
		fmt.Fprintf(os.Stderr, "no test had these answers of the published document:\n  %s\n", strings.Join(missing, "\n  "))
		return 1
	}
	return 0
}

// neverGiven are statuses that the document allows and that Firn has no occasion for (it supports what 406 would
// refuse, and gives no 419), or that are the same everywhere: TestToken and the tests of faults have those.
var neverGiven = []string{"401", "403", "406", "419", "500", "502", "503", "504", "5XX"}

// neverGivenBy is the same for one operation: a config has nothing that could be malformed, and whatever name clients
// have for the warehouse means the one that there is.
var neverGivenBy = []string{"GET /v1/config 400", "GET /v1/config 404"}

func unanswered() (missing []string, err error) {
	c, err := published()
	if err != nil {
		return nil, err
	}
	for template, item := range c.doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			op := strings.ToUpper(method) + " " + strings.Replace(template, "/{prefix}", "", 1)
			if method == "parameters" || notServed[op] != "" {
				continue
			}
			for code := range dig(item, method, "responses") {
				if !slices.Contains(neverGiven, code) && !slices.Contains(neverGivenBy, op+" "+code) && !c.seen[op+" "+code] {
					missing = append(missing, op+" "+code)
				}
			}
		}
	}
	slices.Sort(missing)
	return missing, nil
}
