// Package offset holds where a pipeline stands in a Kafka topic: vectors (the next offset of
// each partition) and ranges (what one batch moved), with their contiguity rules and text codecs.
//
// Invariants: an offset is never negative; a Range is half open, Start <= End; a Vector only moves
// through Advance, which refuses a gap or an overlap. Nothing here knows of Kafka clients or Iceberg;
// the package imports the standard library only.
package offset
