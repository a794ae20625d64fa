// Package broker is the Kafka-protocol broker inside firn up: one node on franz-go's kfake, whose log lies on disk. It
// is what lets a newcomer run Firn without a Kafka, and what tests produce into. It is not for production: one node, no
// replication, no authentication, and it trusts its clients. A pipeline that matters reads a real Kafka.
//
// What it promises:
//   - A record that was acknowledged is there, at its offset, after a stop, a crash or a SIGKILL of the process. The
//     operating system writes it to disk; against a power cut there is Config.SyncWrites.
//   - Cluster id, topic ids, offsets and leader epochs stay the same for the life of the directory.
//   - Disk and memory are bounded: records are on disk only, the log is cut by whole segments, oldest first, to
//     Config.RetentionBytes and RetentionTime, but never beyond what SetFloor says is still needed. When that keeps too
//     much and the disk runs low, producers get KAFKA_STORAGE_ERROR, which they retry, and nothing is lost.
//   - One process per directory, by a lock that dies with its holder.
//
// What stands around kfake, and why (found in its source):
//   - It keeps per batch some 70 bytes in memory and everything else in segment files, and applies retention only to
//     topics that ask for it, without looking at consumers. So it is told to keep everything, and retention.go cuts.
//   - A partition whose segments are all gone starts again at offset 0 when it is loaded. So the last record of a
//     partition is never deleted, also not for a client that asks for it.
//   - Its index files can be a few bytes short after a crash or a full disk, and every later entry is then read
//     shifted. Whatever they hold is also in the segments, so repair.go checks and rewrites them before the start.
//   - A failed append can leave an empty segment behind, and fetches at the log's end then get OFFSET_OUT_OF_RANGE.
//     So produce is refused while the disk still has Config.DiskReserve.
//   - A request with an unknown api key ends the process, a foreign protocol's first bytes are taken as a length of up to
//     4 GiB. So frames are checked before kfake sees them.
//
// Ownership: Start owns the directory, the port and all goroutines until Close. A Broker is safe for concurrent use.
package broker
