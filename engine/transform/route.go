package transform

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/iceberg-go"
)

// ReasonNoRoute is the reason of dead letters of records that no route takes. It is stored: never rename it.
const ReasonNoRoute = "no_route"

// Route makes a table one of several that a topic goes to (docs/routing.md). It stands in no file: internal/app makes it of
// the routes of a pipeline. Its conditions see what was decoded, after Config.Filter. One that is null is not true.
type Route struct {
	// Where has to be true of a row; empty: of each.
	Where string
	// Not are conditions of which none may be true, such as those of the routes before.
	Not []string
	// Unrouted are the conditions of all routes, in the one decoder that accounts for rows of which none is true.
	Unrouted []string
	// Letters makes dead letters of those rows. They are only counted otherwise.
	Letters bool
}

// Check reads the conditions whatever the contract is.
func (r Route) Check() error {
	for _, src := range append(append([]string{r.Where}, r.Not...), r.Unrouted...) {
		if src == "" {
			continue
		}
		if _, err := parse(src); err != nil {
			return err
		}
	}
	return nil
}

func (r Route) active() bool { return r.Where != "" || len(r.Not)+len(r.Unrouted) > 0 }

// routeNodes is a compiled Route.
type routeNodes struct {
	where         node // nil: every row
	not, unrouted []node
	letters       bool
}

// compile reads the conditions. A column that several of them read is loaded once.
func (r Route) compile(fields []iceberg.NestedField, shared map[string]*columnNode) (*routeNodes, error) {
	if !r.active() {
		return nil, nil
	}
	one := func(src string) (node, error) {
		e, err := parse(src)
		var n node
		if err == nil {
			c := &checker{src: src, of: fmt.Sprintf("where %.100q", src), fields: fields, shared: shared}
			n, err = c.boolean(e, "a condition of a route")
		}
		if err != nil {
			return nil, fmt.Errorf("where %q: %w", src, err)
		}
		return n, nil
	}
	out := &routeNodes{letters: r.Letters}
	var err error
	if r.Where != "" {
		if out.where, err = one(r.Where); err != nil {
			return nil, err
		}
	}
	for _, l := range []struct {
		from []string
		to   *[]node
	}{{r.Not, &out.not}, {r.Unrouted, &out.unrouted}} {
		for _, src := range l.from {
			n, err := one(src)
			if err != nil {
				return nil, err
			}
			*l.to = append(*l.to, n)
		}
	}
	return out, nil
}

// choice is which rows of a batch go on.
type choice struct {
	mine []bool // to this table
	lost []bool // to no table, where this decoder accounts for such; nil otherwise
}

// choose evaluates filter and route. A row that fails is in neither; x.failed says why.
func (p *program) choose(x *exec, c *choice) {
	c.mine = sized(c.mine, x.n)
	clear(c.mine)
	rest := append(x.rows(), x.all[:x.n]...)
	if p.filter != nil {
		rest = only(x, p.filter, true, rest)
	}
	mine := append(x.rows(), rest...)
	if r := p.route; r != nil {
		if r.where != nil {
			mine = only(x, r.where, true, mine)
		}
		for _, n := range r.not {
			mine = only(x, n, false, mine)
		}
		if len(r.unrouted) > 0 {
			c.lost = sized(c.lost, x.n)
			clear(c.lost)
			for _, n := range r.unrouted {
				rest = only(x, n, false, rest)
			}
			mark(c.lost, rest)
		}
	}
	mark(c.mine, mine)
	x.give(mine)
	x.give(rest)
}

func mark(set []bool, rows []int32) {
	for _, i := range rows {
		set[i] = true
	}
}

// only keeps those of sel for which a condition is true, or is not, in place. A row that fails is not kept.
func only(x *exec, n node, wanted bool, sel []int32) []int32 {
	if len(sel) == 0 {
		return sel
	}
	v := n.eval(x, sel)
	return slices.DeleteFunc(sel, func(i int32) bool { return x.failed[i] != nil || (!v.null[i] && v.b[i]) != wanted })
}

// Adds tells whether a route's transform adds to c and takes nothing of it back, so that what the pipeline hides no route shows.
func (c Config) Adds(r Config) error {
	switch {
	case r.Filter != "":
		return errors.New("filter: say it in where")
	case r.DeadLetters != "" || !r.DeadLetterKey.IsZero():
		return errors.New("dead_letters: it is the pipeline's to say, because each of its tables may have any record as a dead letter")
	case len(c.Keep) > 0 && len(r.Keep) > 0:
		return errors.New("keep: the pipeline says already what stays: drop what this table shall not have")
	}
	for name := range r.Columns {
		if _, ok := c.Columns[name]; ok {
			return fmt.Errorf("columns: %s is computed by the pipeline already", name)
		}
	}
	for path := range r.Mask {
		for had := range c.Mask {
			if within(path, had) || within(had, path) {
				return fmt.Errorf("mask: %s is masked by the pipeline already", had)
			}
		}
	}
	return nil
}

// With is c and what a route adds. A column that the route drops needs no mask any more.
func (c Config) With(r Config) Config {
	masks := maps.Clone(c.Mask)
	maps.DeleteFunc(masks, func(path string, _ Mask) bool {
		return slices.ContainsFunc(r.Drop, func(d string) bool { return within(path, d) })
	})
	c.Keep, c.Drop = slices.Concat(c.Keep, r.Keep), slices.Concat(c.Drop, r.Drop)
	c.Columns, c.Mask = joined(c.Columns, r.Columns), joined(masks, r.Mask)
	return c
}

func joined[V any](a, b map[string]V) map[string]V {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(b)
	maps.Copy(out, a)
	return out
}
