package objstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Store in memory, for tests and throw-away runs.
type Memory struct {
	mu      sync.RWMutex
	objects map[string]memoryObject
}

type memoryObject struct {
	data     []byte
	modified time.Time
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{objects: map[string]memoryObject{}} }

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, body io.ReadSeeker, mode PutMode) (Info, error) {
	if err := begin(ctx, "put", key); err != nil {
		return Info{}, err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return Info{}, fmt.Errorf("put %s: read the body: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok && mode == IfAbsent {
		return Info{}, fmt.Errorf("put %s: %w", key, ErrExists)
	}
	o := memoryObject{data, time.Now()}
	m.objects[key] = o
	return o.info(key), nil
}

func (o memoryObject) info(key string) Info {
	return Info{Key: key, Size: int64(len(o.data)), Modified: o.modified}
}

func (m *Memory) get(ctx context.Context, op, key string) (memoryObject, error) {
	if err := begin(ctx, op, key); err != nil {
		return memoryObject{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[key]
	if !ok {
		return o, fmt.Errorf("%s %s: %w", op, key, ErrNotFound)
	}
	return o, nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	o, err := m.get(ctx, "get", key)
	if err == nil {
		err = checkSize(key, int64(len(o.data)), limit)
	}
	if err != nil {
		return nil, err
	}
	return slices.Clone(o.data), nil
}

// Open implements Store.
func (m *Memory) Open(ctx context.Context, key string) (Object, error) {
	o, err := m.get(ctx, "open", key)
	if err != nil {
		return nil, err
	}
	return memoryReader{bytes.NewReader(o.data)}, nil
}

type memoryReader struct{ *bytes.Reader }

func (memoryReader) Close() error { return nil }

// Stat implements Store.
func (m *Memory) Stat(ctx context.Context, key string) (Info, error) {
	o, err := m.get(ctx, "stat", key)
	if err != nil {
		return Info{}, err
	}
	return o.info(key), nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string, fn func(Info) error) error {
	if err := checkPrefix(prefix); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	m.mu.RLock()
	var infos []Info
	for k, o := range m.objects {
		if underPrefix(k, prefix) {
			infos = append(infos, o.info(k))
		}
	}
	m.mu.RUnlock()
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	for _, i := range infos {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := begin(ctx, "delete", k); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.objects, k)
	}
	return nil
}

// begin checks what every operation on one key checks first.
func begin(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	if err := checkKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// checkPrefix allows the empty prefix, which means everything.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return checkKey(strings.TrimSuffix(prefix, "/"))
}

// underPrefix tells whether key lies under prefix, taken as whole path components.
func underPrefix(key, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return prefix == "" || strings.HasPrefix(key, prefix+"/")
}
