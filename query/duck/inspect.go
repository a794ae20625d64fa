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
	"json_execute_serialized_sql": true, "json_serialize_plan": true, "pg_get_viewdef": true, "nextval": true, "currval": true}

// DuckDB has views of these names in every schema search path. They tell about the instance, the paths of files
// included, and a name of a common table expression elsewhere in the statement must not open them.
var systemViews = []string{"duckdb_", "pragma_", "sqlite_"}

// macros are DuckDB's functions that are written in SQL and stand for their text, arguments repeated.
// TestMacrosAreKnown holds the list against DuckDB.
var macros = setOf(`ago array_append array_pop_back array_pop_front array_prepend array_push_back array_push_front array_reverse
	array_to_string array_to_string_comma_default date_add days_in_month fdiv fmod generate_subscripts geomean geometric_mean json
	json_group_array json_group_object json_group_structure list_any_value list_append list_approx_count_distinct list_avg list_bit_and
	list_bit_or list_bit_xor list_bool_and list_bool_or list_count list_entropy list_first list_histogram list_kurtosis
	list_kurtosis_pop list_last list_mad list_max list_median list_min list_mode list_prepend list_product list_reverse list_sem
	list_skewness list_stddev_pop list_stddev_samp list_string_agg list_sum list_var_pop list_var_samp map_contains_entry
	map_contains_value map_to_pg_oid md5_number_lower md5_number_upper nullif regexp_split_to_table round_even roundbankers split_part
	wavg weighted_avg`)

func setOf(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

const (
	// maxTokens bounds a statement before DuckDB sees it: its parser takes a time that grows with the square of a
	// chain of operators (0.8 s for 8,000 ANDs, minutes for 100,000) and does not heed an interrupt.
	maxTokens  = 20_000
	maxNesting = 200     // of the parsed statement
	maxNodes   = 200_000 // of the parsed statement
	maxWork    = 4096    // times that one part of it is planned
)

// tooLong reports whether a text has more than maxTokens words, numbers, quotes and signs. What stands in quotes counts
// once; comments count as what they hold, which only errs to the safe side.
func tooLong(sql string) bool {
	n, inWord := 0, false
	for i := 0; i < len(sql); i++ {
		c := sql[i]
		switch {
		case c == '\'' || c == '"':
			inWord = false
			n++
			if end := strings.IndexByte(sql[i+1:], c); end >= 0 {
				i += 1 + end
			}
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			inWord = false
		case c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80:
			if !inWord {
				n++
			}
			inWord = true
		default:
			inWord = false
			n++
		}
	}
	return n > maxTokens
}

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
	w := walker{out: query.Inspection{CTEs: map[string]bool{}}, uses: map[string][]string{}}
	if err := w.walk(tree, 0, 1); err != nil {
		return query.Inspection{}, err
	}
	if w.unfolded("", map[string]bool{}, map[string]int{}) > maxWork {
		return query.Inspection{}, errWork
	}
	return w.out, nil
}

type walker struct {
	out   query.Inspection
	nodes int
	cte   string              // whose definition is being walked; "" for the statement itself
	uses  map[string][]string // names that each of them reads
}

// walk visits a part of the parse. work is how often DuckDB will bind that part.
func (w *walker) walk(v any, depth, work int) error {
	if w.nodes++; w.nodes > maxNodes || depth > maxNesting {
		return fmt.Errorf("%w: it is nested deeper than %d or has more than %d parts", query.ErrLimit, maxNesting, maxNodes)
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := w.walk(e, depth+1, work); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := w.node(v); err != nil {
			return err
		}
		if work *= repeats(v); work > maxWork {
			return errWork
		}
		for key, e := range v {
			if err := w.child(key, e, depth+1, work); err != nil {
				return err
			}
		}
	}
	return nil
}

// child walks what stands under a key; the definitions of common table expressions are kept apart.
func (w *walker) child(key string, v any, depth, work int) error {
	ctes, ok := v.(map[string]any)
	if key != "cte_map" || !ok {
		return w.walk(v, depth, work)
	}
	entries, _ := ctes["map"].([]any)
	for _, e := range entries {
		m, _ := e.(map[string]any)
		name, _ := m["key"].(string)
		name = strings.ToLower(name)
		w.out.CTEs[name] = true
		outer := w.cte
		w.cte = name
		err := w.walk(m["value"], depth+2, work)
		w.cte = outer
		if err != nil {
			return err
		}
	}
	return nil
}

var errWork = fmt.Errorf("%w: it is nested so that DuckDB would plan parts of it more than %d times: take it apart, or select into fewer levels", query.ErrLimit, maxWork)

// repeats is how often DuckDB binds the children of a node, measured on nested ones: the planning time of a statement
// grows with the product, and nothing interrupts it. Nested 14 deep, scalar subqueries over subqueries take minutes.
func repeats(n map[string]any) int {
	switch n["class"] {
	case "SUBQUERY":
		return 4
	case "BETWEEN", "LAMBDA":
		return 2
	case "FUNCTION":
		if name, _ := n["function_name"].(string); macros[strings.ToLower(name)] {
			return 3
		}
	}
	return 1
}

// unfolded is how many relations the statement reads when each use of a common table expression is written out.
func (w *walker) unfolded(cte string, open map[string]bool, known map[string]int) int {
	if n, ok := known[cte]; ok {
		return n
	}
	if open[cte] { // it is recursive
		return 1
	}
	open[cte] = true
	n := 1
	for _, use := range w.uses[cte] {
		if w.out.CTEs[use] {
			n += w.unfolded(use, open, known)
		}
		if n > maxWork {
			n = maxWork + 1
			break
		}
	}
	delete(open, cte)
	known[cte] = n
	return n
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
		for _, prefix := range systemViews {
			if len(ref.Parts) == 1 && strings.HasPrefix(strings.ToLower(ref.Parts[0]), prefix) {
				return fmt.Errorf("%w: %s is a view of DuckDB's own: give a table of that name with its namespace", query.ErrNotSelect, ref.Parts[0])
			}
		}
		w.out.Tables = append(w.out.Tables, ref)
		if len(ref.Parts) == 1 {
			w.uses[w.cte] = append(w.uses[w.cte], strings.ToLower(ref.Parts[0]))
		}
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
	return nil
}
