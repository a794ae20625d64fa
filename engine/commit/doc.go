// Package commit makes batches durable: it writes a batch's rows as Parquet files, puts them and the Kafka offsets that
// they came from into one Iceberg snapshot, and reads from the table where a pipeline stands. It implements
// engine.Committer and is where exactly once is decided (docs/exactly-once.md).
//
// A commit pins the head H of main and the tag T of the pipeline, and moves both. Its outcome is one of a few, told by
// one function (classify). A conflict or an unknown outcome is settled by loading the table and looking at the tag:
// at our snapshot → committed; elsewhere → fenced; where it was → the head alone moved or nothing did, and the same
// snapshot, with the same files and the same id, is tried again on the head as it is now.
//
// Rows may need more of the table than it has: columns, wider types, another layout. The commit that first has such rows
// changes it (grow, evolve), with requirements on what its files were made for; somebody else's change makes them be written
// anew (relayout).
//
// Invariants:
//   - the offsets in a snapshot and its rows move together, and ranges start where the vector before them ends;
//   - a request that may still be under way can take effect at most once, because main and tag are pinned by it, and
//     harmlessly, because every later try carries the same snapshot id;
//   - a data file is never deleted here: whoever does not know whether a snapshot exists must not (orphans are
//     compaction's to find);
//   - V comes from the table alone, and where the table cannot tell with certainty nothing is read or written.
//
// Ownership: the rows of a batch stay the caller's. What is encoded of them is kept until the batch is committed or
// given up, so that a retry neither encodes nor uploads again (but for one so late that a sweep may have taken the files).
package commit
