package commit

import (
	"strings"
	"testing"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/objstore"
)

// TestExplain: each step says what it saw, in its order, and one answered, or none and the way out is named.
func TestExplain(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	for _, c := range []struct {
		name, answers string // "" when recovery stops
		act           func(s *scene)
		says          []string
	}{
		{"as firn left it", StepHead, func(*scene) {}, []string{"the record of snapshot"}},
		{"rewritten by others", StepWalk, func(s *scene) { s.rewrite(s.rows, false) }, []string{"carries no record", "the record of snapshot"}},
		{"rewritten and expired", StepLedger, func(s *scene) { s.rewrite(s.rows, false); s.rewrite(s.rows, false); s.expire(s.rows) },
			[]string{"carries no record", "which has expired", "the last rows are those that firn left"}},
		{"rows removed, and expired", "", func(s *scene) { s.dropRows(s.snaps[2]); s.rewrite(s.rows, false); s.expire(s.rows) },
			[]string{"carries no record", "which has expired", "the last rows are"}},
		{"replaced", "", func(s *scene) { s.replace() }, []string{"carries no record", "does not descend"}},
	} {
		s := newScene(t, cat, wh)
		c.act(s)
		e, err := Explain(t.Context(), cat, wh, s.rows, "events")
		s.must(err)
		var text, answered []string
		for _, st := range e.Steps {
			text = append(text, st.Name+": "+st.Saw)
			if st.Answered {
				answered = append(answered, st.Name)
			}
		}
		all := strings.Join(text, "\n")
		for _, want := range c.says {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, all)
			}
		}
		if len(e.Steps) != 5 || strings.Join(answered, ",") != c.answers || (e.Stop == nil) != (c.answers != "") || e.State.Source != c.answers {
			t.Errorf("%s: %q answered, %+v, stop %v\n%s", c.name, answered, e.State, e.Stop, all)
		}
		if c.answers == "" {
			isErr(t, e.Stop, engine.ErrNeedsDecision)
			if !strings.Contains(e.Stop.Error(), "firn offsets resolve") {
				t.Errorf("%s: no way out in %v", c.name, e.Stop)
			}
		}
	}
}
