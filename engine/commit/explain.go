package commit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// Step is one step of recovery, in its order, and what it saw.
type Step struct {
	Name     string `json:"step"`
	Saw      string `json:"saw"`
	Answered bool   `json:"answered"`
}

// stepTable is what is looked at before the steps: main, and the pipeline's tag.
const stepTable = "table"

// Explanation is how recovery came to its answer, or to none.
type Explanation struct {
	Steps  []Step
	State  engine.State
	Record ledger.Record
	Stop   error // wraps engine.ErrNeedsDecision and names the way out; nil when a step answered
}

// Explain reads where a pipeline stands in a table, without changing anything, and tells what each step of recovery saw,
// also where none answers. The record is that of the snapshot which answered. The error is for what kept it from being run.
func Explain(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, pipeline string) (Explanation, error) {
	t, err := cat.LoadTable(ctx, id, catalog.LoadRefs)
	if err != nil {
		return Explanation{}, fmt.Errorf("table %s: %w", id, err)
	}
	f := newFinder(wh, snapshot.NewReader(wh, manifestCacheBytes), &lineage{cat: cat, id: id, meta: t.Metadata}, pipeline)
	pos, err := f.find(ctx)
	e := Explanation{}
	switch {
	case errors.Is(err, engine.ErrNeedsDecision):
		e.Stop = err
	case err != nil:
		return Explanation{}, err
	default:
		e.State, e.Record = pos.state(t.Metadata), pos.record
	}
	e.Steps = f.steps(pos, e.Stop == nil)
	return e, nil
}

func (f *finder) steps(pos position, answered bool) []Step {
	order := []string{stepTable, StepHead, StepWalk, StepHistory, StepLedger}
	saw := map[string][]string{}
	for _, note := range f.saw {
		name := stepTable
		for _, n := range order[1:] {
			if strings.HasPrefix(note, n+": ") {
				name, note = n, strings.TrimPrefix(note, n+": ")
			}
		}
		saw[name] = append(saw[name], note)
	}
	saw[stepTable] = append([]string{f.standing()}, saw[stepTable]...)
	if answered && pos.step == StepWalk {
		saw[StepHead] = append(saw[StepHead], fmt.Sprintf("snapshot %d carries no record of firn", f.head.SnapshotID))
	}
	var out []Step
	done := false
	for _, n := range order {
		s := Step{Name: n, Answered: answered && (pos.step == n || pos.step == StepNew && n == stepTable)}
		if s.Answered {
			what := "begin at the topic's first offsets"
			if pos.step != StepNew {
				what = fmt.Sprintf("the record of snapshot %d stands at %s, epoch %d", pos.at, orNone(pos.offsets()), pos.epoch)
			}
			saw[n] = append(saw[n], what)
		}
		if s.Saw = strings.Join(saw[n], "; "); s.Saw == "" {
			s.Saw = "not asked"
			if done {
				s.Saw = "not asked: an earlier step answered"
			}
		}
		done = done || s.Answered
		out = append(out, s)
	}
	return out
}

// standing says where main and the tag stand.
func (f *finder) standing() string {
	main, tag := "main has no snapshot", fmt.Sprintf("there is no tag %s", ledger.TagName(f.pipeline))
	if f.head != nil {
		main = fmt.Sprintf("main is at snapshot %d", f.head.SnapshotID)
	}
	if f.tag != nil {
		tag = fmt.Sprintf("tag %s at %d", ledger.TagName(f.pipeline), f.tag.SnapshotID)
	}
	return main + ", " + tag
}
