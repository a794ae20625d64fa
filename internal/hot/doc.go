// Package hot is the hand-over between the tail (rows decoded and not yet committed) and queries: a Cut
// holds the rows in [C, H), where C is the vector of a pinned snapshot and H the tail's end.
//
// The receiver of a Cut owns it and must call Release once; the record batches live until then.
package hot
