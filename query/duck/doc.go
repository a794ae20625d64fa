// Package duck runs SQL on DuckDB for package query. It is the only importer of DuckDB; without cgo it answers
// query.ErrNotBuiltIn.
//
// A statement is parsed by DuckDB itself (json_serialize_sql) and its tree is inspected: one SELECT, tables by name,
// no table function but those that read nothing. It then runs in a DuckDB instance of its own, in memory, in which each
// relation is a view over exactly its files; before the user's text reaches it the instance may open these files and
// its spill folder and nothing else, and its configuration is locked. Hot rows are written as a Parquet file beside,
// so that they take the way of the cold ones. DuckDB's chunks are copied into Arrow arrays: nothing of DuckDB's memory
// outlives a call of Next.
//
// Invariants: columns are found by field id, never by name; nothing of a statement is left on disk after Release; a
// context that ends interrupts DuckDB. An Engine is safe for concurrent use, a stream belongs to one goroutine.
package duck
