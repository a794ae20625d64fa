package catalogtest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/view"

	"github.com/firnlake/firn/catalog"
)

// viewer is the catalog as one of views; nil where it has none, which it then says.
func (x *suite) viewer() catalog.Viewer {
	x.Helper()
	v, ok := x.c.(catalog.Viewer)
	switch {
	case !x.f.Views && ok:
		_, err := v.LoadView(x.Context(), x.id("v"))
		x.is(err, catalog.ErrUnsupported)
		return nil
	case x.f.Views && !ok:
		x.Fatal("the catalog does not implement catalog.Viewer")
	}
	return v
}

func viewSchema(fields ...string) *iceberg.Schema {
	var out []iceberg.NestedField
	for i, name := range fields {
		out = append(out, iceberg.NestedField{ID: i + 1, Name: name, Type: iceberg.PrimitiveTypes.Int64})
	}
	return iceberg.NewSchema(0, out...)
}

func says(sql string) catalog.ViewDefinition {
	return catalog.ViewDefinition{Schema: viewSchema("a"), SQL: map[string]string{"spark": sql, "trino": sql}}
}

func (x *suite) wantViews(v catalog.Viewer, want ...catalog.Identifier) {
	x.Helper()
	got, err := v.ListViews(x.Context(), x.ns)
	x.ok(err)
	if !slices.EqualFunc(got, want, func(a, b catalog.Identifier) bool { return slices.Equal(a, b) }) {
		x.Fatalf("views %v, want %v", got, want)
	}
}

// wantView loads a view, which must say what is wanted.
func (x *suite) wantView(v catalog.Viewer, id catalog.Identifier, d catalog.ViewDefinition) *catalog.View {
	x.Helper()
	got, err := v.LoadView(x.Context(), id)
	x.ok(err)
	is := got.Metadata.CurrentVersion()
	sql := map[string]string{}
	for _, r := range is.Representations {
		sql[r.Dialect] = r.Sql
	}
	if !slices.Equal(got.Identifier, id) || !maps.Equal(sql, d.SQL) || !got.Metadata.CurrentSchema().Equals(d.Schema) || got.MetadataLocation == "" ||
		!slices.Equal(is.DefaultNamespace, []string(d.DefaultNamespace)) || is.DefaultCatalog != d.DefaultCatalog || !maps.Equal(is.Summary, d.Summary) {
		x.Fatalf("view %v at %q is %+v of %v, want %+v", got.Identifier, got.MetadataLocation, is, got.Metadata.CurrentSchema(), d)
	}
	return got
}

// views is the life of a view, and what each request that cannot be is refused with.
func (x *suite) views() {
	v := x.viewer()
	if v == nil {
		return
	}
	ctx, id, other, none := x.Context(), x.id("v"), x.id("w"), x.id("none")
	x.wantViews(v)
	_, err := v.LoadView(ctx, id)
	x.is(err, catalog.ErrNoSuchView)
	at := time.UnixMilli(1_700_000_000_123)
	def := says("SELECT 1 AS a")
	def.DefaultNamespace, def.DefaultCatalog, def.Summary, def.At = x.ns, "lake", map[string]string{"by": "suite"}, at
	made, err := v.CreateView(ctx, id, catalog.CreateView{ViewDefinition: def, Properties: map[string]string{"comment": "one"}})
	x.ok(err)
	got := x.wantView(v, id, def)
	if !got.Metadata.Equals(made.Metadata) || got.MetadataLocation != made.MetadataLocation || got.Metadata.Properties()["comment"] != "one" || got.Metadata.CurrentVersion().TimestampMS != at.UnixMilli() {
		x.Fatalf("made %+v, loaded %+v", made, got)
	}
	x.wantViews(v, id)
	tables, err := x.c.ListTables(ctx, x.ns)
	x.ok(err)
	if len(tables) != 0 {
		x.Errorf("the view is listed as a table: %v", tables)
	}

	t := x.create("t")
	for what, c := range map[string]struct {
		err  error
		want error
	}{
		"a view twice":               {second(v.CreateView(ctx, id, catalog.CreateView{ViewDefinition: def})), catalog.ErrExists},
		"a view where a table is":    {second(v.CreateView(ctx, t.Identifier, catalog.CreateView{ViewDefinition: def})), catalog.ErrExists},
		"a table where a view is":    {second(x.c.CreateTable(ctx, id, catalog.CreateTable{Schema: Schema()})), catalog.ErrExists},
		"a view as a table":          {second(x.c.LoadTable(ctx, id, catalog.LoadAll)), catalog.ErrNoSuchTable},
		"a table as a view":          {second(v.LoadView(ctx, t.Identifier)), catalog.ErrNoSuchView},
		"in no namespace":            {second(v.CreateView(ctx, catalog.Identifier{"nowhere", "v"}, catalog.CreateView{ViewDefinition: def})), catalog.ErrNoSuchNamespace},
		"a list of no namespace":     {second(v.ListViews(ctx, catalog.Identifier{"nowhere"})), catalog.ErrNoSuchNamespace},
		"without SQL":                {second(v.CreateView(ctx, other, catalog.CreateView{ViewDefinition: catalog.ViewDefinition{Schema: viewSchema("a")}})), catalog.ErrInvalid},
		"without a schema":           {second(v.CreateView(ctx, other, catalog.CreateView{ViewDefinition: catalog.ViewDefinition{SQL: def.SQL}})), catalog.ErrInvalid},
		"without a name":             {second(v.LoadView(ctx, x.id(""))), catalog.ErrInvalid},
		"onto a table":               {v.RenameView(ctx, id, t.Identifier), catalog.ErrExists},
		"into no namespace":          {v.RenameView(ctx, id, catalog.Identifier{"nowhere", "v"}), catalog.ErrNoSuchNamespace},
		"what is not there, renamed": {v.RenameView(ctx, none, other), catalog.ErrNoSuchView},
		"what is not there, dropped": {v.DropView(ctx, none), catalog.ErrNoSuchView},
		"what is not there, changed": {second(v.CommitView(ctx, catalog.ViewCommit{Identifier: none})), catalog.ErrNoSuchView},
	} {
		if c.err == nil {
			x.Errorf("%s: it was not refused", what)
			continue
		}
		x.is(fmt.Errorf("%s: %w", what, c.err), c.want)
	}

	x.ok(v.RenameView(ctx, id, other))
	x.is(second(v.LoadView(ctx, id)), catalog.ErrNoSuchView)
	if moved := x.wantView(v, other, def); moved.MetadataLocation != made.MetadataLocation {
		x.Errorf("a rename moved the metadata from %s to %s", made.MetadataLocation, moved.MetadataLocation)
	}
	x.wantViews(v, other)
	x.ok(v.DropView(ctx, other))
	x.is(second(v.LoadView(ctx, other)), catalog.ErrNoSuchView)
	x.wantViews(v)
}

