// Package plan decides what compaction does: which data files become one, which manifests become one, which
// snapshots expire. State in, jobs out; no I/O, no clock, nothing remembered.
//
// Data files and manifests are log-structured by rows and entries. A file of n rows is in tier floor(log_fanout n);
// a merge happens only when its result lies in a higher tier than each of its inputs, or is large enough never to be
// touched again and has twice the rows of its largest input. Rows add up exactly, whatever a codec makes of their bytes,
// so a row is rewritten at most once a tier: log_fanout(rows of a full file) times and once more. What stays unmerged in
// a partition is less than fanout files a tier.
//
// Invariants: no file is in two jobs; a job's files are of one partition of one spec and in order of arrival; planning
// on the result of all jobs again and again comes to an end; an expired snapshot is never named by a ref, and what
// stays of a branch or of the snapshot log is its newest, contiguous part.
package plan
