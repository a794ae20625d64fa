// Package generate makes the demo's events: page views, clicks, purchases and signups of users in sessions, in the form
// that user_event.json describes, and sends them at an even rate.
//
// Skew is Zipf's: a few users, pages and sessions have most of the events. A user's events are of one session until it
// ends, by length or by half an hour of silence, and go to one partition. A chosen share of the events is late (the time
// in the event lies minutes to hours before the record's), a chosen share is broken in one of the ways of Broken; a
// sampled share carries a W3C traceparent header.
//
// Invariants:
//   - The same Config, seed and times give the same bytes. Event ids are UUIDv7 over the event's instant, so that a run
//     with the same seed at another time gives other ids.
//   - An event's time is its place in the schedule, not the moment at which it was made: when the consumer of the events
//     stalls, the delay shows in every figure that starts from the event's time.
//   - What fell out of a stall longer than maxBacklog is skipped and counted (Stats.Behind), never sent in one burst.
//   - An event counts once, however often its batch had to be sent.
//
// Ownership: a batch and its bytes belong to Run and are valid until produce returns. A Generator belongs to one
// goroutine.
package generate
