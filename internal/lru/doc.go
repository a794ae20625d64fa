// Package lru is a map that forgets what was used longest ago.
//
// Invariants
//   - The weights of what it keeps never sum to more than its limit; what is heavier alone is not kept.
//   - Get and every kind of put count as use, but for a put that leaves what is there.
//   - It is safe for concurrent use, and owns nothing: values are shared with whoever gets them.
package lru
