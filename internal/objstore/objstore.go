package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sentinel errors. Every implementation wraps these with the operation and the key.
var (
	ErrNotFound      = errors.New("object not found")
	ErrExists        = errors.New("object already exists") // Put with IfAbsent lost
	ErrBadKey        = errors.New("bad object key or location")
	ErrTooLarge      = errors.New("object is larger than what is read in one piece")
	ErrAccessDenied  = errors.New("access to object storage denied")
	ErrNoBucket      = errors.New("bucket does not exist")
	ErrFull          = errors.New("no space left on storage")
	ErrUnavailable   = errors.New("object storage unavailable") // worth a retry
	ErrOutsideRoot   = errors.New("location is outside the warehouse")
	ErrUnknownResult = errors.New("outcome of the write is unknown") // answer lost: it may have happened
)

// Info describes one object.
type Info struct {
	Key      string // relative to the store's root
	Size     int64  // bytes
	Modified time.Time
}

// PutMode says what Put does when the key exists.
type PutMode int

const (
	Overwrite PutMode = iota // last writer wins
	IfAbsent                 // ErrExists when there is an object; atomic among rivals
)

// Object is an open object for random reads. ReadAt is safe for concurrent use.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Store is a flat space of immutable objects. All methods are safe for concurrent use and obey ctx.
type Store interface {
	// Put writes the whole of body (from its current position) under key; a failed Put leaves no object
	// or, where ErrUnknownResult is wrapped, perhaps one.
	Put(ctx context.Context, key string, body io.ReadSeeker, mode PutMode) (Info, error)
	// Get returns the whole object in one request; for small objects (manifests, metadata). One of more than limit bytes is
	// ErrTooLarge and is not read.
	Get(ctx context.Context, key string, limit int64) ([]byte, error)
	// Open prepares random reads; it fails at once with ErrNotFound.
	Open(ctx context.Context, key string) (Object, error)
	// Stat returns the object's size and time without reading it.
	Stat(ctx context.Context, key string) (Info, error)
	// List calls fn for each object whose key starts with prefix (a whole path component), in key order,
	// until fn returns an error, which List returns.
	List(ctx context.Context, prefix string, fn func(Info) error) error
	// Delete removes objects; one that does not exist is no error. It goes on after a failure and joins the errors.
	Delete(ctx context.Context, keys ...string) error
}

// checkSize tells that an object may be read in one piece.
func checkSize(key string, size, limit int64) error {
	if size > limit {
		return fmt.Errorf("get %s: %w: %d bytes, at most %d", key, ErrTooLarge, size, limit)
	}
	return nil
}

// Warehouse is a Store with the URI that Iceberg metadata names it by. It is the only place where a
// location (s3://bucket/prefix/x, file:///dir/x) becomes a key, component by component.
type Warehouse struct {
	Store
	URI string // without a trailing slash: s3://lake/warehouse or file:///var/lib/firn/warehouse
}
