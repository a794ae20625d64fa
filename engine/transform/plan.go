package transform

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/ledger"
)

// action is what becomes of a column of the contract.
type action uint8

const (
	pass   action = iota
	drop          // it is decoded, because expressions may read it, and goes no further
	masked        // another value stands in its place
	inside        // a struct of which a part is dropped or masked
	computed
)

// want is one column of the table to be, or of a struct in it.
type want struct {
	name string
	path string
	act  action
	src  iceberg.NestedField // of the contract
	typ  iceberg.Type        // of the table; ids are the contract's or none
	kids []want
}

// Options of New.
type Options struct {
	// EventTime is the dotted path of the contract's event time; empty: none.
	EventTime string
}

// Plan is a Config that fits a contract. Immutable.
type Plan struct {
	cfg    Config
	source []iceberg.NestedField // of the contract, without the ledger's columns
	ledger []iceberg.NestedField
	wants  []want
	sealer *sealer // nil where letters are kept
}

// New holds the configuration against the schema that the contract gives a table without a transform.
func New(c Config, contract *iceberg.Schema, o Options) (*Plan, error) {
	p := &Plan{cfg: c}
	for name, m := range c.Mask {
		if err := m.WithDefaults().Validate(); err != nil {
			return nil, fmt.Errorf("%w: mask: %s: %w", ErrConfig, name, err)
		}
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, f := range contract.Fields() {
		if ledger.IsOwn(f.Name) {
			p.ledger = append(p.ledger, f)
		} else {
			p.source = append(p.source, f)
		}
	}
	if err := p.checkPaths(o.EventTime); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var err error
	if p.wants, err = p.plan(p.source, ""); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	prog, err := p.compile()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, name := range sortedKeys(c.Columns) {
		w := want{name: name, path: name, act: computed, typ: prog.columns[name].typ().iceberg()}
		if i := slices.IndexFunc(p.wants, func(w want) bool { return w.name == name }); i >= 0 {
			w.src = p.wants[i].src
			p.wants[i] = w
		} else {
			p.wants = append(p.wants, w)
		}
	}
	if !slices.ContainsFunc(p.wants, func(w want) bool { return w.act != drop }) {
		return nil, fmt.Errorf("%w: no column is left", ErrConfig)
	}
	if err := p.checkCase(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.Letters() != LettersKeep {
		if p.sealer, err = newSealer(c, p.source); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// checkPaths holds the names of keep, drop and mask against the contract.
func (p *Plan) checkPaths(eventTime string) error {
	masked := sortedKeys(p.cfg.Mask)
	for _, l := range []struct {
		key   string
		paths []string
	}{{"keep", p.cfg.Keep}, {"drop", p.cfg.Drop}, {"mask", masked}} {
		for _, path := range l.paths {
			if ledger.IsOwn(path) {
				return fmt.Errorf("%s: %s is a column of the ledger, which every table has", l.key, path)
			}
			f, ok, near, there := fieldAt(p.source, path)
			if !ok {
				return fmt.Errorf("%s: %s", l.key, unknownColumn(path, f, near, there))
			}
		}
	}
	for _, path := range masked {
		f, _, _, _ := fieldAt(p.source, path)
		if _, ok, why := maskedType(typeOf(f.Type), p.cfg.Mask[path]); !ok {
			return fmt.Errorf("mask: %s: %s of a %s: %s", path, p.cfg.Mask[path].Method, f.Type, why)
		}
		if within(eventTime, path) {
			return fmt.Errorf("mask: %s: it is the event time, which every snapshot's watermark shows; name another one in the contract, or drop the column", path)
		}
		if _, ok := p.cfg.Columns[path]; ok {
			return fmt.Errorf("columns: %s: it is masked and cannot be replaced; give the computed column another name", path)
		}
		for _, other := range masked {
			if other != path && within(other, path) {
				return fmt.Errorf("mask: %s lies inside of %s, which is masked as a whole", other, path)
			}
		}
	}
	return nil
}

// checkCase refuses a computed column whose name is another column's in other capitals; of a contract's own that holds already.
func (p *Plan) checkCase() error {
	names := map[string]string{}
	for _, f := range p.ledger {
		names[strings.ToLower(f.Name)] = f.Name
	}
	for _, w := range p.wants {
		if w.act == drop {
			continue
		}
		low := strings.ToLower(w.name)
		if other, ok := names[low]; ok {
			return fmt.Errorf("columns: %s differs from column %s in upper and lower case only, which SQL engines do not tell apart: rename it", w.name, other)
		}
		names[low] = w.name
	}
	return nil
}

// within tells whether path is outer, or lies inside of it.
func within(path, outer string) bool {
	return path == outer || strings.HasPrefix(path, outer+".")
}

// plan decides for the fields of a struct.
func (p *Plan) plan(fields []iceberg.NestedField, prefix string) ([]want, error) {
	var out []want
	for _, f := range fields {
		w := want{name: f.Name, path: prefix + f.Name, src: f, typ: f.Type}
		m, isMasked := p.cfg.Mask[w.path]
		st, isStruct := f.Type.(*iceberg.StructType)
		switch {
		case p.dropped(w.path):
			w.act = drop
		case isMasked:
			t, _, _ := maskedType(typeOf(f.Type), m)
			w.act, w.typ = masked, t.iceberg()
		case isStruct && p.touches(w.path):
			var err error
			if w.kids, err = p.plan(st.FieldList, w.path+"."); err != nil {
				return nil, err
			}
			w.act = inside
			if w.typ = structOf(w.kids); w.typ == nil {
				w.act = drop
			}
		}
		if w.act == drop {
			for path := range p.cfg.Mask {
				if within(path, w.path) && p.dropped(path) {
					return nil, fmt.Errorf("mask: %s is dropped: take out one of the two", path)
				}
			}
		}
		out = append(out, w)
	}
	return out, nil
}

// structOf is the struct of the kids that stay; nil when none does.
func structOf(kids []want) iceberg.Type {
	var fields []iceberg.NestedField
	for _, k := range kids {
		if k.act != drop {
			fields = append(fields, iceberg.NestedField{ID: k.src.ID, Name: k.name, Type: k.typ, Doc: k.src.Doc})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return &iceberg.StructType{FieldList: fields}
}

func (p *Plan) dropped(path string) bool {
	if slices.ContainsFunc(p.cfg.Drop, func(d string) bool { return within(path, d) }) {
		return true
	}
	return len(p.cfg.Keep) > 0 && !slices.ContainsFunc(p.cfg.Keep, func(k string) bool { return within(path, k) || within(k, path) })
}

// touches tells whether something inside of the path is dropped or masked.
func (p *Plan) touches(path string) bool {
	inside := func(other string) bool { return other != path && within(other, path) }
	return slices.ContainsFunc(p.cfg.Drop, inside) || slices.ContainsFunc(p.cfg.Keep, inside) || slices.ContainsFunc(sortedKeys(p.cfg.Mask), inside)
}

// program is the compiled expressions of one decoder.
type program struct {
	filter  node        // nil without one
	route   *routeNodes // nil without one
	columns map[string]node
	masks   map[string]*maskNode
	reads   []string // columns of the decoder's that columns and masks read
}

// compile makes the nodes anew: they hold the values of a batch and belong to one decoder.
func (p *Plan) compile() (*program, error) {
	prog := &program{columns: map[string]node{}, masks: map[string]*maskNode{}}
	fields := append(slices.Clone(p.source), p.ledger...)
	before := map[string]*columnNode{}
	if p.cfg.Filter != "" {
		c := &checker{src: p.cfg.Filter, of: "the filter", fields: fields, shared: before}
		e, err := parse(p.cfg.Filter)
		if err == nil {
			prog.filter, err = c.boolean(e, "a filter")
		}
		if err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
	}
	var err error
	if prog.route, err = p.cfg.Route.compile(fields, before); err != nil {
		return nil, err
	}
	shared := map[string]*columnNode{}
	for path, m := range p.cfg.Mask {
		f, _, _, _ := fieldAt(fields, path)
		t := typeOf(f.Type)
		to, _, _ := maskedType(t, m)
		prog.reads = append(prog.reads, strings.Split(path, ".")[0])
		prog.masks[path] = newMask(&columnNode{base: base{t: t}, path: strings.Split(path, ".")}, to, m.WithDefaults())
	}
	for _, name := range sortedKeys(p.cfg.Columns) {
		src := p.cfg.Columns[name]
		c := &checker{src: src, column: name, fields: fields, shared: shared, masks: prog.masks}
		e, err := parse(src)
		if err == nil {
			prog.columns[name], err = c.compile(e, valueType{})
		}
		if err == nil {
			err = c.storable(e, prog.columns[name])
		}
		if err != nil {
			return nil, fmt.Errorf("columns: %s: %w", name, err)
		}
	}
	for _, n := range shared {
		prog.reads = append(prog.reads, n.path[0])
	}
	return prog, nil
}

// storable tells whether an expression can be a column.
func (c *checker) storable(e *expr, n node) error {
	switch n.typ().kind {
	case kindNull:
		return c.errorf(e, "it is null whatever the row is: nothing tells its type; cast(null as …) does")
	case kindOther:
		for path := range c.masks {
			if within(path, e.text) {
				return c.errorf(e, "%s holds %s, which is masked: it cannot be passed on whole", e.text, path)
			}
		}
	}
	return nil
}

// Schema is that of the table: what stays of the contract, computed columns, the ledger. Field ids are fresh.
func (p *Plan) Schema() *iceberg.Schema {
	var fields []iceberg.NestedField
	for _, w := range p.wants {
		if w.act != drop {
			fields = append(fields, iceberg.NestedField{Name: w.name, Type: w.typ, Doc: w.src.Doc})
		}
	}
	ids := 0
	return iceberg.NewSchema(0, numbered(append(fields, p.ledger...), &ids)...)
}

// numbered gives fields fresh ids: those of one struct first, then those inside of them, as Iceberg does for new tables.
func numbered(fields []iceberg.NestedField, ids *int) []iceberg.NestedField {
	out := slices.Clone(fields)
	for i := range out {
		*ids++
		out[i].ID, out[i].Required = *ids, false
	}
	for i := range out {
		out[i].Type = numberedType(out[i].Type, ids)
	}
	return out
}

func numberedType(t iceberg.Type, ids *int) iceberg.Type {
	switch t := t.(type) {
	case *iceberg.StructType:
		return &iceberg.StructType{FieldList: numbered(t.FieldList, ids)}
	case *iceberg.ListType:
		*ids++
		id := *ids
		return &iceberg.ListType{ElementID: id, Element: numberedType(t.Element, ids)}
	case *iceberg.MapType:
		*ids += 2
		k, v := *ids-1, *ids
		return &iceberg.MapType{KeyID: k, KeyType: t.KeyType, ValueID: v, ValueType: numberedType(t.ValueType, ids)}
	}
	return t
}

// sameType compares types and takes no notice of ids, and of what is required.
func sameType(a, b iceberg.Type) bool {
	n, m := 0, 0
	return numberedType(a, &n).Equals(numberedType(b, &m))
}
