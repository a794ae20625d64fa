// Package audit proves, or refutes, that a table holds each record of its Kafka topic exactly once. It reads the ledger
// columns of every live data file, the records in the snapshots' summaries, the dead-letter table and, when asked, the
// log itself, and compares. It changes nothing.
//
// The Parquet files are read with parquet-go, which Firn uses nowhere else: compaction and queries read with arrow-go,
// whose schema and footer are those of Firn's writer, and a fault that the two share cannot hide itself from a third.
// parquet-go allocates by numbers that it finds in the file, so every footer and
// every page goes through internal/datafile first, which checks them, and the checksums of pages where there are any.
// Files with LZ4 are the exception: parquet-go v0.32.0 misreads them without an error, so arrow-go reads those.
//
// What "clean" means. An offset below the vector V of the head's record must be exactly one of these: a row of the
// table, a dead letter, or an offset without a readable record (a transaction marker, an aborted record, one that log
// compaction removed). The first two can be seen in the tables, the third only in the log. So there are three verdicts:
//
//   - Clean: each offset from the first that was ingested up to V is accounted for, none twice, and every other check
//     holds. Without the log this can be proved only of a topic without gaps, which is what plain producers write.
//   - Unproven: nothing is wrong, and some offsets are neither row nor dead letter, and the log was not asked or no
//     longer holds them. Only the log could tell a marker from a lost record. Clean is false.
//   - Broken: rows doubled, missing or not in the log, files damaged or listed twice, records that contradict each other
//     or the rows. Clean is false.
//
// With the log, rows that it no longer holds (retention) are not compared, which the report says; they are no loss, for
// the ledger has them. Rows of a compacted topic whose record the log has dropped since are counted apart. Records at or
// above V are not yet ingested and not looked at; dead letters there belong to a commit under way (on catalogs without
// transactions they are written first) and are counted apart, too.
//
// Memory is a compressed bitmap of offsets per partition, about a bit for each row at worst, and a few pages for each
// file that is being read.
package audit
