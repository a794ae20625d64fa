//go:build cgo

package duck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/query"
)

// Engine implements query.SQLEngine. Each statement runs in a DuckDB instance of its own, which sees the files of its
// relations and nothing else and whose configuration is locked before any text of a user reaches it.
type Engine struct {
	cfg query.Config
	dir string // of hot rows and of what spills
	own bool   // dir goes with the engine

	parser    *shared // one parse at a time: a hostile text must not take the memory of several
	describer *shared // of statements over empty relations
}

const (
	// parserMemory bounds what parsing a hostile statement may take.
	parserMemory = 256 << 20
	dirMode      = 0o700
)

// Open makes the engine; DuckDB is part of the binary.
func Open(cfg query.Config) (query.SQLEngine, error) {
	cfg = cfg.WithDefaults()
	e := &Engine{cfg: cfg, dir: filepath.Join(cfg.CacheDir, "sql")}
	if cfg.CacheDir == "" {
		dir, err := os.MkdirTemp("", "firn-sql-")
		if err != nil {
			return nil, fmt.Errorf("folder of the SQL engine: %w", err)
		}
		e.dir, e.own = dir, true
	} else if err := os.MkdirAll(e.dir, dirMode); err != nil {
		return nil, fmt.Errorf("folder of the SQL engine: %w", err)
	}
	// What a killed process left is of no use to this one.
	left, err := filepath.Glob(filepath.Join(e.dir, hotPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if err := os.RemoveAll(f); err != nil {
			return nil, fmt.Errorf("folder of the SQL engine: %w", err)
		}
	}
	e.parser, e.describer = newShared(), newShared()
	// What is wrong with DuckDB on this machine is to be known now.
	if err := e.parser.use(context.Background(), func(*session) error { return nil }); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close implements io.Closer.
func (e *Engine) Close() error {
	e.parser.close()
	e.describer.close()
	if e.own {
		return os.RemoveAll(e.dir)
	}
	return nil
}

// Inspect implements query.SQLEngine.
func (e *Engine) Inspect(ctx context.Context, sql string) (query.Inspection, error) {
	if strings.EqualFold(strings.TrimRight(strings.Join(strings.Fields(sql), " "), "; "), "show tables") {
		return query.Inspection{ShowTables: true}, nil
	}
	if tooLong(sql) {
		return query.Inspection{}, fmt.Errorf("%w: a statement of more than %d words and signs: join with a table instead of listing values", query.ErrLimit, maxTokens)
	}
	var raw string
	err := e.parser.use(ctx, func(s *session) (err error) {
		raw, err = s.serialize(ctx, sql)
		return err
	})
	if err != nil {
		return query.Inspection{}, err
	}
	return inspectTree(raw)
}

var errClosed = errors.New("the SQL engine is closed")

// Describe implements query.SQLEngine. The views are made in a transaction that is rolled back, so that one instance
// serves all descriptions: opening one takes longer than describing.
func (e *Engine) Describe(ctx context.Context, st query.Statement) (result, params *arrow.Schema, err error) {
	err = e.describer.use(ctx, func(s *session) (err error) {
		if err := s.exec("BEGIN"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.exec("ROLLBACK")) }()
		for _, rel := range st.Relations {
			if err := s.view(rel, nil, ""); err != nil {
				return err
			}
		}
		result, params, err = s.describe(ctx, st.SQL)
		return err
	})
	return result, params, err
}

const hotPrefix = "hot-"

// Run implements query.SQLEngine.
func (e *Engine) Run(ctx context.Context, st query.Statement) (_ query.Stream, err error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	dir, err := os.MkdirTemp(e.dir, hotPrefix)
	if err != nil {
		return nil, fmt.Errorf("folder of a statement: %w", err)
	}
	r := &stream{dir: dir, files: map[string]string{}}
	defer func() {
		if err != nil {
			r.Release()
		}
	}()
	share := int64(e.cfg.MemoryLimit) / int64(max(e.cfg.MaxConcurrent, 1))
	if r.s, err = open(settings{threads: e.cfg.Threads, memory: share, spill: int64(e.cfg.SpillLimit), dir: filepath.Join(dir, "spill")}); err != nil {
		return nil, err
	}
	var paths []string
	for i, rel := range st.Relations {
		files := slices.Clone(rel.Files)
		if len(rel.Hot) > 0 {
			f, err := writeHot(dir, i, rel)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
		for _, f := range files {
			paths = append(paths, f.Path)
			r.files[f.Path] = f.Location
		}
		deleted, err := writeDeleted(dir, i, rel)
		if err != nil {
			return nil, err
		}
		if deleted != "" {
			paths = append(paths, deleted)
			r.files[deleted] = "the deleted rows of " + strings.Join(rel.Name, ".")
		}
		if err := r.s.view(rel, files, deleted); err != nil {
			return nil, r.explain(ctx, err)
		}
	}
	if err := r.s.lock(paths, filepath.Join(dir, "spill")); err != nil {
		return nil, err
	}
	if err := r.start(ctx, st); err != nil {
		return nil, r.explain(ctx, err)
	}
	return r, nil
}

// writeHot puts the hot rows of relation i into a file. They are whole: the tail was cut at the snapshot's vector.
func writeHot(dir string, i int, rel query.Relation) (query.File, error) {
	data, err := hotFile(rel)
	if err != nil {
		return query.File{}, err
	}
	path := filepath.Join(dir, "rows-"+strconv.Itoa(i)+".parquet")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return query.File{}, fmt.Errorf("hot rows of %s: %w", strings.Join(rel.Name, "."), err)
	}
	as, err := datafile.ArrowSchema(rel.Schema)
	return query.File{Path: path, Location: "the rows not yet committed of " + strings.Join(rel.Name, "."), Schema: as, Whole: true}, err
}

// writeDeleted puts the rows that relation i leaves out of its files into a file, for an anti join; no path when there are none.
func writeDeleted(dir string, i int, rel query.Relation) (path string, err error) {
	if !slices.ContainsFunc(rel.Files, func(f query.File) bool { return f.Deleted != nil }) {
		return "", nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("deleted rows of %s: %w", strings.Join(rel.Name, "."), err)
		}
	}()
	path = filepath.Join(dir, "deleted-"+strconv.Itoa(i)+".parquet")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = datafile.WritePositions(f, memory.DefaultAllocator, datafile.DefaultWriteOptions(), deletedRows(rel.Files))
	return path, errors.Join(err, f.Close())
}
