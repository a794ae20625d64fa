// Package ingest measures the engine as a whole: JSON events from a log in memory through decode, batch and commit into
// an Iceberg table on the local disk, with the catalog on SQLite, as fast as they go. Beside it stand the limits that
// decoding and encoding alone set on the same events in the same run.
//
// The table is audited afterwards: each event is there once, or the figures are not printed.
//
// With -config it is the program itself that is measured, on a real Kafka and object store: the topic is filled, then `firn ingest`
// reads it as fast as it can, with `firn catalog` beside it; CPU time is of both, memory of ingest. `firn audit --kafka` proves
// each run's table, whose requests are in the catalog's CPU time.
package ingest
