// Package events makes the input of the benchmarks: events of the demo's contract, 318 bytes of JSON on average, as
// stretches of one partition. The same seed gives the same bytes.
package events
