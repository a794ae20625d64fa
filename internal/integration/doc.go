// Package integration holds the tests that need real servers: Kafka, MinIO, and the engines of others that read
// Firn's tables (PyIceberg and DuckDB through the catalog). They stand behind -tags=integration; the scripts in
// scripts/services fetch, start and stop what they need, on loopback and free ports.
//
//	go test -tags=integration -timeout 35m ./internal/integration
//	make faults    the tests of processes under fault, for as long as it takes to trust them
//
// Invariants: firn itself runs as processes of its own, built once, so that it can be killed; a server is started
// once for the package, ends with the test process however that ends, and each test uses topics, buckets and
// directories of its own. Tests that do harm to servers have a second Kafka and MinIO (rig), and leave them running. Randomised tests print their seed; FIRN_TEST_SEED repeats one.
package integration
