package app

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/dedup"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/units"
)

const (
	// matchFirst: an event goes to the first route whose condition is true.
	matchFirst = "first"
	// matchAll: an event goes to each route whose condition is true.
	matchAll = "all"

	// unroutedDrop counts events that no route takes, unroutedLetter makes dead letters of them.
	unroutedDrop   = "drop"
	unroutedLetter = "dead_letter"

	// maxRoutes bounds the tables of one topic: each reads and decodes it by itself.
	maxRoutes = 100
	// valueMark stands for the value in the table name of route_by.
	valueMark = "{value}"
)

// Route is one of the tables that a topic goes to (docs/routing.md). What it does not say is as the pipeline says.
type Route struct {
	Name      string `yaml:"name" jsonschema_description:"With the pipeline's name before it, names the tag in the table; never change it. Default: the table's name without its namespace."`
	Table     string `yaml:"table" jsonschema:"required" jsonschema_description:"namespace.table"`
	Where     string `yaml:"where" jsonschema_description:"Events for which this expression is true go here (docs/transforms.md); it sees what was decoded, before masks."`
	Otherwise bool   `yaml:"otherwise" jsonschema_description:"Events that no other route takes go here."`

	DeadLetter string           `yaml:"dead_letter_table" jsonschema_description:"Default: the table's name with _dead."`
	Gaps       string           `yaml:"gaps_table" jsonschema_description:"Default: the table's name with _gaps."`
	Partition  []string         `yaml:"partition_by" jsonschema_description:"Instead of the pipeline's."`
	SortBy     []string         `yaml:"sort_by" jsonschema_description:"Instead of the pipeline's."`
	Transform  transform.Config `yaml:"transform" jsonschema_description:"Added to the pipeline's: columns, masks, drop and keep. It takes nothing of it back."`
	Dedup      *dedup.Config    `yaml:"dedup" config:"novalidate" jsonschema_description:"Instead of the pipeline's; {} is none."`
	Layout     *layout.Config   `yaml:"layout" jsonschema_description:"Instead of the pipeline's."`
	Codec      string           `yaml:"codec" jsonschema:"enum=zstd,enum=snappy,enum=lz4,enum=none" jsonschema_description:"Instead of the pipeline's."`

	CommitInterval units.Duration `yaml:"commit_interval" jsonschema_description:"Instead of the pipeline's."`
	CatchUp        units.Duration `yaml:"catch_up_interval" jsonschema_description:"Instead of the pipeline's; with commit_interval alone five times that."`
	MaxMemory      units.Bytes    `yaml:"max_memory" jsonschema_description:"Of this table; default the pipeline's, which is the bound of each of its tables and not of all together."`
}

// RouteBy routes by the value of a column.
type RouteBy struct {
	Column    string   `yaml:"column" jsonschema:"required" jsonschema_description:"Dotted path of a column with single values, as it is decoded."`
	Values    []string `yaml:"values" jsonschema_description:"The values that have a table. Others never make one."`
	Table     string   `yaml:"table" jsonschema:"required" jsonschema_description:"namespace.table with {value} in it, such as web.events_{value}."`
	Otherwise string   `yaml:"otherwise" jsonschema_description:"Table of events with another value, or none."`
}

// isRouted tells that the pipeline stands for several.
func (p Pipeline) isRouted() bool { return len(p.Routes) > 0 || p.RouteBy != nil }

// routed gives the pipelines that p stands for: one for each table, or p itself. p has its defaults.
func (p Pipeline) routed() []Pipeline {
	if !p.isRouted() {
		return []Pipeline{p}
	}
	routes, conditions := p.allRoutes()
	out := make([]Pipeline, len(routes))
	for i, r := range routes {
		out[i] = p.along(r.Route)
		c := &out[i].Transform.Route
		c.Where, c.Not = r.Where, r.not
		if i == 0 && !slices.ContainsFunc(routes, func(r route) bool { return r.Otherwise }) {
			c.Unrouted, c.Letters = conditions, p.Unrouted == unroutedLetter
		}
	}
	return out
}

// route is a Route with what must not be true of its events.
type route struct {
	Route
	not []string
}

