//go:build cgo

package duck

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	db "github.com/duckdb/duckdb-go-bindings"

	"github.com/firnlake/firn/query"
)

// settings of one DuckDB instance.
type settings struct {
	threads       int
	memory, spill int64 // bytes
	dir           string
}

// session is a DuckDB instance in memory with one connection.
type session struct {
	database db.Database
	conn     db.Connection
}

func open(c settings) (*session, error) {
	var config db.Config
	if db.CreateConfig(&config) == db.StateError {
		return nil, fmt.Errorf("DuckDB: no configuration could be made")
	}
	defer db.DestroyConfig(&config)
	for _, kv := range [][2]string{
		{"threads", strconv.Itoa(max(c.threads, 1))}, {"memory_limit", strconv.FormatInt(c.memory, 10) + "B"},
		{"autoload_known_extensions", "false"}, {"autoinstall_known_extensions", "false"}, {"allow_community_extensions", "false"},
		{"temp_directory", c.dir},
	} {
		if db.SetConfig(config, kv[0], kv[1]) == db.StateError {
			return nil, fmt.Errorf("DuckDB: setting %s = %s was refused", kv[0], kv[1])
		}
	}
	s := &session{}
	var msg string
	if db.OpenExt(":memory:", &s.database, config, &msg) == db.StateError {
		return nil, fmt.Errorf("DuckDB: %s", msg)
	}
	if db.Connect(s.database, &s.conn) == db.StateError {
		db.Close(&s.database)
		return nil, fmt.Errorf("DuckDB: no connection could be made")
	}
	if c.spill > 0 && c.dir != "" {
		if err := s.exec("SET max_temp_directory_size = " + text(strconv.FormatInt(c.spill, 10)+"B")); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *session) close() {
	db.Disconnect(&s.conn)
	db.Close(&s.database)
}

// interruptEvery is the time between two interrupts of a call whose context is over.
const interruptEvery = 5 * time.Millisecond

// during interrupts fn, which calls DuckDB, as long as it runs after ctx is over: once would not do, for DuckDB forgets
// an interrupt that comes before the statement has begun. It returns when nobody holds the connection any more, so that
// an interrupt meets neither the next statement nor a connection that was closed.
func (s *session) during(ctx context.Context, fn func()) {
	ended, quiet := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(quiet)
		t := time.NewTicker(interruptEvery)
		defer t.Stop()
		for {
			select {
			case <-ended:
				return
			default:
				db.Interrupt(s.conn)
			}
			select {
			case <-ended:
				return
			case <-t.C:
			}
		}
	})
	fn()
	close(ended)
	if !stop() {
		<-quiet
	}
}

// exec runs a statement of our own.
func (s *session) exec(sql string) error {
	var res db.Result
	state := db.Query(s.conn, sql, &res)
	defer db.DestroyResult(&res)
	if state == db.StateError {
		return classify(db.ResultErrorType(&res), db.ResultError(&res))
	}
	return nil
}

// view makes a relation known. deleted is a file with the rows that are left out of files, if any are.
func (s *session) view(rel query.Relation, files []query.File, deleted string) error {
	if len(rel.Name) > 1 {
		if err := s.exec("CREATE SCHEMA IF NOT EXISTS " + quote(rel.Name[0])); err != nil {
			return err
		}
	}
	sql, err := viewOf(rel, files, deleted)
	if err != nil {
		return err
	}
	return s.exec(sql)
}

// lock leaves the session nothing but the named files and its spill folder, for good.
func (s *session) lock(paths []string, spill string) error {
	quoted := make([]string, len(paths))
	for i, p := range paths {
		quoted[i] = text(p)
	}
	stmts := []string{"SET TimeZone = 'UTC'", "SET allowed_paths = [" + strings.Join(quoted, ", ") + "]"}
	if spill != "" {
		stmts = append(stmts, "SET allowed_directories = ["+text(spill)+"]")
	}
	for _, sql := range append(stmts, "SET enable_external_access = false", "SET lock_configuration = true") {
		if err := s.exec(sql); err != nil {
			return err
		}
	}
	return nil
}

// serialize gives DuckDB's parse of a text as JSON.
func (s *session) serialize(ctx context.Context, sql string) (string, error) {
	var p db.PreparedStatement
	state := db.Prepare(s.conn, "SELECT json_serialize_sql(?::VARCHAR)", &p)
	defer db.DestroyPrepare(&p)
	if state == db.StateError {
		return "", fmt.Errorf("DuckDB: %s", db.PrepareError(p))
	}
	if db.BindVarchar(p, 1, sql) == db.StateError {
		return "", fmt.Errorf("%w: it cannot be bound", query.ErrInvalidSQL)
	}
	var res db.Result
	s.during(ctx, func() { state = db.ExecutePrepared(p, &res) })
	defer db.DestroyResult(&res)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if state == db.StateError {
		return "", classify(db.ResultErrorType(&res), db.ResultError(&res))
	}
	chunk := db.FetchChunk(res)
	defer db.DestroyDataChunk(&chunk)
	v := db.DataChunkGetVector(chunk, 0)
	var out string
	err := eachText(0, 1, validity(v), db.VectorGetData(v), nil, func(b []byte) { out = string(b) })
	return out, err
}

// prepare takes one SELECT.
func (s *session) prepare(ctx context.Context, sql string) (db.PreparedStatement, error) {
	var p db.PreparedStatement
	var state db.State
	s.during(ctx, func() { state = db.Prepare(s.conn, sql, &p) })
	if state == db.StateError {
		msg := db.PrepareError(p)
		db.DestroyPrepare(&p)
		if ctx.Err() != nil {
			return p, ctx.Err()
		}
		return p, classify(typeOf(msg), msg)
	}
	if t := db.PreparedStatementType(p); t != db.StatementTypeSelect {
		db.DestroyPrepare(&p)
		return p, query.ErrNotSelect
	}
	return p, nil
}

// describe gives the schemas of a statement over the relations that the session has.
func (s *session) describe(ctx context.Context, sql string) (result, params *arrow.Schema, err error) {
	p, err := s.prepare(ctx, sql)
	if err != nil {
		return nil, nil, err
	}
	defer db.DestroyPrepare(&p)
	if params, err = parameters(p); err != nil {
		return nil, nil, err
	}
	result, err = describedBy(p)
	return result, params, err
}
