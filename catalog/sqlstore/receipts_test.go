package sqlstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
)

func TestReceipts(t *testing.T) {
	for name, dsn := range map[string]string{"memory": "sqlite::memory:", "disk": filepath.Join(t.TempDir(), "catalog.db")} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), dsn, Options{}, PostgresOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			receipts(t, s)
		})
	}
}

func receipts(t *testing.T, s *Store) {
	ctx := t.Context()
	clock := time.UnixMilli(1_000_000)
	s.now = func() time.Time { return clock }
	with := func(key string) Receipt { return Receipt{Key: key, Request: "r", Status: 200} }
	get := func(key string) (Receipt, bool) {
		t.Helper()
		r, ok, err := s.Receipt(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return r, ok
	}
	// The effect and its receipt are one: neither is there without the other.
	if err := s.CreateNamespace(WithReceipt(ctx, with("a")), catalog.Identifier{"a"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateNamespace(WithReceipt(ctx, with("b")), catalog.Identifier{"a"}, nil); !errors.Is(err, catalog.ErrExists) {
		t.Fatal(err)
	}
	if err := s.CreateNamespace(WithReceipt(ctx, with("a")), catalog.Identifier{"b"}, nil); !errors.Is(err, ErrRepeated) {
		t.Fatal(err)
	}
	if _, err := s.LoadNamespace(ctx, catalog.Identifier{"b"}); !errors.Is(err, catalog.ErrNoSuchNamespace) {
		t.Errorf("a repeated change took effect: %v", err)
	}
	if r, ok := get("a"); !ok || r.Status != 200 || r.Request != "r" || r.Body != nil {
		t.Errorf("receipt %+v, %v", r, ok)
	}
	if _, ok := get("b"); ok {
		t.Error("a refused change left a receipt")
	}
	// Settle completes one that has no answer yet, keeps the first otherwise, and makes one where there is none.
	for _, tc := range []struct{ in, want Receipt }{
		{Receipt{Key: "a", Request: "r", Status: 409, Body: []byte("late")}, Receipt{Key: "a", Request: "r", Status: 200}},
		{Receipt{Key: "a", Request: "r", Status: 200, Body: []byte("x")}, Receipt{Key: "a", Request: "r", Status: 200, Body: []byte("x")}},
		{Receipt{Key: "a", Request: "r", Status: 200, Body: []byte("y")}, Receipt{Key: "a", Request: "r", Status: 200, Body: []byte("x")}},
		{Receipt{Key: "b", Request: "q", Status: 409, Body: []byte("no")}, Receipt{Key: "b", Request: "q", Status: 409, Body: []byte("no")}},
	} {
		got, err := s.Settle(ctx, tc.in)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("settle %+v: %+v, %v", tc.in, got, err)
		}
		if kept, _ := get(tc.in.Key); fmt.Sprint(kept) != fmt.Sprint(tc.want) {
			t.Errorf("settle %+v: kept %+v", tc.in, kept)
		}
	}
	// Only the old ones go, and no more at once than is said.
	clock = clock.Add(time.Hour)
	if _, err := s.Settle(ctx, with("young")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{1, 1, 0} {
		if n, err := s.PruneReceipts(ctx, clock.Add(-time.Minute), 1); err != nil || n != want {
			t.Errorf("pruned %d, %v, want %d", n, err, want)
		}
	}
	if _, ok := get("young"); !ok {
		t.Error("a young receipt is gone")
	}
}
