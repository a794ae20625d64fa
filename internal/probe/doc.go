// Package probe measures what Firn promises: the time from an event to the moment at which a query can read it. It
// writes a marked event every Config.Interval and asks, at each level, until the event is there.
//
// How the time is taken: from just before the event is given to the producer to the moment at which the answer 'it is
// there' has arrived. So it holds the producer's acknowledgement, the whole pipeline, the query and up to one
// PollInterval; nothing is subtracted. Marks overlap: a slow one delays no other, and one that cannot begin, because
// MaxInFlight are under way, is counted as skipped, never left out silently.
//
// Every mark that was written ends as measured, lost (not there within Timeout) or, when the caller ended the probe
// first, unfinished. All goroutines end before Run returns.
package probe
