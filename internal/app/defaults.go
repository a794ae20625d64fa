package app

import (
	"time"

	"github.com/firnlake/firn/internal/generate"
	"github.com/firnlake/firn/internal/units"
)

const (
	defaultBroker  = "127.0.0.1:9092"
	defaultCatalog = "127.0.0.1:8181"
	defaultFlight  = "127.0.0.1:31337"
	defaultTail    = "127.0.0.1:31338"
	defaultHTTP    = "127.0.0.1:8080"

	defaultLateness  = units.Duration(time.Minute)
	defaultTailGrace = units.Duration(5 * time.Second)

	// DemoRate is the generator's rate in events a second.
	DemoRate = 2000
	// demoPartitions is how many partitions the demo's topic has.
	demoPartitions = 4
)

// demoPipeline is what firn up runs when the configuration names no pipeline.
func demoPipeline() Pipeline {
	return Pipeline{Name: "user-events", Topic: "user_events", Table: "analytics.user_events",
		Partition: []string{"day(metadata.event_timestamp)"}, contract: generate.Contract}.WithDefaults()
}
