package objstore

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"github.com/firnlake/firn/internal/units"
)

// Options is what a warehouse on S3 needs besides its URI.
type Options struct {
	Endpoint  string       // http://host:port or https://host; empty: AWS
	Region    string       // empty: us-east-1
	AccessKey units.Secret // empty: anonymous
	SecretKey units.Secret
}

// Open opens the warehouse that uri names: s3://bucket/prefix, file:///dir (made when it is missing) or
// mem://name, which lives as long as the process. Nothing is asked of S3 yet; Check does that.
func Open(ctx context.Context, uri string, o Options) (*Warehouse, error) {
	clean, err := cleanURI(uri)
	if err != nil {
		return nil, fmt.Errorf("warehouse %w", err)
	}
	scheme, rest, _ := strings.Cut(clean, "://")
	switch scheme {
	case "file":
		l, err := NewLocal(filepath.FromSlash(rest))
		if err != nil {
			return nil, err
		}
		return &Warehouse{Store: l, URI: clean}, nil
	case "mem":
		return &Warehouse{Store: namedMemory(rest), URI: clean}, nil
	default:
		bucket, prefix, _ := strings.Cut(rest, "/")
		s, err := NewS3(S3Config{Options: o, Bucket: bucket, Prefix: prefix})
		if err != nil {
			return nil, err
		}
		return &Warehouse{Store: s, URI: clean}, nil
	}
}

// Check makes sure that the warehouse can be used: that the bucket is there and the keys are right.
func (w *Warehouse) Check(ctx context.Context) error {
	if c, ok := w.Store.(interface{ Check(context.Context) error }); ok {
		return c.Check(ctx)
	}
	return nil
}

// Close gives back what the store holds open.
func (w *Warehouse) Close() error {
	if c, ok := w.Store.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

// LocalPath returns the file that a key lies in, for readers that want files; ok is false on other stores.
func (w *Warehouse) LocalPath(key string) (path string, ok bool) {
	l, ok := w.Store.(*Local)
	if !ok || checkKey(key) != nil {
		return "", false
	}
	return filepath.Join(l.dir, filepath.FromSlash(key)), true
}

// Location returns the location that Iceberg metadata names the key by.
func (w *Warehouse) Location(key string) string { return w.URI + "/" + key }

// Key is the inverse of Location. A location that does not lie strictly inside the warehouse, component by
// component, gives ErrOutsideRoot. "s3a" and "s3n" are "s3"; "file:/x" is "file:///x".
func (w *Warehouse) Key(location string) (string, error) {
	root, err := splitLocation(w.URI)
	if err != nil {
		return "", err
	}
	parts, err := splitLocation(location)
	if err != nil {
		return "", err
	}
	outside := len(parts) <= len(root)
	for i := 0; !outside && i < len(root); i++ {
		outside = parts[i] != root[i]
	}
	if outside {
		return "", fmt.Errorf("%w: %q is not under %s", ErrOutsideRoot, location, w.URI)
	}
	key := strings.Join(parts[len(root):], "/")
	return key, checkKey(key)
}

// splitLocation gives scheme, authority and path components. Escapes stay as they are: they are part of a name.
func splitLocation(loc string) ([]string, error) {
	scheme, rest, ok := strings.Cut(loc, ":")
	if !ok || scheme == "" {
		return nil, fmt.Errorf("%w: location %q has no scheme", ErrBadKey, loc)
	}
	scheme = strings.ToLower(scheme)
	if scheme == "s3a" || scheme == "s3n" {
		scheme = "s3"
	}
	authority := ""
	if r, ok := strings.CutPrefix(rest, "//"); ok {
		authority, rest, _ = strings.Cut(r, "/")
	} else {
		rest = strings.TrimPrefix(rest, "/")
	}
	parts := []string{scheme, authority}
	if rest = strings.TrimRight(rest, "/"); rest == "" {
		return parts, nil
	}
	for _, p := range strings.Split(rest, "/") {
		if u, err := url.PathUnescape(p); p == "" || p == "." || p == ".." || (err == nil && (u == "." || u == "..")) {
			return nil, fmt.Errorf("%w: location %q has an empty or a dot component", ErrBadKey, loc)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// CheckURI reports a warehouse URI that Open would not take, without opening anything.
func CheckURI(uri string) error {
	_, err := cleanURI(uri)
	return err
}

// cleanURI checks a warehouse URI and puts it in its one form, without a trailing slash.
func cleanURI(uri string) (string, error) {
	help := "write s3://bucket/prefix or file:///absolute/dir"
	parts, err := splitLocation(uri)
	if err != nil {
		return "", fmt.Errorf("%q: %w: %s", uri, err, help)
	}
	scheme, authority, path := parts[0], parts[1], strings.Join(parts[2:], "/")
	switch scheme {
	case "file":
		if authority != "" && authority != "localhost" {
			return "", fmt.Errorf("%q: %w: a file URI has three slashes; %s", uri, ErrBadKey, help)
		}
		return "file:///" + path, nil
	case "s3", "mem":
		if authority == "" {
			return "", fmt.Errorf("%q: %w: no bucket is named; %s", uri, ErrBadKey, help)
		}
		return strings.TrimRight(scheme+"://"+authority+"/"+path, "/"), nil
	}
	return "", fmt.Errorf("%q: %w: unknown scheme %q; %s", uri, ErrBadKey, scheme, help)
}

// checkKey refuses keys that could mean another object on one of the stores.
func checkKey(key string) error {
	if key == "" || len(key) > 1024 || strings.ContainsAny(key, "\\\x00") {
		return fmt.Errorf("%w: %q: empty, longer than 1024 bytes, or with a backslash or NUL", ErrBadKey, key)
	}
	for _, p := range strings.Split(key, "/") {
		if p == "" || p == "." || p == ".." || strings.HasPrefix(p, tempPrefix) {
			return fmt.Errorf("%w: %q: a component is empty, a dot or reserved", ErrBadKey, key)
		}
	}
	return nil
}

// memories holds the stores of mem:// URIs, so that every part of a process that opens one name sees the same objects.
var memories sync.Map

func namedMemory(name string) *Memory {
	m, _ := memories.LoadOrStore(name, NewMemory())
	return m.(*Memory)
}
