// Package app puts the parts of Firn together: it reads the configuration, opens storage, catalog, broker, pipelines,
// compaction and query for the roles that a process was asked for, serves its HTTP page, and stops everything in
// order. It also holds what the client verbs of the command line do.
//
// A Process owns all that it opened. What can pass by itself (a broker, storage or catalog that is away, a topic that
// is not there yet) never ends a process: the part waits, says so in its status, and goes on when the cause is gone.
// What cannot pass (a bad configuration, a port that is taken) ends Start with an error that names the remedy.
package app
