// Package faultproxy is an HTTP proxy for tests that does to requests what networks, load balancers and servers that
// die do: it refuses them, loses their answers after they took effect, answers 500 although they did, sends them twice,
// keeps them back and delivers them after the client has given up, or makes them slow.
//
// Invariants:
//   - A request reaches the server byte for byte, with the Host header of the client, so that S3 signatures hold.
//   - Once a request is in the proxy its effect does not depend on the client any more: what Fault says happens, also
//     when the client has gone. Close waits for all of it.
//   - Faults are used up in the order in which they were planned; a request that none matches passes.
//
// Ownership: the caller closes the Proxy; nothing of it, no goroutine and no connection, is left afterwards.
package faultproxy
