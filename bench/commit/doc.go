// Package commit measures what one small append costs as a table's history grows: Firn's catalog on SQLite, driven in
// the process with internal/snapshot as the committer drives it, beside iceberg-go with a metadata.json for each commit.
//
// Both begin with the same metadata file of so many snapshots and append the same data file again and again; what is
// timed is the manifest, the manifest list and the catalog, not the Parquet. The reference does what iceberg-go v0.7.0's
// SQL catalog does for a commit (load the metadata, apply, write the next metadata.json, compare and swap its location
// in SQLite) without that package itself, whose ORM this module does not need. At the end both tables are loaded anew,
// and their snapshots and totals have to be right.
//
// With -tables it measures something else: how long a commit takes when many tables commit each second to one catalog, which
// runs in a process of its own, on SQLite or on the Postgres that -store names. A commit is what the committer sends over
// HTTP, without its files; it is timed from when it was due, so that a catalog that falls behind shows. Every table has to
// stand at its last commit in the end.
//
// With -rows the history is in the database and the metadata holds the window of it, as in a table that compaction looks
// after: what a commit costs after a week. The earlier rows are filled in, not committed; the commits that are timed are real.
//
// With -day it drives one table for so many seconds of a time of its own, a commit for each, as fast as they go, with the
// compactor's rounds, merges, expiry and sweeps where they would fall by the defaults, and reports what must stay bounded:
// metadata.json, manifests, the database, memory (the catalog's, which is a process of its own here too, apart from that of
// committer and compactor together), and how long others take to load the table. Each commit adds a file that its entry calls
// full, so that no data file is ever merged: the most manifests there can be. The table's rows have to be right in the end.
package commit
