// Package source reads partitions of a Kafka topic as contiguous stretches of offsets. It is the only importer of
// kafka-go, whose transport carries the bytes (connections, TLS, SASL, API versions); Fetch, Metadata, ListOffsets and
// Produce are spoken here, because the library's own reader returns aborted records and ignores lastOffsetDelta.
//
// How it reads: one goroutine per generation keeps the topic's layout fresh (leaders, new partitions, topic id), one
// goroutine per leading broker fetches all partitions of that broker in one request after the other. A response is cut
// into stretches of about stretchBytes, which wait in a queue bounded by Config.ReadAhead until Poll takes them; no
// room in the queue means that nothing more is fetched.
//
// Invariants:
//   - The stretches of a partition leave Poll in order, each starting where the one before ended, the first one where
//     Start said. Offsets without a record (control, aborted, compacted) are inside a stretch, never between two.
//   - Nothing at or above the last stable offset is handed out, and nothing of an aborted transaction.
//   - After another leader took over, and after Start with epochs, nothing more of a partition comes out before the leader has said
//     that its log is the one that was read so far (leader epochs, KIP-320).
//   - A partition is in the hands of one goroutine at a time, also while its leader moves.
//   - A Start ends everything of the Start before; what that one had read is released, not handed out.
//   - Trouble that passes by itself is retried and shown by Health. What only a person can decide (engine.ErrNoTopic,
//     ErrTopicRecreated, ErrLogTruncated, ErrRetentionGap, ErrCorrupt, ErrOldFormat, ErrBatchTooLarge) comes out of
//     Poll, after the stretches that were read before it.
//
// Ownership: records alias a pooled buffer until Fetch.Release, which may be called more than once and from any
// goroutine; a Fetch that is never released is left to the garbage collector. Close ends every goroutine and connection.
package source
