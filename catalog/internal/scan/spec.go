package scan

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/snapshot"
)

// partitionSpec is a spec with the types of its fields.
type partitionSpec struct {
	id     int
	fields []partitionField
}

type partitionField struct {
	id, source int // source is 0 for a transform of several columns
	name       string
	transform  iceberg.Transform
	typ        iceberg.Type
}

// global tells whether the spec divides nothing: what deletes by equality there deletes everywhere.
func (s *partitionSpec) global() bool {
	for _, f := range s.fields {
		if _, void := f.transform.(iceberg.VoidTransform); !void {
			return false
		}
	}
	return true
}

// specsOf lists a table's specs by id. A column that the current schema has no more is looked for in the earlier ones.
func specsOf(meta table.Metadata) map[int]*partitionSpec {
	out := map[int]*partitionSpec{}
	for _, spec := range meta.PartitionSpecs() {
		s := &partitionSpec{id: spec.ID()}
		for _, f := range spec.Fields() {
			pf := partitionField{id: f.FieldID, name: f.Name, transform: f.Transform}
			if len(f.SourceIDs) == 1 {
				pf.source = f.SourceIDs[0]
			}
			pf.typ = f.Transform.ResultType(sourceType(meta, f.SourceID()))
			s.fields = append(s.fields, pf)
		}
		out[s.id] = s
	}
	return out
}

func sourceType(meta table.Metadata, id int) iceberg.Type {
	if t, ok := meta.CurrentSchema().FindTypeByID(id); ok {
		return t
	}
	schemas := meta.Schemas()
	for i := len(schemas) - 1; i >= 0; i-- {
		if t, ok := schemas[i].FindTypeByID(id); ok {
			return t
		}
	}
	return iceberg.UnknownType{}
}

func specByID(specs map[int]*partitionSpec, id int, m iceberg.ManifestFile) (*partitionSpec, error) {
	if s := specs[id]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%s: %w: the table has no partition spec %d", m.FilePath(), snapshot.ErrCorrupt, id)
}

// partitionFilter is a filter as far as the partitions of one spec tell.
type partitionFilter struct {
	spec   *partitionSpec
	passes check
	rest   func(lookup) iceberg.BooleanExpression // nil for a filter that every row passes
}

func newPartitionFilter(f Filter, spec *partitionSpec) (*partitionFilter, error) {
	p := &partitionFilter{spec: spec}
	both, err := iceberg.VisitExpr(f.Expr, iceberg.BooleanExprVisitor[residual](residuals{compiler{p.leaf}}))
	if p.passes = both.check; !f.all() {
		p.rest = both.rest
	}
	return p, err
}

// leaf projects a predicate onto the fields that are made of its column. A row that passes the predicate passes every
// projection; the other way round that holds only of a field that is the column itself.
func (p *partitionFilter) leaf(pred iceberg.BoundPredicate) check {
	type projection struct {
		id   int
		typ  iceberg.Type
		same bool
		eval func(known) verdict
	}
	var projections []projection
	for _, f := range p.spec.fields {
		if f.source != pred.Ref().Field().ID {
			continue
		}
		unbound, err := f.transform.Project(f.name, pred)
		if err != nil || unbound == nil {
			continue // this field tells nothing about it
		}
		schema := iceberg.NewSchema(0, iceberg.NestedField{ID: f.id, Name: f.name, Type: f.typ})
		bound, err := unbound.Bind(schema, true)
		if err != nil {
			continue
		}
		switch b := bound.(type) {
		case iceberg.AlwaysFalse:
			return certain(none)
		case iceberg.BoundPredicate:
			_, same := f.transform.(iceberg.IdentityTransform)
			_, plain := pred.Term().(iceberg.BoundReference)
			projections = append(projections, projection{id: f.id, typ: f.typ, same: same && plain, eval: predicate(b, f.typ)})
		}
	}
	return func(l lookup) verdict {
		out := some
		for _, pr := range projections {
			switch v := pr.eval(l(pr.id, pr.typ)); {
			case v == none:
				return none
			case v == all && pr.same:
				out = all
			}
		}
		return out
	}
}

// tuple is what a file's partition tells.
func (p *partitionFilter) tuple(f *file) lookup {
	return func(id int, typ iceberg.Type) known {
		for i, field := range p.spec.fields {
			if field.id != id {
				continue
			}
			v := f.partition[i]
			if v == nil {
				return known{onlyNulls: true, noNaNs: true}
			}
			if isNaN(v) {
				return known{onlyNaNs: true, noNulls: true}
			}
			l, ok := literal(v, typ)
			if !ok {
				return known{}
			}
			return known{lower: l, upper: l, exact: true, noNulls: true, noNaNs: true}
		}
		return known{}
	}
}