// allRoutes are the routes, and conditions of which one is true of each event that a route takes.
func (p Pipeline) allRoutes() (out []route, conditions []string) {
	if by := p.RouteBy; by != nil {
		column := by.expression()
		quoted := make([]string, len(by.Values))
		for i, v := range by.Values {
			quoted[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
			// No event has two values: none of the others has to be asked.
			out = append(out, route{Route: Route{Name: v, Table: strings.ReplaceAll(by.Table, valueMark, v), Where: column + " = " + quoted[i]}})
		}
		conditions = []string{column + " in (" + strings.Join(quoted, ", ") + ")"}
		if by.Otherwise != "" {
			out = append(out, route{Route: Route{Table: by.Otherwise, Otherwise: true}, not: conditions})
		}
		return out, conditions
	}
	for _, r := range p.Routes {
		if !r.Otherwise {
			conditions = append(conditions, r.Where)
		}
	}
	before := 0
	for _, r := range p.Routes {
		switch {
		case r.Otherwise:
			out = append(out, route{Route: r, not: conditions})
			continue
		case p.Match == matchFirst:
			out = append(out, route{Route: r, not: conditions[:before:before]})
		default:
			out = append(out, route{Route: r})
		}
		before++
	}
	return out, conditions
}

// expression is the column's value as a string; each part is quoted, for it may have the name of a keyword.
func (b RouteBy) expression() string {
	return `cast("` + strings.ReplaceAll(b.Column, ".", `"."`) + `" as string)`
}

// along is the pipeline of one route.
func (p Pipeline) along(r Route) Pipeline {
	c := p
	c.Routes, c.RouteBy, c.Match, c.Unrouted = nil, nil, "", ""
	c.Name = p.Name + "." + r.name()
	c.Table, c.DeadLetter, c.Gaps = r.Table, r.DeadLetter, r.Gaps
	if r.CommitInterval != 0 {
		c.CommitInterval, c.CatchUp = r.CommitInterval, engine.CatchUp(r.CommitInterval)
	}
	over(&c.CatchUp, r.CatchUp)
	over(&c.MaxMemory, r.MaxMemory)
	over(&c.Codec, r.Codec)
	if r.Partition != nil {
		c.Partition = r.Partition
	}
	if r.SortBy != nil {
		c.SortBy = r.SortBy
	}
	if r.Dedup != nil {
		c.Dedup = *r.Dedup
	}
	if r.Layout != nil {
		c.Layout = *r.Layout
	}
	c.Transform = p.Transform.With(r.Transform)
	return c.WithDefaults()
}

// over sets what is said.
func over[T comparable](v *T, said T) {
	var zero T
	if said != zero {
		*v = said
	}
}

// name is the route's part of its pipeline's name.
func (r Route) name() string {
	if r.Name != "" {
		return r.Name
	}
	id, err := catalog.ParseIdentifier(r.Table)
	if err != nil || len(id) == 0 {
		return r.Table
	}
	return id.Name()
}

// checkRoutes holds the routes of a pipeline; its errors name the key.
func (p Pipeline) checkRoutes() error {
	switch {
	case p.RouteBy != nil && len(p.Routes) > 0:
		return errors.New("route_by: routes is there too: keep one of them")
	case p.Table != "" || p.DeadLetter != "" || p.Gaps != "":
		return errors.New("table: each route names tables of its own: take table, dead_letter_table and gaps_table of the pipeline out")
	case p.Format == formatLines:
		return errors.New("routes: with format json_lines, lines of a record that go elsewhere could not be told from lost ones: send an event a record")
	}
	otherwise := p.RouteBy != nil && p.RouteBy.Otherwise != ""
	if by := p.RouteBy; by != nil {
		if err := by.check(); err != nil {
			return fmt.Errorf("route_by.%w", err)
		}
		if p.Match != "" {
			return errors.New("match: an event has one value of route_by.column: take match out")
		}
	} else if err := p.checkMatch(&otherwise); err != nil {
		return err
	}
	switch {
	case otherwise && p.Unrouted != "":
		return errors.New("unrouted: a route takes what is left over: take unrouted, or otherwise, out")
	case !otherwise && p.Unrouted != unroutedDrop && p.Unrouted != unroutedLetter:
		return fmt.Errorf("unrouted: say what becomes of events that no route takes: %s (they are counted) or %s; or have a route with otherwise: true", unroutedDrop, unroutedLetter)
	}
	return p.checkRouted()
}

// checkMatch holds what is said in routes.
func (p Pipeline) checkMatch(otherwise *bool) error {
	if p.Match != matchFirst && p.Match != matchAll {
		return fmt.Errorf("match: say to which of the routes that match an event goes: %s or %s", matchFirst, matchAll)
	}
	if len(p.Routes) > maxRoutes {
		return fmt.Errorf("routes: %d of them, at most %d", len(p.Routes), maxRoutes)
	}
	for i, r := range p.Routes {
		switch {
		case r.Otherwise == (r.Where != ""):
			return fmt.Errorf("routes[%d].where: a route has either where, or otherwise: true", i)
		case r.Otherwise && *otherwise:
			return fmt.Errorf("routes[%d].otherwise: another route takes what is left over already", i)
		}
		*otherwise = *otherwise || r.Otherwise
		if r.Where != "" {
			if err := (transform.Route{Where: r.Where}).Check(); err != nil {
				return fmt.Errorf("routes[%d].where: %w", i, err)
			}
		}
		if err := p.Transform.Adds(r.Transform); err != nil {
			return fmt.Errorf("routes[%d].transform.%w", i, err)
		}
	}
	return nil
}

// nameLike is what may stand in the name of a table by itself.
var nameLike = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

func (b RouteBy) check() error {
	switch {
	case len(b.Values) == 0:
		return errors.New("values: list the values that have a table")
	case len(b.Values) > maxRoutes:
		return fmt.Errorf("values: %d of them, at most %d", len(b.Values), maxRoutes)
	case !strings.Contains(b.Table, valueMark):
		return fmt.Errorf("table: %q: write %s where the value stands", b.Table, valueMark)
	case strings.ContainsRune(b.Column, '"'):
		return fmt.Errorf("column: %q is no dotted path", b.Column)
	}
	for i, v := range b.Values {
		if !nameLike.MatchString(v) {
			return fmt.Errorf("values[%d]: %q cannot stand in the name of a table: take letters, digits and underscores, or write it as one of routes", i, v)
		}
	}
	return nil
}

// checkRouted holds the pipelines that the routes stand for.
func (p Pipeline) checkRouted() error {
	names := map[string]int{}
	for i, c := range p.routed() {
		at := fmt.Sprintf("routes[%d]", i)
		if p.RouteBy != nil {
			at = "route_by"
		}
		if j, ok := names[strings.ToLower(c.Name)]; ok {
			return fmt.Errorf("%s.name: %q is the name of route %d too, counted from 0: give one of them another name", at, c.Name, j)
		}
		names[strings.ToLower(c.Name)] = i
		if err := c.Validate(); err != nil {
			return fmt.Errorf("%s.%w", at, err)
		}
		if err := c.Transform.Validate(); err != nil {
			return fmt.Errorf("%s.transform.%w", at, err)
		}
	}
	return nil
}
