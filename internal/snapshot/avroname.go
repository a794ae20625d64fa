package snapshot

import (
	"fmt"
	"strings"

	"github.com/apache/iceberg-go"
)

// avroSpec is spec with names that Avro takes, as Iceberg's Java library writes them into a manifest: other engines name the
// day of metadata.event_timestamp with that dot, and iceberg-go would pass it on and be refused. Readers go by the field ids.
func avroSpec(spec iceberg.PartitionSpec) iceberg.PartitionSpec {
	var fields []iceberg.PartitionField
	for _, f := range spec.Fields() {
		f.Name = avroName(f.Name)
		fields = append(fields, f)
	}
	return iceberg.NewPartitionSpecID(spec.ID(), fields...)
}

// avroName escapes what an Avro name may not hold: it begins with a letter or _, and digits may follow.
func avroName(name string) string {
	var b strings.Builder
	for i, r := range name {
		switch {
		case r == '_', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', i > 0 && r >= '0' && r <= '9':
			b.WriteRune(r)
		case r >= '0' && r <= '9':
			b.WriteString("_" + string(r))
		default:
			fmt.Fprintf(&b, "_x%X", r)
		}
	}
	return b.String()
}