func isNaN(v any) bool {
	switch v := v.(type) {
	case float32:
		return math.IsNaN(float64(v))
	case float64:
		return math.IsNaN(v)
	}
	return false
}

// summary is what a manifest's summary tells of its partitions.
func (p *partitionFilter) summary(m iceberg.ManifestFile) lookup {
	fields := m.Partitions()
	if len(fields) != len(p.spec.fields) {
		return func(int, iceberg.Type) known { return known{} }
	}
	return func(id int, typ iceberg.Type) known {
		for i, field := range p.spec.fields {
			if field.id != id {
				continue
			}
			s := fields[i]
			k := known{noNulls: !s.ContainsNull, noNaNs: s.ContainsNaN != nil && !*s.ContainsNaN}
			if s.LowerBound != nil {
				k.lower = decode(typ, *s.LowerBound)
			}
			if s.UpperBound != nil {
				k.upper = decode(typ, *s.UpperBound)
			}
			// Without bounds there are only nulls, unless there may be NaNs, which have none either, or empty strings, for
			// which iceberg-go v0.7.0 writes none.
			k.onlyNulls = s.ContainsNull && s.LowerBound == nil && s.UpperBound == nil && (k.noNaNs || !floating(typ)) && !textual(typ)
			return k
		}
		return known{}
	}
}

func floating(typ iceberg.Type) bool {
	switch typ.(type) {
	case iceberg.Float32Type, iceberg.Float64Type:
		return true
	}
	return false
}

func textual(typ iceberg.Type) bool {
	switch typ.(type) {
	case iceberg.StringType, iceberg.BinaryType, iceberg.FixedType:
		return true
	}
	return false
}

// residual is an expression, or a part of one, without negations: whether the rows of a file pass it, and what is left of it
// for them.
type residual struct {
	check
	rest func(lookup) iceberg.BooleanExpression
}

// residuals makes one of an expression, each predicate of which is projected once.
type residuals struct{ compiler }

func (r residuals) VisitTrue() residual {
	return residual{r.compiler.VisitTrue(), func(lookup) iceberg.BooleanExpression { return iceberg.AlwaysTrue{} }}
}

func (r residuals) VisitFalse() residual {
	return residual{r.compiler.VisitFalse(), func(lookup) iceberg.BooleanExpression { return iceberg.AlwaysFalse{} }}
}

func (r residuals) VisitNot(child residual) residual {
	return residual{r.compiler.VisitNot(child.check), func(l lookup) iceberg.BooleanExpression { return iceberg.NewNot(child.rest(l)) }}
}

func (r residuals) VisitAnd(left, right residual) residual {
	return residual{r.compiler.VisitAnd(left.check, right.check), func(l lookup) iceberg.BooleanExpression {
		return iceberg.NewAnd(left.rest(l), right.rest(l))
	}}
}

func (r residuals) VisitOr(left, right residual) residual {
	return residual{r.compiler.VisitOr(left.check, right.check), func(l lookup) iceberg.BooleanExpression {
		return iceberg.NewOr(left.rest(l), right.rest(l))
	}}
}

func (residuals) VisitUnbound(p iceberg.UnboundPredicate) residual {
	panic(fmt.Errorf("predicate %s is not bound", p))
}

func (r residuals) VisitBound(p iceberg.BoundPredicate) residual {
	eval := r.leaf(p)
	return residual{eval, func(l lookup) iceberg.BooleanExpression {
		switch eval(l) {
		case none:
			return iceberg.AlwaysFalse{}
		case all:
			return iceberg.AlwaysTrue{}
		}
		return p
	}}
}

// left is what remains of the filter for a file's rows, as JSON; nil when all of them pass.
func (p *partitionFilter) left(f *file) (json.RawMessage, error) {
	if p.rest == nil {
		return nil, nil
	}
	expr := p.rest(p.tuple(f))
	if _, yes := expr.(iceberg.AlwaysTrue); yes {
		return nil, nil
	}
	return json.Marshal(expr)
}

// uuidOf is a UUID in whatever form the decoder has it.
func uuidOf(v any) (iceberg.UUIDLiteral, bool) {
	u, ok := v.(uuid.UUID)
	return iceberg.UUIDLiteral(u), ok
}
