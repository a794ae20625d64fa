package auth

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func rightsOf(grants ...Grant) Rights { return Rights{[]*node{newRights(grants)}} }

func TestGrants(t *testing.T) {
	r := rightsOf(
		Grant{Allow: Read, Below: []string{"a", "b"}},
		Grant{Allow: Write, Table: []string{"a", "t"}},
		Grant{Allow: Manage, Namespace: []string{"c"}},
	)
	for _, tc := range []struct {
		id   string
		want Level
	}{
		{"a/b/t", Read}, {"a/b/c/t", Read}, {"a/t", Write}, {"a/u", None}, {"a/b", None}, {"c/t", None}, {"x/a/t", None}, {"t", None}, {"A/t", None},
	} {
		if got := r.Table(strings.Split(tc.id, "/")); got != tc.want {
			t.Errorf("table %s: %s, want %s", tc.id, got, tc.want)
		}
	}
	for _, tc := range []struct {
		ns   string
		want Level
		sees bool
	}{
		{"a", None, true}, {"a/b", Read, true}, {"a/b/c", Read, true}, {"a/t", None, false}, {"c", Manage, true}, {"c/d", None, false}, {"x", None, false},
	} {
		ns := strings.Split(tc.ns, "/")
		if got, sees := r.Namespace(ns), r.Sees(ns); got != tc.want || sees != tc.sees {
			t.Errorf("namespace %s: %s, seen %v, want %s, %v", tc.ns, got, sees, tc.want, tc.sees)
		}
	}
	for id, want := range map[string]bool{"c/t": true, "c/d/t": false, "a/t": false, "a/b/t": false} {
		if got := r.Creates(strings.Split(id, "/")); got != want {
			t.Errorf("may create table %s: %v", id, got)
		}
	}
	for ns, want := range map[string]bool{"c": true, "c/d": true, "a": false, "x": false} {
		if got := r.CreatesNamespace(strings.Split(ns, "/")); got != want {
			t.Errorf("may create namespace %s: %v", ns, got)
		}
	}
	var nobody Rights
	if nobody.Table([]string{"a", "t"}) != None || nobody.Sees([]string{"a"}) || nobody.Overall() != None || nobody.Creates([]string{"a", "t"}) {
		t.Error("without a role something is allowed")
	}
	if all := Everything(); all.Table([]string{"a", "t"}) != Manage || !all.CreatesNamespace([]string{"a"}) || all.Overall() != Manage {
		t.Error("with everything something is refused")
	}
}

// nasty are names that would be patterns, paths or escapes elsewhere.
var nasty = []string{"*", "a*", "%", "_", "a.b", "a", "b", ".", "..", "/", "a/b", `"`, "'", `\`, "[a]", "{a}", "(a|b)", "^a$", "a%2eb", "%00", "A", "á", "a\u0301", " ", "a ", strings.Repeat("x", 300)}

// TestGrantsAreNoPatterns: whatever the names are, a grant covers what a plain comparison of lists says, and no more.
func TestGrantsAreNoPatterns(t *testing.T) {
	part := rapid.SampledFrom(nasty)
	rapid.Check(t, func(t *rapid.T) {
		var grants []Grant
		for range rapid.IntRange(0, 8).Draw(t, "grants") {
			g := Grant{Allow: Level(rapid.IntRange(1, 4).Draw(t, "level"))}
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				g.Below = rapid.SliceOfN(part, 1, 3).Draw(t, "below")
			case 1:
				g.Namespace = rapid.SliceOfN(part, 1, 3).Draw(t, "namespace")
			case 2:
				g.Table = rapid.SliceOfN(part, 2, 3).Draw(t, "table")
			}
			grants = append(grants, g)
		}
		id := rapid.SliceOfN(part, 2, 4).Draw(t, "id")
		var table, namespace Level
		sees := false
		for _, g := range grants {
			ns := id[:len(id)-1]
			covers := func(outer, inner []string) bool {
				return len(outer) <= len(inner) && slices.Equal(outer, inner[:len(outer)])
			}
			if g.Below != nil && covers(g.Below, ns) || g.Table != nil && slices.Equal(g.Table, id) {
				table = max(table, g.Allow)
			}
			if g.Below != nil && covers(g.Below, id) || g.Namespace != nil && slices.Equal(g.Namespace, id) {
				namespace = max(namespace, g.Allow)
			}
			sees = sees || g.Below != nil && (covers(g.Below, id) || covers(id, g.Below)) || g.Namespace != nil && covers(id, g.Namespace) ||
				g.Table != nil && len(g.Table) > len(id) && covers(id, g.Table)
		}
		r := rightsOf(grants...)
		if got := r.Table(id); got != table {
			t.Fatalf("table %q: %s, want %s, of %+v", id, got, table, grants)
		}
		if got := r.Namespace(id); got != namespace {
			t.Fatalf("namespace %q: %s, want %s, of %+v", id, got, namespace, grants)
		}
		if got := r.Sees(id); got != sees {
			t.Fatalf("sees %q: %v, want %v, of %+v", id, got, sees, grants)
		}
	})
}

func TestLevels(t *testing.T) {
	for _, l := range []Level{List, Read, Write, Manage} {
		text, err := l.MarshalText()
		var back Level
		if err != nil || back.UnmarshalText(text) != nil || back != l {
			t.Errorf("%s reads back as %s", l, back)
		}
	}
	for _, bad := range []string{"", "none", "READ", "admin", "read "} {
		if err := new(Level).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a level", bad)
		}
	}
	if Level(9).String() != "level 9" {
		t.Error(Level(9))
	}
}

// FuzzGrant: a grant on one name gives nothing on another, whatever bytes the two hold.
func FuzzGrant(f *testing.F) {
	for _, s := range nasty {
		f.Add("a", s, "a", "b")
		f.Add(s, "t", "a", "t")
		f.Add("a", "t", s, "t")
	}
	f.Fuzz(func(t *testing.T, grantNS, grantName, ns, name string) {
		g := Grant{Allow: Read, Table: []string{grantNS, grantName}}
		if g.Validate() != nil {
			return
		}
		same := grantNS == ns && grantName == name
		if got := rightsOf(g).Table([]string{ns, name}); (got == Read) != same || got != None && !same {
			t.Errorf("a grant on %q gives %s on %q", g.Table, got, []string{ns, name})
		}
		below := Grant{Allow: Read, Below: []string{grantNS}}
		if got := rightsOf(below).Table([]string{ns, name}); (got == Read) != (grantNS == ns) {
			t.Errorf("a grant below %q gives %s on %q", grantNS, got, []string{ns, name})
		}
	})
}
