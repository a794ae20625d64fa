// Package ingest measures the engine as a whole: JSON events from a log in memory through decode, batch and commit into
// an Iceberg table on the local disk, with the catalog on SQLite, as fast as they go. Beside it stand the limits that
// decoding and encoding alone set on the same events in the same run.
//
// The table is audited afterwards: each event is there once, or the figures are not printed.
package ingest
