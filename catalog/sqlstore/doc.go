// Package sqlstore keeps the state of the catalog as rows of a SQL database: namespaces, tables, snapshots,
// refs, the snapshot log, the commit history and which version has which metadata file.
//
// A commit is one transaction: a compare-and-swap on the table's head row (id and version) and inserts and
// deletes of only what changed, so its cost does not depend on the table's history. The table's "skeleton"
// is its metadata without anything that a plain append changes; it is rewritten only when it changed.
//
// Invariants: version grows by exactly one per commit and is never reused; a table id is never reused; a
// metadata file is recorded for a version at most once; the snapshot log has no entry before a removed one.
// The store knows rows, not Iceberg: what a commit means is decided in catalog/server.
//
// Durability: SQLite in WAL mode. A killed process never loses an acknowledged commit. With Synchronous
// "full" (the default) neither does a power failure; with "normal" a power failure may take back the last
// commits, but never tears one or reorders them.
package sqlstore
