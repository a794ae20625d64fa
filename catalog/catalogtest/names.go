package catalogtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firnlake/firn/catalog"
)

func (x *suite) namespaces() {
	ctx := x.Context()
	list, err := x.c.ListNamespaces(ctx, nil)
	x.ok(err)
	if !contains(list, x.ns) {
		x.Errorf("namespaces %v, without %s", list, x.ns)
	}
	x.is(x.c.CreateNamespace(ctx, x.ns, map[string]string{"a": "b"}), catalog.ErrExists)
	tables, err := x.c.ListTables(ctx, x.ns)
	x.ok(err)
	if len(tables) != 0 {
		x.Errorf("a new namespace has tables %v", tables)
	}
	_, err = x.c.ListTables(ctx, catalog.Identifier{"nowhere"})
	x.is(err, catalog.ErrNoSuchNamespace)
	_, err = x.c.ListNamespaces(ctx, catalog.Identifier{"nowhere"})
	x.is(err, catalog.ErrNoSuchNamespace)
	_, err = x.c.CreateTable(ctx, catalog.Identifier{"nowhere", "t"}, catalog.CreateTable{Schema: Schema()})
	x.is(err, catalog.ErrNoSuchNamespace)
	x.is(x.c.CreateNamespace(ctx, nil, nil), catalog.ErrInvalid)
	x.is(x.c.CreateNamespace(ctx, catalog.Identifier{""}, nil), catalog.ErrInvalid)
}

func (x *suite) nested() {
	if !x.f.Nested {
		x.Skip("the catalog has one level of namespaces")
	}
	ctx := x.Context()
	x.is(x.c.CreateNamespace(ctx, append(x.id("missing"), "deep"), nil), catalog.ErrNoSuchNamespace)
	x.ok(x.c.CreateNamespace(ctx, x.id("a"), nil))
	x.ok(x.c.CreateNamespace(ctx, append(x.id("a"), "b"), nil))
	list, err := x.c.ListNamespaces(ctx, x.ns)
	x.ok(err)
	if len(list) != 1 || !slices.Equal(list[0], x.id("a")) {
		x.Errorf("children %v", list)
	}
	deep := append(x.id("a"), "b", "t")
	made, err := x.c.CreateTable(ctx, deep, catalog.CreateTable{Schema: Schema()})
	x.ok(err)
	x.create("t") // the same name one level up is another table
	got, err := x.c.LoadTable(ctx, deep, catalog.LoadAll)
	x.ok(err)
	if got.Metadata.TableUUID() != made.Metadata.TableUUID() || !slices.Equal(got.Identifier, deep) {
		x.Errorf("loaded %s %s", got.Identifier, got.Metadata.TableUUID())
	}
	tables, err := x.c.ListTables(ctx, x.ns)
	x.ok(err)
	if len(tables) != 1 || !slices.Equal(tables[0], x.id("t")) {
		x.Errorf("tables of the outer namespace: %v", tables)
	}
	// A dot in a name separates nothing.
	x.ok(x.c.CreateNamespace(ctx, x.id("a.b"), nil))
	tables, err = x.c.ListTables(ctx, x.id("a.b"))
	x.ok(err)
	if len(tables) != 0 {
		x.Errorf("a.b has the tables of a, b: %v", tables)
	}
}

// manyNames lists more than a page.
func (x *suite) manyNames() {
	const n = 25
	for i := range n {
		x.create(fmt.Sprintf("t%02d", i))
	}
	tables, err := x.c.ListTables(x.Context(), x.ns)
	x.ok(err)
	if len(tables) != n {
		x.Fatalf("%d tables, want %d", len(tables), n)
	}
	for i, id := range tables {
		if !slices.Equal(id, x.id(fmt.Sprintf("t%02d", i))) {
			x.Errorf("table %d is %s", i, id)
		}
	}
}

// oddNames are values, never paths, patterns or SQL.
func (x *suite) oddNames() {
	ctx := x.Context()
	names := []string{"a b", "quote'd", `double"quoted`, "per%cent", "under_score", "slash/ed", "back\\slash", "dot.ted", ".", "..",
		"plus+", "ünïcode-雪", "semi;DROP TABLE tables", "UPPER", "upper", "a\nb", "%2e%2e", "emoji❄", "#?&=", "-", strings.Repeat("x", 1024)}
	uuids := map[string]bool{}
	for _, n := range names {
		t := x.create(n)
		uuids[t.Metadata.TableUUID().String()] = true
		if strings.Contains(t.Metadata.Location(), n) && len(n) > 2 {
			x.Errorf("the name %q is part of the location %s", n, t.Metadata.Location())
		}
		got := x.load(t, catalog.LoadRefs)
		if got.Metadata.TableUUID() != t.Metadata.TableUUID() {
			x.Errorf("%q leads to another table", n)
		}
		x.append(got, 1)
	}
	if len(uuids) != len(names) {
		x.Errorf("%d tables for %d names", len(uuids), len(names))
	}
	tables, err := x.c.ListTables(ctx, x.ns)
	x.ok(err)
	for _, n := range names {
		if !contains(tables, x.id(n)) {
			x.Errorf("%q is not listed", n)
		}
		x.ok(x.c.DropTable(ctx, x.id(n), false))
	}
	for _, n := range []string{"", "nul\x00", "sep\x1farator", strings.Repeat("x", 1025), "\xff"} {
		_, err := x.c.CreateTable(ctx, x.id(n), catalog.CreateTable{Schema: Schema()})
		x.is(err, catalog.ErrInvalid)
	}
}

func contains(ids []catalog.Identifier, want catalog.Identifier) bool {
	return slices.ContainsFunc(ids, func(id catalog.Identifier) bool { return slices.Equal(id, want) })
}
