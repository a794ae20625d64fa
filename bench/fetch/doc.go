// Package fetch measures what reading a Kafka topic costs: engine/source beside kafka-go's Reader and franz-go, on the
// same topic of a broker in a process of its own. Every record's offset and value are looked at, and every client checks
// the crc of what it reads; its own read_committed is on where it has one.
//
// The CPU is that of this process: the client's fetching, decompression and record parsing, and nothing of the broker.
package fetch
