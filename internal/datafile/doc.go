// Package datafile turns Arrow record batches into Parquet files with the statistics that Iceberg manifests need,
// and back, by field id.
//
// Invariants: a column's Parquet field id is its Iceberg field id; bounds are never tighter than the values; a file
// written reads back as the same rows, and each of its pages has a checksum. Files are foreign bytes: the footer is checked against the file's size and a
// budget before anything is decoded, decoding runs on one goroutine behind a recover, and damage gives ErrCorrupt
// with the file's name, never a panic. Batches belong to the caller when written and to the reader when read.
package datafile
