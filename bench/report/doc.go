// Package report is how Firn's benchmarks print: a table for people, or one JSON object a line with -json.
//
// A Metric is the median of at least three runs with its minimum and maximum beside it, and, where there is one,
// the reference that was measured in the same run: the ratio is what counts, absolute figures are noise on a
// shared machine. CPU time is user + system of the benchmark's own process. A Report is used by one goroutine.
package report
