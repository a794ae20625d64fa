package sqlstore

import (
	"errors"
	"testing"

	"github.com/firnlake/firn/catalog"
)

// TestSame: what a commit only looks at must still be what it took it for when the others change.
func TestSame(t *testing.T) {
	s, err := Open(t.Context(), "sqlite::memory:", Options{}, PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CreateNamespace(t.Context(), catalog.Identifier{"a"}, nil); err != nil {
		t.Fatal(err)
	}
	change := func(h Head, same bool) Change {
		return Change{Head: h, Name: catalog.Identifier{"a", h.UUID}, From: h.Version, Same: same}
	}
	made, err := s.Commit(t.Context(), []Change{change(Head{UUID: "t", Location: "s3://b/t"}, false), change(Head{UUID: "u", Location: "s3://b/u"}, false)})
	if err != nil {
		t.Fatal(err)
	}
	both := func(h Head) error {
		now, err := s.Head(t.Context(), catalog.Identifier{"a", "u"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Commit(t.Context(), []Change{change(h, true), change(now, false)})
		return err
	}
	if err := both(made[0]); err != nil {
		t.Error(err)
	}
	if now, err := s.Head(t.Context(), catalog.Identifier{"a", "t"}); err != nil || now != made[0] {
		t.Errorf("it was %+v and is %+v, %v", made[0], now, err)
	}
	if _, err := s.Commit(t.Context(), []Change{change(made[0], false)}); err != nil {
		t.Fatal(err)
	}
	if err := both(made[0]); !errors.Is(err, ErrStale) {
		t.Errorf("with a version that it has no more: %v", err)
	}
	if now, err := s.Head(t.Context(), catalog.Identifier{"a", "u"}); err != nil || now.Version != 2 {
		t.Errorf("the other is at %d, %v", now.Version, err)
	}
}
