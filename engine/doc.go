// Package engine is the micro-batch loop: it takes stretches of a topic's log from a Source, has a Decoder
// turn them into Arrow record batches and dead letters, keeps them in the tail for fresh queries, cuts a batch
// every commit interval, and has a Committer make it one Iceberg snapshot with the offsets inside.
//
// The package declares the interfaces of its stages; the stages (source, decode, commit) import these types
// and never one another; internal/app puts them together. Data goes one way and only backpressure travels
// upstream. A record batch has one owner at a time: Decoder → Batch → Committer; the tail retains its own
// reference. State words (ok, catching-up, waiting, degraded, fenced, stopped) tell the truth about commits.
package engine
