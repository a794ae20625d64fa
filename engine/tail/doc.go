// Package tail keeps the rows that a pipeline has decoded, from the moment they are decoded until they are committed,
// older than a grace time and read by nobody: the hot half of a fresh query.
//
// Invariants: per partition the segments held are contiguous; a Cut either gives every row from the asked vector on
// or fails with hot.ErrExpired, never a silent gap; a segment's record batch lives until the last Cut that holds it
// is released. Memory is bounded by the pipeline's own bound: rows that are not committed are in its batches too
// (the same buffers), rows that are committed leave after the grace time.
package tail
