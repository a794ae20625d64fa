// Package publish brings the dead letters of a pipeline from their Iceberg table to a Kafka topic (docs/dead-letters.md).
//
// The table is the queue: a letter is read from it after the commit that put it there, so the topic has what the table has,
// masks and redactions included, nothing that was rolled back is in it, and no letter is kept in memory for a topic that is
// slow or gone. What is left to do is an offset per partition, which the next snapshot notes (firn.unpublished). After a crash
// letters are published from there on: at least once, and the key tells those that come again.
//
// Invariant: a letter below V that was not acknowledged by the brokers lies at or beyond Unpublished of its partition, at any
// moment. Publisher is safe for concurrent use; Run is called once and owns no resources of its own, the app closes the producer.
package publish
