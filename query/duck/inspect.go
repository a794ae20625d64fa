//go:build cgo

package duck

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/firnlake/firn/query"
)

// Table functions that read nothing but their arguments. Every other one (read_csv, glob, duckdb_settings, query, …)
// is refused: files are reached through relations alone.
var tableFunctions = map[string]bool{"range": true, "generate_series": true, "unnest": true, "repeat": true, "repeat_row": true}

// Functions that tell about the process, its settings or its files.
var deniedFunctions = map[string]bool{"getenv": true, "current_setting": true, "read_text": true, "read_blob": true, "read_csv": true,
	"read_parquet": true, "glob": true, "which_secret": true, "getvariable": true, "query": true, "query_table": true, "write_log": true,
	"parse_path": false, "file_exists": true, "load_aws_credentials": true, "json_execute_serialized_sql": true, "nextval": true, "currval": true}

const (
	maxNesting = 200     // of the parsed statement
	maxNodes   = 200_000 // of the parsed statement
)

// serialized is what json_serialize_sql gives.
type serialized struct {
	Error      bool              `json:"error"`
	Type       string            `json:"error_type"`
	Message    string            `json:"error_message"`
	Statements []json.RawMessage `json:"statements"`
}

// inspectTree reads DuckDB's own parse of a statement.
func inspectTree(raw string) (query.Inspection, error) {
	var s serialized
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		return query.Inspection{}, fmt.Errorf("%w: its parse cannot be read: %w", query.ErrInvalidSQL, err)
	}
	switch {
	case s.Error && strings.Contains(s.Message, "Only SELECT"):
		return query.Inspection{}, query.ErrNotSelect
	case s.Error:
		return query.Inspection{}, fmt.Errorf("%w: %s", query.ErrInvalidSQL, s.Message)
	case len(s.Statements) != 1:
		return query.Inspection{}, fmt.Errorf("%w: one statement at a time, and these are %d", query.ErrNotSelect, len(s.Statements))
	}
	var tree any
	if err := json.Unmarshal(s.Statements[0], &tree); err != nil {
		return query.Inspection{}, fmt.Errorf("%w: its parse cannot be read: %w", query.ErrInvalidSQL, err)
	}
	w := walker{out: query.Inspection{CTEs: map[string]bool{}}}
	err := w.walk(tree, 0)
	return w.out, err
}

type walker struct {
	out   query.Inspection
	nodes int
}

func (w *walker) walk(v any, depth int) error {
	if w.nodes++; w.nodes > maxNodes || depth > maxNesting {
		return fmt.Errorf("%w: it is nested deeper than %d or has more than %d parts", query.ErrLimit, maxNesting, maxNodes)
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := w.walk(e, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := w.node(v); err != nil {
			return err
		}
		for _, e := range v {
			if err := w.walk(e, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// node looks at one node of the parse.
func (w *walker) node(n map[string]any) error {
	str := func(key string) string { s, _ := n[key].(string); return s }
	switch str("type") {
	case "BASE_TABLE":
		ref := query.TableRef{At: -1}
		for _, part := range []string{str("catalog_name"), str("schema_name"), str("table_name")} {
			if part != "" {
				ref.Parts = append(ref.Parts, part)
			}
		}
		if at, ok := n["query_location"].(float64); ok {
			ref.At = int(at)
		}
		w.out.Tables = append(w.out.Tables, ref)
	case "TABLE_FUNCTION":
		f, _ := n["function"].(map[string]any)
		name, _ := f["function_name"].(string)
		if !tableFunctions[strings.ToLower(name)] {
			return fmt.Errorf("%w: the table function %s is not allowed: name tables of the catalog", query.ErrNotSelect, name)
		}
	case "SHOW_REF":
		return fmt.Errorf("%w: DESCRIBE, SHOW and SUMMARIZE do not run here: firn sql has \\d, Flight SQL has GetTables", query.ErrNotSelect)
	}
	if name := strings.ToLower(str("function_name")); deniedFunctions[name] || strings.HasPrefix(name, "pragma_") || strings.HasPrefix(name, "duckdb_") {
		return fmt.Errorf("%w: the function %s is not allowed", query.ErrNotSelect, name)
	}
	if ctes, ok := n["cte_map"].(map[string]any); ok {
		entries, _ := ctes["map"].([]any)
		for _, e := range entries {
			if m, ok := e.(map[string]any); ok {
				if key, ok := m["key"].(string); ok {
					w.out.CTEs[strings.ToLower(key)] = true
				}
			}
		}
	}
	return nil
}
