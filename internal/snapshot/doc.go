// Package snapshot reads and builds Iceberg snapshots on a warehouse: live data files with their statistics,
// manifests, manifest lists, and the updates that make a new snapshot the head. It decides nothing about
// retries: engine/commit and compaction pin a head, build here, and hand the result to the catalog.
//
// Invariants: a built snapshot names its parent and the next sequence number; totals in the summary follow
// the parent's; every file it lists exists before the manifest that lists it. Manifests of others are not
// trusted: sizes are bounded and panics of the decoder become errors that name the file.
package snapshot
