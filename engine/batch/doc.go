// Package batch fills one micro-batch: Arrow record batches and the offset ranges that they cover, cut by rows,
// bytes or the pipeline's interval.
//
// Invariants: the ranges of a batch are contiguous per partition; every row lies in one of them; a batch owns
// its record batches until Cut hands them over or Drop releases them.
package batch
