package query

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/firnlake/firn/internal/objstore"
)

// cachedSuffix ends the names of complete copies. Anything else in the folder is half of one.
const cachedSuffix = ".parquet"

// diskCache holds copies of immutable data files, at most max bytes of them. A copy in use is never removed, and a
// file is fetched once however many ask for it. Copies outlive the process; they are named by a hash of the key, so
// no foreign name becomes a path.
type diskCache struct {
	dir       string
	max       int64
	warehouse *objstore.Warehouse
	downloads slots
	metrics   *metrics

	mu      sync.Mutex
	entries map[string]*cached // by name
	unused  *list.List         // of *cached without users, newest first
	bytes   int64              // complete copies and those under way
}

type cached struct {
	name  string
	size  int64
	users int
	old   bool          // found at the start: nobody saw it come from storage
	done  chan struct{} // closed when the copy is there or failed
	err   error
	at    *list.Element // in unused; nil while it has users
}

func newDiskCache(dir string, max int64, downloads int, wh *objstore.Warehouse, m *metrics) (*diskCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("query cache: %w", err)
	}
	c := &diskCache{dir: dir, max: max, warehouse: wh, downloads: newSlots(downloads), metrics: m, entries: map[string]*cached{}, unused: list.New()}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("query cache: %w", err)
	}
	for _, f := range found {
		info, err := f.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !strings.HasSuffix(f.Name(), cachedSuffix) {
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
				return nil, fmt.Errorf("query cache: %w", err)
			}
			continue
		}
		e := &cached{name: f.Name(), size: info.Size(), old: true, done: make(chan struct{})}
		close(e.done)
		c.entries[e.name] = e
		e.at = c.unused.PushBack(e)
		c.bytes += e.size
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evictLocked(0)
	m.cacheBytes.Set(float64(c.bytes))
	return c, nil
}

func copyName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:]) + cachedSuffix
}

// acquire returns the path of the copy of key, whose size the manifest tells, and fetches it when it is not there.
func (c *diskCache) acquire(ctx context.Context, key string, size int64) (path string, release func(), err error) {
	name := copyName(key)
	e, mine, err := c.claim(name, key, size)
	if err != nil {
		return "", nil, err
	}
	if mine {
		c.metrics.cache.WithLabelValues("miss").Inc()
		c.fetched(e, c.fetch(ctx, key, name, size))
	} else {
		c.metrics.cache.WithLabelValues("hit").Inc()
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		c.release(e)
		return "", nil, ctx.Err()
	}
	if e.err != nil {
		c.release(e)
		if !mine && ctx.Err() == nil && (errors.Is(e.err, context.Canceled) || errors.Is(e.err, context.DeadlineExceeded)) {
			return c.acquire(ctx, key, size) // the one who fetched it gave up
		}
		return "", nil, fmt.Errorf("data file %s: %w", key, e.err)
	}
	return filepath.Join(c.dir, name), sync.OnceFunc(func() { c.release(e) }), nil
}

// claim adds a user; mine says that the caller is to fetch the copy.
func (c *diskCache) claim(name, key string, size int64) (e *cached, mine bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[name]; e != nil {
		if e.size == size {
			e.users++
			if e.at != nil {
				c.unused.Remove(e.at)
				e.at = nil
			}
			return e, false, nil
		}
		if e.users > 0 {
			return nil, false, fmt.Errorf("data file %s: the manifest says %d bytes, its copy has %d", key, size, e.size)
		}
		c.removeLocked(e) // left from something else
	}
	if size < 0 || !c.evictLocked(size) {
		return nil, false, fmt.Errorf("%w: data file %s of %d bytes does not fit into the local cache beside the files in use: raise query.sql.cache_size or read less", ErrLimit, key, size)
	}
	e = &cached{name: name, size: size, users: 1, done: make(chan struct{})}
	c.entries[name] = e
	c.bytes += size
	c.metrics.cacheBytes.Set(float64(c.bytes))
	return e, true, nil
}

// evictLocked makes room; false when what is in use leaves too little.
func (c *diskCache) evictLocked(size int64) bool {
	for c.bytes+size > c.max {
		oldest := c.unused.Back()
		if oldest == nil {
			return false
		}
		c.removeLocked(oldest.Value.(*cached))
	}
	return true
}

func (c *diskCache) removeLocked(e *cached) {
	if e.at != nil {
		c.unused.Remove(e.at)
		e.at = nil
	}
	delete(c.entries, e.name)
	c.bytes -= e.size
	// A copy that cannot be removed is found at the next start; the file system tells of what is wrong with it there.
	_ = os.Remove(filepath.Join(c.dir, e.name))
	c.metrics.cacheBytes.Set(float64(c.bytes))
}

// fetched ends a fetch. One that failed is forgotten at once, so that whoever asks next tries again.
func (c *diskCache) fetched(e *cached, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.err = err; err != nil {
		c.removeLocked(e)
	}
	close(e.done)
}

// discard forgets a copy that turned out to be damaged; again says that it may be the copy alone.
func (c *diskCache) discard(key string) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[copyName(key)]
	if e == nil {
		return true // by another, who fetches it anew
	}
	select {
	case <-e.done:
	default:
		return true // it is being fetched anew
	}
	c.removeLocked(e)
	return e.old
}

func (c *diskCache) release(e *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
	if e.users == 0 && c.entries[e.name] == e {
		e.at = c.unused.PushFront(e)
	}
}

// fetch writes the copy beside its name and renames it, so that a name always stands for a whole copy.
func (c *diskCache) fetch(ctx context.Context, key, name string, size int64) (err error) {
	select {
	case c.downloads <- struct{}{}:
		defer c.downloads.release()
	case <-ctx.Done():
		return ctx.Err()
	}
	obj, err := c.warehouse.Open(ctx, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, obj.Close()) }()
	if obj.Size() != size {
		return fmt.Errorf("%w: it has %d bytes, the manifest says %d", ErrCorrupt, obj.Size(), size)
	}
	f, err := os.CreateTemp(c.dir, "fetch-*")
	if err != nil {
		return err
	}
	n, err := io.Copy(f, contextReader{ctx, io.NewSectionReader(obj, 0, size)})
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	c.metrics.downloaded.Add(float64(size))
	return nil
}

// contextReader reads in pieces that end with the context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// fetchBytes is how much of a file one request reads.
const fetchBytes = 4 << 20

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// WriteTo makes io.Copy read in large pieces.
func (r contextReader) WriteTo(w io.Writer) (total int64, err error) {
	buf := make([]byte, fetchBytes)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			m, werr := w.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
