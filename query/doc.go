// Package query answers SQL and scans over committed snapshots and the rows not yet committed: it pins
// snapshot S with its offset vector C, asks the tail for the rows in [C, H), prunes S by manifest statistics,
// and hands out Arrow record batches. SQL runs on DuckDB; plain scans run on Parquet readers alone.
//
// Invariants: no row twice and none missing between S and the tail; a pinned snapshot stays pinned for the
// life of the query; bytes from storage are checked before they are decoded; only SELECT statements run.
package query
