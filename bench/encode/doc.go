// Package encode measures how fast Arrow record batches of the demo's events become Parquet files: internal/datafile,
// arrow-go's pqarrow and parquet-go, at the batch of one second and at that of a compacted file.
//
// Each writer's file is read back and held against its input, value by value, and its statistics are looked at, before
// anything is measured. The megabytes are those of the events' JSON, as in bench decode, so that the stages compare.
package encode
