package objtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/firnlake/firn/internal/objstore"
)

// most is what Get may read where the size is not the matter.
const most = 1 << 30

// Run runs the suite. open returns an empty store.
func Run(t *testing.T, open func(t *testing.T) objstore.Store) {
	for name, fn := range map[string]func(*testing.T, objstore.Store){
		"RoundTrip": roundTrip, "Missing": missing, "IfAbsent": ifAbsent, "Rivals": rivals, "BadKeys": badKeys,
		"List": list, "Delete": deletes, "Ranges": ranges, "Large": large, "Context": contexts,
	} {
		t.Run(name, func(t *testing.T) { fn(t, open(t)) })
	}
}

func put(t *testing.T, s objstore.Store, key, data string, mode objstore.PutMode) error {
	t.Helper()
	info, err := s.Put(t.Context(), key, strings.NewReader(data), mode)
	if err == nil && (info.Key != key || info.Size != int64(len(data))) {
		t.Fatalf("put %s says %+v", key, info)
	}
	return err
}

func mustPut(t *testing.T, s objstore.Store, key, data string) {
	t.Helper()
	if err := put(t, s, key, data, objstore.Overwrite); err != nil {
		t.Fatal(err)
	}
}

func roundTrip(t *testing.T, s objstore.Store) {
	for _, data := range []string{"", "x", strings.Repeat("firn", 1000)} {
		mustPut(t, s, "a/b/c.bin", data)
		got, err := s.Get(t.Context(), "a/b/c.bin", most)
		if err != nil || string(got) != data {
			t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(data))
		}
		st, err := s.Stat(t.Context(), "a/b/c.bin")
		if err != nil || st.Size != int64(len(data)) || st.Modified.IsZero() {
			t.Fatalf("stat %+v, %v", st, err)
		}
	}
	body := strings.NewReader("skipped:kept")
	if _, err := body.Seek(8, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "from-position", body, objstore.Overwrite); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "from-position", most); err != nil || string(got) != "kept" {
		t.Fatalf("a body is written from its position on: got %q, %v", got, err)
	}
}

func missing(t *testing.T, s objstore.Store) {
	_, e1 := s.Get(t.Context(), "no/such", most)
	_, e2 := s.Open(t.Context(), "no/such")
	_, e3 := s.Stat(t.Context(), "no/such")
	for i, err := range []error{e1, e2, e3} {
		if !errors.Is(err, objstore.ErrNotFound) || !strings.Contains(err.Error(), "no/such") {
			t.Errorf("%d: %v: want ErrNotFound with the key", i, err)
		}
	}
	mustPut(t, s, "dir/file", "x")
	if _, err := s.Get(t.Context(), "dir", most); err == nil {
		t.Error("a prefix is no object")
	}
}

func ifAbsent(t *testing.T, s objstore.Store) {
	if err := put(t, s, "k", "first", objstore.IfAbsent); err != nil {
		t.Fatal(err)
	}
	if err := put(t, s, "k", "second", objstore.IfAbsent); !errors.Is(err, objstore.ErrExists) {
		t.Fatalf("got %v, want ErrExists", err)
	}
	if got, _ := s.Get(t.Context(), "k", most); string(got) != "first" {
		t.Fatalf("the loser wrote %q", got)
	}
	mustPut(t, s, "k", "third")
	if got, _ := s.Get(t.Context(), "k", most); string(got) != "third" {
		t.Fatalf("overwrite left %q", got)
	}
}

func rivals(t *testing.T, s objstore.Store) {
	const n = 16
	var won atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			data := fmt.Sprintf("rival %d", i)
			_, err := s.Put(t.Context(), "one", strings.NewReader(data), objstore.IfAbsent)
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(data)
			case !errors.Is(err, objstore.ErrExists):
				t.Errorf("rival %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got, err := s.Get(t.Context(), "one", most); won.Load() != 1 || err != nil || string(got) != winner.Load() {
		t.Fatalf("%d winners, the object holds %q (%v), the winner wrote %q", won.Load(), got, err, winner.Load())
	}
}

