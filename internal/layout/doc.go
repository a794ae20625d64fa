// Package layout says how the rows of a table lie in its files: their order, the size of files and row groups, what
// statistics and which Bloom filters they carry, and how they are compressed.
//
// The place of these choices is the table: they are Iceberg's own table properties (write.parquet.*,
// write.metadata.metrics.*, write.target-file-size-bytes) and its sort order. Config, a block of the configuration,
// only says what the properties are to be; ingest and compaction both read OptionsOf the table, and so do other engines.
//
// Invariants: a property that cannot be used (another engine's codec, a column that is gone) is passed over, because a
// layout must never stop ingestion; the ledger columns always have full statistics, because recovery reads them; Sort
// is stable and gives the same rows. Sort copies: its result is the caller's, its inputs stay the caller's. Merge trusts no source: it
// holds each against the order before a row of it is given.
package layout
