package sqlstore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
)

// TestOneReader: a read needs no more than the connection that it has, however many wait for it, and one that is cut short
// leaves it as it was.
func TestOneReader(t *testing.T) {
	s, err := Open(t.Context(), "sqlite://"+t.TempDir()+"/catalog.db", Options{Synchronous: SyncNormal, Readers: 1}, PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id := catalog.Identifier{"ns", "t"}
	if err := s.CreateNamespace(t.Context(), id.Namespace(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), []Change{{Head: Head{UUID: "u", Location: "s3://lake/t", FormatVersion: 2}, Name: id, Skeleton: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if i%4 == 0 { // the caller goes away in the middle of it
				ctx, stop := context.WithCancel(ctx)
				err := s.read(ctx, "cut short", func(x *tx) error {
					stop()
					_, err := x.head(id)
					return err
				})
				if !errors.Is(err, catalog.ErrUnavailable) {
					t.Errorf("cut short: %v", err)
				}
			}
			if st, err := s.Load(ctx, id, Scope{AllSnapshots: true}); err != nil || st.Version != 1 {
				t.Errorf("load: %v", err)
			}
			if h, err := s.Head(ctx, id); err != nil || h.Version != 1 {
				t.Errorf("head: %v", err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	for _, read := range []func() error{
		func() error { _, err := s.Head(t.Context(), id); return err },
		func() error { _, err := s.Load(t.Context(), id, Scope{}); return err },
		func() error { return s.CreateNamespace(t.Context(), catalog.Identifier{"x"}, nil) },
	} {
		if err := read(); !errors.Is(err, catalog.ErrUnavailable) {
			t.Errorf("after the end: %v", err)
		}
	}
}
