// Package sqlstore keeps the state of the catalog as rows of a SQL database: namespaces, tables, snapshots,
// refs, the snapshot log, the commit history and which version has which metadata file.
//
// A commit is one transaction: a compare-and-swap on the table's head row (id, version and name) and inserts and
// deletes of only what changed, so its cost does not depend on the table's history. What it was prepared from may have been
// remembered, and old: the swap finds out. On Postgres a commit that only adds snapshots and moves refs is one statement. The table's "skeleton"
// is its metadata without anything that a plain append changes; it is rewritten only when it changed.
//
// Invariants: version grows by exactly one per commit and is never reused; a table id is never reused; a
// metadata file is recorded for a version at most once; the snapshot log has no entry before a removed one.
// The store knows rows, not Iceberg: what a commit means is decided in catalog/server.
//
// Two kinds of database hold the same tables. SQLite, embedded: one process at a time writes, others wait for the
// file's lock; in it the writes that have gathered share a transaction, each in a savepoint, so that many tables do not wait for as
// many disk flushes (group.go). Postgres: any number of catalogs share it, with no leader; the swap of the head row decides between
// commits to one table, and what looks for free names or places runs under one advisory lock. Commits of one process that come while
// others are under way share a transaction there too (swaps.go). All SQL is written once;
// dialect has the few places where the two differ.
//
// A change that carries a Receipt leaves it in its own transaction, so that the effect and the memory of it are one.
//
// Durability: SQLite in WAL mode. A killed process never loses an acknowledged commit. With Synchronous
// "full" (the default) neither does a power failure; with "normal" a power failure may take back the last
// commits, but never tears one or reorders them.
package sqlstore
