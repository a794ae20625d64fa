package sqlshell

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func split(t interface{ Fatal(...any) }, text string) []string {
	var (
		s   splitter
		out []string
	)
	for _, line := range strings.Split(text, "\n") {
		if err := s.feed(line); err != nil {
			t.Fatal(err)
		}
		for {
			st, ok := s.next()
			if !ok {
				break
			}
			out = append(out, st)
		}
	}
	if st, ok := s.rest(); ok {
		out = append(out, st)
	}
	return out
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"select 1", []string{"select 1"}},
		{"select 1; select 2;", []string{"select 1", "select 2"}},
		{"select ';'';' ; x", []string{"select ';'';'", "x"}},
		{`select ";"";" ; x`, []string{`select ";"";"`, "x"}},
		{`select E'it\'s;' ; x`, []string{`select E'it\'s;'`, "x"}},
		{`select 'c:\' ; x`, []string{`select 'c:\'`, "x"}},
		{`select name'\' ; x`, []string{`select name'\'`, "x"}},
		{"select 1 -- ; no\n; x", []string{"select 1 -- ; no", "x"}},
		{"select /* ; /* ; */ ; */ 1; x", []string{"select /* ; /* ; */ ; */ 1", "x"}},
		{"select $$;$$; x", []string{"select $$;$$", "x"}},
		{"select $a$;$$;$a$; x", []string{"select $a$;$$;$a$", "x"}},
		{"select $1; x$y$; z", []string{"select $1", "x$y$", "z"}},
		{";; -- nothing\n /* nothing */ ;", nil},
		{"-- note\nselect\n 1\n;\n\n", []string{"select\n 1"}}, // lines of comments before a statement are no part of it
		{"select 'open ; text", []string{"select 'open ; text"}},
	} {
		if got := split(t, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q gives %q, want %q", c.in, got, c.want)
		}
	}
}

// Statements made of pieces that hide semicolons come out as they went in, however the lines fall.
func TestSplitFindsTheSeams(t *testing.T) {
	piece := rapid.SampledFrom([]string{"select", "x", "'a;''b'", `"c;""d"`, "$$;$$", "$t$;$t$", "/* ; */", "-- ;\n", "E'\\';'", "(1+2)", "$1", "\n", "e"})
	rapid.Check(t, func(t *rapid.T) {
		var want []string
		var text strings.Builder
		for range rapid.IntRange(1, 6).Draw(t, "statements") {
			st := "select " + strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), " ")
			want = append(want, strings.TrimSpace(st))
			text.WriteString(st + "\n;")
		}
		if got := split(t, text.String()); !slices.Equal(got, want) {
			t.Fatalf("%q gives %q, want %q", text.String(), got, want)
		}
	})
}

func TestAStatementWithoutEndIsRefused(t *testing.T) {
	var s splitter
	line := strings.Repeat("x", 1<<20)
	for range 3 {
		if err := s.feed(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.feed(line); err == nil || s.pending() {
		t.Errorf("err = %v, pending = %v", err, s.pending())
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"select 1; select 'a''b';", "$$", "/*", "E'\\", "$a$b$a$;", "--", "\xff$\xff$;", "\v"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		n := 0
		for _, st := range split(t, text) {
			if strings.TrimSpace(st) == "" {
				t.Fatalf("an empty statement of %q", text)
			}
			n += len(st)
		}
		if n > len(text)+1 {
			t.Fatalf("%d bytes out of %d", n, len(text))
		}
	})
}
