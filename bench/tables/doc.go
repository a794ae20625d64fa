// Package tables measures many tables in one process: `firn up`, built from this tree, with a topic and a pipeline for each table.
// Tables with traffic get their events in tenths of a second; idle ones get none.
//
// What counts is the interval between two snapshots of one table, as the catalog has them, and what the process takes for it:
// CPU time, memory and goroutines as it tells them itself (with the embedded broker, if no Kafka is named, as part of it).
//
// A table that does not hold each event once at the end, and a snapshot of an idle table, are errors.
package tables
