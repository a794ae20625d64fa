// Package fetch measures what reading a Kafka topic costs: engine/source beside kafka-go's Reader and franz-go, on the
// same topic of a broker in a process of its own. Every record's offset and value are looked at. engine/source and franz-go
// check the crc of what they read, kafka-go's Reader does not; all are set to read_committed.
//
// The CPU is that of this process: the client's fetching, decompression and record parsing, and nothing of the broker.
package fetch
