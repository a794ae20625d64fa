// Package compaction keeps tables in a shape that readers like: it merges small data files and manifests, expires
// snapshots outside the window, and removes files that no snapshot names. What to do is decided by compaction/plan; this
// package reads the state, does the I/O and commits. docs/decisions/0003-compaction.md holds the reasons and the costs.
//
// It works beside ingest through the catalog alone. A rewrite is a `replace` snapshot on a pinned head: the same rows in
// other files, with the head's Firn record carried on, and the pipeline's tag left where it is. When the head moves, the
// rewrite is built again on the new head from the same data files; when an input is gone, it is given up.
//
// Manifests are merged in passing and by a loop of their own (merge.go), which moves no rows and waits for no round: readers
// pay a request for each, and a commit a second adds one (docs/decisions/0009-bounded-metadata.md).
//
// Invariants
//   - Rows out are rows in, by the manifests, the footers and the batches, before anything is committed.
//   - A data file of which another engine has deleted rows is not rewritten, nor is a table where deletes by equality may concern a small file, or of a
//     format other than 2; that is counted and shown. Manifests are merged everywhere: entries keep their sequence numbers, snapshot ids and row ids, and delete manifests are not touched.
//   - A file is deleted in two cases only: this process wrote it, every answer of the catalog was a clear refusal, and
//     the table does not know the snapshot; or no snapshot reached it in two sweeps that lie OrphanGrace apart, and it
//     was live before or is StrayGrace old. What is reachable is read after the listing. Metadata files are never deleted.
//   - A file says a sort order only if its rows are in it: merged from files that were found to be (sorted.go).
//   - Everything held is bounded: one job at a time, its output beyond spoolMemory on disk, MaxJobBytes a commit.
package compaction
