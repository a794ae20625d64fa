// Package past says what a table was at a time: which snapshot, where the metadata still has it ("as it stood then"), or
// below which offsets today's rows had been committed by then ("as we read it today"), and which rows those are.
//
// Invariants: an answer is exact to the commit; a time before the first commit, or one of which nothing is known any more, is an
// error and never another state. The query engine filters rows; for engines that know only whole files, Cut makes a snapshot of
// today's files with position deletes for the rows that came later. It changes no table: its files are of nobody but the caller,
// who names the directory and removes it.
package past