func badKeys(t *testing.T, s objstore.Store) {
	for _, key := range []string{"", "/abs", "a//b", "../x", "a/../b", "a/.", "a\\b", "a\x00b", "trailing/", strings.Repeat("k", 1025)} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("x"), objstore.Overwrite); !errors.Is(err, objstore.ErrBadKey) {
			t.Errorf("put %.20q: %v", key, err)
		}
		if _, err := s.Get(t.Context(), key, most); !errors.Is(err, objstore.ErrBadKey) {
			t.Errorf("get %.20q: %v", key, err)
		}
		if err := s.Delete(t.Context(), key); !errors.Is(err, objstore.ErrBadKey) {
			t.Errorf("delete %.20q: %v", key, err)
		}
	}
	odd := "sp ace/per%20cent/quo'te\"/uni\u00e9/plus+and&eq=.parquet"
	mustPut(t, s, odd, "odd")
	if got, err := s.Get(t.Context(), odd, most); err != nil || string(got) != "odd" {
		t.Errorf("%q: %q, %v", odd, got, err)
	}
}

func list(t *testing.T, s objstore.Store) {
	keys := []string{"t/data/1", "t/data/10", "t/data/2", "t/data.old/1", "t/data/sub/x", "t/data-2", "tx/1"}
	for _, k := range keys {
		mustPut(t, s, k, k)
	}
	for prefix, want := range map[string][]string{
		"":         keys,
		"t/data":   {"t/data/1", "t/data/10", "t/data/2", "t/data/sub/x"},
		"t/data/":  {"t/data/1", "t/data/10", "t/data/2", "t/data/sub/x"},
		"t":        {"t/data/1", "t/data/10", "t/data/2", "t/data.old/1", "t/data/sub/x", "t/data-2"},
		"nowhere":  nil,
		"t/data/1": nil, // a key is not below itself
	} {
		var got []string
		if err := s.List(t.Context(), prefix, func(i objstore.Info) error {
			if i.Size != int64(len(i.Key)) || i.Modified.IsZero() {
				t.Errorf("info %+v", i)
			}
			got = append(got, i.Key)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want = slices.Sorted(slices.Values(want))
		if !slices.Equal(got, want) {
			t.Errorf("list %q gives %q, want %q in this order", prefix, got, want)
		}
	}
	stop := errors.New("enough")
	n := 0
	if err := s.List(t.Context(), "", func(objstore.Info) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("stopped after %d with %v", n, err)
	}
}

func deletes(t *testing.T, s objstore.Store) {
	mustPut(t, s, "d/1", "x")
	mustPut(t, s, "d/2", "x")
	mustPut(t, s, "d/3", "x")
	if err := s.Delete(t.Context(), "d/1", "d/none", "d/2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "d/1"); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("d/1 is there: %v", err)
	}
	if _, err := s.Stat(t.Context(), "d/3"); err != nil {
		t.Errorf("d/3 went too: %v", err)
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

func ranges(t *testing.T, s objstore.Store) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	mustPut(t, s, "r", string(data))
	o, err := s.Open(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.Size() != int64(len(data)) {
		t.Fatalf("size %d", o.Size())
	}
	var wg sync.WaitGroup
	for off := int64(0); off < int64(len(data)); off += 1237 {
		wg.Go(func() {
			p := make([]byte, 100)
			n, err := o.ReadAt(p, off)
			want := data[off:min(off+100, int64(len(data)))]
			if !bytes.Equal(p[:n], want) || (n < len(p)) != errors.Is(err, io.EOF) {
				t.Errorf("at %d: %d bytes, %v", off, n, err)
			}
		})
	}
	wg.Wait()
	if n, err := o.ReadAt(make([]byte, 1), int64(len(data))); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("past the end: %d, %v", n, err)
	}
}

func large(t *testing.T, s objstore.Store) {
	data := bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz012345"), 20<<20/32) // several parts
	if _, err := s.Put(t.Context(), "large", bytes.NewReader(data), objstore.Overwrite); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "large", int64(len(data))-1); !errors.Is(err, objstore.ErrTooLarge) || !strings.Contains(err.Error(), "large") {
		t.Errorf("a byte more than allowed: %v", err)
	}
	if got, err := s.Get(t.Context(), "large", int64(len(data))); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func contexts(t *testing.T, s objstore.Store) {
	mustPut(t, s, "c", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, "c", most); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Put(ctx, "c2", strings.NewReader("x"), objstore.Overwrite); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if err := s.List(ctx, "", func(objstore.Info) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
	if _, err := s.Stat(t.Context(), "c2"); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("a cancelled put left an object: %v", err)
	}
}
