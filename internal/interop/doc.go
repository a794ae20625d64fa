// Package interop holds the tests in which other engines work on a table that Firn writes: PyIceberg and Spark append,
// delete, compact, expire, roll back, cherry-pick and replace, while Firn commits and while it is down. They are the proof of
// "Other people's acts" in docs/exactly-once.md.
//
//	go test -tags=integration ./internal/interop    PyIceberg and DuckDB
//	make interop                                    Spark and Trino too, longer; fetches them (430 and 820 MB) the first time
//
// Beside that each engine does a list of acts on a table of its own (testdata/listed.py), which the table of docs/catalog.md is
// held against, and reads Firn's table as of past times.
//
// Every test has a table, a catalog and an ingest process of its own, on local disk but where its name says MinIO, and produces into a broker inside the
// test process. The other engine is one Python process (testdata), told what to do line by line.
//
// The other way round, real clients and servers write events that Firn reads (make interop): confluent-kafka's serializers at a
// schema registry (testdata/registry_acts.py), and Debezium's connector for Postgres in Kafka Connect, into an Apache Kafka. PyIceberg
// reads the rows.
//
// Invariants: after every act Firn goes on by itself, or stops as the page says and goes on after the remedy that its message
// names; then the table's (_kafka_partition, _kafka_offset), as the other engine reads them, are what was produced less what
// was deleted on purpose, each once. firn audit says the same.
package interop
