//go:build simulation

package simulation

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/firnlake/firn/engine/commit"
)

// within is how many schedules each broken rule may take to be found.
const within = 1500

// byCatalog are rules for which the check of sequence numbers stands in, which the specification asks of a catalog. They
// are broken over one without it.
var byCatalog = map[string]breaks{
	"main is not pinned, no sequence numbers":      {strip: "main", noSequences: true},
	"the tag is not asserted, no sequence numbers": {strip: "firn.", noSequences: true},
}

// TestBrokenRules breaks one rule of DESIGN 3.2 and 3.3 at a time and sees that the simulation finds it.
func TestBrokenRules(t *testing.T) {
	rules := maps.Clone(byCatalog)
	rules["main is not pinned"] = breaks{strip: "main"}
	rules["files are deleted when the answer is lost"] = breaks{deleteOnUnknown: true}
	rules["a fenced writer shows its hot rows"] = breaks{showFenced: true}
	rules["what is unpublished is forgotten at a start"] = breaks{forgetLetters: true}
	for name, f := range commit.Broken() {
		rules[name] = breaks{committer: f}
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			for i := range within {
				w, err := simulate(t, *firstSeed+uint64(i), rules[name])
				if err != nil {
					// The same schedule without the rule broken has to pass, or it is the oracle that was wrong.
					if w, err := simulate(t, *firstSeed+uint64(i), breaks{noSequences: rules[name].noSequences}); err != nil {
						report(t, w, *firstSeed+uint64(i), err)
						return
					}
					t.Logf(">> %s: found by schedule %d after %d commits in it: %v", name, i+1, w.stats.commits, err)
					return
				}
			}
			t.Errorf("%d schedules from seed %d did not find it", within, *firstSeed)
		})
	}
}
