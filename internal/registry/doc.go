// Package registry reads schemas from a schema registry that speaks Confluent's API: Confluent's own, Karapace, Apicurio
// (under /apis/ccompat/v7), Redpanda.
//
// A registry that is away delays and decides nothing: every request is tried again, with growing pauses, until Wait is
// over, and then ErrUnavailable says so; the caller comes again. Only a registry's own answer that it does not know an id
// is ErrNotFound, and only after it said so in several looks, because a follower may not have heard of a new schema yet.
//
// Invariants: a schema of an id never changes, so it is kept for good, at most maxCached of them; answers and references
// are bounded in size, number and depth; no credential is in an error or a log line. A Client is safe for concurrent
// use. Close ends requests under way.
package registry
