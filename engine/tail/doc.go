// Package tail keeps the rows that a pipeline has decoded, from the moment they are decoded until they are committed,
// older than a grace time and read by nobody: the hot half of a fresh query.
//
// Invariants: per partition the segments held are contiguous; a Cut either gives every row from the asked vector on
// or fails with hot.ErrExpired, never a silent gap; a segment's record batch lives until the last Cut that holds it
// is released. Memory is bounded: rows that are not committed are in the pipeline's batches too (the same buffers) and
// count there, rows that are committed leave after the grace time, and before that when they are more than their own bound.
package tail
