// Package objstore is the one contract that Firn has with object storage, and its implementations:
// memory, local disk, and MinIO or any S3 with conditional PUT (the only importer of minio-go).
//
// Invariants: an object appears whole or not at all; a key is a clean slash-separated relative path
// and is never a path of the host; Put with IfAbsent succeeds for exactly one of any number
// of rivals; objects that Firn writes are never overwritten. Callers own retries above a single
// operation; an implementation sends each request once.
// objtest holds the suite that every implementation passes.
package objstore
