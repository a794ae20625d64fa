package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// tempPrefix starts the names of files that are being written; they are no objects, and no key may have such a component.
const tempPrefix = ".firn-tmp-"

// Local is a Store in a directory. An object appears under its name in one step, after its bytes and its name
// are on disk, so a crash leaves either the whole object or a temporary file that nobody sees.
type Local struct {
	dir  string
	root *os.Root // nothing, symbolic links included, leads out of it
}

// NewLocal opens the directory and makes it when it is missing.
func NewLocal(dir string) (*Local, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("warehouse directory %s: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, fmt.Errorf("warehouse directory %s: %w", dir, localError(err))
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("warehouse directory %s: %w", dir, localError(err))
	}
	return &Local{dir: abs, root: root}, nil
}

// Close gives the directory back.
func (l *Local) Close() error { return l.root.Close() }

// Put implements Store.
func (l *Local) Put(ctx context.Context, key string, body io.ReadSeeker, mode PutMode) (Info, error) {
	if err := begin(ctx, "put", key); err != nil {
		return Info{}, err
	}
	dir := path.Dir(key)
	if err := l.root.MkdirAll(dir, 0o755); err != nil {
		return Info{}, fmt.Errorf("put %s: %w", key, localError(err))
	}
	tmp := path.Join(dir, tempPrefix+strconv.FormatUint(rand.Uint64(), 36))
	size, err := l.write(ctx, tmp, body)
	if err == nil {
		if mode == IfAbsent {
			err = l.root.Link(tmp, key) // fails when there is one, atomically
		} else {
			err = l.root.Rename(tmp, key)
		}
	}
	if err != nil || mode == IfAbsent {
		_ = l.root.Remove(tmp) // what stays behind is no object
	}
	if err != nil {
		return Info{}, fmt.Errorf("put %s: %w", key, localError(err))
	}
	if err := l.syncDir(dir); err != nil {
		return Info{}, fmt.Errorf("put %s: %w: %w", key, ErrUnknownResult, localError(err))
	}
	st, err := l.root.Stat(key)
	if err != nil {
		return Info{}, fmt.Errorf("put %s: %w: %w", key, ErrUnknownResult, localError(err))
	}
	return Info{Key: key, Size: size, Modified: st.ModTime()}, nil
}

func (l *Local) write(ctx context.Context, tmp string, body io.Reader) (n int64, err error) {
	f, err := l.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buf)
	// Not by the file's own ReadFrom, which would make a buffer each time.
	if n, err = io.CopyBuffer(struct{ io.Writer }{f}, contextReader{ctx, body}, buf[:]); err != nil {
		return n, err
	}
	return n, f.Sync()
}

const copyBytes = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// contextReader ends a long copy when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (l *Local) syncDir(dir string) error {
	d, err := l.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements Store.
func (l *Local) Get(ctx context.Context, key string, limit int64) (data []byte, err error) {
	f, err := l.open(ctx, "get", key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := checkSize(key, f.size, limit); err != nil {
		return nil, err
	}
	data = make([]byte, f.size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, localError(err))
	}
	return data, nil
}

// Open implements Store.
func (l *Local) Open(ctx context.Context, key string) (Object, error) {
	f, err := l.open(ctx, "open", key)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (l *Local) open(ctx context.Context, op, key string) (f localObject, err error) {
	if err := begin(ctx, op, key); err != nil {
		return f, err
	}
	if f.File, err = l.root.Open(key); err != nil {
		return f, fmt.Errorf("%s %s: %w", op, key, localError(err))
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return f, fmt.Errorf("%s %s: %w", op, key, errors.Join(localError(err), f.Close()))
	}
	f.size = st.Size()
	return f, nil
}

type localObject struct {
	*os.File
	size int64
}

func (o localObject) Size() int64 { return o.size }

// Stat implements Store.
func (l *Local) Stat(ctx context.Context, key string) (Info, error) {
	if err := begin(ctx, "stat", key); err != nil {
		return Info{}, err
	}
	st, err := l.root.Stat(key)
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, fmt.Errorf("stat %s: %w", key, localError(err))
	}
	return Info{Key: key, Size: st.Size(), Modified: st.ModTime()}, nil
}

// List implements Store. Names come in key order because a directory is visited as if its name ended in a slash.
func (l *Local) List(ctx context.Context, prefix string, fn func(Info) error) error {
	if err := checkPrefix(prefix); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	start := path.Clean("./" + prefix)
	if _, err := l.root.Stat(start); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return l.walk(ctx, start, fn)
}

func (l *Local) walk(ctx context.Context, dir string, fn func(Info) error) error {
	entries, err := fs.ReadDir(l.root.FS(), dir)
	if err != nil {
		if err = localError(err); errors.Is(err, ErrNotFound) {
			return nil // removed meanwhile, or a file: nothing lies below it
		}
		return fmt.Errorf("list %s: %w", dir, err)
	}
	sortEntries(entries)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			err = l.walk(ctx, name, fn)
		} else if e.Type().IsRegular() && checkKey(name) == nil {
			err = l.visit(e, name, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Local) visit(e fs.DirEntry, name string, fn func(Info) error) error {
	st, err := e.Info()
	if err != nil {
		return nil //nolint:nilerr // removed since the directory was read: it is not there
	}
	return fn(Info{Key: name, Size: st.Size(), Modified: st.ModTime()})
}

// Delete implements Store. Directories that become empty are removed, as no other store has any.
func (l *Local) Delete(ctx context.Context, keys ...string) error {
	var errs []error
	for _, k := range keys {
		err := begin(ctx, "delete", k)
		if err == nil {
			if err = l.root.Remove(k); errors.Is(err, fs.ErrNotExist) {
				err = nil
			} else if err != nil {
				err = fmt.Errorf("delete %s: %w", k, localError(err))
			}
		}
		errs = append(errs, err)
		for d := path.Dir(k); err == nil && d != "." && d != "/"; d = path.Dir(d) {
			if l.root.Remove(d) != nil {
				break // not empty
			}
		}
	}
	return errors.Join(errs...)
}

// localError puts the sentinel in front of what the file system says.
func localError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return ErrNotFound
	case errors.Is(err, fs.ErrExist):
		return ErrExists
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w: free some space or name another directory", ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrAccessDenied, err)
	}
	return err
}
