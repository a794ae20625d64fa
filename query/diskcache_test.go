package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/objstore"
)

// slowStore counts the objects that are opened and may hold or refuse them.
type slowStore struct {
	objstore.Store
	opened atomic.Int64
	enter  func(ctx context.Context, key string) error
}

func (s *slowStore) Open(ctx context.Context, key string) (objstore.Object, error) {
	s.opened.Add(1)
	if s.enter != nil {
		if err := s.enter(ctx, key); err != nil {
			return nil, err
		}
	}
	return s.Store.Open(ctx, key)
}

func newTestCache(t *testing.T, dir string, max int64, s *slowStore) *diskCache {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newDiskCache(dir, max, 2, &objstore.Warehouse{Store: s, URI: "s3://lake/warehouse"}, m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put stores n objects of 100 bytes.
func put(t *testing.T, n int) *slowStore {
	t.Helper()
	s := &slowStore{Store: objstore.NewMemory()}
	for i := range n {
		if _, err := s.Put(t.Context(), fmt.Sprintf("k%d", i), bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 100)), objstore.IfAbsent); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func take(t *testing.T, c *diskCache, i int) (release func()) {
	t.Helper()
	path, release, err := c.acquire(t.Context(), fmt.Sprintf("k%d", i), 100)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) != 100 || b[0] != byte(i) {
		t.Fatalf("copy of k%d: %d bytes, %v", i, len(b), err)
	}
	return release
}

func onDisk(t *testing.T, dir string) (files int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestCacheBound: what is unused the longest goes, what is in use stays, and what does not fit is refused.
func TestCacheBound(t *testing.T) {
	s, dir := put(t, 6), t.TempDir()
	c := newTestCache(t, dir, 350, s)
	inUse := take(t, c, 0)
	for i := 1; i < 6; i++ {
		take(t, c, i)()
		if n := onDisk(t, dir); n > 3 || c.bytes > 350 || c.bytes != int64(n)*100 {
			t.Fatalf("%d files, %d bytes", n, c.bytes)
		}
	}
	take(t, c, 0)()
	take(t, c, 4)()
	take(t, c, 5)()
	if n := s.opened.Load(); n != 6 {
		t.Errorf("%d fetches, want 6", n)
	}
	take(t, c, 1)() // drives out 4, the longest unused
	take(t, c, 5)()
	if n := s.opened.Load(); n != 7 {
		t.Errorf("%d fetches, want 7", n)
	}
	b, d := take(t, c, 1), take(t, c, 2)
	_, _, err := c.acquire(t.Context(), "k3", 100)
	if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "query.sql.cache_size") {
		t.Errorf("all in use: %v", err)
	}
	inUse()
	inUse() // twice is once
	b()
	d()
	take(t, c, 3)()
	if _, _, err = c.acquire(t.Context(), "k3", 351); !errors.Is(err, ErrLimit) {
		t.Errorf("larger than the cache: %v", err)
	}
	if c.bytes > 350 || c.unused.Len() != len(c.entries) {
		t.Errorf("%d bytes, %d of %d unused", c.bytes, c.unused.Len(), len(c.entries))
	}
}

// TestCacheFetchesOnce: however many ask at the same time; a failure is told to all, and does not last.
func TestCacheFetchesOnce(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s, dir := put(t, 1), t.TempDir()
		gate := make(chan struct{})
		broken := errors.New("broken")
		s.enter = func(context.Context, string) error {
			<-gate
			if fails {
				return broken
			}
			return nil
		}
		c := newTestCache(t, dir, 1000, s)
		var wg sync.WaitGroup
		errs := make([]error, 20)
		for i := range errs {
			wg.Go(func() {
				_, release, err := c.acquire(context.Background(), "k0", 100)
				if errs[i] = err; err == nil {
					release()
				}
			})
		}
		for {
			c.mu.Lock()
			e := c.entries[copyName("k0")]
			waiting := e != nil && e.users == len(errs)
			c.mu.Unlock()
			if waiting {
				break
			}
			time.Sleep(time.Millisecond)
		}
		close(gate)
		wg.Wait()
		for _, err := range errs {
			if fails != errors.Is(err, broken) {
				t.Fatalf("fails is %t: %v", fails, err)
			}
		}
		if n := s.opened.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if fails && (c.bytes != 0 || len(c.entries) != 0 || onDisk(t, dir) != 0) {
			t.Errorf("a failure left %d bytes, %d entries, %d files", c.bytes, len(c.entries), onDisk(t, dir))
		}
		s.enter = nil
		take(t, c, 0)()
	}
}

// TestCacheFetcherGivesUp: whoever waits for one that gives up fetches the file itself.
func TestCacheFetcherGivesUp(t *testing.T) {
	s, dir := put(t, 1), t.TempDir()
	first, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{}, 4)
	s.enter = func(ctx context.Context, _ string) error {
		entered <- struct{}{}
		if ctx == first {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	c := newTestCache(t, dir, 1000, s)
	gone := make(chan error, 1)
	go func() {
		_, _, err := c.acquire(first, "k0", 100)
		gone <- err
	}()
	<-entered
	got := make(chan error, 1)
	go func() {
		_, release, err := c.acquire(context.Background(), "k0", 100)
		if err == nil {
			release()
		}
		got <- err
	}()
	impatient, stop := context.WithCancel(t.Context())
	stop()
	if _, _, err := c.acquire(impatient, "k0", 100); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	if n := s.opened.Load(); n < 2 {
		t.Errorf("%d fetches", n)
	}
	if c.bytes != 100 || c.unused.Len() != 1 || onDisk(t, dir) != 1 {
		t.Errorf("%d bytes, %d unused, %d files", c.bytes, c.unused.Len(), onDisk(t, dir))
	}
}

// TestCacheStart: complete copies are taken over, half ones go, and the bound holds from the start.
func TestCacheStart(t *testing.T) {
	s, dir := put(t, 4), t.TempDir()
	c := newTestCache(t, dir, 1000, s)
	for i := range 4 {
		take(t, c, i)()
	}
	for _, f := range []string{"fetch-123", "note.txt"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, copyName("k1")), 10); err != nil {
		t.Fatal(err)
	}
	c = newTestCache(t, dir, 1000, s)
	if n := onDisk(t, dir); n != 4 || c.bytes != 310 {
		t.Errorf("%d files, %d bytes", n, c.bytes)
	}
	for i := range 4 {
		take(t, c, i)()
	}
	if n := s.opened.Load(); n != 5 { // k1 was not whole
		t.Errorf("%d fetches, want 5", n)
	}
	c = newTestCache(t, dir, 250, s)
	if n := onDisk(t, dir); n != 2 || c.bytes != 200 {
		t.Errorf("a smaller bound keeps %d files, %d bytes", n, c.bytes)
	}
}

// TestCacheTellsTruth: the manifest's size is held against the object's.
func TestCacheTellsTruth(t *testing.T) {
	s, dir := put(t, 1), t.TempDir()
	c := newTestCache(t, dir, 1000, s)
	if _, _, err := c.acquire(t.Context(), "k0", 99); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "k0") {
		t.Errorf("another size: %v", err)
	}
	if _, _, err := c.acquire(t.Context(), "gone", 5); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("no object: %v", err)
	}
	if c.bytes != 0 || onDisk(t, dir) != 0 {
		t.Errorf("%d bytes, %d files", c.bytes, onDisk(t, dir))
	}
}
