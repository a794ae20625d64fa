// Package freshness measures the time from an event to the answer of a query that holds it, at both levels: hot, rows that are
// not committed yet too, and committed, what every engine reads.
//
// It is the program itself that is measured: `firn up`, built from this tree, in a process of its own; `firn generate` is the
// load and `firn probe` takes the times (see internal/probe for what they hold). Without -config everything is embedded; with one
// that names a Kafka and an S3 those are used, and the figures hold their share. CPU time and memory are of `firn up` alone.
//
// A lost mark, a load that fell behind its rate, or a table that `firn audit` does not find clean afterwards is an error.
package freshness