// viewsReplaced: what a view says can be replaced and taken back, and every version stays one.
func (x *suite) viewsReplaced() {
	v := x.viewer()
	if v == nil {
		return
	}
	ctx, id := x.Context(), x.id("v")
	one, two := says("SELECT 1 AS a"), says("SELECT 2 AS b")
	two.Schema = viewSchema("b")
	same := says("SELECT 3 AS a") // another statement, the schema of the first
	first, err := v.CreateView(ctx, id, catalog.CreateView{ViewDefinition: one})
	x.ok(err)
	for _, step := range []struct {
		was               *catalog.View
		d                 catalog.ViewDefinition
		version, versions int
		schemas           int
	}{
		{first, two, 2, 2, 2},
		{nil, two, 2, 2, 2},    // it says so already
		{nil, same, 3, 3, 2},   // a schema of before
		{nil, one, 1, 3, 2},    // back to what it said at first
		{nil, two, 2, 3, 2},    // and to the second
		{first, same, 3, 3, 2}, // by one who has not seen any of it
	} {
		if step.was == nil {
			if step.was, err = v.LoadView(ctx, id); err != nil {
				x.Fatal(err)
			}
		}
		done, err := v.ReplaceView(ctx, step.was, step.d)
		x.ok(err)
		m := x.wantView(v, id, step.d).Metadata
		if !m.Equals(done.Metadata) || m.CurrentVersionID() != int64(step.version) || len(m.Versions()) != step.versions || len(m.Schemas()) != step.schemas || m.ViewUUID() != first.Metadata.ViewUUID() {
			x.Fatalf("after %v: version %d of %d, %d schemas; the answer has version %d; want %+v", step.d.SQL, m.CurrentVersionID(), len(m.Versions()), len(m.Schemas()), done.Metadata.CurrentVersionID(), step)
		}
	}

	_, err = v.CommitView(ctx, catalog.ViewCommit{Identifier: id, Updates: view.Updates{view.NewSetPropertiesUpdate(iceberg.Properties{"comment": "b"})}})
	x.ok(err)
	if m := x.wantView(v, id, same).Metadata; m.Properties()["comment"] != "b" {
		x.Errorf("properties %v", m.Properties())
	}
	x.is(second(v.ReplaceView(ctx, first, catalog.ViewDefinition{Schema: viewSchema("a"), SQL: map[string]string{"spark": "SELECT 4"}})), catalog.ErrInvalid)
	x.ok(v.DropView(ctx, id))
	_, err = v.CreateView(ctx, id, catalog.CreateView{ViewDefinition: one})
	x.ok(err)
	x.is(second(v.ReplaceView(ctx, first, two)), catalog.ErrConflict) // another view by now
	x.wantView(v, id, one)
}

func second[T any](_ T, err error) error { return err }
