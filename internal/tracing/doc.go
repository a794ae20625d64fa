// Package tracing sends OpenTelemetry spans to an OTLP/HTTP collector, and is off unless an endpoint is configured:
// the process then keeps the API's no-op provider and spans cost nothing.
//
// The span queue is bounded (maxQueuedSpans); when the collector is slow or gone spans are dropped, never work.
// Export failures reach the log at most once a minute. Shutdown flushes what is queued.
package tracing
