// Package crash has the named places at which tests end a process, or a simulated one, to see that nothing is lost and
// nothing doubled by it. In production every call of At is the load of a nil pointer and a look into the context, some
// ten times a commit.
//
// Two ways to be hit: the environment variable FIRN_CRASH_AT=NAME[:N] ends the process by SIGKILL at the Nth time that
// it comes by NAME (1 without :N), as a power cut would; and With puts a hook into a context, for tests that run many
// writers in one process.
//
// Invariant: a place is named in one of the lists, and nothing but a test ever arms one.
package crash
