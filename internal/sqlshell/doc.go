// Package sqlshell prints results (table, csv, json, arrow) and reads statements: from a person with history and
// multi-line editing, or from a pipe.
//
// Invariants: what comes out of a table reaches a terminal without its control characters; output is streamed, a
// result of any size takes bounded memory; an interrupt ends the statement that runs and nothing else; a pipe stops at
// the first error.
//
// Ownership: Write reads Rows and does not release them; Run releases every result that it opened.
package sqlshell
